//! From collected rows to a segment in storage. Runs on threads: nothing here calls PostgreSQL.
//!
//! ```text
//!   rows ─▶ equal vectors ─▶ centroid ─▶ codes ─▶ graph ─▶ row order ─▶ segment::write
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::storage::{StorageConfig, Store};
use distance::{Aligned, Metric};
use hnsw::{BuildError, BuildParams, Graph, GraphView, NONE};
use rabitq::{Bits, Codes, FACTORS, Quantizer, Scratch};
use rayon::prelude::*;
use segment::{FORMAT_VERSION, Resident, RowSource, SegmentAttributes, SegmentData, WriteControl};
use uuid::Uuid;

use super::codes::{BUILD_BITS, CodeDistances};
use super::collect::{Rows, unreadable};
use super::control::{Control, Phase, cancelled};
use super::equal::{self, Groups};
use crate::errors::{Failure, FailureKind};
use crate::pages::meta::Parameters;
use crate::shared::storage_metrics;
use crate::threads;

/// Rows last placed that the row order looks back on.
const ORDER_WINDOW: usize = 256;
/// Vectors the centroid is the mean of, at most.
const CENTROID_SAMPLE: usize = 1 << 16;
/// Rows a thread encodes before it looks whether to stop.
const ENCODE_ROWS: usize = 256;
/// Rows a thread puts in order at a time.
const GATHER_ROWS: usize = 1024;
/// Threads that wait for uploads and assemble shards.
const UPLOAD_THREADS: usize = 2;
/// How long clearing up after a failed build may take; a sweep gets what is left.
const REMOVE_LIMIT: Duration = Duration::from_millis(800);

/// What to make a segment of.
pub struct Job<'a> {
    /// The rows.
    pub rows: &'a Rows,
    /// A graph over the first of the rows, to start from.
    pub base: Option<Base<'a>>,
    /// The index's parameters.
    pub parameters: Parameters,
    /// Folder of the index.
    pub index_uuid: Uuid,
    /// Folder of the segment below it.
    pub segment_uuid: Uuid,
    /// Where to write.
    pub storage: &'a StorageConfig,
    /// Threads to compute with.
    pub threads: usize,
}

/// A graph that a job starts from.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    /// The graph.
    pub graph: GraphView<'a>,
    /// The row of the job that each row of the graph is, or [`NONE`](hnsw::NONE).
    pub place: &'a [u32],
}

/// What a job made.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Distinct vectors.
    pub rows: u64,
    /// Heap tuples, by entry.
    pub tids: Vec<u64>,
    /// Bytes of the segment's objects.
    pub storage_bytes: u64,
    /// Bytes of the segment in shared memory.
    pub resident_bytes: u64,
}

/// Builds and writes one segment. On failure nothing of it is left in storage, as far as that
/// takes no time to speak of.
///
/// # Errors
/// What storage or a temporary file says; a cancellation.
pub fn run(job: &Job<'_>, control: &Control) -> Result<Assembled, Failure> {
    let store = ::storage::open(job.storage, storage_metrics::get())?;
    let pool = threads::pool(job.threads)?;
    control.enter(Phase::Encoding)?;
    let groups = pool.install(|| equal::group(job.rows, &|| control.check()))?;
    let rows = groups.distinct.len();
    control.expect_rows(rows as u64);

    let parameters = &job.parameters;
    let centroid = pool.install(|| centroid(job, &groups)).map_err(unreadable)?;
    let bits = bits(parameters)?;
    let quantizer = |bits: Bits| {
        let seed = parameters.rotation_seed;
        Quantizer::new(parameters.dimensions, bits, parameters.metric, seed, centroid.clone())
    };
    let build_quantizer = quantizer(bits.max(BUILD_BITS));
    let mut encoded = pool.install(|| encode(job, &groups, &build_quantizer, control))?;

    control.enter(Phase::Linking)?;
    let graph = link(job, &groups, &build_quantizer, &encoded, &pool, control)?;
    if bits != build_quantizer.bits() {
        encoded = pool.install(|| encode(job, &groups, &quantizer(bits), control))?;
    }

    control.enter(Phase::Ordering)?;
    let order = hnsw::order(&graph.view(), ORDER_WINDOW, &control.graph).map_err(build_failure)?;
    let (graph, encoded) =
        pool.install(|| rayon::join(|| graph.reorder(&order), || encoded.reorder(&order)));
    let (tids, tid_offsets) = tids(job.rows, &groups, &order);
    let source = Ordered { rows: job.rows, groups: &groups, order: &order };

    control.enter(Phase::Writing)?;
    let attributes = attributes(job, &encoded, rows, tids.len())?.with_graph(&graph.view())?;
    let data = SegmentData {
        attributes,
        codes: &encoded.codes,
        factors: &encoded.factors,
        graph: &graph,
        tids: &tids,
        tid_offsets: &tid_offsets,
        centroid: &centroid,
        vectors: &source,
    };
    let prefix = format!("{}/{}", job.index_uuid, job.segment_uuid);
    let written = upload(&store, &prefix, &data, &control.write)?;
    Ok(Assembled {
        rows: rows as u64,
        tids,
        storage_bytes: written.bytes,
        resident_bytes: Resident::size(&attributes) as u64,
    })
}

