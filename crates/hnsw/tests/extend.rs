//! A graph grown out of another one is sound, keeps what it can, costs less than a build and is
//! searched as well as one that was built.

mod common;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use common::{Codes, Exact, ExactScorer, assert_sound, built, clustered, cube, params, recall};
use distance::Metric;
use hnsw::{
    BuildDistances, BuildError, BuildParams, Control, Graph, NONE, NodeScorer, Scorer, extend,
    validate,
};
use proptest::prelude::*;
use rabitq::{Bits, SplitMix64};

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// `base` extended to `rows` rows by `threads` threads.
fn grown(
    base: &Graph,
    place: &[u32],
    rows: usize,
    params: &BuildParams,
    distances: &impl BuildDistances,
    threads: usize,
) -> Graph {
    let control = Control::new();
    let graph = extend(&base.view(), place, rows, params, distances, &pool(threads), &control)
        .expect("nobody stops it");
    assert_eq!(control.done(), rows);
    graph
}

fn shuffle<T>(elements: &mut [T], seed: u64) {
    let mut random = SplitMix64::new(seed);
    for i in (1..elements.len()).rev() {
        elements.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
}

/// What a merge makes of `old` rows without those `gone` says, and `new` ones: all rows in an
/// arbitrary order, and where the old ones are in it.
fn merged(
    old: &[Vec<f32>],
    gone: impl Fn(usize) -> bool,
    new: &[Vec<f32>],
    seed: u64,
) -> (Vec<Vec<f32>>, Vec<u32>) {
    let stays = (0..old.len()).filter(|row| !gone(*row));
    let mut sources: Vec<usize> = stays.chain(old.len()..old.len() + new.len()).collect();
    shuffle(&mut sources, seed);
    let mut place = vec![NONE; old.len()];
    let row = |(row, source): (usize, &usize)| match source.checked_sub(old.len()) {
        Some(new_row) => new[new_row].clone(),
        None => {
            place[*source] = row as u32;
            old[*source].clone()
        }
    };
    (sources.iter().enumerate().map(row).collect(), place)
}

/// The level of each row.
fn levels(graph: &Graph) -> Vec<u32> {
    let mut levels = vec![0; graph.rows()];
    for (row, offsets) in graph.upper_nodes.iter().zip(graph.upper_offsets.windows(2)) {
        levels[*row as usize] = offsets[1] - offsets[0];
    }
    levels
}

/// Recall of a grown and a built graph over the same rows must not differ by more than a point.
/// All graphs are made by one thread and so are the same in every run; 10,000 rows are looked for
/// each time, so that one standard error of the difference is below half a point.
fn assert_as_good(
    graph: &Graph,
    rows: &[Vec<f32>],
    queries: &[Vec<f32>],
    codes: &Codes,
    what: &str,
) {
    let fresh = built(rows.len(), &params(16, 64), codes, 1);
    for ef in [30, 80] {
        let of = |graph| recall(graph, rows, queries, Metric::L2, 10, ef, Some(codes));
        let (grown, fresh) = (of(graph), of(&fresh));
        println!("{what}, ef {ef}: {grown:.4} grown, {fresh:.4} built");
        assert!(grown >= fresh - 0.01, "{what}, ef {ef}: {grown} instead of {fresh}");
    }
}

/// Grows a graph over `old` rows to one without `gone` and with `new`, and compares.
fn assert_merge_is_as_good(
    old: &[Vec<f32>],
    gone: impl Fn(usize) -> bool,
    new: &[Vec<f32>],
    queries: &[Vec<f32>],
    what: &str,
) {
    let base = built(old.len(), &params(16, 64), &Codes::new(old, Bits::Four, Metric::L2), 1);
    let (rows, place) = merged(old, gone, new, 5);
    let codes = Codes::new(&rows, Bits::Four, Metric::L2);
    let graph = grown(&base, &place, rows.len(), &params(16, 64), &codes, 1);
    assert_sound(&graph, rows.len());
    assert_as_good(&graph, &rows, queries, &codes, what);
}

/// Rows that a small beam finds most of, not all.
fn wide(count: usize, seed: u64) -> Vec<Vec<f32>> {
    clustered(count, 48, 2500, 1.2, seed)
}

#[test]
fn new_rows_are_found_and_old_ones_still() {
    let (rows, queries) = (wide(5000, 1), wide(1000, 2));
    for share in [50, 90] {
        let (old, new) = rows.split_at(rows.len() * share / 100);
        assert_merge_is_as_good(old, |_| false, new, &queries, &format!("base of {share} %"));
    }
}

#[test]
fn rows_are_found_after_others_are_gone_here_and_there() {
    let (rows, queries) = (wide(5000, 1), wide(1000, 2));
    let (old, new) = rows.split_at(4500);
    for percent in [10, 30, 50, 70] {
        // Consecutive rows are in different clusters, and 101 is prime to their number.
        let gone = |row: usize| row * 101 % 100 < percent;
        assert_merge_is_as_good(old, gone, new, &queries, &format!("{percent} % gone"));
    }
}

#[test]
fn rows_are_found_after_whole_clusters_are_gone() {
    let (rows, queries) = (clustered(5000, 48, 20, 1.2, 1), clustered(1000, 48, 20, 1.2, 2));
    let (old, new) = rows.split_at(4500);
    for clusters in [1, 2, 6, 10] {
        // The new rows bring them back, thinly; queries look for rows there too.
        let gone = |row: usize| row % 20 < clusters;
        assert_merge_is_as_good(old, gone, new, &queries, &format!("{clusters} clusters gone"));
    }
}

#[test]
fn rows_are_found_after_all_around_a_point_are_gone() {
    let (rows, queries) = (wide(5000, 1), wide(1000, 2));
    let (old, new) = rows.split_at(4500);
    let mut nearest: Vec<usize> = (0..old.len()).collect();
    nearest.sort_by(|a, b| {
        let to = |row: &usize| distance::l2_squared(&old[0], &old[*row]);
        to(a).total_cmp(&to(b))
    });
    for percent in [10, 30] {
        let mut gone = vec![false; old.len()];
        nearest[..old.len() * percent / 100].iter().for_each(|row| gone[*row] = true);
        let what = format!("the nearest {percent} % gone");
        assert_merge_is_as_good(old, |row| gone[row], new, &queries, &what);
    }
}

#[test]
fn graphs_grown_over_and_over_stay_good() {
    for (name, data) in [
        ("wide", wide as fn(usize, u64) -> Vec<Vec<f32>>),
        ("lumps", |count, seed| clustered(count, 32, 60, 0.3, seed)),
    ] {
        let (mut rows, new, queries) = (data(4000, 1), data(4000, 3), data(1000, 2));
        let codes = Codes::new(&rows, Bits::Four, Metric::L2);
        let mut graph = built(rows.len(), &params(16, 64), &codes, 1);
        for (round, new) in new.chunks(400).enumerate() {
            let mut order: Vec<usize> = (0..rows.len()).collect();
            shuffle(&mut order, round as u64);
            let mut gone = vec![false; rows.len()];
            order[..400].iter().for_each(|row| gone[*row] = true);
            let (merged, place) = merged(&rows, |row| gone[row], new, round as u64);
            let codes = Codes::new(&merged, Bits::Four, Metric::L2);
            let params = BuildParams { seed: round as u64, ..params(16, 64) };
            graph = grown(&graph, &place, merged.len(), &params, &codes, 1);
            assert_sound(&graph, merged.len());
            rows = merged;
            if round % 3 == 0 {
                assert_as_good(&graph, &rows, &queries, &codes, &format!("{name}, round {round}"));
            }
        }
    }
}

#[test]
fn rows_that_stay_keep_levels_and_neighbours() {
    let rows = cube(3000, 6, 1);
    let base = built(rows.len(), &params(6, 40), &Exact(&rows), 2);
    // The same rows in another order, and nothing else.
    let (moved, place) = merged(&rows, |_| false, &[], 3);
    let graph = grown(&base, &place, moved.len(), &params(6, 40), &Exact(&moved), 2);
    assert_sound(&graph, moved.len());
    let (old, new) = (levels(&base), levels(&graph));
    let set = |list: &mut dyn Iterator<Item = u32>| {
        let mut set: Vec<u32> = list.filter(|row| *row != NONE).collect();
        set.sort_unstable();
        set
    };
    for (row, to) in place.iter().enumerate() {
        assert_eq!(old[row], new[*to as usize]);
        let before = &base.neighbors[row * 12..][..12];
        let after = &graph.neighbors[*to as usize * 12..][..12];
        let renamed = |row: &u32| if *row == NONE { NONE } else { place[*row as usize] };
        assert_eq!(
            set(&mut before.iter().map(renamed)),
            set(&mut after.iter().copied()),
            "row {row}"
        );
    }
    let links = |graph: &Graph| graph.upper_neighbors.iter().filter(|node| **node != NONE).count();
    assert_eq!(links(&base), links(&graph));
}

#[test]
fn levels_stay_geometric() {
    let rows = cube(20_000, 4, 1);
    let base = built(10_000, &params(16, 20), &Exact(&rows), 2);
    let (merged, place) = merged(&rows[..10_000], |row| row % 4 == 0, &rows[10_000..], 3);
    let params = BuildParams { seed: 9, ..params(16, 20) };
    let graph = grown(&base, &place, merged.len(), &params, &Exact(&merged), 2);
    assert_sound(&graph, merged.len());
    let (old_levels, levels) = (levels(&base), levels(&graph));
    let at_least = |level: u32| levels.iter().filter(|have| **have >= level).count();
    // One in 16 and one in 256 of 17,500, give or take four standard deviations.
    assert!((966..1222).contains(&at_least(1)), "{}", at_least(1));
    assert!((35..102).contains(&at_least(2)), "{}", at_least(2));
    for (row, to) in place.iter().enumerate().filter(|(_, to)| **to != NONE) {
        assert_eq!(old_levels[row], levels[*to as usize]);
    }
}

/// Exact distances that count how many were asked for.
struct Counted<'a>(Exact<'a>, &'a AtomicUsize);

struct CountedScorer<'a>(ExactScorer<'a>, &'a AtomicUsize);

impl Scorer for CountedScorer<'_> {
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        self.1.fetch_add(rows.len(), Ordering::Relaxed);
        self.0.scores(rows, out);
    }
}

