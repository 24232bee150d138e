//! Short texts in shared memory: error messages that travel between processes.

use crate::errors::{Failure, FailureKind};

/// Text of at most `N` bytes; longer text is cut at a character boundary.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    length: u32,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// Replaces the text.
    pub fn set(&mut self, text: &str) {
        let end = text.floor_char_boundary(N.min(text.len()));
        self.bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        self.length = end as u32;
    }

    /// The text.
    pub fn get(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..(self.length as usize).min(N)]).into_owned()
    }
}

/// A [`Failure`] in shared memory. All zeroes is an empty one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StoredFailure {
    kind: u32,
    message: Text<512>,
    detail: Text<512>,
    hint: Text<384>,
}

impl StoredFailure {
    /// Replaces the failure.
    pub fn set(&mut self, failure: &Failure) {
        self.kind = failure.kind as u32;
        self.message.set(&failure.message);
        self.detail.set(&failure.detail);
        self.hint.set(&failure.hint);
    }

    /// The failure.
    pub fn get(&self) -> Failure {
        Failure {
            kind: FailureKind::from_u32(self.kind),
            message: self.message.get(),
            detail: self.detail.get(),
            hint: self.hint.get(),
        }
    }
}
