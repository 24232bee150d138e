//! A segment in memory: what every search reads, in one block that processes can share.
//!
//! ```text
//!   0      header: magic, layout version, attributes   (native integers of 8 bytes)
//!   256    codes │ factors │ neighbors │ upper_nodes │ upper_offsets │ upper_neighbors │ tids │
//!          tid_offsets │ centroid
//! ```
//!
//! Every array begins at a multiple of 64 bytes; where follows from the attributes, so nothing
//! in the block points anywhere and it can be mapped at any address.

use bytemuck::{cast_slice_mut, try_cast_slice};
use distance::{Metric, Payload};
use hnsw::GraphView;

use crate::arrays::{self, COUNT};
use crate::attributes::{Compression, SegmentAttributes};
use crate::error::{Result, SegmentError};

#[cfg(target_endian = "big")]
compile_error!("segments are read into memory as they are stored, which is little-endian");

/// Alignment of the block and of every array in it, in bytes: a cache line.
pub const ALIGNMENT: usize = 64;

/// Bytes of the header.
const HEADER_BYTES: usize = 256;

/// First word of a block that holds a whole segment.
const MAGIC: u64 = u64::from_le_bytes(*b"s3vector");

/// Version of this layout. It never leaves a machine, so no other version need be read.
const LAYOUT: u64 = 2;

/// The name of a block in messages.
const NAME: &str = "resident";

/// Words of the header in use.
const WORDS: usize = 21;

/// The layout of a resident segment.
#[derive(Clone, Copy, Debug)]
pub struct Resident;

impl Resident {
    /// Bytes a segment takes in memory.
    pub fn size(attributes: &SegmentAttributes) -> usize {
        Sections::of(attributes).total
    }
}

/// Where the arrays lie: offset and length in bytes, in the order of [`arrays::arrays`].
pub(crate) struct Sections {
    pub(crate) places: [(usize, usize); COUNT],
    pub(crate) total: usize,
}

impl Sections {
    pub(crate) fn of(attributes: &SegmentAttributes) -> Self {
        let mut at = HEADER_BYTES;
        let places = arrays::arrays(attributes).map(|spec| {
            let (start, length) = (at, spec.bytes() as usize);
            at = (start + length).next_multiple_of(ALIGNMENT);
            (start, length)
        });
        Self { places, total: at }
    }
}

/// Marks `region` as holding no segment.
pub(crate) fn clear(region: &mut [u8]) {
    region[..HEADER_BYTES].fill(0);
}

/// Writes the header: from now on `region` holds a whole segment.
pub(crate) fn seal(region: &mut [u8], attributes: &SegmentAttributes) {
    let a = attributes;
    let words: [u64; WORDS] = [
        MAGIC,
        LAYOUT,
        Resident::size(a) as u64,
        u64::from(a.format_version),
        a.metric as u64,
        u64::from(a.dimensions),
        u64::from(a.rows),
        u64::from(a.entries),
        u64::from(a.bits),
        u64::from(a.code_bytes),
        u64::from(a.m),
        u64::from(a.ef_construction),
        u64::from(a.entry),
        u64::from(a.upper_nodes),
        u64::from(a.upper_lists),
        a.rotation_seed,
        a.payload as u64,
        a.compression as u64,
        u64::from(a.chunk_rows),
        u64::from(a.shard_rows),
        u64::from(a.compression_level),
    ];
    for (place, word) in region.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}

/// Reads a header; the attributes are not yet checked.
fn unseal(header: &[u8]) -> std::result::Result<SegmentAttributes, &'static str> {
    let mut words = [0u64; WORDS];
    for (word, bytes) in words.iter_mut().zip(header.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    if (words[0], words[1]) != (MAGIC, LAYOUT) {
        return Err("no segment of this layout");
    }
    let small = |index: usize| u32::try_from(words[index]).map_err(|_| "a count out of range");
    let tiny = |index: usize| u8::try_from(words[index]).map_err(|_| "a number out of range");
    let attributes = SegmentAttributes {
        format_version: small(3)?,
        metric: Metric::from_u8(tiny(4)?).ok_or("an unknown metric")?,
        dimensions: small(5)?,
        rows: small(6)?,
        entries: small(7)?,
        bits: small(8)?,
        code_bytes: small(9)?,
        m: small(10)?,
        ef_construction: small(11)?,
        entry: small(12)?,
        upper_nodes: small(13)?,
        upper_lists: small(14)?,
        rotation_seed: words[15],
        payload: Payload::from_u8(tiny(16)?).ok_or("an unknown payload")?,
        compression: Compression::from_u8(tiny(17)?).ok_or("an unknown compression")?,
        chunk_rows: small(18)?,
        shard_rows: small(19)?,
        compression_level: tiny(20)?,
    };
    match usize::try_from(words[2]) {
        Ok(size) if size == Resident::size(&attributes) => Ok(attributes),
        _ => Err("a size that is not the one of its arrays"),
    }
}

/// A resident segment, ready to be searched. Cheap to make: only the header is looked at.
///
/// The content was checked when it was loaded (see [`Reader::load`](crate::Reader::load)).
#[derive(Clone, Copy, Debug)]
pub struct ResidentView<'a> {
    attributes: SegmentAttributes,
    codes: &'a [u8],
    factors: &'a [f32],
    graph: GraphView<'a>,
    tids: &'a [u64],
    tid_offsets: &'a [u32],
    centroid: &'a [f32],
}

