//! What a segment says about itself: the attributes of its Zarr group.

use distance::{Metric, Payload};
use hnsw::GraphView;
use rabitq::Bits;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::error::{Result, SegmentError};

/// The format version this software reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Most dimensions a vector can have.
pub const MAX_DIMENSIONS: u32 = 16_000;

/// Most rows a segment can have: what a graph can have.
pub const MAX_ROWS: u32 = 1 << 31;

/// Widest upper neighbour list.
pub const MAX_M: u32 = 1_000;

/// Largest inner chunk of vectors, decoded, in bytes.
const MAX_CHUNK_BYTES: u64 = 64 << 20;

/// Largest shard of vectors, decoded, in bytes.
const MAX_SHARD_BYTES: u64 = 1 << 30;

/// The group attribute that holds all others, so that they meet nobody else's.
const NAMESPACE: &str = "s3vector";

/// The attribute that guards the others against damage.
const CHECKSUM: &str = "crc32c";

/// How inner chunks of vectors are compressed.
///
/// The numbers are part of stored formats: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Compression {
    /// Not at all: chunks lie at computable places, so that no index is read.
    None = 0,
    /// Blosc with Zstandard and byte shuffle.
    Zstd = 1,
    /// Blosc with LZ4 and byte shuffle.
    Lz4 = 2,
}

impl Compression {
    /// The compression stored as `value`, or `None` if none has that number.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::None),
            1 => Some(Self::Zstd),
            2 => Some(Self::Lz4),
            _ => None,
        }
    }

    /// The name used in SQL and in Zarr attributes.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// The compression called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Zstd, Self::Lz4]
            .into_iter()
            .find(|compression| compression.name() == name)
    }
}

/// All that must be known about a segment to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentAttributes {
    /// Version of this layout: [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The metric the graph was built for.
    #[serde(serialize_with = "put_metric", deserialize_with = "get_metric")]
    pub metric: Metric,
    /// Elements of a vector.
    pub dimensions: u32,
    /// Distinct vectors: rows of `vectors`, nodes of the graph.
    pub rows: u32,
    /// Heap tuples: length of `tids`; at least one a row.
    pub entries: u32,
    /// RaBitQ bits a dimension.
    pub bits: u32,
    /// Bytes of a code.
    pub code_bytes: u32,
    /// Width of an upper neighbour list; a level-0 list is twice as wide.
    pub m: u32,
    /// Breadth of the search that built the graph.
    pub ef_construction: u32,
    /// Where a search starts; see [`GraphView::entry`].
    pub entry: u32,
    /// Nodes with upper levels.
    pub upper_nodes: u32,
    /// Upper neighbour lists of all levels.
    pub upper_lists: u32,
    /// Seed of the RaBitQ rotation. Text in JSON: many readers turn a large number into a double.
    #[serde(serialize_with = "put_u64", deserialize_with = "get_u64")]
    pub rotation_seed: u64,
    /// Element type of `vectors`.
    #[serde(serialize_with = "put_payload", deserialize_with = "get_payload")]
    pub payload: Payload,
    /// Compression of `vectors`.
    pub compression: Compression,
    /// Blosc's level, 1 to 9; 0 is the default of the compression.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compression_level: u8,
    /// Rows of an inner chunk of `vectors`.
    pub chunk_rows: u32,
    /// Rows of a shard of `vectors`; a multiple of `chunk_rows`.
    pub shard_rows: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(level: &u8) -> bool {
    *level == 0
}

impl SegmentAttributes {
    /// The same attributes, describing `graph`: `m`, `entry`, `upper_nodes`, `upper_lists`.
    ///
    /// # Errors
    /// [`SegmentError::Invalid`] if the graph has more of something than a segment can hold.
    pub fn with_graph(mut self, graph: &GraphView<'_>) -> Result<Self> {
        let count = |n: usize| {
            u32::try_from(n).map_err(|_| SegmentError::invalid("the graph is too large"))
        };
        self.m = count(graph.m)?;
        self.entry = graph.entry;
        self.upper_nodes = count(graph.upper_nodes.len())?;
        let lists = graph.upper_neighbors.len().checked_div(graph.m);
        self.upper_lists = count(lists.unwrap_or(0))?;
        Ok(self)
    }

