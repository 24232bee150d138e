//! The rows of a segment to be: collected from the heap within a memory budget.
//!
//! Building needs a row's code and links in memory, but its vector only twice: to make the code
//! and to write the payload. So when the budget is reached the vectors move to a temporary file,
//! and only when codes and links alone would not fit is the segment full.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use pgrx::pg_sys;
use rabitq::{Bits, code_bytes};

use super::codes::BUILD_BITS;
use crate::errors::{Failure, FailureKind};
use crate::pages::meta::Parameters;

/// Vectors are kept and spilled in blocks of this many bytes.
const BLOCK_BYTES: usize = 1 << 20;
/// Used even when `maintenance_work_mem` allows less: thousands of tiny segments help nobody.
const LEAST_BUDGET: usize = 4 << 20;

/// Vectors with the tids they belong to, in the order they came.
pub struct Rows {
    dimensions: usize,
    block_rows: usize,
    tids: Vec<u64>,
    /// Where a row's tids start, `rows + 1`.
    tid_offsets: Vec<u32>,
    blocks: Vec<Vec<f32>>,
    /// Blocks before this one are in the file.
    spilled_blocks: usize,
    file: Option<Spill>,
}

impl Rows {
    fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            block_rows: (BLOCK_BYTES / (dimensions * size_of::<f32>())).max(1),
            tids: Vec::new(),
            tid_offsets: vec![0],
            blocks: Vec::new(),
            spilled_blocks: 0,
            file: None,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tid_offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The heap tids of a row.
    pub fn tids(&self, row: usize) -> &[u64] {
        &self.tids[self.tid_offsets[row] as usize..self.tid_offsets[row + 1] as usize]
    }

    /// Heap tids of all rows.
    pub fn entries(&self) -> usize {
        self.tids.len()
    }

    /// The vector of a row, from memory or from the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn vector(&self, row: usize) -> io::Result<Cow<'_, [f32]>> {
        let (block, at) = (row / self.block_rows, row % self.block_rows * self.dimensions);
        match &self.file {
            Some(file) if block < self.spilled_blocks => {
                let mut vector = vec![0f32; self.dimensions];
                file.read((block * self.block_rows * self.dimensions + at) as u64, &mut vector)?;
                Ok(Cow::Owned(vector))
            }
            _ => {
                let block = &self.blocks[block - self.spilled_blocks];
                Ok(Cow::Borrowed(&block[at..at + self.dimensions]))
            }
        }
    }

    fn push(&mut self, tids: impl IntoIterator<Item = u64>, vector: &[f32]) -> io::Result<()> {
        let capacity = self.block_rows * self.dimensions;
        if self.blocks.last().is_none_or(|block| block.len() == capacity) {
            if self.file.is_some() {
                self.spill()?;
            }
            self.blocks.push(Vec::with_capacity(capacity));
        }
        self.tids.extend(tids);
        self.tid_offsets.push(self.tids.len() as u32);
        if let Some(block) = self.blocks.last_mut() {
            block.extend_from_slice(vector);
        }
        Ok(())
    }

    /// Moves every full block to the file.
    fn spill(&mut self) -> io::Result<()> {
        let capacity = self.block_rows * self.dimensions;
        let full = self.blocks.iter().take_while(|block| block.len() == capacity).count();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(Spill::create()?),
        };
        for block in self.blocks.drain(..full) {
            file.write((self.spilled_blocks * capacity) as u64, &block)?;
            self.spilled_blocks += 1;
        }
        Ok(())
    }
}

/// The failure for rows that cannot be kept.
fn unwritable(error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::DiskFull,
        _ => FailureKind::Io,
    };
    Failure::new(kind, format!("could not write temporary file: {error}"))
        .hint("Free space in the temporary tablespaces, or raise maintenance_work_mem.")
}

/// The failure for rows that cannot be read back.
pub fn unreadable(error: io::Error) -> Failure {
    Failure::new(FailureKind::Io, format!("could not read temporary file: {error}"))
}

/// A temporary file of PostgreSQL's: in its temporary tablespaces, removed with the transaction
/// or at the next start. Threads read it through a descriptor of their own.
struct Spill {
    file: pg_sys::File,
    descriptor: File,
}