impl NodeScorer for CountedScorer<'_> {
    fn aim(&mut self, row: u32) {
        self.0.aim(row);
    }
}

impl BuildDistances for Counted<'_> {
    type Node<'b>
        = CountedScorer<'b>
    where
        Self: 'b;

    fn node(&self) -> CountedScorer<'_> {
        CountedScorer(self.0.node(), self.1)
    }
}

#[test]
fn growing_costs_less_than_building() {
    // In distances, which unlike time are the same in every run.
    let rows = wide(5000, 1);
    for (share, gone, most) in
        [(50, 0, 0.75), (50, 30, 0.9), (90, 0, 0.3), (90, 10, 0.6), (90, 30, 0.8), (90, 50, 0.95)]
    {
        let (old, new) = rows.split_at(rows.len() * share / 100);
        let base = built(old.len(), &params(16, 64), &Exact(old), 1);
        let (merged, place) = merged(old, |row| row * 101 % 100 < gone, new, 3);
        let (growing, building) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let counted = |count| Counted(Exact(&merged), count);
        grown(&base, &place, merged.len(), &params(16, 64), &counted(&growing), 1);
        built(merged.len(), &params(16, 64), &counted(&building), 1);
        let ratio = growing.into_inner() as f64 / building.into_inner() as f64;
        println!("base of {share} %, {gone} % of it gone: {ratio:.2}");
        assert!(ratio < most, "base of {share} %, {gone} % of it gone: {ratio}");
    }
}

