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
    /// Kinds of one family are reported together.
    pub family: &'static str,
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
    let seeds = amount.seeds;
    let mut kinds = Vec::new();
    let mut add = |family: &'static str, name: String, draw: Draw| {
        kinds.push(Kind { family, name, draw, seeds });
    };
    elements(amount, &mut add);
    shapes(amount, &mut add);
    places(amount, &mut add);
    kinds
}

/// Adds a kind of a family and a name.
type Add<'a> = dyn FnMut(&'static str, String, Draw) + 'a;

/// Rows and queries of independent elements.
fn elements(amount: Amount, add: &mut Add<'_>) {
    type Element = fn(&mut Random, usize) -> f64;
    const FEW: &str = "1 to 32 dimensions";
    const MANY: &str = "uniform and normal, 33 to 1,536";
    let uniform: Element = |random, _| random.uniform();
    let normal: Element = |random, _| random.normal();
    let binary: Element = |random, _| f64::from(random.uniform() < 0.5);
    let lognormal: Element = |random, _| (2.0 * random.normal()).exp();
    let sparse: Element = |random, _| f64::from(random.uniform() < 0.03);
    let signs: Element = |random, _| if random.uniform() < 0.5 { 1.0 } else { -1.0 };
    let kinds: [(&str, &str, &[usize], Element); 21] = [
        (FEW, "uniform", &[1, 2, 3, 4, 8, 16, 24, 32], uniform),
        (FEW, "normal", &[2, 3, 8, 32], normal),
        (FEW, "binary", &[16], binary),
        (FEW, "lognormal", &[3, 8], lognormal),
        (MANY, "uniform", &[33, 48, 64, 100, 128, 256, 768, 1536], uniform),
        (MANY, "normal", &[64, 100, 384, 1000], normal),
        ("16,000 dimensions", "uniform", &[16_000], uniform),
        ("heavy tails", "lognormal", &[100, 384], lognormal),
        ("heavy tails", "cubed normal", &[100, 384], |random, _| random.normal().powi(3)),
        ("binary, signs, counts", "binary", &[128, 384], binary),
        ("binary, signs, counts", "signs", &[128, 384], signs),
        ("binary, signs, counts", "counts", &[128], |random, _| {
            (-60.0 * (1.0 - random.uniform()).ln()).min(218.0).floor()
        }),
        ("sparse", "binary", &[128, 384], sparse),
        ("sparse", "normal", &[384], |random, _| {
            if random.uniform() < 0.02 { random.normal().abs() } else { 0.0 }
        }),
        ("uneven elements", "1 / i", &[384], |random, i| random.normal() / (i + 1) as f64),
        ("uneven elements", "0.7 to the i", &[384], |random, i| {
            random.normal() * 0.7f64.powi(i as i32)
        }),
        ("uneven elements", "one large", &[384], |random, i| {
            random.normal() + if i == 7 { 50.0 } else { 0.0 }
        }),
        ("uneven elements", "one wide", &[384], |random, i| {
            random.normal() * if i == 7 { 50.0 } else { 1.0 }
        }),
        ("small and large numbers", "1e-18", &[100], |random, _| 1e-18 * random.normal()),
        ("small and large numbers", "1e6", &[100], |random, _| 1e6 * random.normal()),
        ("small and large numbers", "around 1", &[384], |random, _| 1.0 + 1e-3 * random.normal()),
    ];
    for (family, name, sizes, element) in kinds {
        for &dimensions in sizes {
            // Of large vectors fewer, for the sake of memory.
            let rows = amount.rows.min((1 << 23) / dimensions);
            let draw = move |random: &mut Random| Data {
                rows: random.vectors(rows, dimensions, element),
                queries: random.vectors(amount.queries, dimensions, element),
                centroid: None,
            };
            add(family, format!("{name} {dimensions}"), Box::new(draw));
        }
    }
    let draw = move |random: &mut Random| {
        let mut hot = |count| -> Vec<Vec<f32>> {
            (0..count)
                .map(|_| {
                    let place = random.below(256);
                    random.vector(256, |_, i| f64::from(i == place))
                })
                .collect()
        };
        Data { rows: hot(amount.rows), queries: hot(amount.queries), centroid: None }
    };
    add("sparse", "one of 256".into(), Box::new(draw));
    let draw = move |random: &mut Random| {
        let mut long = |count| -> Vec<Vec<f32>> {
            (0..count)
                .map(|_| {
                    let length = random.normal().exp();
                    random.vector(384, |random, _| length * random.normal())
                })
                .collect()
        };
        Data { rows: long(amount.rows), queries: long(amount.queries), centroid: None }
    };
    add("heavy tails", "lengths 384".into(), Box::new(draw));
}

