//! The sweep: one pass over the codes of all rows that have not been handed out, in order of a
//! lower bound of their distance.
//!
//! ```text
//!   pass: codes ──lower bounds──▶ keys, the smallest that fit ──sorted by and by──▶ candidates
//! ```
//!
//! A key is a row and the lower bound of its ranking value in one integer. A pass keeps as many of
//! the smallest keys as memory allows; when they are used up, another pass looks for the next ones.
//! Cost is linear in the rows for each pass. Which rows have been taken is a bit each, so no row
//! comes twice. Nothing here calls PostgreSQL.

use super::candidates::Segment;
use super::rerank::{Candidate, RowId};

/// Rows whose bounds are computed at a time.
const BLOCK: usize = 1024;
/// Keys sorted at first; then twice as many each time.
const FIRST_SORTED: usize = 512;

/// A sweep under way.
#[derive(Default)]
pub struct Sweep {
    /// Number of the first row of each segment, and the number of all rows.
    bases: Vec<u32>,
    /// A bit a row: whether it has been taken.
    taken: Vec<u64>,
    /// The smallest keys of the last pass, the first `sorted` of them in order.
    keys: Vec<u64>,
    sorted: usize,
    /// Keys before this one have been used.
    next: usize,
    /// Most keys to keep.
    room: usize,
    /// Keys up to this one have been looked through since the last start.
    done: u64,
    /// Whether the last pass had room for all keys.
    complete: bool,
    /// Passes made.
    passes: u32,
}

impl Sweep {
    /// A sweep over `segments` that keeps about `memory` bytes.
    ///
    /// # Panics
    /// When the segments have 2³² rows or more; their codes would take more than a terabyte.
    pub fn new(segments: &[Segment], memory: usize) -> Self {
        let mut bases = vec![0u32];
        for segment in segments {
            let rows = u32::try_from(segment.rows()).ok();
            let next = rows.and_then(|rows| bases[bases.len() - 1].checked_add(rows));
            bases.push(next.expect("fewer than 2^32 rows in memory"));
        }
        let taken = vec![0; bases[segments.len()].div_ceil(64) as usize];
        // A quarter more is kept before the largest are given up.
        let room = (memory / size_of::<u64>() * 4 / 5).max(BLOCK);
        Self { bases, taken, room, ..Self::default() }
    }

    /// Passes made over the codes.
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Rows that a pass looks at.
    pub fn rows(&self) -> u64 {
        self.bases.last().copied().unwrap_or_default().into()
    }

    /// Whether the next candidates take another pass.
    pub fn is_used_up(&self) -> bool {
        self.next == self.keys.len() && !self.complete
    }

    /// Marks a row as taken: it does not come any more.
    pub fn take(&mut self, id: RowId) {
        let row = self.bases[id.segment as usize] + id.row;
        self.taken[row as usize / 64] |= 1 << (row % 64);
    }

    /// Lets a row come again, after the next [`restart`](Self::restart).
    pub fn give_back(&mut self, id: RowId) {
        let row = self.bases[id.segment as usize] + id.row;
        self.taken[row as usize / 64] &= !(1 << (row % 64));
    }

    /// Begins with the smallest bounds again: for rows that were given back.
    pub fn restart(&mut self) {
        self.keys.clear();
        (self.next, self.sorted, self.done) = (0, 0, 0);
        self.complete = false;
    }

    /// Adds the next candidates to `found`, about `count`, in order of their lower bounds, and marks
    /// them as taken. Returns a lower bound of the distance of all rows that are still to come,
    /// infinite when there are none. Their distances are estimated if `measure` says so; if not, lower
    /// bounds are all that is known of them. `interrupt` is called every few thousand rows; when it does
    /// not return, the sweep is not to be used any more.
    pub fn candidates(
        &mut self,
        segments: &[Segment],
        count: usize,
        measure: bool,
        found: &mut Vec<Candidate>,
        interrupt: impl Fn(),
    ) -> f64 {
        if self.is_used_up() {
            self.pass(segments, interrupt);
        }
        // One more, to know where the rest begins.
        self.sort(self.next + count + 1);
        let end = (self.next + count).min(self.keys.len());
        for at in self.next..end {
            if measure && let Some(&ahead) = self.keys[..end].get(at + AHEAD) {
                let id = self.id(ahead);
                segments[id.segment as usize].prefetch_code(id.row);
            }
            let (id, bound) = (self.id(self.keys[at]), bound_of(self.keys[at]));
            self.take(id);
            found.extend(segments[id.segment as usize].candidate(id, bound, measure));
        }
        self.next = end;
        match (self.keys.get(end), segments.first()) {
            (Some(&key), Some(segment)) => segment.distance_at(bound_of(key)),
            (None, Some(segment)) if !self.complete => segment.distance_at(bound_of(self.done)),
            _ => f64::INFINITY,
        }
    }

