//! The vectors that errors are measured on: drawn from a seed, or read from files.

use std::{fs, path::Path};

use distance::f16;
use rabitq::SplitMix64;

/// Rows, queries and what codes are relative to.
pub struct Data {
    pub rows: Vec<Vec<f32>>,
    pub queries: Vec<Vec<f32>>,
    /// The mean of the rows where it is `None`.
    pub centroid: Option<Vec<f32>>,
}

/// Draws the data of a seed.
type Draw = Box<dyn Fn(&mut Random) -> Data>;

/// A kind of data.
pub struct Kind {
    pub name: String,
    pub draw: Draw,
    /// How often it is drawn and turned by another rotation.
    pub seeds: u64,
}

/// Numbers drawn from a seed.
pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Between zero and one.
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.uniform() * limit as f64) as usize
    }

    /// Normal, by the method of Box and Muller: with the tails that sums of twelve numbers lack.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn vector(&mut self, dimensions: usize, element: impl Fn(&mut Self, usize) -> f64) -> Vec<f32> {
        (0..dimensions).map(|i| element(self, i) as f32).collect()
    }

    fn vectors(
        &mut self,
        count: usize,
        dimensions: usize,
        element: impl Fn(&mut Self, usize) -> f64 + Copy,
    ) -> Vec<Vec<f32>> {
        (0..count).map(|_| self.vector(dimensions, element)).collect()
    }
}

/// How much of each kind is drawn.
#[derive(Clone, Copy)]
pub struct Amount {
    pub rows: usize,
    pub queries: usize,
    pub seeds: u64,
}

/// All kinds that are drawn.
pub fn drawn(amount: Amount) -> Vec<Kind> {
    let Amount { rows, queries, seeds } = amount;
    let mut kinds = Vec::new();
    let mut add = |name: String, draw: Draw| kinds.push(Kind { name, draw, seeds });

    // Rows and queries of independent elements.
    let mut elements = |name: &str, dimensions: usize, element: fn(&mut Random, usize) -> f64| {
        let draw = move |random: &mut Random| Data {
            rows: random.vectors(rows, dimensions, element),
            queries: random.vectors(queries, dimensions, element),
            centroid: None,
        };
        add(format!("{name} {dimensions}"), Box::new(draw));
    };
    for dimensions in [1, 2, 3, 4, 8, 16, 24, 32, 33, 48, 64, 100, 128, 256, 768, 1536] {
        elements("uniform", dimensions, |random, _| random.uniform());
    }
    for dimensions in [2, 8, 32, 64, 100, 384, 1000] {
        elements("normal", dimensions, |random, _| random.normal());
    }
    for dimensions in [8, 100, 384] {
        elements("lognormal", dimensions, |random, _| (2.0 * random.normal()).exp());
        elements("cubed normal", dimensions, |random, _| random.normal().powi(3));
    }
    for dimensions in [16, 128, 384] {
        elements("binary", dimensions, |random, _| f64::from(random.uniform() < 0.5));
        elements("sparse binary", dimensions, |random, _| f64::from(random.uniform() < 0.03));
        elements("signs", dimensions, |random, _| if random.uniform() < 0.5 { 1.0 } else { -1.0 });
    }
    elements(
        "sparse",
        384,
        |random, _| {
            if random.uniform() < 0.02 { random.normal().abs() } else { 0.0 }
        },
    );
    elements("counts", 128, |random, _| (-60.0 * (1.0 - random.uniform()).ln()).min(218.0).floor());
    elements("falling", 384, |random, i| random.normal() / (i + 1) as f64);
    elements("falling fast", 384, |random, i| random.normal() * 0.7f64.powi(i as i32));
    elements("one large element", 384, |random, i| {
        random.normal() + if i == 7 { 50.0 } else { 0.0 }
    });
    elements("one wide element", 384, |random, i| {
        random.normal() * if i == 7 { 50.0 } else { 1.0 }
    });
    elements("small", 100, |random, _| 1e-6 * random.normal());
    elements("tiny", 100, |random, _| 1e-18 * random.normal());
    elements("large", 100, |random, _| 1e6 * random.normal());
    elements("constant and noise", 384, |random, _| 1.0 + 1e-3 * random.normal());

    let mut other = |name: &str, draw: Draw| {
        kinds.push(Kind { name: name.to_owned(), draw, seeds });
    };
    for (name, dimensions, clusters, spread) in [
        ("20 clusters 100", 100, 20, 0.1),
        ("20 clusters 384", 384, 20, 0.1),
        ("500 clusters 384", 384, 500, 0.3),
        ("near duplicates 384", 384, 50, 1e-3),
        ("nearer duplicates 384", 384, 50, 1e-5),
        ("duplicates 384", 384, 50, 0.0),
        ("duplicates 8", 8, 50, 0.0),
        ("20 clusters 3", 3, 20, 0.01),
    ] {
        let draw = move |random: &mut Random| {
            let centres = random.vectors(clusters, dimensions, |random, _| random.normal());
            clustered(random, amount, &centres, spread)
        };
        other(name, Box::new(draw));
    }
    for (name, dimensions, inner) in
        [("2 of 384", 384, 2), ("8 of 384", 384, 8), ("40 of 384", 384, 40), ("3 of 64", 64, 3)]
    {
        let draw = move |random: &mut Random| {
            let axes = random.vectors(inner, dimensions, |random, _| random.normal());
            let mut plane =
                |count| -> Vec<Vec<f32>> { (0..count).map(|_| mixture(random, &axes)).collect() };
            Data { rows: plane(rows), queries: plane(queries), centroid: None }
        };
        other(name, Box::new(draw));
    }
    // One row of a thousand is a query's copy or close to it.
    for (name, noise) in [("queries are rows 384", 0.0), ("queries near rows 384", 1e-2)] {
        let draw = move |random: &mut Random| {
            let rows = random.vectors(rows, 384, |random, _| random.normal());
            let queries = (0..queries)
                .map(|i| rows[i].iter().map(|x| x + (noise * random.normal()) as f32).collect());
            Data { queries: queries.collect(), rows, centroid: None }
        };
        other(name, Box::new(draw));
    }
    for (name, dimensions, length) in [
        ("queries elsewhere 384", 384, 1.0),
        ("queries far away 384", 384, 100.0),
        ("queries at the centroid 384", 384, 1e-6),
        ("queries far away 8", 8, 100.0),
    ] {
        let draw = move |random: &mut Random| Data {
            rows: random.vectors(rows, dimensions, |random, _| random.uniform()),
            queries: random
                .vectors(queries, dimensions, move |random, _| 0.5 + length * random.normal()),
            centroid: None,
        };
        other(name, Box::new(draw));
    }
    for (name, dimensions, offset) in [
        ("centroid elsewhere 384", 384, 1.0),
        ("centroid far away 384", 384, 30.0),
        ("centroid farthest away 384", 384, 1000.0),
        ("centroid far away 8", 8, 30.0),
    ] {
        let draw = move |random: &mut Random| {
            let centres = random.vectors(10, dimensions, |random, _| random.normal());
            let data = clustered(random, amount, &centres, 0.5);
            let centroid = random.vector(dimensions, |random, _| offset * random.normal());
            Data { centroid: Some(centroid), ..data }
        };
        other(name, Box::new(draw));
    }
    let few = Amount { rows: rows / 16, queries, seeds };
    let draw = move |random: &mut Random| Data {
        rows: random.vectors(few.rows, 16_000, |random, _| random.uniform()),
        queries: random.vectors(few.queries / 4, 16_000, |random, _| random.uniform()),
        centroid: None,
    };
    kinds.push(Kind { name: "uniform 16000".into(), draw: Box::new(draw), seeds: seeds.min(2) });
    kinds
}

