//! Rows put in order by PostgreSQL's own sort, which keeps on disk what memory cannot hold.

use pgrx::PgMemoryContexts;
use pgrx::pg_sys;

use super::rerank::{RowId, Settled, Source};

/// A sort by distance; distances that are no numbers come last.
///
/// What it holds belongs to the memory context and the resource owner that it was begun in: when a
/// statement fails they let go of it.
pub struct Sorted {
    state: *mut pg_sys::Tuplesortstate,
    put: *mut pg_sys::TupleTableSlot,
    got: *mut pg_sys::TupleTableSlot,
}

impl Sorted {
    /// A sort that uses so much memory.
    ///
    /// # Safety
    /// `context` outlives the result.
    pub unsafe fn begin(context: pg_sys::MemoryContext, kilobytes: i32) -> Self {
        // SAFETY: by the contract; all that is made here lies in the context.
        unsafe {
            PgMemoryContexts::For(context).switch_to(|_| {
                let columns = pg_sys::CreateTemplateTupleDesc(2);
                for (number, kind) in [(1, pg_sys::FLOAT8OID), (2, pg_sys::INT8OID)] {
                    pg_sys::TupleDescInitEntry(columns, number, std::ptr::null(), kind, -1, 0);
                }
                let (mut key, mut collation, mut nulls_first) = (1, pg_sys::InvalidOid, false);
                let mut less = pg_sys::Oid::from(pg_sys::Float8LessOperator);
                let state = pg_sys::tuplesort_begin_heap(
                    columns,
                    1,
                    &mut key,
                    &mut less,
                    &mut collation,
                    &mut nulls_first,
                    kilobytes,
                    std::ptr::null_mut(),
                    pg_sys::TUPLESORT_NONE as i32,
                );
                let slot = |kind| pg_sys::MakeSingleTupleTableSlot(columns, kind);
                let put = slot(&raw const pg_sys::TTSOpsVirtual);
                let got = slot(&raw const pg_sys::TTSOpsMinimalTuple);
                Self { state, put, got }
            })
        }
    }

    /// Adds a row whose distance is known.
    pub fn put(&mut self, row: &Settled) {
        let source = match row.source {
            Source::Row(id) => i64::from(id.segment) << 32 | i64::from(id.row),
            Source::Tid(tid) => -1 - tid as i64,
        };
        // SAFETY: the slot has two columns, both passed by value.
        unsafe {
            pg_sys::ExecClearTuple(self.put);
            let (values, nulls) = ((*self.put).tts_values, (*self.put).tts_isnull);
            *values = pg_sys::Datum::from(row.distance.lower.to_bits());
            *values.add(1) = pg_sys::Datum::from(source);
            (*nulls, *nulls.add(1)) = (false, false);
            pg_sys::ExecStoreVirtualTuple(self.put);
            pg_sys::tuplesort_puttupleslot(self.state, self.put);
        }
    }

    /// Puts the rows in order.
    pub fn sort(&mut self) {
        // SAFETY: the sort has been begun, and is sorted once.
        unsafe { pg_sys::tuplesort_performsort(self.state) };
    }

    /// The next row, after [`sort`](Self::sort).
    pub fn next(&mut self) -> Option<Settled> {
        // SAFETY: the sort is done; the slot has two columns.
        let (distance, source) = unsafe {
            let null = std::ptr::null_mut();
            if !pg_sys::tuplesort_gettupleslot(self.state, true, false, self.got, null) {
                return None;
            }
            pg_sys::slot_getallattrs(self.got);
            let values = (*self.got).tts_values;
            ((*values).value() as u64, (*values.add(1)).value() as i64)
        };
        let source = match u64::try_from(source) {
            Ok(id) => Source::Row(RowId { segment: (id >> 32) as u32, row: id as u32 }),
            Err(_) => Source::Tid((-1 - source) as u64),
        };
        Some(Settled::exact(f64::from_bits(distance), source))
    }

    /// Gives back what it holds.
    pub fn end(self) {
        // SAFETY: made by `begin`, and used by nobody else.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.put);
            pg_sys::ExecDropSingleTupleTableSlot(self.got);
            pg_sys::tuplesort_end(self.state);
        }
    }
}