    /// Looks through the codes of all rows that have not been taken, for the smallest keys that are
    /// larger than those of earlier passes.
    fn pass(&mut self, segments: &[Segment], interrupt: impl Fn()) {
        self.passes += 1;
        self.keys.clear();
        (self.next, self.sorted) = (0, 0);
        self.complete = true;
        let from = self.done;
        let mut cutoff = u64::MAX;
        let mut bounds = [0.0; BLOCK];
        for (segment, base) in segments.iter().zip(self.bases.clone()) {
            for first in (0..segment.rows()).step_by(BLOCK) {
                if first % (4 * BLOCK) == 0 {
                    interrupt();
                }
                let bounds = &mut bounds[..BLOCK.min(segment.rows() - first)];
                segment.lower_bounds(first as u32, bounds);
                for (row, bound) in (base + first as u32..).zip(&*bounds) {
                    let key = key(*bound, row);
                    if key < cutoff && key > from && !self.is_taken(row) {
                        self.keys.push(key);
                    }
                }
                if self.keys.len() >= self.room + self.room / 4 {
                    cutoff = self.cut();
                }
            }
        }
        if self.keys.len() > self.room {
            self.cut();
        }
        self.done = self.keys.iter().copied().max().unwrap_or(self.done);
    }

    /// Gives up the largest keys; returns the largest that stays.
    fn cut(&mut self) -> u64 {
        let (_, &mut largest, _) = self.keys.select_nth_unstable(self.room - 1);
        self.keys.truncate(self.room);
        self.complete = false;
        largest
    }

    /// Puts the smallest keys in order, at least `count` of them where there are as many.
    fn sort(&mut self, count: usize) {
        if count <= self.sorted {
            return;
        }
        let end = count.max(2 * self.sorted).max(FIRST_SORTED).min(self.keys.len());
        let rest = &mut self.keys[self.sorted..];
        let more = end - self.sorted;
        if more < rest.len() {
            rest.select_nth_unstable(more);
        }
        rest[..more].sort_unstable();
        self.sorted = end;
    }

    /// Whether a row has been taken.
    pub fn has_taken(&self, id: RowId) -> bool {
        self.is_taken(self.bases[id.segment as usize] + id.row)
    }

    fn is_taken(&self, row: u32) -> bool {
        self.taken[row as usize / 64] & 1 << (row % 64) != 0
    }

    fn id(&self, key: u64) -> RowId {
        let row = key as u32;
        let segment = self.bases.partition_point(|&base| base <= row) - 1;
        RowId { segment: segment as u32, row: row - self.bases[segment] }
    }
}

/// Keys whose codes are asked for ahead.
const AHEAD: usize = 4;

/// A key: in order of the bound, then of the row. No bound is NaN, so no key is zero.
fn key(bound: f32, row: u32) -> u64 {
    let bits = bound.to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(row)
}

/// The bound in a key.
fn bound_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_bounds() {
        let bounds = [f32::NEG_INFINITY, f32::MIN, -1.0, -0.0, 0.0, 1e-40, 1.0, f32::MAX];
        let keys: Vec<u64> = bounds.iter().map(|bound| key(*bound, 7)).collect();
        assert!(keys.is_sorted() && keys[0] > 0);
        for (key, bound) in keys.iter().zip(bounds) {
            assert_eq!((bound_of(*key).to_bits(), *key as u32), (bound.to_bits(), 7));
        }
        assert!(key(1.0, 1) < key(1.0, 2) && key(1.0, u32::MAX) < key(1.5, 0));
    }
}
