//! The ORDER BY operator of a scan: what PostgreSQL itself computes a row's distance by.

use distance::ExactQuery;
use pgrx::pg_sys;

use super::vector;

/// The operator, with the query at its right.
pub struct Operator {
    function: *mut pg_sys::FmgrInfo,
    collation: pg_sys::Oid,
    query: vector::Buffer,
    row: vector::Buffer,
}

impl Operator {
    /// The operator of a scan for `query`.
    ///
    /// # Safety
    /// `scan` is a scan under way by one ordering key, that outlives the result.
    pub unsafe fn of(scan: pg_sys::IndexScanDesc, query: &ExactQuery) -> Self {
        let dimensions = query.dimensions();
        let mut value = vector::Buffer::new(dimensions);
        value.elements_mut().copy_from_slice(query.vector());
        // SAFETY: by the contract there is a key.
        let key = unsafe { &mut *(*scan).orderByData };
        Self {
            function: &mut key.sk_func,
            collation: key.sk_collation,
            query: value,
            row: vector::Buffer::new(dimensions),
        }
    }

    /// Where to put a row for [`value`](Self::value).
    pub fn row_mut(&mut self) -> &mut [f32] {
        self.row.elements_mut()
    }

    /// The operator's value for the row that has been put into [`row_mut`](Self::row_mut).
    pub fn value(&mut self) -> f64 {
        let row = self.row.datum();
        // SAFETY: the buffer holds a value of type vector.
        unsafe { self.value_of(row) }
    }

    /// The operator's value for a row.
    ///
    /// # Safety
    /// `row` is a value of type vector.
    pub unsafe fn value_of(&mut self, row: pg_sys::Datum) -> f64 {
        let query = self.query.datum();
        // SAFETY: the key's function takes two vectors and returns a double.
        let value = unsafe { pg_sys::FunctionCall2Coll(self.function, self.collation, row, query) };
        f64::from_bits(value.value() as u64)
    }
}
