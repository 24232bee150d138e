//! Neighbour lists while the graph grows.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use distance::{Aligned, prefetch};

use crate::NONE;

/// Set in a stored neighbour that a nearer neighbour of the same list already leads to.
const SHADOWED: u32 = 1 << 31;

/// Locks shared by all lists. Threads write to a few lists at a time, so they rarely meet.
const LOCKS: usize = 1024;

/// A neighbour of some row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Link {
    pub(super) row: u32,
    /// The score between the two rows.
    pub(super) score: f32,
    /// Whether a nearer neighbour leads to this one (it is nearer to that one than to the owner
    /// of the list). Such links are kept only while there is room.
    pub(super) shadowed: bool,
}

/// Equally wide neighbour lists, each sorted nearest first.
///
/// Reading takes no lock: elements are atomics, and a reader that meets a writer sees some old
/// and some new neighbours, each of them a row. Writers of a list exclude each other.
pub(super) struct Links {
    width: usize,
    rows: Aligned<AtomicU32>,
    scores: Aligned<AtomicU32>,
    locks: Vec<Mutex<()>>,
}

impl Links {
    pub(super) fn new(lists: usize, width: usize) -> Self {
        let filled = |value| Aligned::from_fn(lists * width, || AtomicU32::new(value));
        Self {
            width,
            rows: filled(NONE),
            scores: filled(0),
            locks: (0..LOCKS.min(lists)).map(|_| Mutex::default()).collect(),
        }
    }

    /// Neighbours a list can hold.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Calls `visit` for each neighbour in `list`.
    #[inline(always)]
    pub(super) fn for_each(&self, list: usize, mut visit: impl FnMut(u32)) {
        for row in self.elements(list) {
            let row = row.load(Ordering::Relaxed);
            if row == NONE {
                break;
            }
            visit(row & !SHADOWED);
        }
    }

    /// The stored rows of `list`, for asking ahead.
    #[inline(always)]
    pub(super) fn elements(&self, list: usize) -> &[AtomicU32] {
        &self.rows[list * self.width..][..self.width]
    }

    /// Asks for all that changing `list` reads.
    pub(super) fn prefetch(&self, list: usize) {
        prefetch::read(self.elements(list));
        prefetch::read(self.scores_of(list));
    }

    fn scores_of(&self, list: usize) -> &[AtomicU32] {
        &self.scores[list * self.width..][..self.width]
    }

    /// Keeps other writers away from `list` while the guard lives.
    pub(super) fn lock(&self, list: usize) -> MutexGuard<'_, ()> {
        // The lock guards no data, so a writer that panicked has broken nothing.
        self.locks[list % self.locks.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads `list` into `links`. The caller holds its lock.
    pub(super) fn read(&self, list: usize, links: &mut Vec<Link>) {
        links.clear();
        for (row, score) in self.elements(list).iter().zip(self.scores_of(list)) {
            let row = row.load(Ordering::Relaxed);
            if row == NONE {
                break;
            }
            links.push(Link {
                row: row & !SHADOWED,
                score: f32::from_bits(score.load(Ordering::Relaxed)),
                shadowed: row & SHADOWED != 0,
            });
        }
    }

    /// Makes `links` the content of `list`. The caller holds its lock.
    pub(super) fn write(&self, list: usize, links: &[Link]) {
        let scores = self.scores_of(list);
        for ((row, score), link) in self.elements(list).iter().zip(scores).zip(links) {
            let shadowed = if link.shadowed { SHADOWED } else { 0 };
            row.store(link.row | shadowed, Ordering::Relaxed);
            score.store(link.score.to_bits(), Ordering::Relaxed);
        }
        for row in &self.elements(list)[links.len().min(self.width)..] {
            row.store(NONE, Ordering::Relaxed);
        }
    }

    /// The rows of all lists, `list × width`.
    pub(super) fn into_rows(self) -> Vec<u32> {
        let plain = |row: &AtomicU32| match row.load(Ordering::Relaxed) {
            NONE => NONE,
            row => row & !SHADOWED,
        };
        self.rows.iter().map(plain).collect()
    }
}
