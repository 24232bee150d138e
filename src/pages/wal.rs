//! Reading and changing pages of an index relation: buffers as values that unlock themselves,
//! and changes that are WAL-logged as one record.
//!
//! An error unwinds as a Rust panic up to the function PostgreSQL called. On that way nothing is
//! released here: raising an error has already reset PostgreSQL's count of held-off interrupts,
//! and the abort of the transaction releases every lock, pin and allocation.

use pgrx::pg_sys;

use super::page::{Damage, Kind, META_BLOCK, Page};

/// Which copy of the relation: its data, or the template an unlogged index restarts from.
pub type Fork = pg_sys::ForkNumber::Type;
/// The relation's data.
pub const MAIN: Fork = pg_sys::ForkNumber::MAIN_FORKNUM;

/// A buffer pinned and locked. Dropping it unlocks and unpins.
pub struct Locked(pg_sys::Buffer);

impl Locked {
    /// Reads `block` under a share lock.
    pub fn share(index: pg_sys::Relation, block: pg_sys::BlockNumber) -> Self {
        Self::read(index, MAIN, block, pg_sys::BUFFER_LOCK_SHARE)
    }

    /// Reads `block` under an exclusive lock.
    pub fn exclusive(index: pg_sys::Relation, fork: Fork, block: pg_sys::BlockNumber) -> Self {
        Self::read(index, fork, block, pg_sys::BUFFER_LOCK_EXCLUSIVE)
    }

    fn read(index: pg_sys::Relation, fork: Fork, block: pg_sys::BlockNumber, mode: u32) -> Self {
        // SAFETY: `index` is an open relation; the lock is released with the pin, on drop.
        unsafe {
            let buffer = pg_sys::ReadBufferExtended(
                index,
                fork,
                block,
                pg_sys::ReadBufferMode::RBM_NORMAL,
                std::ptr::null_mut(),
            );
            pg_sys::LockBuffer(buffer, mode as i32);
            Self(buffer)
        }
    }

    /// Adds a page to the relation and returns it, empty and exclusively locked.
    pub fn extend(index: pg_sys::Relation, fork: Fork) -> Self {
        let relation = pg_sys::BufferManagerRelation { rel: index, ..Default::default() };
        // SAFETY: `index` is an open relation. EB_LOCK_FIRST returns the buffer locked.
        Self(unsafe {
            pg_sys::ExtendBufferedRel(
                relation,
                fork,
                std::ptr::null_mut(),
                pg_sys::ExtendBufferedFlags::EB_LOCK_FIRST,
            )
        })
    }

    /// Adds at least one page and at most `count` to the relation and to `pages`, empty and exclusively
    /// locked.
    pub fn extend_by(index: pg_sys::Relation, fork: Fork, count: usize, pages: &mut Vec<Self>) {
        let relation = pg_sys::BufferManagerRelation { rel: index, ..Default::default() };
        let mut buffers = vec![pg_sys::InvalidBuffer as pg_sys::Buffer; count];
        let mut added = 0;
        // SAFETY: `index` is an open relation, and there is room for `count` buffers. They come
        // back pinned; nobody else knows of the pages yet, so that their locks are free.
        unsafe {
            pg_sys::ExtendBufferedRelBy(
                relation,
                fork,
                std::ptr::null_mut(),
                0,
                count as u32,
                buffers.as_mut_ptr(),
                &mut added,
            );
            pages.extend(buffers.into_iter().take(added as usize).map(|buffer| {
                pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
                Self(buffer)
            }));
        }
    }

    /// The block's number.
    pub fn block(&self) -> pg_sys::BlockNumber {
        // SAFETY: the buffer is pinned.
        unsafe { pg_sys::BufferGetBlockNumber(self.0) }
    }

    /// The page as it is in the buffer: for reading only; changes go through [`Change`].
    pub fn page(&self) -> Page {
        // SAFETY: the buffer stays pinned and locked as long as `self`.
        unsafe { Page::new(pg_sys::BufferGetPage(self.0)) }
    }

