//! Vectors for a test, their table, and the truth about their neighbours.

use std::io::Write;

use fastrand::Rng;
use postgres::Client;

/// What an index is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Euclidean distance.
    L2,
    /// Negative inner product.
    InnerProduct,
    /// Cosine distance.
    Cosine,
}

impl Metric {
    /// The SQL operator.
    pub fn operator(self) -> &'static str {
        match self {
            Self::L2 => "<->",
            Self::InnerProduct => "<#>",
            Self::Cosine => "<=>",
        }
    }

    /// The operator class.
    pub fn opclass(self) -> &'static str {
        match self {
            Self::L2 => "vector_l2_ops",
            Self::InnerProduct => "vector_ip_ops",
            Self::Cosine => "vector_cosine_ops",
        }
    }

    /// The distance, in double precision.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        match self {
            Self::L2 => {
                let square = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)).powi(2);
                a.iter().zip(b).map(square).sum::<f64>().sqrt()
            }
            Self::InnerProduct => -dot(a, b),
            Self::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        }
    }
}

/// A vector as an SQL literal that keeps every bit.
pub fn literal(vector: &[f32]) -> String {
    format!("'{}'", text(vector))
}

/// A vector in pgvector's text form.
pub fn text(vector: &[f32]) -> String {
    // Rust prints the shortest decimal that reads back as the same number.
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// Directions in which vectors of one cluster differ most.
const DIRECTIONS: usize = 12;

/// Vectors drawn around cluster centres: like embeddings, they have near neighbours to be found
/// however many dimensions there are, because they differ in a few directions only, plus noise.
///
/// They are not normalised: lengths differ by a factor of about two.
pub struct Source {
    rng: Rng,
    centres: Vec<Vec<f32>>,
    directions: Vec<Vec<f32>>,
}

impl Source {
    /// Vectors of `dimensions` elements around 32 centres far apart; the same seed gives the same
    /// sequence.
    pub fn new(seed: u64, dimensions: usize) -> Self {
        Self::around(seed, dimensions, 32)
    }

    /// The same around any number of centres.
    ///
    /// Around many, a thin search misses all neighbours of a query or none: it ends near the right
    /// centre or another. Around a single one it misses some of each, which is what a comparison
    /// of recalls needs.
    pub fn around(seed: u64, dimensions: usize, centres: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut draw = |count: usize| -> Vec<Vec<f32>> {
            (0..count).map(|_| (0..dimensions).map(|_| gaussian(&mut rng)).collect()).collect()
        };
        let (centres, directions) = (draw(centres), draw(DIRECTIONS));
        Self { rng, centres, directions }
    }

    /// The next vector.
    pub fn vector(&mut self) -> Vec<f32> {
        let Self { rng, centres, directions } = self;
        let scale = 0.7 + 0.6 * rng.f32();
        let mut vector = centres[rng.usize(..centres.len())].clone();
        for direction in directions {
            let step = 0.2 * gaussian(rng);
            vector.iter_mut().zip(direction).for_each(|(x, d)| *x += step * *d);
        }
        vector.iter_mut().for_each(|x| *x = scale * (*x + 0.05 * gaussian(rng)));
        vector
    }

    /// The next `count` vectors.
    pub fn vectors(&mut self, count: usize) -> Vec<Vec<f32>> {
        (0..count).map(|_| self.vector()).collect()
    }
}

/// A number of the standard normal distribution (Box and Muller, 1958).
fn gaussian(rng: &mut Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.f32()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.f32()).cos()
}

/// The rows a table holds, as the test knows them.
#[derive(Clone)]
pub struct Items {
    /// Table name.
    pub table: String,
    /// What the table is searched by.
    pub metric: Metric,
    /// Row id → vector; `None` where the row is gone.
    pub rows: Vec<Option<Vec<f32>>>,
}

impl Items {
    /// Creates a table `name (id int, embedding vector)` and fills it with `vectors`.
    pub fn create(client: &mut Client, name: &str, metric: Metric, vectors: Vec<Vec<f32>>) -> Self {
        let dimensions = vectors.first().expect("at least one vector").len();
        client
            .batch_execute(&format!("CREATE TABLE {name} (id int, embedding vector({dimensions}))"))
            .expect("the table is created");
        let mut items = Self { table: name.to_owned(), metric, rows: Vec::new() };
        items.copy(client, vectors);
        items
    }

    /// Adds rows by COPY.
    pub fn copy(&mut self, client: &mut Client, vectors: Vec<Vec<f32>>) {
        let mut copy =
            client.copy_in(&format!("COPY {} FROM STDIN", self.table)).expect("COPY starts");
        for vector in vectors {
            writeln!(copy, "{}\t{}", self.rows.len(), text(&vector)).expect("a row is sent");
            self.rows.push(Some(vector));
        }
        copy.finish().expect("COPY ends");
    }

    /// Adds one row by INSERT, committed when this returns.
    pub fn insert(&mut self, client: &mut Client, vector: Vec<f32>) {
        client
            .batch_execute(&format!(
                "INSERT INTO {} VALUES ({}, {})",
                self.table,
                self.rows.len(),
                literal(&vector)
            ))
            .expect("a row is inserted");
        self.rows.push(Some(vector));
    }

    /// Gives one row another vector, committed when this returns.
    pub fn update(&mut self, client: &mut Client, id: usize, vector: Vec<f32>) {
        client
            .batch_execute(&format!(
                "UPDATE {} SET embedding = {} WHERE id = {id}",
                self.table,
                literal(&vector)
            ))
            .expect("a row is updated");
        self.rows[id] = Some(vector);
    }

    /// Deletes every row whose id `condition` picks.
    pub fn delete(&mut self, client: &mut Client, condition: impl Fn(usize) -> bool) {
        let ids: Vec<i32> = self
            .live()
            .filter(|id| condition(*id))
            .map(|id| i32::try_from(id).expect("ids are small"))
            .collect();
        client
            .execute(&format!("DELETE FROM {} WHERE id = ANY($1)", self.table), &[&ids])
            .expect("rows are deleted");
        for id in ids {
            self.rows[usize::try_from(id).expect("ids are not negative")] = None;
        }
    }

    /// `CREATE INDEX <table>_index` for this metric; `with` is empty or a WITH clause.
    ///
    /// # Errors
    ///
    /// What the server reported.
    pub fn try_index(&self, client: &mut Client, with: &str) -> Result<(), postgres::Error> {
        client.batch_execute(&format!(
            "CREATE INDEX {0}_index ON {0} USING s3vector (embedding {1}) {with}",
            self.table,
            self.metric.opclass()
        ))
    }

    /// Creates the index. See [`Items::try_index`].
    #[track_caller]
    pub fn index(&self, client: &mut Client, with: &str) {
        self.try_index(client, with).unwrap_or_else(|error| panic!("CREATE INDEX: {error:?}"));
    }

    /// Ids of the rows that exist.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.rows.len()).filter(|id| self.rows[*id].is_some())
    }

    /// Rows that exist.
    pub fn len(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Whether no row exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `count` true nearest rows: id and distance, nearest first.
    pub fn nearest(&self, query: &[f32], count: usize) -> Vec<(i32, f64)> {
        let mut all: Vec<(i32, f64)> = (0..)
            .zip(&self.rows)
            .filter_map(|(id, row)| Some((id, self.metric.distance(row.as_ref()?, query))))
            .collect();
        let nearer = |a: &(i32, f64), b: &(i32, f64)| a.1.total_cmp(&b.1);
        if count < all.len() {
            all.select_nth_unstable_by(count, nearer);
            all.truncate(count);
        }
        all.sort_by(nearer);
        all
    }
}