#[test]
fn one_thread_grows_the_same_graph_again() {
    let rows = cube(2000, 6, 1);
    let base = built(1500, &params(8, 40), &Exact(&rows), 2);
    let (merged, place) = merged(&rows[..1500], |row| row % 3 == 0, &rows[1500..], 3);
    let again = || grown(&base, &place, merged.len(), &params(8, 40), &Exact(&merged), 1);
    assert_eq!(again(), again());
}

#[test]
fn nothing_to_keep_and_nothing_to_insert() {
    let rows = cube(1000, 4, 1);
    let base = built(1000, &params(8, 40), &Exact(&rows), 2);
    let place = |stays: &dyn Fn(u32) -> bool| {
        let mut next = 0;
        let mut place = |row| {
            let stays = stays(row);
            next += u32::from(stays);
            if stays { next - 1 } else { NONE }
        };
        (0..1000).map(&mut place).collect::<Vec<u32>>()
    };
    let check = |base: &Graph, place: &[u32], count: usize| {
        for threads in [1, 3] {
            let graph = grown(base, place, count, &params(8, 40), &Exact(&rows), threads);
            assert_sound(&graph, count);
        }
    };
    let no_rows = Graph { m: 8, ..Graph::default() };
    let nothing = place(&|_| false);
    let low = |row: u32| base.upper_nodes.binary_search(&row).is_err();

    check(&no_rows, &[], 0);
    check(&no_rows, &[], 300);
    check(&base, &nothing, 0);
    check(&base, &nothing, 300);
    check(&base, &place(&|row| row == 7), 1);
    check(&base, &place(&|row| row == 7), 300);
    check(&base, &place(&|_| true), 1000);
    check(&base, &place(&|row| row % 2 == 0), 500);
    // All upper nodes gone, in a large graph and in a small one; the new rows may bring some.
    check(&base, &place(&low), 1000 - base.upper_nodes.len());
    check(&base, &place(&low), 1000);
    // A base without any.
    let flat = (1..40).rev().map(|count| built(count, &params(8, 40), &Exact(&rows), 1));
    let flat =
        flat.into_iter().find(|graph| graph.upper_nodes.is_empty()).expect("one row is flat");
    let all: Vec<u32> = (0..flat.rows() as u32).collect();
    check(&flat, &all, flat.rows());
    check(&flat, &all, 600);
    let moved: Vec<u32> = all.iter().map(|row| 599 - row).collect();
    check(&flat, &moved, 600);
}

