//! The metrics an index can be ordered by, and the element types a payload can have.

/// What `ORDER BY embedding <op> query` measures.
///
/// The numbers are part of the stored formats (index meta page, Zarr attributes): never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Metric {
    /// Euclidean distance, operator `<->`: `sqrt(sum((a - b)^2))`.
    L2 = 1,
    /// Negative inner product, operator `<#>`: `-sum(a * b)`.
    InnerProduct = 2,
    /// Cosine distance, operator `<=>`: `1 - sum(a * b) / (|a| * |b|)`.
    Cosine = 3,
}

impl Metric {
    /// The metric stored as `value`, or `None` if no metric has that number.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::L2),
            2 => Some(Self::InnerProduct),
            3 => Some(Self::Cosine),
            _ => None,
        }
    }

    /// The name used in SQL views and in Zarr attributes.
    pub fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::InnerProduct => "ip",
            Self::Cosine => "cosine",
        }
    }

    /// The metric called `name`, as written by [`Metric::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "l2" => Some(Self::L2),
            "ip" => Some(Self::InnerProduct),
            "cosine" => Some(Self::Cosine),
            _ => None,
        }
    }
}

/// The element type of the stored vectors.
///
/// The numbers are part of the stored formats: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Payload {
    /// IEEE 754 single precision, four bytes an element: what PostgreSQL's `vector` holds.
    Float32 = 1,
    /// IEEE 754 half precision, two bytes an element; magnitudes up to 65504.
    Float16 = 2,
}

impl Payload {
    /// The payload stored as `value`, or `None` if no payload has that number.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Float32),
            2 => Some(Self::Float16),
            _ => None,
        }
    }

    /// The Zarr data type name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
        }
    }

    /// The payload called `name`, as written by [`Payload::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "float32" => Some(Self::Float32),
            "float16" => Some(Self::Float16),
            _ => None,
        }
    }

    /// Reads a vector's little-endian elements as float32, exactly. `vector` takes as many as
    /// there are in both.
    pub fn decode(self, bytes: &[u8], vector: &mut [f32]) {
        match self {
            Self::Float32 => {
                for (element, four) in vector.iter_mut().zip(bytes.as_chunks().0) {
                    *element = f32::from_le_bytes(*four);
                }
            }
            Self::Float16 => {
                for (element, two) in vector.iter_mut().zip(bytes.as_chunks().0) {
                    *element = half::f16::from_le_bytes(*two).to_f32();
                }
            }
        }
    }

    /// Appends a vector's elements in their stored form. One too large for half precision becomes infinite.
    pub fn encode(self, vector: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::Float32 => bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes())),
            Self::Float16 => {
                bytes.extend(vector.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()));
            }
        }
    }

    /// Bytes an element takes.
    pub fn element_bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 => 2,
        }
    }
}