/// Clusters and planes.
fn shapes(amount: Amount, add: &mut Add<'_>) {
    for (family, dimensions, clusters, spread) in [
        ("1 to 32 dimensions", 3, 20, 0.01),
        ("1 to 32 dimensions", 8, 50, 0.0),
        ("clusters", 100, 20, 0.1),
        ("clusters", 384, 20, 0.1),
        ("clusters", 384, 500, 0.3),
        ("duplicates, exact and near", 384, 50, 1e-3),
        ("duplicates, exact and near", 384, 50, 1e-5),
        ("duplicates, exact and near", 384, 50, 0.0),
    ] {
        let draw = move |random: &mut Random| {
            let centres = random.vectors(clusters, dimensions, |random, _| random.normal());
            clustered(random, amount, &centres, spread)
        };
        add(family, format!("{clusters} clusters {spread} {dimensions}"), Box::new(draw));
    }
    for (dimensions, inner) in [(384, 2), (384, 8), (384, 40), (64, 3)] {
        let draw = move |random: &mut Random| {
            let axes = random.vectors(inner, dimensions, |random, _| random.normal());
            let mut plane =
                |count| -> Vec<Vec<f32>> { (0..count).map(|_| mixture(random, &axes)).collect() };
            Data { rows: plane(amount.rows), queries: plane(amount.queries), centroid: None }
        };
        add("planes of 2 to 40 dimensions", format!("{inner} of {dimensions}"), Box::new(draw));
    }
}

/// Queries and centroids near rows, far from them, and of other data.
fn places(amount: Amount, add: &mut Add<'_>) {
    for noise in [0.0, 1e-2] {
        let draw = move |random: &mut Random| {
            let rows = random.vectors(amount.rows, 384, |random, _| random.normal());
            let queries = (0..amount.queries)
                .map(|i| rows[i].iter().map(|x| x + (noise * random.normal()) as f32).collect());
            Data { queries: queries.collect(), rows, centroid: None }
        };
        add("queries equal to rows, or near", format!("{noise} from a row"), Box::new(draw));
    }
    for (dimensions, length) in [(384, 1.0), (384, 100.0), (384, 1e-6), (8, 100.0)] {
        let draw = move |random: &mut Random| Data {
            rows: random.vectors(amount.rows, dimensions, |random, _| random.uniform()),
            queries: random.vectors(amount.queries, dimensions, move |random, _| {
                0.5 + length * random.normal()
            }),
            centroid: None,
        };
        add("queries of other data", format!("{length} around 0.5 {dimensions}"), Box::new(draw));
    }
    for (dimensions, offset) in [(384, 1.0), (384, 30.0), (384, 1000.0), (8, 30.0)] {
        let draw = move |random: &mut Random| {
            let centres = random.vectors(10, dimensions, |random, _| random.normal());
            let data = clustered(random, amount, &centres, 0.5);
            let centroid = random.vector(dimensions, |random, _| offset * random.normal());
            Data { centroid: Some(centroid), ..data }
        };
        add("a centroid of other data", format!("{offset} away {dimensions}"), Box::new(draw));
    }
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
        let family = String::leak(name.clone());
        kinds.push(Kind { family, name, draw: Box::new(draw), seeds });
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
