//! Vectors from the table itself: what a scan falls back to when storage does not bring them.

use pgrx::PgMemoryContexts;
use pgrx::pg_sys;

use super::insert::u64_to_tid;
use super::vector::Vector;

/// Reads the indexed value of rows of the table that a scan's snapshot sees.
pub struct HeapVectors {
    snapshot: pg_sys::Snapshot,
    fetch: *mut pg_sys::IndexFetchTableData,
    slot: *mut pg_sys::TupleTableSlot,
    info: *mut pg_sys::IndexInfo,
    estate: *mut pg_sys::EState,
    context: *mut pg_sys::ExprContext,
}

impl HeapVectors {
    /// A reader of the table that `scan` is about; `None` when the scan has no table at hand.
    ///
    /// # Safety
    /// `scan` is a scan under way that outlives the result.
    pub unsafe fn open(scan: pg_sys::IndexScanDesc) -> Option<Self> {
        // SAFETY: by the contract; everything made here is given back when the value is dropped, or
        // with the statement's memory and resources when it fails.
        unsafe {
            let (heap, snapshot) = ((*scan).heapRelation, (*scan).xs_snapshot);
            if heap.is_null() || snapshot.is_null() {
                return None;
            }
            let estate = pg_sys::CreateExecutorState();
            // All of it goes with the state: a nested loop may come here many times.
            PgMemoryContexts::For((*estate).es_query_cxt).switch_to(|_| {
                Some(Self {
                    snapshot,
                    fetch: pg_sys::table_index_fetch_begin(heap),
                    slot: pg_sys::table_slot_create(heap, std::ptr::null_mut()),
                    info: pg_sys::BuildIndexInfo((*scan).indexRelation),
                    estate,
                    context: pg_sys::MakePerTupleExprContext(estate),
                })
            })
        }
    }

    /// What `read` makes of the row that the first visible of `tids` leads to; `None` when the snapshot
    /// sees none of them.
    pub fn read<R>(&mut self, tids: &[u64], mut read: impl FnMut(&Vector) -> R) -> Option<R> {
        tids.iter().find_map(|&tid| {
            // SAFETY: all pointers were made by `open` and live; the slot is cleared before it is
            // filled again, and the value is used before the memory it lies in is reset.
            unsafe {
                let mut tid = u64_to_tid(tid);
                let (mut again, mut all_dead) = (false, false);
                let seen = pg_sys::table_index_fetch_tuple(
                    self.fetch,
                    &mut tid,
                    self.snapshot,
                    self.slot,
                    &mut again,
                    &mut all_dead,
                );
                if !seen {
                    return None;
                }
                let memory = (*self.context).ecxt_per_tuple_memory;
                let result = PgMemoryContexts::For(memory)
                    .switch_to(|_| self.indexed_value().map(|value| read(&Vector::new(value))));
                pg_sys::ExecClearTuple(self.slot);
                pg_sys::MemoryContextReset(memory);
                result
            }
        })
    }
}

impl HeapVectors {
    /// What the index is on, for the row in the slot; `None` for NULL. Computed in the current memory
    /// context.
    ///
    /// # Safety
    /// The slot is filled.
    unsafe fn indexed_value(&mut self) -> Option<pg_sys::Datum> {
        let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: by the contract; the arrays are as long as PostgreSQL needs them at most.
        unsafe {
            (*self.context).ecxt_scantuple = self.slot;
            let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::FormIndexDatum(self.info, self.slot, self.estate, values, nulls);
        }
        (!nulls[0]).then_some(values[0])
    }
}

impl Drop for HeapVectors {
    fn drop(&mut self) {
        // When a statement fails PostgreSQL releases what it holds.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: made by `open`, and used by nobody else.
        unsafe {
            pg_sys::table_index_fetch_end(self.fetch);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}
