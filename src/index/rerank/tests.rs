//! Is the order right whatever the bounds, the memory and the mode?

use super::*;

fn candidate(row: u32, lower: f64, upper: f64) -> Candidate {
    let estimate = (lower + upper) / 2.0;
    Candidate { id: RowId { segment: 0, row }, estimate, lower, upper }
}

fn known(distance: f64) -> Option<Interval> {
    Some(Interval::exact(distance))
}

/// The rows that are ready, and how many of them are late.
fn pop_all(rerank: &mut Rerank, rows: &mut Vec<u32>) -> usize {
    let mut count = 0;
    while let Some((row, late)) = rerank.pop() {
        count += usize::from(late);
        rows.push(match row.source {
            Source::Row(id) => id.row,
            Source::Tid(tid) => tid as u32,
        });
    }
    count
}

/// Runs to the end with `truth` as distances; returns the rows and the number of waves.
fn drain(rerank: &mut Rerank, want: usize, truth: &[f64]) -> (Vec<u32>, usize) {
    let (rows, waves, _) = drain_counting(rerank, want, truth);
    (rows, waves)
}

/// [`drain`], with the number of late rows.
fn drain_counting(rerank: &mut Rerank, want: usize, truth: &[f64]) -> (Vec<u32>, usize, usize) {
    let (mut rows, mut waves, mut late) = (Vec::new(), 0, 0);
    loop {
        match rerank.next(want) {
            Step::Ready => late += pop_all(rerank, &mut rows),
            Step::Fetch => {
                waves += 1;
                let distances: Vec<_> =
                    rerank.wave().iter().map(|id| known(truth[id.row as usize])).collect();
                assert!(!distances.is_empty(), "a wave fetches something");
                rerank.settle(&distances);
            }
            Step::Empty => return (rows, waves, late),
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn one_wave_settles_as_many_rows_as_wanted() {
    let truth: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 100)).collect();
    let mut rerank = Rerank::default();
    rerank.start(Mode::Strict, false, true);
    rerank.add(
        (0..100).map(|row| {
            let d = truth[row as usize];
            candidate(row, d - 1.5, d + 1.5)
        }),
        f64::INFINITY,
    );
    let mut waves = 0;
    let mut rows = Vec::new();
    while rows.len() < 10 {
        match rerank.next(10) {
            Step::Ready => {
                while let Some((row, _)) = rerank.pop() {
                    rows.push(row.distance.lower);
                }
            }
            Step::Fetch => {
                waves += 1;
                assert!(rerank.wave().len() <= 14, "only rows that can matter");
                let distances: Vec<_> =
                    rerank.wave().iter().map(|id| known(truth[id.row as usize])).collect();
                rerank.settle(&distances);
            }
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(waves, 1);
    assert_eq!(rows, (0..10).map(f64::from).collect::<Vec<_>>());
}

#[test]
fn wrong_bounds_do_not_cause_a_second_wave() {
    // Both rows of the wave are far beyond what their bounds said.
    let truth = [5.0, 6.0, 3.5];
    let mut rerank = Rerank::default();
    rerank.start(Mode::Strict, false, true);
    rerank.add(
        [candidate(0, 0.9, 1.1), candidate(1, 1.9, 2.1), candidate(2, 3.0, 4.0)],
        f64::INFINITY,
    );
    assert_eq!(rerank.next(2), Step::Fetch);
    assert_eq!(rerank.wave().len(), 2);
    rerank.settle(&[known(truth[0]), known(truth[1])]);
    let mut emitted = Vec::new();
    assert_eq!(rerank.next(2), Step::Ready);
    while let Some((row, _)) = rerank.pop() {
        emitted.push(row.distance.lower);
    }
    assert_eq!(emitted, [5.0, 6.0]);
}

#[test]
fn known_rows_wait_for_the_one_wave() {
    let tid = |tid, distance| Settled::exact(distance, Source::Tid(tid));
    // The candidate is nearer than its bound says, and than the known row.
    let mut rerank = Rerank::default();
    rerank.start(Mode::Strict, false, true);
    rerank.add_settled([tid(7, 1.0), tid(8, 5.0)]);
    rerank.add([candidate(0, 1.1, 1.3)], f64::INFINITY);
    assert_eq!(drain_counting(&mut rerank, 2, &[0.9]), (vec![0, 7, 8], 1, 0));
    // Nothing is fetched that cannot be among the rows wanted.
    rerank.start(Mode::Strict, false, true);
    rerank.add_settled([tid(7, 1.0), tid(8, 2.0)]);
    rerank.add([candidate(0, 3.1, 3.3)], f64::INFINITY);
    assert_eq!(rerank.next(2), Step::Ready);
    let mut rows = Vec::new();
    assert_eq!(pop_all(&mut rerank, &mut rows), 0);
    assert_eq!(rows, [7, 8]);
}

#[test]
fn everything_comes_out_once_and_in_order() {
    let truth: Vec<f64> = (0..500).map(|i| f64::from((i * 7919) % 997) / 10.0).collect();
    let mut rerank = Rerank::default();
    rerank.add(
        (0..250).map(|row| {
            let d = truth[row as usize];
            candidate(row, d * 0.9, d * 1.1)
        }),
        f64::INFINITY,
    );
    let delta: Vec<Settled> = (250..500)
        .map(|row| Settled::exact(truth[row as usize], Source::Tid(row as u64)))
        .collect();
    rerank.add_settled(delta);
    let (rows, waves) = drain(&mut rerank, 10, &truth);
    assert_eq!(rows.len(), 500);
    let distances: Vec<f64> = rows.iter().map(|&row| truth[row as usize]).collect();
    assert!(distances.is_sorted());
    let mut unique = rows;
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 500);
    assert!(waves > 1);
}

#[test]
fn a_row_with_a_wrong_bound_comes_late_and_is_counted() {
    // Row 3 claims to be far away and is not.
    let truth = [1.0, 2.0, 3.0, 0.5];
    let mut rerank = Rerank::default();
    rerank.add(
        [
            candidate(0, 0.9, 1.1),
            candidate(1, 1.9, 2.1),
            candidate(2, 2.9, 3.1),
            candidate(3, 2.5, 2.6),
        ],
        f64::INFINITY,
    );
    let (rows, _, late) = drain_counting(&mut rerank, 1, &truth);
    assert_eq!((rows, late), (vec![0, 1, 3, 2], 1));
}

#[test]
fn without_candidates_there_is_nothing_to_fetch() {
    let mut rerank = Rerank::default();
    assert_eq!(rerank.next(10), Step::Empty);
    let row = Settled::exact(1.0, Source::Tid(7));
    rerank.add_settled(vec![row]);
    assert_eq!((rerank.next(10), rerank.pop()), (Step::Ready, Some((row, false))));
    assert_eq!(rerank.next(10), Step::Empty);
}

#[test]
fn nan_distances_come_last_and_end() {
    let truth = [f64::NAN, 1.0];
    let mut rerank = Rerank::default();
    rerank.add([candidate(0, 0.0, f64::INFINITY), candidate(1, 0.0, f64::INFINITY)], f64::INFINITY);
    let (rows, waves) = drain(&mut rerank, 10, &truth);
    assert_eq!((rows, waves), (vec![1, 0], 1));
}

/// Pseudo-random numbers between 0 and 1.
fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn relaxed_rows_are_the_nearest_ones_with_fewer_fetches() {
    let (mut fetched, mut fetched_strictly) = (0, 0);
    for seed in 0..200 {
        let mut random = numbers(seed);
        let truth: Vec<f64> = (0..100).map(|_| random()).collect();
        let candidates: Vec<Candidate> = (0..100)
            .map(|row| {
                let (below, above) = (random() * 0.03, random() * 0.03);
                candidate(row, truth[row as usize] - below, truth[row as usize] + above)
            })
            .collect();
        for mode in [Mode::Strict, Mode::Relaxed] {
            let mut rerank = Rerank::default();
            rerank.start(mode, false, true);
            rerank.add(candidates.clone(), f64::INFINITY);
            let mut rows = Vec::new();
            let mut waves = 0;
            while rows.len() < 10 {
                match rerank.next(10 - rows.len()) {
                    Step::Ready => _ = pop_all(&mut rerank, &mut rows),
                    Step::Fetch => {
                        waves += 1;
                        let wave = rerank.wave();
                        match mode {
                            Mode::Strict => fetched_strictly += wave.len(),
                            _ => fetched += wave.len(),
                        }
                        let distances: Vec<_> =
                            wave.iter().map(|id| known(truth[id.row as usize])).collect();
                        rerank.settle(&distances);
                    }
                    step => panic!("{step:?}"),
                }
            }
            assert!(waves <= 1, "{mode:?}: {waves} waves");
            let mut nearest: Vec<u32> = (0..100).collect();
            nearest.sort_by(|&a, &b| truth[a as usize].total_cmp(&truth[b as usize]));
            nearest.truncate(10);
            if mode == Mode::Relaxed {
                nearest.sort_unstable();
                rows.sort_unstable();
            }
            assert_eq!(rows, nearest, "{mode:?}, seed {seed}");
        }
    }
    assert!(fetched * 3 < fetched_strictly * 2, "{fetched} against {fetched_strictly}");
}

#[test]
fn everything_comes_out_once_in_every_mode() {
    for mode in [Mode::Strict, Mode::Relaxed, Mode::Off] {
        let mut random = numbers(7);
        let truth: Vec<f64> = (0..300).map(|_| random()).collect();
        let mut rerank = Rerank::default();
        rerank.start(mode, false, true);
        let (mut rows, mut late) = (Vec::new(), 0);
        // In two parts, the second of which has rows nearer than those already handed out.
        for part in [0..150, 150..300] {
            rerank.add(
                part.map(|row| {
                    candidate(row, truth[row as usize] - 0.02, truth[row as usize] + 0.02)
                }),
                f64::INFINITY,
            );
            let (more, waves, more_late) = drain_counting(&mut rerank, 10, &truth);
            assert_eq!(waves == 0, mode == Mode::Off);
            late += more_late;
            rows.extend(more);
        }
        assert_eq!(late > 0, mode == Mode::Strict);
        assert_eq!(rows.len(), 300, "{mode:?}");
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 300, "{mode:?}");
    }
}

#[test]
fn rows_that_are_gone_do_not_break_the_order() {
    let truth: Vec<f64> = (0..100).map(f64::from).collect();
    let mut rerank = Rerank::default();
    rerank.add(
        (0..100).map(|row| {
            let d = truth[row as usize];
            candidate(row, d - 3.0, d + 3.0)
        }),
        f64::INFINITY,
    );
    let mut rows = Vec::new();
    loop {
        match rerank.next(10) {
            Step::Ready => {
                while let Some((row, _)) = rerank.pop() {
                    rows.push(row.distance.lower);
                }
            }
            Step::Fetch => {
                let there =
                    |id: &RowId| known(truth[id.row as usize]).filter(|_| id.row.is_multiple_of(2));
                let distances: Vec<_> = rerank.wave().iter().map(there).collect();
                rerank.settle(&distances);
            }
            Step::Empty => break,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(rows, (0..50).map(|row| f64::from(2 * row)).collect::<Vec<_>>());
}

/// What is left to add of rows whose bounds are known, in blocks, as a sweep adds them.
struct Blocks {
    rows: Vec<Candidate>,
    next: usize,
    size: usize,
}

impl Blocks {
    fn new(truth: &[f64], width: f64, random: &mut impl FnMut() -> f64) -> Self {
        let mut rows: Vec<Candidate> = truth
            .iter()
            .enumerate()
            .map(|(row, d)| match d.is_finite() {
                true => candidate(row as u32, d - random() * width, d + random() * width),
                // Nothing is known of these.
                false => candidate(row as u32, f64::NEG_INFINITY, f64::INFINITY),
            })
            .collect();
        rows.sort_by(|a, b| a.lower.total_cmp(&b.lower));
        Self { rows, next: 0, size: 7 }
    }

    fn add_to(&mut self, rerank: &mut Rerank, taken: &mut [bool]) {
        let end = (self.next + self.size).min(self.rows.len());
        let block: Vec<Candidate> = self.rows[self.next..end]
            .iter()
            .filter(|row| !std::mem::replace(&mut taken[row.id.row as usize], true))
            .copied()
            .collect();
        self.next = end;
        rerank.add(block, self.rows.get(end).map_or(f64::INFINITY, |row| row.lower));
    }
}

/// What is added to a row's number for its second tid.
const SECOND: u32 = 1000;
/// How much farther away that is, against how wide intervals are.
const SECOND_FARTHER: f64 = 0.5;

/// What a scan does with a row whose value it has had computed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refined {
    /// It stays the segment's.
    Row,
    /// It is several tids from then on, each at a distance of its own.
    Tids,
}

/// A sweep to the end over rows of which the store tells an interval `error` wide; at most `most`
/// stay settled. Returns rows in order, those refined, and those late.
fn sweep(
    truth: &[f64],
    (width, error): (f64, f64),
    most: usize,
    refined: Refined,
    random: &mut impl FnMut() -> f64,
) -> (Vec<u32>, usize, usize) {
    let mut blocks = Blocks::new(truth, width, random);
    let mut taken = vec![false; truth.len()];
    let mut rerank = Rerank::default();
    rerank.start(Mode::Strict, refined == Refined::Tids, false);
    let refine = |rerank: &mut Rerank| {
        let mut values = Vec::new();
        for &source in rerank.rough() {
            let Source::Row(id) = source else { panic!("no tid was given") };
            let value = truth[id.row as usize];
            if refined == Refined::Row {
                values.push(Settled::exact(value, source));
                continue;
            }
            let tid = |tid: u32, value| Settled::exact(value, Source::Tid(tid.into()));
            values
                .extend([tid(id.row, value), tid(SECOND + id.row, value + SECOND_FARTHER * error)]);
        }
        assert!(!values.is_empty(), "something is refined");
        let count = rerank.rough().len();
        rerank.add_refined(values);
        count
    };
    let (mut rows, mut count, mut late) = (Vec::new(), 0, 0);
    loop {
        match rerank.next(10) {
            Step::Ready => late += pop_all(&mut rerank, &mut rows),
            Step::Fetch => {
                let mut distance = |id: &RowId| {
                    let value = truth[id.row as usize];
                    if !value.is_finite() {
                        return Some(Interval::UNKNOWN);
                    }
                    let above = SECOND_FARTHER.max(random()) * error;
                    Some(Interval { lower: value - random() * error, upper: value + above })
                };
                let distances: Vec<_> = rerank.wave().iter().map(&mut distance).collect();
                rerank.settle(&distances);
                if refined == Refined::Row && rerank.refine_before_shedding(most) {
                    refine(&mut rerank);
                }
                for id in rerank.shed(most) {
                    taken[id.row as usize] = false;
                }
            }
            Step::Refine => count += refine(&mut rerank),
            Step::More => blocks.add_to(&mut rerank, &mut taken),
            Step::Again => {
                for id in rerank.forget_candidates() {
                    taken[id.row as usize] = false;
                }
                blocks.next = 0;
                rerank.restart(50);
            }
            Step::Empty => return (rows, count, late),
        }
    }
}

#[test]
fn values_never_fall_and_every_row_comes_within_any_memory() {
    for (seed, width, most) in [(1, 0.02, 1000), (2, 0.3, 40), (3, 2.0, 40), (4, 0.02, 5)] {
        for error in [1e-12, 1e-6, 0.001, 0.1] {
            // Many rows are at equal distances, or at ones that differ by less than is known.
            for steps in [3.0, 50.0, 1e9] {
                for refined in [Refined::Row, Refined::Tids] {
                    let mut random = numbers(seed);
                    let mut value = |_| {
                        let base = (random() * steps).floor() / steps;
                        base + (random() * 4.0).floor() * 1e-7
                    };
                    let truth: Vec<f64> = (0..300).map(&mut value).collect();
                    let how = (width, error);
                    let (rows, _, late) = sweep(&truth, how, most, refined, &mut random);
                    let value = |row: &u32| match truth.get(*row as usize) {
                        Some(value) => *value,
                        None => truth[(row - SECOND) as usize] + SECOND_FARTHER * error,
                    };
                    let values: Vec<f64> = rows.iter().map(value).collect();
                    let case = format!("seed {seed}, error {error}, {steps}, {refined:?}");
                    assert!(values.is_sorted(), "{case}");
                    assert_eq!(late, 0, "{case}");
                    let mut all = rows;
                    all.sort_unstable();
                    let mut expected: Vec<u32> = (0..300).collect();
                    if refined == Refined::Tids {
                        expected.extend(SECOND..SECOND + 300);
                    }
                    assert_eq!(all, expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn what_is_infinite_or_no_number_comes_last_within_any_memory() {
    for (seed, most) in [(1, 1000), (2, 40), (3, 5)] {
        let mut random = numbers(seed);
        let kinds = |random: f64| match (random * 4.0) as u32 {
            0 => f64::INFINITY,
            1 => f64::NAN,
            _ => random,
        };
        let truth: Vec<f64> = (0..300).map(|_| kinds(random())).collect();
        let (rows, _, late) = sweep(&truth, (0.02, 1e-6), most, Refined::Row, &mut random);
        let values: Vec<f64> = rows.iter().map(|&row| truth[row as usize]).collect();
        assert!(values.is_sorted_by(|a, b| a.total_cmp(b).is_le()), "{most}: {values:?}");
        assert_eq!((rows.len(), late), (300, 0));
    }
}

#[test]
fn only_rows_whose_intervals_meet_are_refined() {
    let mut random = numbers(5);
    // Two rows at about the same distance, then a gap.
    let truth: Vec<f64> =
        (0..100).map(|row| f64::from(row / 2) + f64::from(row % 2) / 1e9).collect();
    let (_, refined, _) = sweep(&truth, (2.0, 1e-6), 1000, Refined::Row, &mut random);
    assert!(refined > 50, "{refined}");
    let truth: Vec<f64> = (0..100).map(f64::from).collect();
    let (_, refined, _) = sweep(&truth, (2.0, 1e-6), 1000, Refined::Row, &mut random);
    assert_eq!(refined, 0);
}

#[test]
fn rows_that_turn_out_gone_when_refined_are_not_made_up_for() {
    let rough = |lower| Some(Interval { lower, upper: lower + 1.5 });
    let mut rerank = Rerank::default();
    rerank.start(Mode::Strict, false, true);
    rerank.add((0..3).map(|row| candidate(row, f64::from(row), 9.0)), f64::INFINITY);
    assert_eq!(rerank.next(2), Step::Fetch);
    rerank.settle(&[rough(0.0), rough(1.0), rough(2.0)]);
    assert_eq!(rerank.next(2), Step::Refine);
    let (gone, there) = (rerank.rough()[0], rerank.rough()[1]);
    rerank.add_refined([Settled::exact(1.2, there)]);
    assert_ne!(gone, there);
    assert_eq!(rerank.next(2), Step::Ready);
    let mut rows = Vec::new();
    pop_all(&mut rerank, &mut rows);
    assert_eq!(rows.len(), 1);
}