impl<'a> ResidentView<'a> {
    /// The segment in `bytes`, which must begin at a multiple of [`ALIGNMENT`] and may go on
    /// behind the segment.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] if the block is too short, not aligned, or holds no segment.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let corrupt = |what: &str| SegmentError::corrupt(NAME, what);
        let header = bytes.get(..HEADER_BYTES);
        let header = header.ok_or_else(|| corrupt("too few bytes for a header"))?;
        if !bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Err(corrupt("a block that is not aligned to 64 bytes"));
        }
        let attributes = unseal(header).map_err(corrupt)?;
        attributes
            .validate()
            .map_err(|error| corrupt(&format!("impossible attributes ({error})")))?;
        Self::slice(bytes, attributes).ok_or_else(|| corrupt("too few bytes for its arrays"))
    }

    fn slice(bytes: &'a [u8], attributes: SegmentAttributes) -> Option<Self> {
        let sections = Sections::of(&attributes);
        let section = |index: usize| {
            let (start, length) = sections.places[index];
            bytes.get(start..)?.get(..length)
        };
        let integers = |index: usize| try_cast_slice::<u8, u32>(section(index)?).ok();
        let floats = |index: usize| try_cast_slice::<u8, f32>(section(index)?).ok();
        Some(Self {
            attributes,
            codes: section(0)?,
            factors: floats(1)?,
            graph: GraphView {
                m: attributes.m as usize,
                neighbors: integers(2)?,
                upper_nodes: integers(3)?,
                upper_offsets: integers(4)?,
                upper_neighbors: integers(5)?,
                entry: attributes.entry,
            },
            tids: try_cast_slice(section(6)?).ok()?,
            tid_offsets: integers(7)?,
            centroid: floats(8)?,
        })
    }

    /// Everything the segment says about itself.
    pub fn attributes(&self) -> &SegmentAttributes {
        &self.attributes
    }

    /// Distinct vectors.
    pub fn rows(&self) -> usize {
        self.attributes.rows as usize
    }

    /// Heap tuples.
    pub fn entries(&self) -> usize {
        self.attributes.entries as usize
    }

    /// Elements of a vector.
    pub fn dimensions(&self) -> usize {
        self.attributes.dimensions as usize
    }

    /// RaBitQ bits a dimension.
    pub fn bits(&self) -> u32 {
        self.attributes.bits
    }

    /// Bytes of a code.
    pub fn code_bytes(&self) -> usize {
        self.attributes.code_bytes as usize
    }

    /// The metric the graph was built for.
    pub fn metric(&self) -> Metric {
        self.attributes.metric
    }

    /// Width of an upper neighbour list.
    pub fn m(&self) -> usize {
        self.attributes.m as usize
    }

    /// Element type of the vectors in the store.
    pub fn payload(&self) -> Payload {
        self.attributes.payload
    }

    /// Rows of an inner chunk in the store.
    pub fn chunk_rows(&self) -> usize {
        self.attributes.chunk_rows as usize
    }

    /// Seed of the RaBitQ rotation.
    pub fn rotation_seed(&self) -> u64 {
        self.attributes.rotation_seed
    }

    /// Codes, rows × [`code_bytes`](Self::code_bytes).
    pub fn codes(&self) -> &'a [u8] {
        self.codes
    }

    /// Factors of the estimator, rows × [`FACTORS`](crate::FACTORS).
    pub fn factors(&self) -> &'a [f32] {
        self.factors
    }

    /// The graph over the rows.
    pub fn graph(&self) -> GraphView<'a> {
        self.graph
    }

    /// The heap tuples of `row`; none for a row that does not exist.
    pub fn tids(&self, row: usize) -> &'a [u64] {
        let bounds = self.tid_offsets.get(row..).and_then(|rest| rest.get(..2));
        bounds
            .and_then(|bounds| self.tids.get(bounds[0] as usize..bounds[1] as usize))
            .unwrap_or_default()
    }

    /// The heap tuples of all rows, grouped by row: block << 16 | offset.
    pub fn all_tids(&self) -> &'a [u64] {
        self.tids
    }

    /// Where each row's tids start in [`all_tids`](Self::all_tids), rows + 1.
    pub fn tid_offsets(&self) -> &'a [u32] {
        self.tid_offsets
    }

    /// What codes are relative to, one element a dimension.
    pub fn centroid(&self) -> &'a [f32] {
        self.centroid
    }
}

/// Aligned memory for a resident segment in one process: for tests, tools and builds.
#[derive(Clone, Debug)]
pub struct ResidentBuffer(Vec<Line>);

/// One cache line.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

impl ResidentBuffer {
    /// Zeroed memory for a segment with these attributes.
    pub fn new(attributes: &SegmentAttributes) -> Self {
        let lines = Resident::size(attributes).div_ceil(ALIGNMENT);
        Self(bytemuck::zeroed_vec(lines))
    }

    /// The memory.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    /// The memory, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        cast_slice_mut(&mut self.0)
    }
}
