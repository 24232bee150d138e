//! Large arrays for random access: they begin at a cache line and lie in few pages.

use std::ops::{Deref, DerefMut};

use crate::prefetch::LINE;

/// Bytes of a large page, where there are such.
const PAGE: usize = 2 << 20;

/// An array of fixed length whose first element begins a cache line, so that rows of whole lines
/// span no more lines than they must. An allocator begins large arrays 16 bytes behind a line: each
/// row of 192 bytes then spans four lines instead of three.
///
/// Linux is asked for large pages (where `transparent_hugepage` is `madvise`, as is usual, or `always`):
/// each line of a scattered row is then found without walking through the page table. Building a graph
/// takes 0.95 of the time.
#[derive(Debug)]
pub struct Aligned<T> {
    elements: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Clone> Aligned<T> {
    /// `length` times `value`.
    pub fn filled(value: T, length: usize) -> Self {
        Self::from_fn(length, || value.clone())
    }
}

impl<T> Aligned<T> {
    /// What `next` gives, `length` times. Up to a line's worth of elements more are made.
    pub fn from_fn(length: usize, next: impl FnMut() -> T) -> Self {
        let spare = LINE / size_of::<T>().max(1);
        let mut elements = Vec::with_capacity(length + spare);
        ask_for_large_pages(&elements);
        elements.resize_with(length + spare, next);
        // The elements stay where they are: the vector never grows again.
        let start = elements.as_ptr().align_offset(LINE).min(spare);
        Self { elements, start, length }
    }
}

/// Asks for large pages for memory that nobody has written to. A hint only.
#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(memory: &Vec<T>) {
    let bytes = memory.capacity() * size_of::<T>();
    let before = memory.as_ptr().addr().next_multiple_of(PAGE) - memory.as_ptr().addr();
    // What is smaller than some pages gains little.
    if bytes >= 4 * PAGE {
        let start = memory.as_ptr().cast_mut().wrapping_byte_add(before);
        let length = (bytes - before) / PAGE * PAGE;
        // SAFETY: the range lies in the vector's own memory, and the advice changes no content. Whether
        // it was taken does not matter.
        unsafe { libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages<T>(_: &Vec<T>) {}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.elements[self.start..self.start + self.length]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.elements[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line_and_has_its_length() {
        for length in [0, 1, 15, 16, 17, 1000, 100_000, 10_000_000] {
            let mut bytes = Aligned::filled(7u8, length);
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % LINE), (length, 0));
            assert!(bytes.iter().all(|byte| *byte == 7));
            bytes.fill(1);
            assert!(bytes.iter().all(|byte| *byte == 1));
            let mut count = 0;
            let words = Aligned::from_fn(length, || {
                count += 1;
                count - 1
            });
            assert_eq!((words.len(), words.as_ptr().addr() % LINE), (length, 0));
            assert!(words.windows(2).all(|pair: &[u32]| pair[1] == pair[0] + 1));
        }
    }
}
