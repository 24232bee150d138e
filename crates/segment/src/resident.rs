//! A segment in memory: what every search reads, in one block that processes can share.
//!
//! ```text
//!   0      header: magic, layout version, attributes, length of the prefix  (native integers of 8 bytes)
//!          │ prefix: which segment it is
//!   256    records │ upper_nodes │ upper_offsets │ upper_neighbors │ tids │ tid_offsets │ centroid │
//!          sketches
//! ```
//!
//! Records have of every row its code, its factors and its level-0 neighbours. Sketches, one-bit codes of
//! the upper nodes made of their codes, are so small that the way down the upper levels stays in the
//! nearest caches. All parts begin at a multiple of 64 bytes; where follows from the attributes, so
//! nothing in the block points anywhere and it can be mapped at any address.

use bytemuck::{cast_slice_mut, try_cast_slice};
use distance::{Metric, Payload};
use hnsw::{GraphError, GraphView};
use rabitq::{Bits, Codes, FACTORS, sketch, sketch_bytes};

use crate::arrays::{self, COUNT};
use crate::attributes::{Compression, SegmentAttributes};
use crate::error::{Result, SegmentError};
use crate::record::{self, Part, Records};

#[cfg(target_endian = "big")]
compile_error!("segments are read into memory as they are stored, which is little-endian");

/// Alignment of the block and of every array in it, in bytes: a cache line.
pub const ALIGNMENT: usize = 64;

/// Bytes of the header.
const HEADER_BYTES: usize = 256;

/// First word of a block that holds a whole segment.
const MAGIC: u64 = u64::from_le_bytes(*b"s3vector");

/// Version of this layout. It never leaves a machine, so no other version need be read.
const LAYOUT: u64 = 4;

/// The name of a block in messages.
const NAME: &str = "resident";

/// Words of the header in use.
const WORDS: usize = 22;

/// Bytes of the header that the prefix may take, after the words.
const PREFIX_BYTES: usize = HEADER_BYTES - WORDS * size_of::<u64>();

/// The layout of a resident segment.
#[derive(Clone, Copy, Debug)]
pub struct Resident;

impl Resident {
    /// Bytes a segment takes in memory.
    pub fn size(attributes: &SegmentAttributes) -> usize {
        Sections::of(attributes).total
    }
}

/// Arrays of the store whose rows lie in records: the first ones of [`arrays::arrays`].
const PARTS: [Part; 3] = [Part::Code, Part::Factors, Part::Neighbors];

/// Where everything lies in the block.
pub(crate) struct Sections {
    records: Records,
    /// Offset and length in bytes of the other arrays, in the order of [`arrays::arrays`].
    places: [(usize, usize); COUNT - PARTS.len()],
    sketches: Sketches,
    total: usize,
}

/// Where the sketches of the upper nodes lie.
#[derive(Clone, Copy)]
struct Sketches {
    start: usize,
    bits: Option<Bits>,
    nodes: usize,
    code_bytes: usize,
    stride: usize,
}

impl Sections {
    pub(crate) fn of(attributes: &SegmentAttributes) -> Self {
        let records = Records::of(attributes);
        let mut at = HEADER_BYTES + records.bytes().next_multiple_of(ALIGNMENT);
        let specs = arrays::arrays(attributes);
        let places = std::array::from_fn(|number| {
            let (start, length) = (at, specs[PARTS.len() + number].bytes() as usize);
            at = (start + length).next_multiple_of(ALIGNMENT);
            (start, length)
        });
        let bits = u8::try_from(attributes.bits).ok().and_then(Bits::from_u8);
        let code_bytes = bits.map_or(0, |bits| sketch_bytes(bits, attributes.code_bytes as usize));
        let sketches = Sketches {
            start: at,
            bits,
            nodes: attributes.upper_nodes as usize,
            code_bytes,
            stride: record::stride(code_bytes, 0),
        };
        let total = (at + sketches.bytes()).next_multiple_of(ALIGNMENT);
        Self { records, places, sketches, total }
    }

