//! Recall against throughput on real embeddings, by bits and `ef_construction`.
//!
//! ```text
//! S3VECTOR_DATA=<folder> cargo bench -p s3vector-hnsw --bench recall [-- <bits>... ]
//! ```
//!
//! The folder holds `wordnet_base.npy` (float16, row × dimension), `wordnet_query.npy` (float32)
//! and `wordnet_gt.npy` (int32, the exact nearest rows of each query under cosine). Builds use
//! all cores, searches one. A search counts its query's preparation, the walk, and the exact
//! rerank of all candidates from memory; the best of three passes is shown.

#[path = "../tests/common/mod.rs"]
mod common;

use std::{fs, path::Path, time::Instant};

use common::{Codes, params};
use distance::{ExactQuery, Metric, f16};
use hnsw::{Control, Graph, Searcher, build, order};
use rabitq::Bits;

/// Nearest rows asked for.
const K: usize = 10;

/// Vectors and the true answers.
struct Data {
    rows: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
    nearest: Vec<Vec<u32>>,
}

/// The elements of a two-dimensional NumPy file, by rows.
fn read_npy<T, const BYTES: usize>(path: &Path, element: impl Fn([u8; BYTES]) -> T) -> Vec<Vec<T>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..10 + header]).into_owned();
    let shape = text.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next());
    let columns = shape.and_then(|shape| shape.split(',').nth(1)).map(|text| text.trim().parse());
    let Some(Ok(columns)) = columns else { panic!("{}: not a matrix: {text}", path.display()) };
    let elements = bytes[10 + header..].as_chunks::<BYTES>().0;
    elements.chunks(columns).map(|row| row.iter().map(|bytes| element(*bytes)).collect()).collect()
}

fn read(folder: &Path) -> Data {
    Data {
        rows: read_npy(&folder.join("wordnet_base.npy"), |bytes| {
            f16::from_le_bytes(bytes).to_f32()
        }),
        queries: read_npy(&folder.join("wordnet_query.npy"), f32::from_le_bytes),
        nearest: read_npy(&folder.join("wordnet_gt.npy"), u32::from_le_bytes),
    }
}

/// Searches for all queries with known answers; returns recall with and without rerank, and the
/// seconds taken.
fn pass(data: &Data, graph: &Graph, codes: &Codes, ef: usize) -> (f64, f64, f64) {
    let view = graph.view();
    let mut searcher = Searcher::new();
    let (mut reranked, mut raw, mut seconds) = (0, 0, 0.0);
    for (query, nearest) in data.queries.iter().zip(&data.nearest) {
        let start = Instant::now();
        searcher.start(&view, &mut codes.query(query), ef);
        let exact = ExactQuery::new(Metric::Cosine, query.clone());
        let mut found: Vec<(f64, u32)> = searcher
            .candidates()
            .iter()
            .map(|found| (exact.distance(&data.rows[found.row as usize]), found.row))
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        seconds += start.elapsed().as_secs_f64();
        let nearest = &nearest[..K];
        reranked += found.iter().take(K).filter(|(_, row)| nearest.contains(row)).count();
        let candidates = searcher.candidates();
        raw += candidates.iter().take(K).filter(|found| nearest.contains(&found.row)).count();
    }
    let all = (data.nearest.len() * K) as f64;
    (reranked as f64 / all, raw as f64 / all, seconds)
}

fn measure(data: &Data, bits: Bits) {
    let start = Instant::now();
    let codes = Codes::new(&data.rows, bits, Metric::Cosine);
    let rate = data.rows.len() as f64 / start.elapsed().as_secs_f64() / 1e3;
    println!("\n{} bits: mean and codes of {rate:.0} thousand vectors a second", bits.count());
    let threads = rayon::ThreadPoolBuilder::new().build().expect("threads start");
    for ef_construction in [64, 128, 200] {
        let start = Instant::now();
        let params = params(16, ef_construction);
        let graph = build(data.rows.len(), &params, &codes, &threads, &Control::new())
            .expect("nobody stops the build");
        let rate = data.rows.len() as f64 / start.elapsed().as_secs_f64() / 1e3;
        let start = Instant::now();
        order(&graph.view(), 256, &Control::new()).expect("not stopped");
        let ordering = start.elapsed().as_secs_f64();
        println!(
            "  ef_construction {ef_construction}: {rate:.1} thousand vectors a second on {} threads, \
             ordered in {ordering:.2} s",
            threads.current_num_threads()
        );
        for ef in [20, 40, 60, 80, 100, 150, 200, 320] {
            let passes = [(); 3].map(|()| pass(data, &graph, &codes, ef));
            let seconds = passes.iter().map(|pass| pass.2).fold(f64::INFINITY, f64::min);
            println!(
                "    ef {ef:3}: recall {:.4} ({:.4} without rerank), {:.1} thousand queries a second",
                passes[0].0,
                passes[0].1,
                data.nearest.len() as f64 / seconds / 1e3
            );
        }
    }
}

fn main() {
    let Some(folder) = std::env::var_os("S3VECTOR_DATA") else {
        println!("skipped: S3VECTOR_DATA names no folder with the WordNet embeddings");
        return;
    };
    let data = read(Path::new(&folder));
    let asked: Vec<Bits> = std::env::args()
        .filter_map(|argument| argument.parse().ok().and_then(Bits::from_u8))
        .collect();
    for bits in if asked.is_empty() { Bits::ALL.to_vec() } else { asked } {
        measure(&data, bits);
    }
}
