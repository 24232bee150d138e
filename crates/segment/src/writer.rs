//! Writes a segment: all objects side by side, the group's `zarr.json` last.
//!
//! A segment is complete when its `zarr.json` exists. Until then a reader finds no segment, and
//! whatever an interrupted writer left behind is found by a listing of the prefix.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytemuck::cast_slice;
use bytes::Bytes;
use hnsw::Graph;
use storage::{StorageError, Store};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinSet;
use tokio::time::timeout;
use zarrs::metadata::v3::GroupMetadataV3;

use crate::arrays::{self, ArraySpec, COUNT, VECTORS};
use crate::attributes::SegmentAttributes;
use crate::codec::ChunkCodec;
use crate::control::WriteControl;
use crate::error::{Result, SegmentError};
use crate::rows::RowSource;
use crate::shard;

/// Name of metadata objects.
pub(crate) const METADATA: &str = "zarr.json";

/// Objects that upload at once, besides the one being encoded; each is at most a shard.
const UPLOADS_AT_ONCE: usize = 4;

/// How often the stop flag is looked at while waiting for uploads.
const STOP_POLL: Duration = Duration::from_millis(20);

/// How long to wait for each step of tidying up after a failure. A sweep gets what is left.
const TIDY_LIMIT: Duration = Duration::from_millis(400);

/// Everything a segment is written from.
#[derive(Clone, Copy)]
pub struct SegmentData<'a> {
    /// What the segment says about itself; its counts must match the arrays.
    pub attributes: SegmentAttributes,
    /// RaBitQ codes, rows × `code_bytes`.
    pub codes: &'a [u8],
    /// Factors of the estimator, rows × [`FACTORS`](rabitq::FACTORS).
    pub factors: &'a [f32],
    /// The graph over the rows.
    pub graph: &'a Graph,
    /// Heap tuples grouped by row: block << 16 | offset.
    pub tids: &'a [u64],
    /// Where each row's tids start, rows + 1.
    pub tid_offsets: &'a [u32],
    /// What codes are relative to, one element a dimension.
    pub centroid: &'a [f32],
    /// The vectors.
    pub vectors: &'a dyn RowSource,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Objects, metadata included.
    pub objects: u64,
    /// Bytes of those objects.
    pub bytes: u64,
}

impl<'a> SegmentData<'a> {
    /// The bytes of every array beside `vectors`, in the order of [`arrays::arrays`].
    fn arrays(&self) -> [(ArraySpec, &'a [u8]); COUNT] {
        let [codes, factors, neighbors, nodes, offsets, lists, tids, bounds, centroid] =
            arrays::arrays(&self.attributes);
        let upper_offsets: &[u32] = match self.graph.upper_nodes.is_empty() {
            true => &[],
            false => &self.graph.upper_offsets,
        };
        [
            (codes, self.codes),
            (factors, cast_slice(self.factors)),
            (neighbors, cast_slice(&self.graph.neighbors)),
            (nodes, cast_slice(&self.graph.upper_nodes)),
            (offsets, cast_slice(upper_offsets)),
            (lists, cast_slice(&self.graph.upper_neighbors)),
            (tids, cast_slice(self.tids)),
            (bounds, cast_slice(self.tid_offsets)),
            (centroid, cast_slice(self.centroid)),
        ]
    }

    /// # Errors
    /// [`SegmentError::Invalid`] if attributes and arrays contradict each other.
    fn validate(&self) -> Result<()> {
        self.attributes.validate()?;
        let graph = (self.graph.m, self.graph.entry);
        if graph != (self.attributes.m as usize, self.attributes.entry) {
            return Err(SegmentError::invalid(
                "m and entry of the attributes are not those of the graph",
            ));
        }
        for (spec, bytes) in self.arrays() {
            if spec.bytes() != bytes.len() as u64 {
                return Err(SegmentError::invalid(format!(
                    "array {} has {} bytes, but the attributes say {}",
                    spec.name,
                    bytes.len(),
                    spec.bytes()
                )));
            }
        }
        crate::check::tid_offsets(self.tid_offsets, self.attributes.entries)
            .map_err(SegmentError::invalid)
    }
}

/// Writes the segment below `prefix`.
///
/// Needs a multi-threaded tokio runtime to encode and upload side by side. On an error whatever
/// was written is deleted again, as far as that takes no time to speak of.
///
/// # Errors
/// Those of the store; [`SegmentError::Invalid`] for contradictory data;
/// [`SegmentError::OutOfRange`] for a value that the payload cannot hold;
/// [`SegmentError::Cancelled`] after `control.stop`.
pub async fn write(
    store: &Arc<dyn Store>,
    prefix: &str,
    data: &SegmentData<'_>,
    control: &WriteControl,
) -> Result<Written> {
    data.validate()?;
    let codec = ChunkCodec::new(&data.attributes)?;
    let mut uploads = Uploads::new(store, prefix, control);
    let outcome = write_all(&mut uploads, data, &codec).await;
    if outcome.is_err() {
        uploads.undo().await;
    }
    outcome.map(|()| uploads.written)
}

async fn write_all(
    uploads: &mut Uploads<'_>,
    data: &SegmentData<'_>,
    codec: &ChunkCodec,
) -> Result<()> {
    let attributes = &data.attributes;
    let row_bytes = attributes.row_bytes() as u64;
    let specs = data.arrays();
    let resident: u64 = specs.iter().map(|(spec, _)| spec.bytes()).sum();
    let total = resident + u64::from(attributes.rows) * row_bytes;
    uploads.control.bytes_total.store(total, Ordering::Relaxed);

    for number in 0..attributes.shards() {
        let encode = || shard::encode(attributes, codec, data.vectors, number, uploads.control);
        let body = off_the_reactor(encode)?;
        let rows = attributes.shard_rows.min(attributes.rows - number * attributes.shard_rows);
        let plain = u64::from(rows) * row_bytes;
        uploads.start(&shard::shard_key(number), body, plain).await?;
    }
    for (spec, bytes) in specs {
        for chunk in 0..spec.chunks() {
            let range = spec.chunk_range(chunk);
            let part = &bytes[range.start as usize..range.end as usize];
            let body = off_the_reactor(|| encode_chunk(&spec, part));
            uploads.start(&spec.chunk_key(chunk), body, part.len() as u64).await?;
        }
        let metadata = spec.metadata()?;
        uploads.start(&format!("{}/{METADATA}", spec.name), metadata, 0).await?;
    }
    let metadata = arrays::vectors_metadata(attributes)?;
    uploads.start(&format!("{VECTORS}/{METADATA}"), metadata, 0).await?;
    uploads.finish().await?;

    let group = GroupMetadataV3::new().with_attributes(attributes.to_zarr()?);
    let group = serde_json::to_vec_pretty(&group)
        .map_err(|error| SegmentError::invalid(format!("the group's metadata: {error}")))?;
    uploads.start(METADATA, group, 0).await?;
    uploads.finish().await
}

/// A regular chunk: its elements, padding up to the chunk's length, a CRC-32C.
fn encode_chunk(spec: &ArraySpec, part: &[u8]) -> Vec<u8> {
    let length = spec.chunk_bytes() as usize;
    let mut body = Vec::with_capacity(length + arrays::CHECKSUM_BYTES);
    body.extend_from_slice(part);
    body.resize(length, 0);
    let checksum = crc32c::crc32c(&body);
    body.extend_from_slice(&checksum.to_le_bytes());
    body
}

/// Runs work that keeps a processor busy, or reads a file, so that other tasks go on meanwhile.
fn off_the_reactor<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// The uploads of one segment.
struct Uploads<'a> {
    store: &'a Arc<dyn Store>,
    prefix: &'a str,
    control: &'a WriteControl,
    /// Each answers with its length and its length before compression.
    running: JoinSet<std::result::Result<(u64, u64), StorageError>>,
    started: Vec<String>,
    written: Written,
}

