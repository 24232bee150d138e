//! How a scan begins: with a walk over the graphs, or with a sweep over all codes.
//!
//! A walk costs by the candidates it keeps and may miss a row; a sweep costs by the rows there are
//! and misses none. A scan that reads past its walk goes on with a sweep, and what the walk had
//! missed then comes late. So a walk is several times as wide as what the plan is expected to read,
//! and where that is not much cheaper than a sweep, the sweep it is.

use super::demand::Demand;

/// How a scan begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// With a walk over each graph.
    Walk {
        /// Candidates kept of each graph.
        ef: usize,
        /// Rows that may be handed out before the scan goes on with a sweep.
        allowance: usize,
        /// Whether the rows come in one wave, for which narrow bounds suffice.
        one_wave: bool,
    },
    /// With a sweep.
    Sweep,
}

/// What a kind of demand asks of a walk.
struct Width {
    /// Candidates kept for each row that the plan is expected to read.
    candidates: f64,
    /// The sweep is preferred that takes up to as many times as long as the walk.
    preference: f64,
}

impl Width {
    fn of(demand: &Demand) -> Self {
        let (candidates, preference) = match demand {
            // Pages show the same rows as long as their walks miss the same: best none.
            Demand { exact: true, paging: true, .. } => (16.0, 30.0),
            Demand { exact: true, .. } => (4.0, 3.0),
            // What is expected is an estimate: it may be nearly twice as much.
            _ => (2.5, 3.0),
        };
        Self { candidates, preference }
    }
}

/// The part of a walk's candidates that may be handed out where LIMIT does not say how many: in the
/// rest a walk misses rows.
const SHARE: f64 = 0.7;
/// Rows that are swept in the time that a walk takes for a candidate.
const ROWS_A_CANDIDATE: f64 = 11.0;
/// Candidates at which keeping them in order takes as long as finding them.
const CROWD: f64 = 10_000.0;

impl Start {
    /// How to begin a scan of `segments` segments with `rows` rows in all, of which the plan is
    /// expected to read `demand`. `ef_search` is the setting.
    pub fn choose(demand: Demand, ef_search: usize, segments: usize, rows: usize) -> Self {
        let width = Width::of(&demand);
        let usual = ef_search as f64;
        let ef = (width.candidates * demand.rows).max(usual);
        // Of rows that nobody sees, deleted ones for example, more are read than any LIMIT says.
        if demand.compared {
            return Self::Sweep;
        }
        if demand.exact && !demand.paging && demand.rows <= usual / 2.0 {
            return Self::walk(usual, &demand);
        }
        // Where order matters above, no row may come late: none does where LIMIT ends before.
        let may_pass = demand.ordered && !demand.exact;
        let walk = ef * (1.0 + ef / CROWD) * ROWS_A_CANDIDATE * segments as f64;
        let dear = ef > usual && rows as f64 <= walk * width.preference;
        if demand.rows.is_infinite() || may_pass || dear {
            return Self::Sweep;
        }
        Self::walk(ef, &demand)
    }

    fn walk(ef: f64, demand: &Demand) -> Self {
        let part = if demand.exact { 0.5 } else { SHARE };
        let least = if demand.exact { demand.rows } else { 0.0 };
        let allowance = (ef * part).max(least) as usize;
        let one_wave = demand.exact && !demand.ties;
        Self::Walk { ef: ef as usize, allowance, one_wave }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(rows: f64) -> Demand {
        Demand { rows, ..Demand::default() }
    }

    fn limit(rows: f64) -> Demand {
        Demand { exact: true, ..expected(rows) }
    }

    #[test]
    fn a_small_limit_begins_with_the_walk_that_is_set() {
        for rows in [1000, 1_000_000] {
            let start = Start::choose(limit(10.0), 100, 1, rows);
            assert_eq!(start, Start::Walk { ef: 100, allowance: 50, one_wave: true });
        }
    }

    #[test]
    fn ties_at_the_end_of_a_limit_are_looked_for_in_another_wave() {
        let ties = Demand { ties: true, ..limit(10.0) };
        let start = Start::choose(ties, 100, 1, 1_000_000);
        assert_eq!(start, Start::Walk { ef: 100, allowance: 50, one_wave: false });
    }

    #[test]
    fn a_plan_that_reads_everything_begins_with_the_sweep() {
        for rows in [1000, 100_000, 100_000_000] {
            assert_eq!(Start::choose(Demand::default(), 100, 1, rows), Start::Sweep);
        }
    }

    #[test]
    fn a_walk_is_preferred_where_it_is_much_cheaper() {
        let start = |rows| Start::choose(expected(160.0), 100, 1, rows);
        assert_eq!(start(10_000), Start::Sweep);
        let walk = Start::Walk { ef: 400, allowance: 280, one_wave: false };
        assert_eq!(start(1_000_000), walk);
    }

    #[test]
    fn a_walk_for_a_large_limit_is_wider_than_what_is_set() {
        let start = Start::choose(limit(100.0), 100, 1, 1_000_000);
        assert_eq!(start, Start::Walk { ef: 400, allowance: 200, one_wave: true });
        assert_eq!(Start::choose(limit(100.0), 100, 1, 10_000), Start::Sweep);
    }

    #[test]
    fn pages_are_walked_widely_or_swept() {
        let page = |rows| Demand { paging: true, ..limit(rows) };
        let start = Start::choose(page(20.0), 100, 1, 200_000);
        assert_eq!(start, Start::Walk { ef: 320, allowance: 160, one_wave: true });
        assert_eq!(Start::choose(page(100.0), 100, 1, 200_000), Start::Sweep);
    }

    #[test]
    fn where_neighbours_are_compared_there_is_no_walk() {
        let compared = Demand { compared: true, ..limit(1.0) };
        assert_eq!(Start::choose(compared, 100, 1, 1_000_000), Start::Sweep);
    }

    #[test]
    fn where_order_matters_only_a_limit_keeps_to_the_walk() {
        let ordered = |demand| Demand { ordered: true, ..demand };
        let start = |demand| Start::choose(ordered(demand), 100, 1, 1_000_000);
        assert_eq!(start(expected(60.0)), Start::Sweep);
        assert_eq!(start(expected(1.0)), Start::Sweep);
        assert_eq!(start(limit(60.0)), Start::Walk { ef: 240, allowance: 120, one_wave: true });
    }
}
