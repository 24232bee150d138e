//! Segments made up by seed: every array well formed, its content arbitrary.

// Every test file uses its own part of this.
#![allow(dead_code)]

use std::sync::Arc;

use distance::{Metric, Payload};
use hnsw::{Graph, NONE};
use rabitq::{Bits, FACTORS, code_bytes};
use segment::{
    Compression, FORMAT_VERSION, Fetched, Reader, ResidentBuffer, ResidentView, SegmentAttributes,
    SegmentData, SliceRows, WriteControl, Written, choose_rows, write,
};
use storage::{FileStore, Store};

/// What a segment is made up from.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: u32,
    pub dimensions: u32,
    pub payload: Payload,
    pub compression: Compression,
    pub compression_level: u8,
    pub chunk_rows: Option<u32>,
    pub shard_rows: Option<u32>,
    /// Bytes of a code; half a byte a dimension unless said otherwise.
    pub bits: Bits,
    pub seed: u64,
}

impl Shape {
    pub fn new(rows: u32, dimensions: u32) -> Self {
        Self {
            rows,
            dimensions,
            payload: Payload::Float32,
            compression: Compression::None,
            compression_level: 0,
            chunk_rows: None,
            shard_rows: None,
            bits: Bits::Four,
            seed: 1,
        }
    }
}

/// A segment in memory.
#[derive(Clone, Debug)]
pub struct Sample {
    pub attributes: SegmentAttributes,
    pub codes: Vec<u8>,
    pub factors: Vec<f32>,
    pub graph: Graph,
    pub tids: Vec<u64>,
    pub tid_offsets: Vec<u32>,
    pub centroid: Vec<f32>,
    pub vectors: Vec<f32>,
}

/// Numbers by seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A float16 value between -8 and 8, so that both payloads hold it exactly.
    fn element(&mut self) -> f32 {
        (self.below(4096) as f32 - 2048.0) / 256.0
    }

    fn elements(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.element()).collect()
    }
}

fn graph(rows: u32, m: usize, random: &mut Random) -> Graph {
    let mut list = |width: usize, candidates: &[u32]| {
        let length = random.below(width as u64 + 1) as usize;
        let mut list: Vec<u32> = (0..length)
            .map(|_| candidates[random.below(candidates.len() as u64) as usize])
            .collect();
        list.resize(width, NONE);
        list
    };
    let all: Vec<u32> = (0..rows).collect();
    let neighbors = all.iter().flat_map(|_| list(2 * m, &all)).collect();
    let upper_nodes: Vec<u32> = all.iter().copied().filter(|row| row % 5 == 3).collect();
    // Every third upper node has two levels, the first among them.
    let levels = |node: usize| if node.is_multiple_of(3) { 2 } else { 1 };
    let mut upper_offsets = Vec::new();
    let mut upper_neighbors = Vec::new();
    if !upper_nodes.is_empty() {
        upper_offsets.push(0);
    }
    for node in 0..upper_nodes.len() {
        for level in 1..=levels(node) {
            let there: Vec<u32> =
                (0..upper_nodes.len() as u32).filter(|n| levels(*n as usize) >= level).collect();
            upper_neighbors.extend(list(m, &there));
        }
        upper_offsets.push((upper_neighbors.len() / m) as u32);
    }
    Graph { m, neighbors, upper_nodes, upper_offsets, upper_neighbors, entry: 0 }
}

impl Sample {
    pub fn new(shape: Shape) -> Self {
        let Shape { rows, dimensions, payload, compression, .. } = shape;
        let mut random = Random(shape.seed);
        let graph = graph(rows, 4, &mut random);
        let code_bytes = code_bytes(dimensions as usize, shape.bits) as u32;
        let mut tid_offsets = vec![0];
        for row in 0..rows as usize {
            tid_offsets.push(tid_offsets[row] + 1 + (random.below(4) == 0) as u32);
        }
        let entries = tid_offsets[rows as usize];
        let (chunk_rows, shard_rows) =
            choose_rows(dimensions, payload, rows, shape.chunk_rows, shape.shard_rows)
                .expect("fits");
        let attributes = SegmentAttributes {
            format_version: FORMAT_VERSION,
            metric: Metric::Cosine,
            dimensions,
            rows,
            entries,
            bits: shape.bits as u32,
            code_bytes,
            m: 0,
            ef_construction: 100,
            entry: 0,
            upper_nodes: 0,
            upper_lists: 0,
            rotation_seed: u64::MAX - 3,
            payload,
            compression,
            compression_level: shape.compression_level,
            chunk_rows,
            shard_rows,
        };
        Self {
            attributes: attributes.with_graph(&graph.view()).expect("a small graph"),
            codes: (0..rows * code_bytes).map(|_| random.next() as u8).collect(),
            factors: random.elements(rows as usize * FACTORS),
            graph,
            tids: (0..entries).map(|_| random.below(1 << 48)).collect(),
            tid_offsets,
            centroid: random.elements(dimensions as usize),
            vectors: random.elements(rows as usize * dimensions as usize),
        }
    }