    /// The page, if it is of `kind`.
    ///
    /// # Errors
    /// What else it is: damage, or a page that has been given another use since its number was
    /// read. [`consistent`](super::consistent) tells the two apart.
    pub fn expect(&self, kind: Kind) -> Result<Page, Damage> {
        let page = self.page();
        page.expect(kind, self.block())?;
        Ok(page)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the buffer was pinned and locked by the constructor.
            unsafe { pg_sys::UnlockReleaseBuffer(self.0) };
        }
    }
}

/// Pages changed together by one WAL record: all of them or, after a crash, none.
pub struct Change {
    state: *mut pg_sys::GenericXLogState,
}

impl Change {
    /// How many pages can take part.
    pub const PAGES: usize = pg_sys::MAX_GENERIC_XLOG_PAGES as usize;

    /// Starts a change. At most [`PAGES`](Self::PAGES) pages can take part.
    pub fn start(index: pg_sys::Relation) -> Self {
        // SAFETY: `index` is an open relation.
        Self { state: unsafe { pg_sys::GenericXLogStart(index) } }
    }

    /// A private copy of a locked page; what is done to it happens at [`Change::finish`].
    pub fn edit(&mut self, buffer: &Locked) -> Page {
        self.register(buffer, 0)
    }

    /// A page to write from scratch.
    pub fn create(&mut self, buffer: &Locked, kind: Kind) -> Page {
        let mut page = self.register(buffer, pg_sys::GENERIC_XLOG_FULL_IMAGE as i32);
        page.init(kind);
        page
    }

    /// Makes a locked page the copy of another one.
    pub fn copy(&mut self, to: &Locked, from: &Locked) {
        let mut page = self.register(to, pg_sys::GENERIC_XLOG_FULL_IMAGE as i32);
        page.copy_from(&from.page());
    }

    fn register(&mut self, buffer: &Locked, flags: i32) -> Page {
        // SAFETY: the buffer is pinned and exclusively locked; the copy lives until the change
        // is finished or abandoned.
        unsafe { Page::new(pg_sys::GenericXLogRegisterBuffer(self.state, buffer.0, flags)) }
    }

    /// Writes the WAL record and the pages.
    pub fn finish(mut self) {
        let state = std::mem::replace(&mut self.state, std::ptr::null_mut());
        // SAFETY: started by `start`, finished once.
        unsafe { pg_sys::GenericXLogFinish(state) };
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.state.is_null() && !std::thread::panicking() {
            // SAFETY: started and not finished.
            unsafe { pg_sys::GenericXLogAbort(self.state) };
        }
    }
}

/// Keeps vacuum and the publication of a new manifest apart: a heavyweight lock on the meta
/// page, which nothing else uses. Vacuum shares it while it asks about entries; a publication holds
/// it alone from reading the tombstones that it carries over until the new manifest counts.
pub struct Publication {
    index: pg_sys::Relation,
    mode: i32,
}

impl Publication {
    /// Waits until no publication is under way, and keeps others from starting.
    pub fn hold_off(index: pg_sys::Relation) -> Self {
        Self::lock(index, pg_sys::ShareLock as i32)
    }

    /// Waits until no vacuum is at work on the index, and keeps others from starting.
    pub fn begin(index: pg_sys::Relation) -> Self {
        Self::lock(index, pg_sys::ExclusiveLock as i32)
    }

    fn lock(index: pg_sys::Relation, mode: i32) -> Self {
        // SAFETY: `index` is an open relation. Interrupts are served while waiting.
        unsafe { pg_sys::LockPage(index, META_BLOCK, mode) };
        Self { index, mode }
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: locked by the constructor; after an error the abort releases it.
            unsafe { pg_sys::UnlockPage(self.index, META_BLOCK, self.mode) };
        }
    }
}