    /// Puts `bytes` of an array of the store, those from `start` on, into their places in `region`.
    ///
    /// # Errors
    /// A neighbour that is no row.
    pub(crate) fn put(
        &self,
        array: usize,
        start: usize,
        bytes: &[u8],
        region: &mut [u8],
    ) -> std::result::Result<(), GraphError> {
        if let Some(part) = PARTS.get(array) {
            return self.records.put(*part, start, bytes, &mut region[HEADER_BYTES..]);
        }
        let (first, _) = self.places[array - PARTS.len()];
        region[first + start..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

impl Sketches {
    fn bytes(&self) -> usize {
        self.nodes * self.stride
    }
}

/// Makes the sketches of a block whose other parts have been checked.
///
/// # Errors
/// [`SegmentError::Corrupt`] if the block holds no segment.
pub(crate) fn make_sketches(region: &mut [u8]) -> Result<()> {
    let view = ResidentView::new(region)?;
    let places = Sections::of(&view.attributes).sketches;
    let Some(bits) = places.bits else { return Ok(()) };
    let mut made = vec![0u8; places.bytes()];
    for (row, record) in view.graph.upper_nodes.iter().zip(made.chunks_exact_mut(places.stride)) {
        let (code, rest) = record.split_at_mut(places.code_bytes);
        let mut factors = [0f32; FACTORS];
        sketch(bits, view.codes.code(*row), view.codes.factors(*row), code, &mut factors);
        for (bytes, factor) in rest.as_chunks_mut().0.iter_mut().zip(factors) {
            *bytes = factor.to_ne_bytes();
        }
    }
    region[places.start..][..made.len()].copy_from_slice(&made);
    Ok(())
}

/// Marks `region` as holding no segment.
pub(crate) fn clear(region: &mut [u8]) {
    region[..HEADER_BYTES].fill(0);
}

/// Whether there is room in the header for where the segment lies.
///
/// # Errors
/// [`SegmentError::Invalid`] if the prefix is too long.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    match prefix.len() {
        0..=PREFIX_BYTES => Ok(()),
        length => Err(SegmentError::invalid(format!(
            "a prefix of {length} bytes, where at most {PREFIX_BYTES} fit into memory"
        ))),
    }
}

/// Writes the header: from now on `region` holds the whole segment that lies below `prefix`, which has been
/// [checked](check_prefix).
pub(crate) fn seal(region: &mut [u8], attributes: &SegmentAttributes, prefix: &str) {
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
        prefix.len() as u64,
    ];
    let (places, rest) = region.split_at_mut(size_of_val(&words));
    for (place, word) in places.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
    rest[..prefix.len()].copy_from_slice(prefix.as_bytes());
}

/// Reads a header: the attributes, which are not yet checked, and the prefix.
fn unseal(header: &[u8]) -> std::result::Result<(SegmentAttributes, &str), &'static str> {
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
    let rest = &header[size_of_val(&words)..];
    let prefix = usize::try_from(words[21]).ok().and_then(|length| rest.get(..length));
    let prefix =
        prefix.and_then(|prefix| std::str::from_utf8(prefix).ok()).ok_or("an unreadable prefix")?;
    match usize::try_from(words[2]) {
        Ok(size) if size == Resident::size(&attributes) => Ok((attributes, prefix)),
        _ => Err("a size that is not the one of its arrays"),
    }
}

/// A resident segment, ready to be searched. Cheap to make: only the header is looked at.
///
/// The content was checked when it was loaded (see [`Reader::load`](crate::Reader::load)).
#[derive(Clone, Copy, Debug)]
pub struct ResidentView<'a> {
    prefix: &'a str,
    attributes: SegmentAttributes,
    codes: Codes<'a>,
    sketches: Codes<'a>,
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
        let (attributes, prefix) = unseal(header).map_err(corrupt)?;
        attributes
            .validate()
            .map_err(|error| corrupt(&format!("impossible attributes ({error})")))?;
        Self::slice(bytes, attributes, prefix)
            .ok_or_else(|| corrupt("too few bytes for its arrays"))
    }

    /// The segment in `bytes`, as [`new`](Self::new), if it is the one that lies below `prefix` in its store:
    /// for whoever finds a block that others have filled.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] if the block holds another segment, or none.
    pub fn of(bytes: &'a [u8], prefix: &str) -> Result<Self> {
        let view = Self::new(bytes)?;
        if view.prefix != prefix {
            let what = format!("the segment \"{}\" in place of \"{prefix}\"", view.prefix);
            return Err(SegmentError::corrupt(NAME, what));
        }
        Ok(view)
    }

    fn slice(bytes: &'a [u8], attributes: SegmentAttributes, prefix: &'a str) -> Option<Self> {
        let Sections { records: layout, places, sketches, .. } = Sections::of(&attributes);
        let section = |start: usize, length: usize| bytes.get(start..)?.get(..length);
        let floats = |bytes: &'a [u8]| try_cast_slice::<u8, f32>(bytes).ok();
        let integers = |array: usize| {
            let (start, length) = places[array];
            try_cast_slice::<u8, u32>(section(start, length)?).ok()
        };
        let [_, _, _, (tids, tids_length), _, (centroid, centroid_length)] = places;
        let records = section(HEADER_BYTES, layout.bytes())?;
        let coarse = section(sketches.start, sketches.bytes())?;
        let Sketches { code_bytes, stride, .. } = sketches;
        Some(Self {
            prefix,
            attributes,
            codes: layout.codes(records, floats(records)?),
            sketches: Codes::records(coarse, floats(coarse)?, code_bytes, stride),
            graph: GraphView {
                m: attributes.m as usize,
                neighbors: layout.lists(records),
                upper_nodes: integers(0)?,
                upper_offsets: integers(1)?,
                upper_neighbors: integers(2)?,
                entry: attributes.entry,
            },
            tids: try_cast_slice(section(tids, tids_length)?).ok()?,
            tid_offsets: integers(4)?,
            centroid: floats(section(centroid, centroid_length)?)?,
        })
    }

    /// Where the segment that was loaded lies in its store: which one it is.
    pub fn prefix(&self) -> &'a str {
        self.prefix
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

    /// Codes and factors of the rows.
    pub fn codes(&self) -> Codes<'a> {
        self.codes
    }

    /// One-bit codes and their factors, of the graph's upper nodes.
    pub fn sketches(&self) -> Codes<'a> {
        self.sketches
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
