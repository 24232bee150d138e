//! Caches in memory of their own, and chunks whose content says what it must be.

use std::ptr;

use cache::{Cache, ChunkKey};
use uuid::Uuid;

/// A cache in a mapping that forked processes share, unmapped at the end.
pub struct Mapped {
    pub cache: Cache,
    base: *mut libc::c_void,
    size: usize,
}

impl Mapped {
    pub fn new(bytes: usize) -> Self {
        let size = Cache::size(bytes);
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping at an address that the system chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "no memory for the cache");
        // SAFETY: fresh, as large as asked for, and there until this is dropped.
        let cache = unsafe { Cache::create(base.cast(), bytes) };
        Self { cache, base, size }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.base, self.size) };
    }
}

/// The key of a chunk.
pub fn key(chunk: u32) -> ChunkKey {
    ChunkKey { segment: Uuid::from_u128(0xA5), chunk }
}

fn word(chunk: u32, edition: u32, position: usize) -> u32 {
    let mix = (u64::from(chunk) << 32) | (u64::from(edition) << 16) | (position / 4) as u64;
    (mix.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32 ^ edition
}

/// Content of a chunk that differs from one edition to the next, and names its edition first.
pub fn content(chunk: u32, edition: u32, length: usize) -> Vec<u8> {
    let words = (4..length).step_by(4).map(|position| word(chunk, edition, position));
    let words = std::iter::once(edition).chain(words);
    words.flat_map(u32::to_le_bytes).take(length).collect()
}

/// Whether `bytes` are some edition's content of the chunk, whole. They are 4 at least.
pub fn is_content(chunk: u32, bytes: &[u8]) -> bool {
    let (first, rest) = bytes.split_at(4);
    let edition = u32::from_le_bytes(first.try_into().expect("four bytes"));
    rest.chunks(4).enumerate().all(|(number, bytes)| {
        bytes == &word(chunk, edition, 4 * number + 4).to_le_bytes()[..bytes.len()]
    })
}
