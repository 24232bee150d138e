//! Arrays that begin at a cache line.

use std::ops::{Deref, DerefMut};

use crate::prefetch::LINE;

/// An array of fixed length whose first element begins a cache line, so that rows of whole lines
/// span no more lines than they must. An allocator begins large arrays 16 bytes behind a line: each
/// row of 192 bytes then spans four lines instead of three.
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
        let mut elements = Vec::new();
        elements.resize_with(length + spare, next);
        // The elements stay where they are: the vector never grows again.
        let start = elements.as_ptr().align_offset(LINE).min(spare);
        Self { elements, start, length }
    }
}

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
        for length in [0, 1, 15, 16, 17, 1000, 100_000] {
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
