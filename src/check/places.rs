//! Where entries lead to in a table.

use std::ptr::null_mut;

use pgrx::pg_sys;

use crate::index::insert::u64_to_tid;
use crate::pages::wal::MAIN;

/// What an entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A row that the snapshot sees.
    Seen,
    /// A row that it does not see, or what is left of one until VACUUM removes it.
    Unseen,
    /// No row, and nothing that VACUUM will remove.
    Nowhere(&'static str),
}

/// Looks at places of a table; best in their order.
pub struct Places {
    heap: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    /// Whether the table has blocks with line pointers.
    is_heap: bool,
    blocks: pg_sys::BlockNumber,
    strategy: pg_sys::BufferAccessStrategy,
    fetch: *mut pg_sys::IndexFetchTableData,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Places {
    /// Begins.
    ///
    /// # Safety
    /// `heap` is an open relation and `snapshot` registered, longer than the result lives.
    pub unsafe fn open(heap: pg_sys::Relation, snapshot: pg_sys::Snapshot) -> Self {
        // SAFETY: by the contract; everything made here is given back when the value is dropped, or
        // with the statement's memory and resources when it fails.
        unsafe {
            Self {
                heap,
                snapshot,
                is_heap: (*heap).rd_tableam == pg_sys::GetHeapamTableAmRoutine(),
                blocks: 0,
                strategy: pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD),
                fetch: pg_sys::table_index_fetch_begin(heap),
                slot: pg_sys::table_slot_create(heap, null_mut()),
            }
        }
    }

    /// What `tid` leads to.
    pub fn look(&mut self, tid: u64) -> Place {
        pgrx::check_for_interrupts!();
        if tid >> 48 != 0 || tid & 0xFFFF == 0 {
            return Place::Nowhere("no place of a table");
        }
        if self.is_heap
            && let Some(what) = self.line_pointer(tid)
        {
            return Place::Nowhere(what);
        }
        if self.is_seen(tid) { Place::Seen } else { Place::Unseen }
    }

    /// What is wrong with the line pointer, if it is not that of a chain's root, dead or alive.
    fn line_pointer(&mut self, tid: u64) -> Option<&'static str> {
        let block = (tid >> 16) as pg_sys::BlockNumber;
        let offset = tid as pg_sys::OffsetNumber;
        // SAFETY: the contract of `open`; the page is looked at under its lock.
        unsafe {
            if block >= self.blocks {
                self.blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.heap, MAIN);
                if block >= self.blocks {
                    return Some("a block beyond the end of the table");
                }
            }
            let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = pg_sys::ReadBufferExtended(self.heap, MAIN, block, normal, self.strategy);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let page = pg_sys::BufferGetPage(buffer);
            let wrong = if offset > pg_sys::PageGetMaxOffsetNumber(page) {
                Some("a line pointer that does not exist")
            } else {
                let item = pg_sys::PageGetItemId(page, offset);
                match (*item).lp_flags() {
                    pg_sys::LP_UNUSED => Some("an unused line pointer"),
                    pg_sys::LP_NORMAL => {
                        let header = pg_sys::PageGetItem(page, item);
                        let header = header.cast::<pg_sys::HeapTupleHeaderData>();
                        let inner = (*header).t_infomask2 as u32 & pg_sys::HEAP_ONLY_TUPLE != 0;
                        inner.then_some("a row version that only another one leads to")
                    }
                    _ => None,
                }
            };
            pg_sys::UnlockReleaseBuffer(buffer);
            wrong
        }
    }

    fn is_seen(&mut self, tid: u64) -> bool {
        let mut tid = u64_to_tid(tid);
        let (mut again, mut all_dead) = (false, false);
        // SAFETY: all pointers were made by `open` and live; the slot is cleared before it is
        // filled again.
        unsafe {
            let seen = pg_sys::table_index_fetch_tuple(
                self.fetch,
                &mut tid,
                self.snapshot,
                self.slot,
                &mut again,
                &mut all_dead,
            );
            pg_sys::ExecClearTuple(self.slot);
            seen
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // When a statement fails PostgreSQL releases what it holds.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: made by `open`, and used by nobody else.
        unsafe {
            pg_sys::table_index_fetch_end(self.fetch);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeAccessStrategy(self.strategy);
        }
    }
}
