//! pgvector's `vector` values, as they arrive from the executor.

use distance::{Metric, Payload};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::errors::raise;
use crate::pages::meta::Parameters;

/// Largest magnitude a half-precision payload can hold.
const MAX_FLOAT16: f32 = 65_504.0;

/// pgvector's stored form: a varlena of this header and `dimensions` float4s.
#[repr(C)]
struct Header {
    length: i32,
    dimensions: i16,
    unused: i16,
}

/// A detoasted vector value. Frees the detoasted copy, if one had to be made, when dropped.
pub struct Vector {
    original: *mut pg_sys::varlena,
    plain: *mut pg_sys::varlena,
}

impl Vector {
    /// Detoasts a value.
    ///
    /// # Safety
    /// `datum` is a non-null value of pgvector's type `vector` that outlives the result.
    pub unsafe fn new(datum: pg_sys::Datum) -> Self {
        let original = datum.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: by the contract.
        Self { original, plain: unsafe { pg_sys::pg_detoast_datum(original) } }
    }

    /// The detoasted value.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.plain)
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: a plain `vector` starts with the header and holds as many elements as it says.
        unsafe {
            let header = self.plain.cast::<Header>();
            let elements = header.add(1).cast::<f32>();
            std::slice::from_raw_parts(elements, (*header).dimensions.max(0) as usize)
        }
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        if self.plain != self.original && !std::thread::panicking() {
            // SAFETY: a copy made by detoasting belongs to us.
            unsafe { pg_sys::pfree(self.plain.cast()) };
        }
    }
}

/// Raises an error unless a vector has as many elements as the index.
pub fn check_dimensions(vector: &[f32], dimensions: usize) {
    if vector.len() != dimensions {
        raise(
            PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
            format!("different vector dimensions {} and {dimensions}", vector.len()),
            "",
            "",
        );
    }
}

/// Whether a vector gets an entry; see [`has_entry`]. Raises an error for what the index cannot hold.
pub fn is_indexable(vector: &[f32], parameters: &Parameters) -> bool {
    check_dimensions(vector, parameters.dimensions);
    has_entry(vector, parameters).unwrap_or_else(|large| {
        raise(
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("{large} is out of range for an index with payload = float16"),
            format!("Half precision holds magnitudes up to {MAX_FLOAT16}."),
            "Create the index with payload = float32.",
        )
    })
}

/// Whether a vector of the index's dimensions gets an entry: under cosine a zero vector has no
/// direction and none.
///
/// # Errors
/// An element that the index's payload cannot hold.
pub fn has_entry(vector: &[f32], parameters: &Parameters) -> Result<bool, f32> {
    if parameters.payload == Payload::Float16
        && let Some(large) = vector.iter().find(|element| element.abs() > MAX_FLOAT16)
    {
        return Err(*large);
    }
    Ok(parameters.metric != Metric::Cosine || vector.iter().any(|&element| element != 0.0))
}

/// A new value of pgvector's type, in the current memory context. The elements are finite and at most
/// [`MAX_DIMENSIONS`](super::options::MAX_DIMENSIONS).
pub fn make(elements: &[f32]) -> pg_sys::Datum {
    let bytes = size_of::<Header>() + size_of_val(elements);
    // SAFETY: room for the header and the elements is allocated, and all of it is written.
    unsafe {
        let value = pg_sys::palloc(bytes).cast::<Header>();
        value.write(Header { length: 0, dimensions: elements.len() as i16, unused: 0 });
        pgrx::set_varsize_4b(value.cast(), bytes as i32);
        let place = value.add(1).cast::<f32>();
        std::ptr::copy_nonoverlapping(elements.as_ptr(), place, elements.len());
        pg_sys::Datum::from(value)
    }
}

/// A value of pgvector's type in memory of our own.
pub struct Buffer(Vec<f32>);

/// Elements that the header takes.
const HEADER: usize = size_of::<Header>() / size_of::<f32>();

impl Buffer {
    /// A vector of zeroes.
    pub fn new(dimensions: usize) -> Self {
        let mut memory = vec![0.0f32; HEADER + dimensions];
        let bytes = size_of_val(memory.as_slice()) as i32;
        let value = memory.as_mut_ptr().cast::<Header>();
        // SAFETY: there is room for the header, which has the alignment of an element.
        unsafe {
            value.write(Header { length: 0, dimensions: dimensions as i16, unused: 0 });
            pgrx::set_varsize_4b(value.cast(), bytes);
        }
        Self(memory)
    }

    /// The elements.
    pub fn elements_mut(&mut self) -> &mut [f32] {
        &mut self.0[HEADER..]
    }

    /// The value, which lives as long as the buffer.
    pub fn datum(&mut self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0.as_mut_ptr())
    }
}