/// Deletes segments nothing names, without insisting: what cannot be deleted quickly is left to
/// a sweep.
pub fn remove(storage: &StorageConfig, prefixes: Vec<String>) {
    let remove_all = || -> Option<()> {
        let store = ::storage::open(storage, storage_metrics::get()).ok()?;
        let runtime = threads::runtime("s3vector tidy", 1).ok()?;
        runtime.block_on(async {
            let removals = prefixes.iter().map(|prefix| segment::remove(&store, prefix));
            let all = futures::future::join_all(removals);
            let _ = tokio::time::timeout(REMOVE_LIMIT, all).await;
        });
        runtime.shutdown_background();
        Some(())
    };
    ::storage::with_signals_blocked(remove_all);
}

fn bits(parameters: &Parameters) -> Result<Bits, Failure> {
    Bits::from_u8(parameters.bits).ok_or_else(|| {
        Failure::new(FailureKind::Corrupt, format!("no codes of {} bits exist", parameters.bits))
    })
}

/// The mean of a sample of the distinct vectors, of the normalised ones under cosine.
fn centroid(job: &Job<'_>, groups: &Groups) -> io::Result<Vec<f32>> {
    let dimensions = job.parameters.dimensions;
    let step = groups.distinct.len().div_ceil(CENTROID_SAMPLE).max(1);
    let sample: Vec<u32> = groups.distinct.iter().copied().step_by(step).collect();
    let add = |mut sums: Vec<f64>, row: &u32| -> io::Result<Vec<f64>> {
        let vector = job.rows.vector(*row as usize)?;
        let scale = match job.parameters.metric {
            Metric::Cosine => {
                1.0 / vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
            }
            Metric::L2 | Metric::InnerProduct => 1.0,
        };
        sums.iter_mut().zip(vector.iter()).for_each(|(sum, &x)| *sum += f64::from(x) * scale);
        Ok(sums)
    };
    let zeros = || vec![0f64; dimensions];
    let sums = sample
        .par_iter()
        .with_min_len(1024)
        .try_fold(zeros, add)
        .try_reduce(zeros, |a, b| Ok(a.iter().zip(&b).map(|(x, y)| x + y).collect()))?;
    let limit = f64::from(f32::MAX);
    let count = sample.len().max(1) as f64;
    Ok(sums.iter().map(|sum| (sum / count).clamp(-limit, limit) as f32).collect())
}

/// Codes and factors of distinct vectors.
struct Encoded {
    codes: Aligned<u8>,
    factors: Aligned<f32>,
    code_bytes: usize,
}

impl Encoded {
    fn view(&self) -> Codes<'_> {
        Codes::arrays(&self.codes, self.code_bytes, &self.factors)
    }

    fn reorder(self, order: &[u32]) -> Self {
        let codes = gather(&self.codes, self.code_bytes, order);
        let factors = gather(&self.factors, FACTORS, order);
        Self { codes, factors, code_bytes: self.code_bytes }
    }
}

/// The rows of an array, `width` elements each, in another order. Runs on the current rayon pool.
fn gather<T: Copy + Default + Send + Sync>(array: &[T], width: usize, order: &[u32]) -> Aligned<T> {
    let mut gathered = Aligned::filled(T::default(), array.len());
    gathered.par_chunks_mut(GATHER_ROWS * width).zip(order.par_chunks(GATHER_ROWS)).for_each(
        |(target, rows)| {
            for (target, &row) in target.chunks_exact_mut(width).zip(rows) {
                target.copy_from_slice(&array[row as usize * width..][..width]);
            }
        },
    );
    gathered
}

fn encode(
    job: &Job<'_>,
    groups: &Groups,
    quantizer: &Quantizer,
    control: &Control,
) -> Result<Encoded, Failure> {
    let code_bytes = quantizer.code_bytes();
    let rows = groups.distinct.len();
    let mut codes = Aligned::filled(0u8, rows * code_bytes);
    let mut factors = Aligned::filled(0f32, rows * FACTORS);
    codes
        .par_chunks_mut(ENCODE_ROWS * code_bytes)
        .zip(factors.par_chunks_mut(ENCODE_ROWS * FACTORS))
        .zip(groups.distinct.par_chunks(ENCODE_ROWS))
        .try_for_each_init(Scratch::default, |scratch, ((codes, factors), distinct)| {
            control.check()?;
            let targets = codes.chunks_mut(code_bytes).zip(factors.chunks_mut(FACTORS));
            for ((code, factors), &row) in targets.zip(distinct) {
                let vector = job.rows.vector(row as usize).map_err(unreadable)?;
                quantizer.encode(&vector, code, factors, scratch);
            }
            control.add_encoded(distinct.len() as u64);
            Ok::<_, Failure>(())
        })?;
    Ok(Encoded { codes, factors, code_bytes })
}

