//! The traces: sequences of accesses to numbered chunks.

/// Chunks that exist.
pub const CHUNKS: usize = 20_000;
/// Accesses of queries in a trace.
const ACCESSES: usize = 600_000;
/// Chunks near one subject, and how many of them a query reads.
const TOPIC: usize = 30;
const READ: usize = 16;

/// One access.
#[derive(Clone, Copy)]
pub struct Access {
    /// The chunk.
    pub chunk: u32,
    /// Whether a scan of everything makes it, not a query.
    pub scan: bool,
}

/// All traces with their names.
pub fn all() -> Vec<(&'static str, Vec<Access>)> {
    vec![
        ("Zipf 0.9", zipf(0.9)),
        ("Zipf 1.0", zipf(1.0)),
        ("Zipf 1.1", zipf(1.1)),
        ("Zipf 1.0, scans", with_scans(&zipf(1.0))),
        ("shifting hot set", shifting()),
        ("topics", topics()),
        ("topics, scans", with_scans(&topics())),
    ]
}

fn query(chunk: usize) -> Access {
    Access { chunk: chunk as u32, scan: false }
}

/// Independent accesses; the nth chunk of a shuffled order is as popular as `n^-exponent`.
fn zipf(exponent: f64) -> Vec<Access> {
    let (mut random, chunks) = (Random(1), Zipf::new(CHUNKS, exponent));
    (0..ACCESSES).map(|_| query(chunks.draw(&mut random))).collect()
}

/// A scan of all chunks after every 100,000 accesses.
fn with_scans(trace: &[Access]) -> Vec<Access> {
    let scan = || (0..CHUNKS as u32).map(|chunk| Access { chunk, scan: true });
    trace.chunks(100_000).flat_map(|part| part.iter().copied().chain(scan())).collect()
}

/// Nine accesses in ten fall on a tenth of the chunks, some of it hotter; that tenth moves on by
/// a chunk every 50 accesses.
fn shifting() -> Vec<Access> {
    let (mut random, hot) = (Random(2), Zipf::new(CHUNKS / 10, 0.7));
    let one = |number: usize| match random.below(10) {
        0 => query(random.below(CHUNKS)),
        _ => query((number / 50 + hot.draw(&mut random)) % CHUNKS),
    };
    (0..ACCESSES).map(one).collect()
}

/// Queries: each picks a topic, popular ones more often, and reads half of the topic's chunks
/// and one from anywhere.
fn topics() -> Vec<Access> {
    let (mut random, popular) = (Random(3), Zipf::new(CHUNKS / TOPIC, 0.9));
    let mut trace = Vec::with_capacity(ACCESSES + READ);
    while trace.len() < ACCESSES {
        let topic = popular.draw(&mut random);
        let mut chunks: Vec<usize> = (0..TOPIC).map(|number| topic * TOPIC + number).collect();
        for number in 0..READ - 1 {
            chunks.swap(number, number + random.below(TOPIC - number));
            trace.push(query(chunks[number]));
        }
        trace.push(query(random.below(CHUNKS)));
    }
    trace
}

/// Draws ranks by popularity, and turns them into numbers all over the range.
struct Zipf {
    cumulated: Vec<f64>,
    numbers: Vec<usize>,
}

impl Zipf {
    fn new(count: usize, exponent: f64) -> Self {
        let mut total = 0.0;
        let weigh = |rank| {
            total += f64::from(rank).powf(-exponent);
            total
        };
        let cumulated = (1..=count as u32).map(weigh).collect();
        let (mut random, mut numbers) = (Random(4), (0..count).collect::<Vec<_>>());
        for number in (1..count).rev() {
            numbers.swap(number, random.below(number + 1));
        }
        Self { cumulated, numbers }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let total = self.cumulated[self.cumulated.len() - 1];
        let at = (random.next() >> 11) as f64 / (1u64 << 53) as f64 * total;
        let rank = self.cumulated.partition_point(|&cumulated| cumulated <= at);
        self.numbers[rank.min(self.numbers.len() - 1)]
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}