/// Rows and queries around centres.
fn clustered(random: &mut Random, amount: Amount, centres: &[Vec<f32>], spread: f64) -> Data {
    let mut around = |count| -> Vec<Vec<f32>> {
        (0..count)
            .map(|_| {
                let centre = &centres[random.below(centres.len())];
                centre.iter().map(|x| x + (spread * random.normal()) as f32).collect()
            })
            .collect()
    };
    Data { rows: around(amount.rows), queries: around(amount.queries), centroid: None }
}

/// A random mixture of `axes`.
fn mixture(random: &mut Random, axes: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; axes[0].len()];
    for axis in axes {
        let weight = random.normal() as f32;
        sum.iter_mut().zip(axis).for_each(|(sum, x)| *sum += weight * x);
    }
    sum
}

/// The real data in `folder`: every file `NAME_base.npy` with its `NAME_query.npy`.
pub fn read(folder: &Path, queries: usize, seeds: u64) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Some(name) = file.strip_suffix("_base.npy").map(str::to_owned) else { continue };
        let draw = move |random: &mut Random| {
            let asked = npy(&path.with_file_name(file.replace("_base", "_query")));
            let queries = (0..queries).map(|_| asked[random.below(asked.len())].clone()).collect();
            Data { rows: npy(&path), queries, centroid: None }
        };
        kinds.push(Kind { name, draw: Box::new(draw), seeds });
    }
    kinds
}

/// The rows of a matrix as numpy writes it, of two or four bytes a number.
fn npy(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..10 + length]).into_owned();
    let shape = header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next());
    let columns: usize =
        shape.and_then(|shape| shape.split(',').nth(1)?.trim().parse().ok()).expect("a matrix");
    let content = &bytes[10 + length..];
    let numbers: Vec<f32> = if header.contains("<f2") {
        content.as_chunks().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect()
    } else {
        content.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
    };
    numbers.chunks_exact(columns).map(<[f32]>::to_vec).collect()
}