#[test]
fn a_base_of_which_little_is_left_is_not_used() {
    let rows = cube(2000, 6, 1);
    let base = built(2000, &params(8, 40), &Exact(&rows), 1);
    let (few, place) = merged(&rows, |row| row % 4 != 0, &[], 3);
    let fresh = built(few.len(), &params(8, 40), &Exact(&few), 1);
    assert_eq!(grown(&base, &place, few.len(), &params(8, 40), &Exact(&few), 1), fresh);
    // Enough rows, but none that a search could start from.
    let upper = |row: usize| base.upper_nodes.binary_search(&(row as u32)).is_ok();
    let (low, place) = merged(&rows, upper, &[], 3);
    let fresh = built(low.len(), &params(8, 40), &Exact(&low), 1);
    assert_eq!(grown(&base, &place, low.len(), &params(8, 40), &Exact(&low), 1), fresh);
}

#[test]
fn contradictions_are_refused() {
    let rows = cube(20, 2, 1);
    let base = built(10, &params(4, 16), &Exact(&rows), 1);
    let error = |base: &Graph, place: &[u32], rows_asked, params: &BuildParams| {
        let control = Control::new();
        extend(&base.view(), place, rows_asked, params, &Exact(&rows), &pool(1), &control)
            .expect_err("it is refused")
    };
    let all: Vec<u32> = (0..10).collect();
    let width = error(&base, &all, 20, &params(5, 16));
    assert_eq!(width, BuildError::BaseWidth { base: 4, m: 5 });
    let length = error(&base, &all[1..], 20, &params(4, 16));
    assert_eq!(length, BuildError::PlaceLength { expected: 10, actual: 9 });
    let range = error(&base, &all, 9, &params(4, 16));
    assert_eq!(range, BuildError::PlaceRange { base_row: 9, row: 9, rows: 9 });
    let mut twice = all.clone();
    twice[6] = 2;
    let twice = error(&base, &twice, 20, &params(4, 16));
    assert_eq!(twice, BuildError::PlaceTwice { base_row: 6, row: 2 });
    let bad = params(4, 0);
    assert_eq!(error(&base, &all, 20, &bad), BuildError::Parameters { params: bad });
    let many = error(&base, &all, 1 << 31, &params(4, 16));
    assert_eq!(many, BuildError::TooManyRows { rows: 1 << 31 });
    for error in [width, length, range, twice] {
        assert!(error.to_string().contains("cannot"), "{error}");
    }
}

