//! Which segments to merge.
//!
//! Sizes are kept far apart: ordered by size, a segment that is smaller than all smaller ones
//! together is merged with them. So every segment is at least as large as the sum of those after
//! it, which bounds their number by the logarithm of the index's size; and a row that is rewritten
//! finds itself in a segment at least twice as large as before, which bounds how often that happens
//! by the same logarithm. This is the geometric rule of log-structured merging (O'Neil and others,
//! *The Log-Structured Merge-Tree*, Acta Informatica 1996).

/// A segment as the policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Heap tuples, removed ones included.
    pub entries: u64,
    /// Removed heap tuples.
    pub dead: u64,
    /// Distinct vectors.
    pub rows: u64,
}

impl Size {
    fn live(&self) -> u64 {
        self.entries - self.dead
    }
}

/// The segments to merge next, by number, at least one; `None` when all is well. A single one is
/// rewritten without its dead entries, when more than one in `dead_share` of the whole index's are dead:
/// so the index is never larger than that makes it, and for each entry that goes at most
/// `dead_share` others are written again.
///
/// No merge takes more than `most_rows` rows: what is that large already stays apart.
pub fn choose(sizes: &[Size], most_rows: u64, dead_share: u64) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&number| std::cmp::Reverse(sizes[number].live()));
    // From the smallest on: sum up, and note how far the rule is broken.
    let (mut entries, mut rows, mut from) = (0, 0, None);
    for (at, &number) in order.iter().enumerate().rev() {
        rows += sizes[number].rows;
        if rows > most_rows {
            break;
        }
        if sizes[number].live() < entries {
            from = Some(at);
        }
        entries += sizes[number].live();
    }
    if let Some(from) = from {
        let mut chosen = order.split_off(from);
        chosen.sort_unstable();
        return Some(chosen);
    }
    let sum = |of: fn(&Size) -> u64| sizes.iter().map(of).sum::<u64>();
    if sum(|size| size.dead) * dead_share <= sum(|size| size.entries) {
        return None;
    }
    // Where the share is largest, fewest rows are written for each entry that goes.
    let share = |size: &Size| size.dead as f64 / size.entries.max(1) as f64;
    let fits = |number: &usize| sizes[*number].dead > 0 && sizes[*number].rows <= most_rows;
    let worst = (0..sizes.len())
        .filter(fits)
        .max_by(|&a, &b| share(&sizes[a]).total_cmp(&share(&sizes[b])));
    worst.map(|number| vec![number])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(entries: u64) -> Size {
        Size { entries, dead: 0, rows: entries }
    }

    /// Flushes `flushes` segments of `each` rows, merging as the policy says; returns the sizes and
    /// how often rows were rewritten.
    fn grow(flushes: u64, each: u64, most_rows: u64) -> (Vec<Size>, u64) {
        let (mut sizes, mut rewritten) = (Vec::new(), 0);
        for _ in 0..flushes {
            sizes.push(live(each));
            while let Some(chosen) = choose(&sizes, most_rows, 5) {
                let sum: u64 = chosen.iter().map(|&number| sizes[number].entries).sum();
                assert!(chosen.len() > 1 && sum <= most_rows);
                rewritten += sum;
                let mut number = 0;
                sizes.retain(|_| {
                    number += 1;
                    !chosen.contains(&(number - 1))
                });
                sizes.push(live(sum));
            }
        }
        (sizes, rewritten)
    }

    #[test]
    fn the_number_of_segments_and_rewrites_is_logarithmic() {
        for flushes in [1, 2, 3, 10, 100, 1000, 4097] {
            let (sizes, rewritten) = grow(flushes, 2_500, u64::MAX);
            let logarithm = u64::from(flushes.ilog2());
            assert!(sizes.len() as u64 <= logarithm + 2, "{flushes}: {}", sizes.len());
            assert!(rewritten <= flushes * 2_500 * (logarithm + 1), "{flushes}: {rewritten}");
        }
    }

    #[test]
    fn nothing_grows_beyond_the_memory_for_it() {
        let (sizes, _) = grow(1000, 100, 3_000);
        assert!(sizes.iter().all(|size| size.rows <= 3_000));
        // Nor does anything that could grow stay small: full ones, and a logarithm of the rest.
        assert!(sizes.len() <= 1000 * 100 / 1_500 + 8, "{}", sizes.len());
    }

    #[test]
    fn dead_entries_are_removed_when_the_index_has_many() {
        let with = |entries, dead| Size { entries, dead, rows: entries };
        // 1,301 of 6,500 are dead: the segment with the larger share goes first.
        let sizes = [with(5000, 900), with(1500, 401)];
        assert_eq!(choose(&sizes, 10_000, 5), Some(vec![1]));
        assert_eq!(choose(&[with(5000, 900), with(1500, 400)], 10_000, 5), None);
        // A tiny segment, however spoilt, is no reason to do anything.
        assert_eq!(choose(&[live(5000), with(10, 9)], 10_000, 5), None);
        assert_eq!(choose(&[with(5000, 5000)], 4_999, 5), None);
    }

    #[test]
    fn one_segment_or_none_is_well() {
        assert_eq!(choose(&[], 10, 5), None);
        assert_eq!(choose(&[live(0)], 10, 5), None);
        assert_eq!(choose(&[live(7)], 10, 5), None);
    }
}
