//! The common shape of a page: PostgreSQL's header, a body, and 16 bytes of special space that
//! name the page's kind and link it to the next page of its list.

use std::slice;

use pgrx::pg_sys;

use crate::errors::raise;
use pgrx::prelude::*;

/// First block of the index relation.
pub const META_BLOCK: pg_sys::BlockNumber = 0;
/// No block.
pub const INVALID_BLOCK: pg_sys::BlockNumber = pg_sys::InvalidBlockNumber;

const MAGIC: u32 = 0x5333_5643; // "S3VC"
const VERSION: u16 = 2;
const HEADER: usize = size_of::<pg_sys::PageHeaderData>().next_multiple_of(8);
const PAGE: usize = pg_sys::BLCKSZ as usize;

/// Bytes of a page's body.
pub const BODY: usize = PAGE - HEADER - size_of::<Special>();

/// What a page is for. The numbers are stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Block 0.
    Meta = 1,
    /// Segment entries.
    Manifest = 2,
    /// Rows written since the last segment.
    Delta = 3,
    /// The rest of a row too large for one page.
    DeltaContinuation = 4,
    /// Bits of removed entries of one segment.
    Tombstones = 5,
}

/// Why a page cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Another kind of page was expected in the place.
    Kind {
        /// Where.
        block: pg_sys::BlockNumber,
        /// What was expected.
        expected: Kind,
    },
    /// The page is of a format this library does not know.
    Version {
        /// The format's number.
        found: u16,
    },
}

impl Damage {
    /// Raises the error.
    pub fn raise(self) -> ! {
        match self {
            Self::Kind { block, expected } => raise(
                PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
                format!("block {block} of the index is not a {expected:?} page"),
                "",
                "REINDEX rebuilds the index from its table.",
            ),
            Self::Version { found } => raise(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("index page format {found} is not supported"),
                format!("This version of s3vector reads format {VERSION}."),
                "REINDEX the index with this version of s3vector.",
            ),
        }
    }
}

/// The special space at the end of every page.
#[repr(C)]
#[derive(Clone, Copy)]
struct Special {
    magic: u32,
    kind: u16,
    version: u16,
    next: pg_sys::BlockNumber,
    reserved: u32,
}

/// A page somebody holds a lock on, or a private copy that a WAL record is built from.
#[derive(Clone, Copy)]
pub struct Page(*mut u8);

impl Page {
    /// Wraps a page image.
    ///
    /// # Safety
    /// `page` must point to a page of `BLCKSZ` bytes that stays valid and locked (shared for the
    /// reading methods, exclusive or private for the writing ones) while the value is used.
    pub unsafe fn new(page: pg_sys::Page) -> Self {
        Self(page.cast())
    }

    /// Makes an empty page of `kind`.
    pub fn init(&mut self, kind: Kind) {
        // SAFETY: the page is writable and BLCKSZ bytes long, by the contract of `new`.
        unsafe { pg_sys::PageInit(self.0.cast(), PAGE, size_of::<Special>()) };
        *self.special_mut() = Special {
            magic: MAGIC,
            kind: kind as u16,
            version: VERSION,
            next: INVALID_BLOCK,
            reserved: 0,
        };
    }

    /// Takes over the content of another page.
    pub fn copy_from(&mut self, other: &Self) {
        // SAFETY: two different pages of BLCKSZ bytes; this one is writable by the contract of
        // `new`.
        unsafe { std::ptr::copy_nonoverlapping(other.0, self.0, PAGE) };
    }

    /// Whether the page is of `kind` and of a format this library knows.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn expect(&self, kind: Kind, block: pg_sys::BlockNumber) -> Result<(), Damage> {
        let special = self.special();
        if special.magic != MAGIC || special.kind != kind as u16 {
            return Err(Damage::Kind { block, expected: kind });
        }
        if special.version != VERSION {
            return Err(Damage::Version { found: special.version });
        }
        Ok(())
    }

    /// What the page says it is, if this library knows the kind.
    pub fn kind(&self) -> Option<Kind> {
        use Kind::*;
        [Meta, Manifest, Delta, DeltaContinuation, Tombstones]
            .into_iter()
            .find(|kind| *kind as u16 == self.special().kind)
    }

    /// The page's list goes on here, or [`INVALID_BLOCK`].
    pub fn next(&self) -> pg_sys::BlockNumber {
        self.special().next
    }

    /// Links the page to the next one of its list.
    pub fn set_next(&mut self, block: pg_sys::BlockNumber) {
        self.special_mut().next = block;
    }

    /// The part of the body in use.
    pub fn body(&self) -> &[u8] {
        // SAFETY: `used` never exceeds BODY, and the body lies within the page.
        unsafe { slice::from_raw_parts(self.0.add(HEADER), self.used()) }
    }

    /// The part of the body in use, to change in place.
    pub fn body_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `body`; the caller of `new` promised exclusive access for writing.
        unsafe { slice::from_raw_parts_mut(self.0.add(HEADER), self.used()) }
    }

    /// Bytes of the body that are free.
    pub fn room(&self) -> usize {
        BODY - self.used()
    }

    /// Adds `length` zero bytes to the body and returns them. The caller has checked
    /// [`Page::room`].
    pub fn grow(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.room(), "page body overflow");
        let used = self.used();
        // pd_lower marks the end of what a generic WAL record keeps of the page.
        self.header_mut().pd_lower = (HEADER + used + length) as u16;
        let added = &mut self.body_mut()[used..];
        added.fill(0);
        added
    }

    fn used(&self) -> usize {
        usize::from(self.header().pd_lower).saturating_sub(HEADER).min(BODY)
    }

    fn header(&self) -> &pg_sys::PageHeaderData {
        // SAFETY: every page starts with this header; pages are aligned to at least 8 bytes.
        unsafe { &*self.0.cast() }
    }

    fn header_mut(&mut self) -> &mut pg_sys::PageHeaderData {
        // SAFETY: as in `header`, with exclusive access.
        unsafe { &mut *self.0.cast() }
    }

    fn special(&self) -> &Special {
        // SAFETY: the special space is the last 16 bytes of the page, 8-byte aligned.
        unsafe { &*self.0.add(PAGE - size_of::<Special>()).cast() }
    }

    fn special_mut(&mut self) -> &mut Special {
        // SAFETY: as in `special`, with exclusive access.
        unsafe { &mut *self.0.add(PAGE - size_of::<Special>()).cast() }
    }
}