    /// Checks every field against its bounds and against the others.
    ///
    /// # Errors
    /// [`SegmentError::Invalid`] names the field, its value and its bounds.
    pub fn validate(&self) -> Result<()> {
        within("format_version", self.format_version, FORMAT_VERSION, FORMAT_VERSION)?;
        within("dimensions", self.dimensions, 1, MAX_DIMENSIONS)?;
        within("rows", self.rows, 1, MAX_ROWS)?;
        within("entries", self.entries, self.rows, u32::MAX)?;
        let Some(bits) = u8::try_from(self.bits).ok().and_then(Bits::from_u8) else {
            return Err(SegmentError::invalid(format!(
                "bits is {}, but must be 1, 2, 4 or 8",
                self.bits
            )));
        };
        let code_bytes = rabitq::code_bytes(self.dimensions as usize, bits) as u32;
        within("code_bytes", self.code_bytes, code_bytes, code_bytes)?;
        within("m", self.m, 1, MAX_M)?;
        within("upper_nodes", self.upper_nodes, 0, self.rows)?;
        let fewest_lists = self.upper_nodes;
        let most_lists = self.upper_nodes.saturating_mul(u32::from(u8::MAX));
        within("upper_lists", self.upper_lists, fewest_lists, most_lists)?;
        let nodes = match self.upper_nodes {
            0 => self.rows,
            upper => upper,
        };
        within("entry", self.entry, 0, nodes - 1)?;
        within("compression_level", self.compression_level.into(), 0, 9)?;
        let row_bytes = self.row_bytes() as u64;
        let most_chunk = MAX_CHUNK_BYTES / row_bytes;
        let most_shard = MAX_SHARD_BYTES / row_bytes;
        within("chunk_rows", self.chunk_rows, 1, most_chunk as u32)?;
        within("shard_rows", self.shard_rows, self.chunk_rows, most_shard as u32)?;
        if !self.shard_rows.is_multiple_of(self.chunk_rows) {
            return Err(SegmentError::invalid(format!(
                "shard_rows is {}, but must be a multiple of chunk_rows, which is {}",
                self.shard_rows, self.chunk_rows
            )));
        }
        Ok(())
    }

    /// Bytes of a row of `vectors`.
    pub fn row_bytes(&self) -> usize {
        self.dimensions as usize * self.payload.element_bytes()
    }

    /// Bytes of a decoded inner chunk of `vectors`.
    pub fn chunk_bytes(&self) -> usize {
        self.row_bytes() * self.chunk_rows as usize
    }

    /// Inner chunks of `vectors`, numbered by row: row `r` is in chunk `r / chunk_rows`.
    pub fn chunks(&self) -> u32 {
        self.rows.div_ceil(self.chunk_rows)
    }

    /// Inner chunks of a full shard.
    pub fn chunks_per_shard(&self) -> u32 {
        self.shard_rows / self.chunk_rows
    }

    /// Shards of `vectors`.
    pub fn shards(&self) -> u32 {
        self.rows.div_ceil(self.shard_rows)
    }

    /// Inner chunks of shard `shard` that hold rows.
    pub fn chunks_in_shard(&self, shard: u32) -> u32 {
        let first = u64::from(shard) * u64::from(self.chunks_per_shard());
        let left = u64::from(self.chunks()).saturating_sub(first);
        left.min(u64::from(self.chunks_per_shard())) as u32
    }

    /// The attributes of the Zarr group.
    pub(crate) fn to_zarr(self) -> Result<Map<String, Value>> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else {
            return Err(SegmentError::invalid("the attributes are not an object"));
        };
        fields.insert(CHECKSUM.into(), self.checksum().into());
        Ok(Map::from_iter([(NAMESPACE.into(), Value::Object(fields))]))
    }

    /// Reads and checks what [`to_zarr`](Self::to_zarr) wrote; `key` is the object's name.
    pub(crate) fn from_zarr(attributes: &Map<String, Value>, key: &str) -> Result<Self> {
        let corrupt = |what: String| SegmentError::corrupt(key, what);
        let Some(Value::Object(fields)) = attributes.get(NAMESPACE) else {
            return Err(corrupt(format!("no attribute \"{NAMESPACE}\"")));
        };
        // Before anything else: another version may have other fields.
        let version = fields.get("format_version").and_then(Value::as_u64);
        match version {
            Some(found) if found != u64::from(FORMAT_VERSION) => {
                return Err(SegmentError::Version {
                    key: key.to_owned(),
                    found,
                    known: FORMAT_VERSION,
                });
            }
            Some(_) => {}
            None => return Err(corrupt("no format version".into())),
        }
        let mut fields = fields.clone();
        let checksum = fields.remove(CHECKSUM).as_ref().and_then(Value::as_u64);
        let parsed: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|error| corrupt(format!("unusable attributes: {error}")))?;
        if checksum != Some(u64::from(parsed.checksum())) {
            return Err(corrupt("attributes that do not match their checksum".into()));
        }
        parsed.validate().map_err(|error| corrupt(format!("impossible attributes ({error})")))?;
        Ok(parsed)
    }

    /// CRC-32C of the fields as compact JSON, in the order of declaration.
    fn checksum(&self) -> u32 {
        crc32c::crc32c(&serde_json::to_vec(self).unwrap_or_default())
    }
}

fn within(name: &str, value: u32, least: u32, most: u32) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SegmentError::invalid(format!("{name} is {value}, but must be between {least} and {most}")))
}

fn put_metric<S: Serializer>(metric: &Metric, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(metric.name())
}

fn get_metric<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Metric, D::Error> {
    let name = String::deserialize(from)?;
    Metric::from_name(&name).ok_or_else(|| de::Error::custom(format!("no metric {name:?}")))
}

fn put_payload<S: Serializer>(payload: &Payload, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(payload.name())
}

fn get_payload<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Payload, D::Error> {
    let name = String::deserialize(from)?;
    Payload::from_name(&name).ok_or_else(|| de::Error::custom(format!("no payload {name:?}")))
}

fn put_u64<S: Serializer>(value: &u64, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn get_u64<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(de::Error::custom)
}
