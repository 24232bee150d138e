//! How many instructions a search takes, counted by callgrind: the same number on every machine that runs
//! the same kernels, however busy it is. A change that makes searches dearer shows here.
//!
//! Runs itself under valgrind, in an optimised build only:
//! `cargo test --release -p s3vector-hnsw --test instructions`.

mod common;

use std::process::{Command, ExitCode};

use common::{CodeQuery, Codes, built, cube, params};
use distance::{Level, Metric};
use hnsw::{GraphView, Scorer, Searcher};
use rabitq::{Bits, Query};

/// Instructions a distance may take, all that a search does included, by the width of codes: what was
/// counted when the number was last set, and a twentieth more. Valgrind knows no AVX-512, so these are
/// of AVX2 kernels.
const LIMITS: [(Bits, f64); 2] = [(Bits::Four, 308.0), (Bits::One, 308.0)];

/// Tells a run of this program that it is the one that is counted.
const COUNTED: &str = "S3VECTOR_COUNTED_BITS";

const ROWS: usize = 4000;
const DIMENSIONS: usize = 384;
const QUERIES: usize = 50;
const EF: usize = 40;

/// Passes scores on and counts them.
struct Counting<'a> {
    scorer: CodeQuery<'a>,
    distances: usize,
}

impl Scorer for Counting<'_> {
    #[inline]
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        self.distances += rows.len();
        self.scorer.scores(rows, out);
    }

    #[inline]
    fn prefetch(&self, row: u32) {
        self.scorer.prefetch(row);
    }
}

/// Sketches of the upper nodes.
struct Way<'a> {
    query: &'a Query,
    sketches: rabitq::Codes<'a>,
    distances: usize,
}

impl Scorer for Way<'_> {
    #[inline]
    fn scores(&mut self, nodes: &[u32], out: &mut [f32]) {
        self.distances += nodes.len();
        self.query.coarse_estimates(&self.sketches, nodes, out);
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        self.sketches.prefetch(node);
    }
}

/// What is counted; callgrind knows it by name.
#[inline(never)]
fn counted_search(
    searcher: &mut Searcher,
    graph: &GraphView<'_>,
    way: &mut Way<'_>,
    scorer: &mut Counting<'_>,
) {
    searcher.start_by(graph, way, scorer, EF);
}

/// Searches, and prints how many distances that took.
fn run(bits: Bits) {
    let rows = cube(ROWS, DIMENSIONS, 1);
    let queries = cube(QUERIES, DIMENSIONS, 2);
    let codes = Codes::new(&rows, bits, Metric::Cosine);
    let graph = built(rows.len(), &params(16, 40), &codes, 1);
    let (sketches, factors) = codes.sketches(&graph.upper_nodes);
    let bytes = sketches.len() / graph.upper_nodes.len();
    let sketches = rabitq::Codes::arrays(&sketches, bytes, &factors);
    let mut searcher = Searcher::new();
    let mut distances = 0;
    for query in &queries {
        let prepared = codes.quantizer.query(query);
        let mut way = Way { query: &prepared, sketches, distances: 0 };
        let mut scorer = Counting { scorer: codes.query(query), distances: 0 };
        counted_search(&mut searcher, &graph.view(), &mut way, &mut scorer);
        distances += way.distances + scorer.distances;
    }
    println!("{:?} {distances}", Level::best());
}

/// Instructions and distances of a run under callgrind, and the kernels' level.
fn count(bits: Bits) -> Result<(f64, f64, String), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_search*")
        .arg(program)
        .env(COUNTED, bits.count().to_string())
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let (out, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let counted = || {
        let instructions = log.lines().find_map(|line| line.split("Collected :").nth(1))?;
        let mut words = out.split_whitespace();
        let (level, distances) = (words.next()?, words.next()?);
        Some((instructions.trim().parse().ok()?, distances.parse().ok()?, level.to_owned()))
    };
    counted().ok_or_else(|| format!("callgrind has counted nothing: {out}{log}"))
}

fn main() -> ExitCode {
    let counted = std::env::var(COUNTED).ok();
    if let Some(bits) = counted.and_then(|bits| Bits::from_u8(bits.parse().ok()?)) {
        run(bits);
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        println!("skipped: only an optimised build is worth counting");
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (bits, limit) in LIMITS {
        let good = match count(bits) {
            Err(error) => {
                println!("{bits:?}: {error}");
                false
            }
            Ok((instructions, distances, level)) => {
                let each = instructions / distances;
                println!("{bits:?}, {level}: {each:.1} instructions a distance, limit {limit}");
                level != "Avx2" || each <= limit
            }
        };
        if good { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
