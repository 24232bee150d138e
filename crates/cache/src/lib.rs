//! The payload cache: inner chunks of vectors in memory that somebody else provides, read in place
//! by any thread of any process that has the memory mapped.
//!
//! The crate promises that a cache which is not full drops nothing; that what is read under a key
//! is what was inserted under it, whole, while it may be replaced at any moment; that a hit takes
//! no lock and copies nothing, unless the bytes lie in two frames; and that one sweep over
//! everything does not drive out what is read again and again. It makes no system call on a hit
//! and knows nothing of PostgreSQL.
//!
//! ```text
//!   base, rounded up to a page
//!   ├─ Pool          free frames: a stack, and how many were never used
//!   ├─ Partition × P lock, version, the two queues of S3-FIFO, sums
//!   ├─ bucket × n    first chunk of the bucket         ─┐ cut into P equal parts,
//!   ├─ ghost × n     names of chunks dropped lately    ─┘ one for each partition
//!   ├─ Entry × n     128 B for each frame; a chunk's is that of its first frame:
//!   │                  state (live, pins) · uses · key · length · next in bucket, in queue
//!   │                  frames: 0–15 numbers ─────┐
//!   ├─ link × n      next free frame             │
//!   └─ frame × n     8 KiB each, of any chunk  ◀─┘                           n frames in all
//! ```
//!
//! **Reading** follows the chain of a bucket without a lock, adds a pin to the entry and looks
//! again whether it is live and has the key. What is pinned is not replaced. A reader that finds
//! nothing asks the partition's version whether chunks left meanwhile, and looks again if so.
//!
//! **Adding** takes frames out of the pool, copies into them while nobody else knows them, and
//! takes the partition's lock only to make the chunk known. When the pool is empty it drops
//! chunks, from the fuller of its own and another partition: frames belong to no partition, so
//! none is dropped before the last frame is taken, and partitions stay equally large.
//!
//! **Replacing** is S3-FIFO (Yang et al., *FIFO Queues Are All You Need for Cache Eviction*, SOSP
//! 2023), partition by partition. A hit is a store to a counter, at most. The example `policies`
//! compares it with others: SIEVE is as good where popularity stays, and worse where it moves on.
//!
//! **Why pins and not a reader-writer lock.** Both cost a reader two atomic additions, but those of
//! a lock go to a line that all readers of a partition share, and pins to one of the chunk. A
//! reader that is preempted with a pin keeps one chunk from being replaced; with a lock it would
//! keep the writer waiting, who is the storage worker, for whom everybody waits. With glibc's
//! default preference for readers the writer would starve besides, and with its preference for
//! writers a preempted writer holds up all readers. Here the only lock is between writers, and
//! readers who miss may meet it. The example `timings` compares the two.

mod cache;
mod entry;
mod ghost;
mod key;
mod lock;
mod memory;
mod partition;
mod pool;
mod queue;
#[cfg(test)]
mod races;

pub use cache::{Cache, Usage};
pub use key::ChunkKey;
pub use memory::{FRAME, MAX_CHUNK};