#[test]
fn growing_can_be_watched_and_stopped() {
    let rows = cube(120_000, 4, 1);
    let base = built(60_000, &params(4, 8), &Exact(&rows), 2);
    // Once among the rows that stay, once among the new ones.
    for from in [1, 62_000] {
        let (merged, place) = merged(&rows[..60_000], |row| row % 5 == 0, &rows[60_000..], 3);
        let control = Control::new();
        let threads = pool(2);
        std::thread::scope(|scope| {
            let extend = scope.spawn(|| {
                let params = params(4, 100);
                let count = merged.len();
                extend(&base.view(), &place, count, &params, &Exact(&merged), &threads, &control)
            });
            while control.done() < from {
                std::thread::sleep(Duration::from_micros(100));
            }
            control.stop();
            assert_eq!(extend.join().expect("no panic"), Err(BuildError::Cancelled));
        });
        assert!(control.done() < merged.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_place_makes_a_sound_graph(
        // A coarse grid: many ties, many equal rows.
        points in prop::collection::vec((0u8..12, 0u8..12), 0..400),
        base_rows in 0usize..300,
        new in 0usize..200,
        percent in 0u64..100,
        m in 2usize..7,
        ef in 1usize..40,
        seed: u64,
        threads in 1usize..4,
    ) {
        let points: Vec<Vec<f32>> =
            points.iter().map(|(x, y)| vec![f32::from(*x), f32::from(*y)]).collect();
        let old = &points[..base_rows.min(points.len())];
        let new = &points[old.len()..][..new.min(points.len() - old.len())];
        let params = BuildParams { m, ef_construction: ef, seed };
        let base = built(old.len(), &params, &Exact(old), threads);
        let mut random = SplitMix64::new(seed);
        let gone: Vec<bool> = old.iter().map(|_| random.next_u64() % 100 < percent).collect();
        let (rows, place) = merged(old, |row| gone[row], new, seed);
        let next = BuildParams { seed: seed ^ 1, ..params };
        let graph = grown(&base, &place, rows.len(), &next, &Exact(&rows), threads);
        assert_sound(&graph, rows.len());
    }

    #[test]
    fn any_graph_that_validation_accepts_can_be_extended(
        // Links to oneself, twice to a row, to rows that nothing leads to; upper nodes that stand
        // for the same row.
        neighbors in prop::collection::vec(0u32..12, 48),
        lengths in prop::collection::vec(0usize..5, 12),
        upper_nodes in prop::collection::vec(0u32..12, 0..4),
        levels in prop::collection::vec(1u32..4, 3),
        gone in prop::collection::vec(prop::bool::weighted(0.2), 12),
        new in 0usize..30,
        seed: u64,
    ) {
        let mut neighbors = neighbors;
        for (list, length) in neighbors.chunks_mut(4).zip(&lengths) {
            list[*length..].fill(NONE);
        }
        let mut upper_offsets = vec![0];
        for level in &levels[..upper_nodes.len()] {
            upper_offsets.push(upper_offsets[upper_offsets.len() - 1] + level);
        }
        let lists = upper_offsets[upper_nodes.len()];
        let top = levels[..upper_nodes.len()].iter().max().copied().unwrap_or(0);
        let entry = levels[..upper_nodes.len()].iter().position(|level| *level == top);
        // Every upper list leads to the entry, twice.
        let entry = entry.unwrap_or(0) as u32;
        let upper_neighbors = vec![entry; lists as usize * 2];
        let base = Graph { m: 2, neighbors, upper_nodes, upper_offsets, upper_neighbors, entry };
        prop_assert_eq!(validate(&base.view(), 12), Ok(()));

        let rows = cube(12 + new, 2, 1);
        let (rows, place) = merged(&rows[..12], |row| gone[row], &rows[12..], seed);
        let params = BuildParams { m: 2, ef_construction: 8, seed };
        let graph = grown(&base, &place, rows.len(), &params, &Exact(&rows), 1);
        assert_sound(&graph, rows.len());
    }
}