impl<'a> Uploads<'a> {
    fn new(store: &'a Arc<dyn Store>, prefix: &'a str, control: &'a WriteControl) -> Self {
        Self {
            store,
            prefix,
            control,
            running: JoinSet::new(),
            started: Vec::new(),
            written: Written::default(),
        }
    }

    /// Starts the upload of `body` when there is room for one more.
    async fn start(&mut self, name: &str, body: Vec<u8>, plain_bytes: u64) -> Result<()> {
        while self.running.len() >= UPLOADS_AT_ONCE {
            self.finish_one().await?;
        }
        self.control.check()?;
        let key = format!("{}/{name}", self.prefix);
        self.started.push(key.clone());
        let store = Arc::clone(self.store);
        self.running.spawn(async move {
            let length = body.len() as u64;
            store.put(&key, Bytes::from(body)).await?;
            Ok((length, plain_bytes))
        });
        Ok(())
    }

    /// Waits for all uploads.
    async fn finish(&mut self) -> Result<()> {
        while !self.running.is_empty() {
            self.finish_one().await?;
        }
        Ok(())
    }

    /// Waits for one upload, or for the stop flag.
    async fn finish_one(&mut self) -> Result<()> {
        loop {
            self.control.check()?;
            let Ok(next) = timeout(STOP_POLL, self.running.join_next()).await else {
                continue;
            };
            let Some(finished) = next else { return Ok(()) };
            let lost = |_| SegmentError::invalid("the task of an upload was lost");
            let (length, plain_bytes) = finished.map_err(lost)??;
            self.written.objects += 1;
            self.written.bytes += length;
            let done = &self.control.bytes_done;
            done.fetch_add(plain_bytes, Ordering::Relaxed);
            return Ok(());
        }
    }

    /// Gives up what is running and deletes what was written. Failures stay silent: the first
    /// error is the one to report, and a sweep finds what is left.
    async fn undo(&mut self) {
        self.running.shutdown().await;
        let _ = timeout(TIDY_LIMIT, self.store.settle()).await;
        let _ = timeout(TIDY_LIMIT, self.store.delete(&self.started)).await;
    }
}

/// Deletes every object below `prefix`, the group's `zarr.json` first, so that a reader finds a
/// whole segment or none.
///
/// # Errors
/// Those of the store.
pub async fn remove(store: &Arc<dyn Store>, prefix: &str) -> Result<()> {
    store.delete(&[format!("{prefix}/{METADATA}")]).await?;
    let objects = store.list(&format!("{prefix}/")).await?;
    let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
    Ok(store.delete(&keys).await?)
}