fn link(
    job: &Job<'_>,
    groups: &Groups,
    quantizer: &Quantizer,
    encoded: &Encoded,
    pool: &rayon::ThreadPool,
    control: &Control,
) -> Result<Graph, Failure> {
    let params = BuildParams {
        m: job.parameters.m,
        ef_construction: job.parameters.ef_construction,
        // Levels depend on seed and row number: with another seed every time, rows that are merged
        // again and again do not always get their levels in the same places.
        seed: job.segment_uuid.as_u64_pair().1,
    };
    let rows = encoded.codes.len() / encoded.code_bytes;
    let distances = CodeDistances { quantizer, rows: encoded.view() };
    let graph = match &job.base {
        None => hnsw::build(rows, &params, &distances, pool, &control.graph),
        Some(base) => {
            let place = places(base.place, groups);
            hnsw::extend(&base.graph, &place, rows, &params, &distances, pool, &control.graph)
        }
    };
    graph.map_err(build_failure)
}

/// Where a base's rows are among the distinct vectors: rows that a half-precision payload has made
/// equal have one place together, and the first of them takes it.
fn places(place: &[u32], groups: &Groups) -> Vec<u32> {
    let mut taken = vec![false; groups.distinct.len()];
    let group = |&row: &u32| {
        let group = *groups.group_of.get(row as usize)?;
        let free = !std::mem::replace(&mut taken[group as usize], true);
        free.then_some(group)
    };
    place.iter().map(group).map(|group| group.unwrap_or(NONE)).collect()
}

fn build_failure(error: BuildError) -> Failure {
    match error {
        BuildError::Cancelled => cancelled(),
        other => Failure::new(FailureKind::Config, other.to_string()),
    }
}

/// Heap tids by row in the final order, and where each row's start.
fn tids(rows: &Rows, groups: &Groups, order: &[u32]) -> (Vec<u64>, Vec<u32>) {
    let mut tids = Vec::with_capacity(rows.entries());
    let mut offsets = Vec::with_capacity(order.len() + 1);
    offsets.push(0);
    for &group in order {
        tids.extend(
            groups.rows(group as usize).iter().flat_map(|&row| rows.tids(row as usize)).copied(),
        );
        offsets.push(tids.len() as u32);
    }
    (tids, offsets)
}

/// The collected vectors, without repetitions and in the final order.
struct Ordered<'a> {
    rows: &'a Rows,
    groups: &'a Groups,
    order: &'a [u32],
}

impl RowSource for Ordered<'_> {
    fn read_rows(&self, first_row: usize, out: &mut [f32]) -> io::Result<()> {
        let dimensions = self.rows.dimensions();
        for (target, &group) in out.chunks_exact_mut(dimensions).zip(&self.order[first_row..]) {
            let row = self.groups.distinct[group as usize];
            target.copy_from_slice(&self.rows.vector(row as usize)?);
        }
        Ok(())
    }
}

fn attributes(
    job: &Job<'_>,
    encoded: &Encoded,
    rows: usize,
    entries: usize,
) -> Result<SegmentAttributes, Failure> {
    let p = &job.parameters;
    let (chunk_rows, shard_rows) = segment::choose_rows(
        p.dimensions as u32,
        p.payload,
        rows as u32,
        Some(p.chunk_rows as u32),
        Some(p.shard_rows as u32),
    )?;
    Ok(SegmentAttributes {
        format_version: FORMAT_VERSION,
        metric: p.metric,
        dimensions: p.dimensions as u32,
        rows: rows as u32,
        entries: entries as u32,
        bits: u32::from(p.bits),
        code_bytes: encoded.code_bytes as u32,
        m: p.m as u32,
        ef_construction: p.ef_construction as u32,
        entry: 0,
        upper_nodes: 0,
        upper_lists: 0,
        rotation_seed: p.rotation_seed,
        payload: p.payload,
        compression: p.compression,
        compression_level: p.compression_level,
        chunk_rows,
        shard_rows,
    })
}

fn upload(
    store: &Arc<dyn Store>,
    prefix: &str,
    data: &SegmentData<'_>,
    control: &WriteControl,
) -> Result<segment::Written, Failure> {
    let runtime = threads::runtime("s3vector upload", UPLOAD_THREADS)?;
    let written = runtime.block_on(segment::write(store, prefix, data, control));
    runtime.shutdown_background();
    written.map_err(|error| match Failure::from(error) {
        failure if failure.kind == FailureKind::Cancelled => cancelled(),
        failure => failure,
    })
}
