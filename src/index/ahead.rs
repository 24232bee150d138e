//! Asking for table pages ahead.
//!
//! The executor fetches the rows that a scan hands out one by one, each from another page of the table.
//! Which rows the next ones are is known when a wave is settled: so their pages are asked for all at
//! once, from disk where they are not in shared buffers, and into the processor's caches where they
//! are.

use std::sync::atomic::{AtomicU32, Ordering};

use distance::prefetch;
use pgrx::pg_sys;

/// Bytes of a page's header, before its line pointers.
const HEADER: usize = 24;
/// Bytes of a line pointer.
const POINTER: usize = 4;
/// Bytes of a tuple that are asked for, at most: its header, and a vector as long as is kept in line.
const TUPLE: usize = 2048;

/// Asks for the table's pages of some rows; buffers are reused from wave to wave.
#[derive(Default)]
pub struct TablePages {
    /// Pages in shared buffers and the line pointer wanted of each.
    found: Vec<(*const u8, usize)>,
}

impl TablePages {
    /// Asks for what fetching the tuples of `tids` from the table of `scan` will read. A hint: does nothing
    /// where `effective_io_concurrency` is zero, or tids are not places in a heap.
    ///
    /// # Safety
    /// `scan` is a scan under way, `tids` are of its table.
    pub unsafe fn ask(&mut self, scan: pg_sys::IndexScanDesc, tids: &[u64]) {
        // SAFETY: by the contract; an open relation, whose lock keeps the blocks that the index names
        // from being cut off.
        unsafe {
            let Some(heap) = (*scan).heapRelation.as_ref() else { return };
            if pg_sys::effective_io_concurrency == 0
                || heap.rd_tableam != pg_sys::GetHeapamTableAmRoutine()
            {
                return;
            }
            self.found.clear();
            for tid in tids {
                let (block, offset) = ((tid >> 16) as u32, (tid & 0xFFFF) as usize);
                let main = pg_sys::ForkNumber::MAIN_FORKNUM;
                let page = pg_sys::PrefetchBuffer((*scan).heapRelation, main, block);
                // Those of temporary tables are numbered below zero.
                if page.recent_buffer <= 0 || offset == 0 {
                    continue;
                }
                let number = page.recent_buffer as usize - 1;
                let bytes = pg_sys::BufferBlocks
                    .cast::<u8>()
                    .wrapping_add(number * pg_sys::BLCKSZ as usize)
                    .cast_const();
                let pointer = HEADER + POINTER * (offset - 1);
                if pointer + POINTER > pg_sys::BLCKSZ as usize {
                    continue;
                }
                let descriptor = pg_sys::BufferDescriptors.wrapping_add(number);
                prefetch::range(descriptor.cast(), size_of::<pg_sys::BufferDescPadded>());
                prefetch::range(bytes, HEADER);
                prefetch::range(bytes.wrapping_add(pointer), POINTER);
                self.found.push((bytes, pointer));
            }
            for (bytes, pointer) in &self.found {
                // SAFETY: within a page of shared buffers, which are there as long as the server is.
                // Without a pin it may be another page by now: what stands there only leads a hint.
                let pointer = (*bytes.add(*pointer).cast::<AtomicU32>()).load(Ordering::Relaxed);
                // The offset's 15 bits, two flags, the length's 15 bits.
                let (start, length) = ((pointer & 0x7FFF) as usize, (pointer >> 17) as usize);
                prefetch::range(bytes.wrapping_add(start), length.min(TUPLE));
            }
        }
    }
}