impl Spill {
    fn create() -> io::Result<Self> {
        // SAFETY: in a transaction; the raw descriptor is valid until PostgreSQL is called again,
        // so it is duplicated at once.
        unsafe {
            let file = pg_sys::OpenTemporaryFile(false);
            let borrowed = BorrowedFd::borrow_raw(pg_sys::FileGetRawDesc(file));
            let own: OwnedFd = borrowed.try_clone_to_owned()?;
            Ok(Self { file, descriptor: own.into() })
        }
    }

    fn write(&self, element: u64, values: &[f32]) -> io::Result<()> {
        // SAFETY: any f32 is four valid bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
        self.descriptor.write_all_at(bytes, element * size_of::<f32>() as u64)
    }

    fn read(&self, element: u64, values: &mut [f32]) -> io::Result<()> {
        // SAFETY: any four bytes are a valid f32.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values))
        };
        self.descriptor.read_exact_at(bytes, element * size_of::<f32>() as u64)
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `create`. After an error PostgreSQL closes it itself.
            unsafe { pg_sys::FileClose(self.file) };
        }
    }
}

/// Collects rows for one segment at a time.
pub struct Collector {
    rows: Rows,
    budget: usize,
    resident_row_bytes: usize,
}

impl Collector {
    /// A collector that uses at most `budget` bytes, codes and links of the build included.
    pub fn new(parameters: &Parameters, budget: usize) -> Self {
        Self {
            rows: Rows::new(parameters.dimensions),
            budget: budget.max(LEAST_BUDGET),
            resident_row_bytes: resident_row_bytes(parameters),
        }
    }

    /// Adds a row. Raises an error when a temporary file cannot be written.
    pub fn push(&mut self, tid: u64, vector: &[f32]) {
        if self.must_spill(1) && self.rows.file.is_none() {
            self.rows.spill().unwrap_or_else(|error| unwritable(&error).raise());
        }
        self.push_row([tid], vector).unwrap_or_else(|failure| failure.raise());
    }

    /// Prepares for `rows` rows at most: with them at hand, [`push_row`](Self::push_row) does not
    /// call PostgreSQL.
    pub fn expect(&mut self, rows: usize) {
        if self.must_spill(rows) {
            self.rows.spill().unwrap_or_else(|error| unwritable(&error).raise());
        }
    }

    /// Adds a row with all its tids, on any thread.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub fn push_row(
        &mut self,
        tids: impl IntoIterator<Item = u64>,
        vector: &[f32],
    ) -> Result<(), Failure> {
        self.rows.push(tids, vector).map_err(|error| unwritable(&error))
    }

    /// Whether `more` rows would not fit into the budget with their vectors in memory.
    fn must_spill(&self, more: usize) -> bool {
        let rows = self.rows.len() + more;
        let vector_bytes = self.rows.dimensions * size_of::<f32>();
        rows * (self.resident_row_bytes + vector_bytes) > self.budget
    }

    /// Whether the next row belongs to another segment.
    pub fn is_full(&self) -> bool {
        (self.rows.len() + 1) * self.resident_row_bytes > self.budget || self.rows.len() >= MAX_ROWS
    }

    /// Whether nothing has been collected.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Hands the rows over and starts anew.
    pub fn take(&mut self) -> Rows {
        let next = Rows::new(self.rows.dimensions);
        std::mem::replace(&mut self.rows, next)
    }
}

/// Row numbers are 32 bits wide, and the largest one means "none".
const MAX_ROWS: usize = u32::MAX as usize - 1;

/// What a row takes in memory, in bytes, while a segment is built, its vector apart: code and links (with
/// their distances while the graph grows; a second copy while rows are put in order), factors, tid,
/// hash and bookkeeping.
pub fn resident_row_bytes(parameters: &Parameters) -> usize {
    let bits = Bits::from_u8(parameters.bits).map_or(BUILD_BITS, |bits| bits.max(BUILD_BITS));
    let code = code_bytes(parameters.dimensions, bits);
    let links = 2 * parameters.m * size_of::<u32>();
    code + links + (2 * links).max(code) + 64
}