    pub async fn write(&self, store: &Arc<dyn Store>, prefix: &str) -> segment::Result<Written> {
        self.write_with(store, prefix, &WriteControl::default()).await
    }

    pub async fn write_with(
        &self,
        store: &Arc<dyn Store>,
        prefix: &str,
        control: &WriteControl,
    ) -> segment::Result<Written> {
        let rows = SliceRows::new(&self.vectors, self.attributes.dimensions as usize);
        write(store, prefix, &self.data(&rows), control).await
    }

    pub fn data<'a>(&'a self, rows: &'a SliceRows<'a>) -> SegmentData<'a> {
        SegmentData {
            attributes: self.attributes,
            codes: &self.codes,
            factors: &self.factors,
            graph: &self.graph,
            tids: &self.tids,
            tid_offsets: &self.tid_offsets,
            centroid: &self.centroid,
            vectors: rows,
        }
    }

    fn has_rows_of(&self, view: &ResidentView<'_>) -> bool {
        let (codes, graph) = (view.codes(), view.graph());
        let code_bytes = self.attributes.code_bytes as usize;
        (0..self.attributes.rows).all(|row| {
            let lists = self.graph.view().neighbors.list(row).eq(graph.neighbors.list(row));
            let (at, row) = (row as usize, row);
            lists
                && codes.code(row) == &self.codes[at * code_bytes..][..code_bytes]
                && codes.factors(row) == &self.factors[at * FACTORS..][..FACTORS]
        })
    }

    /// Whether `view` shows this segment, to the last bit.
    pub fn is_shown_by(&self, view: &ResidentView<'_>) -> bool {
        let graph = view.graph();
        view.attributes() == &self.attributes
            && self.has_rows_of(view)
            && graph.m == self.graph.m
            && graph.entry == self.graph.entry
            && graph.upper_nodes == self.graph.upper_nodes
            && graph.upper_offsets == self.graph.upper_offsets
            && graph.upper_neighbors == self.graph.upper_neighbors
            && view.all_tids() == self.tids
            && view.tid_offsets() == self.tid_offsets
            && view.centroid() == self.centroid
    }

    /// Whether every chunk in `fetched` holds this segment's vectors, and zeros behind them.
    pub fn agrees_with(&self, fetched: &Fetched) -> bool {
        let width = self.attributes.dimensions as usize;
        let rows = self.attributes.chunk_rows as usize;
        fetched.chunks.iter().all(|(chunk, bytes)| {
            let mut expected: Vec<f32> = self
                .vectors
                .chunks(width * rows)
                .nth(*chunk as usize)
                .expect("a chunk of the segment")
                .to_vec();
            expected.resize(width * rows, 0.0);
            elements(self.attributes.payload, bytes) == expected
        })
    }
}

/// The elements of a chunk.
pub fn elements(payload: Payload, bytes: &[u8]) -> Vec<f32> {
    match payload {
        Payload::Float32 => bytemuck::pod_collect_to_vec(bytes),
        Payload::Float16 => bytemuck::pod_collect_to_vec::<u8, u16>(bytes)
            .into_iter()
            .map(|bits| half::f16::from_bits(bits).to_f32())
            .collect(),
    }
}

/// A directory of its own, in memory where there is such a place: flushing hundreds of small
/// segments to a disk takes minutes.
pub fn directory() -> (tempfile::TempDir, FileStore) {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.expect("a directory");
    let store = FileStore::new(directory.path().to_owned());
    (directory, store)
}

/// A store in a directory of its own.
pub fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let (directory, store) = directory();
    (directory, Arc::new(store))
}

pub async fn load(reader: &Reader) -> segment::Result<ResidentBuffer> {
    let mut buffer = ResidentBuffer::new(reader.attributes());
    reader.load(buffer.bytes_mut()).await?;
    Ok(buffer)
}

/// Every shape worth a look: payloads, compressions, and sizes at the edges of chunks and shards.
pub fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for payload in [Payload::Float32, Payload::Float16] {
        for compression in [Compression::None, Compression::Zstd, Compression::Lz4] {
            for (rows, dimensions) in
                [(1, 1), (1, 7), (3, 5), (4, 5), (5, 5), (11, 3), (12, 3), (13, 3), (100, 17)]
            {
                shapes.push(Shape {
                    payload,
                    compression,
                    chunk_rows: Some(4),
                    shard_rows: Some(12),
                    seed: u64::from(rows),
                    ..Shape::new(rows, dimensions)
                });
            }
            shapes.push(Shape { payload, compression, ..Shape::new(700, 48) });
            let compression_level = 9;
            shapes.push(Shape { payload, compression, compression_level, ..Shape::new(50, 9) });
        }
    }
    shapes
}
