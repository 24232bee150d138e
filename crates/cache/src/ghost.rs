//! The ghost queue of S3-FIFO: names of chunks that were dropped before they were read twice.
//! One that comes back soon is worth keeping.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::Place;

/// Ghosts that a name can be among.
pub const WAYS: usize = 4;

/// A fingerprint above the number of the drop; 0 for none.
pub type Ghost = AtomicU64;

fn ghost_of(place: &Place, drop: u32) -> u64 {
    (u64::from(place.fingerprint) << 32) | u64::from(drop)
}

/// Remembers a chunk that was the `drop`th of its partition to be dropped, in place of the
/// one of its set that went longest ago. Under the partition's lock.
pub fn remember(set: &[Ghost], place: &Place, drop: u32) {
    let age = |ghost: &&Ghost| match ghost.load(Ordering::Relaxed) {
        0 => u32::MAX,
        ghost => drop.wrapping_sub(ghost as u32),
    };
    let oldest = set.iter().max_by_key(age).expect("a set has ghosts");
    oldest.store(ghost_of(place, drop), Ordering::Relaxed);
}

/// Forgets a chunk, and tells whether it was among the `latest` dropped, of which the last was
/// the `drop`th. Under the partition's lock.
pub fn recall(set: &[Ghost], place: &Place, drop: u32, latest: u32) -> bool {
    set.iter().any(|ghost| {
        let known = ghost.load(Ordering::Relaxed);
        let same = known != 0 && (known >> 32) as u32 == place.fingerprint;
        if same {
            ghost.store(0, Ordering::Relaxed);
        }
        same && drop.wrapping_sub(known as u32) < latest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(fingerprint: u32) -> Place {
        Place { partition: 0, bucket: 0, ghosts: 0, fingerprint }
    }

    #[test]
    fn a_drop_is_recalled_once_and_not_for_long() {
        let set = [const { Ghost::new(0) }; WAYS];
        for drop in 1..=5 {
            remember(&set, &place(drop * 100), drop);
        }
        assert!(!recall(&set, &place(100), 5, 100), "pushed out by the fifth");
        assert!(recall(&set, &place(200), 5, 100));
        assert!(!recall(&set, &place(200), 5, 100), "recalled already");
        assert!(!recall(&set, &place(300), 13, 10), "ten drops ago");
        assert!(recall(&set, &place(400), 13, 10));
        assert!(!recall(&set, &place(0), 13, 10), "never dropped");
    }

    #[test]
    fn counting_drops_may_start_again() {
        let set = [const { Ghost::new(0) }; WAYS];
        remember(&set, &place(7), u32::MAX);
        assert!(recall(&set, &place(7), 3, 10));
    }
}
