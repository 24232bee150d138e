//! How a scan begins: with a walk over the graphs, or with a sweep over all codes.
//!
//! A walk costs by the candidates it keeps and may miss a row; a sweep costs by the rows there are
//! and misses none. A scan that reads past its walk goes on with a sweep, and what the walk had
//! missed then comes late. So a walk is as wide as the plan is expected to read several times over,
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
        /// Whether the rows come in one wave, which needs no bounds to be sure of.
        one_wave: bool,
    },
    /// With a sweep.
    Sweep,
}

/// Candidates a walk keeps for each row that the plan is expected to read. Half of them may be
/// handed out, so the plan may read twice as much as expected.
const WIDTH: f64 = 4.0;
/// Most candidates a walk keeps: beyond, keeping them in order costs more than a sweep.
const MAX_EF: f64 = 4000.0;
/// Rows that are swept in the time that a walk takes for a candidate.
const ROWS_A_CANDIDATE: f64 = 11.0;
/// How many times as long as the walk the sweep may take that is preferred to it.
const PREFERENCE: f64 = 3.0;

impl Start {
    /// How to begin a scan of `segments` segments with `rows` rows in all, of which the plan is
    /// expected to read `demand`. `ef_search` is the setting.
    pub fn choose(demand: Demand, ef_search: usize, segments: usize, rows: usize) -> Self {
        // Half of the candidates are handed out: in the other half a walk misses rows.
        let usual = ef_search / 2;
        if demand.rows <= usual as f64 {
            let allowance = if demand.exact { demand.rows as usize } else { usual };
            return Self::Walk {
                ef: ef_search,
                allowance: allowance.max(usual),
                one_wave: demand.exact,
            };
        }
        // Where order matters above, no row may come late; one that reads no further has none.
        if demand.ordered && !demand.exact {
            return Self::Sweep;
        }
        let ef = (WIDTH * demand.rows).max(ef_search as f64);
        let walk = ef * ROWS_A_CANDIDATE * segments as f64;
        if ef > MAX_EF.max(ef_search as f64) || rows as f64 <= walk * PREFERENCE {
            return Self::Sweep;
        }
        let allowance = if demand.exact { demand.rows } else { ef / 2.0 };
        Self::Walk { ef: ef as usize, allowance: allowance as usize, one_wave: demand.exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(rows: f64, exact: bool) -> Demand {
        Demand { rows, exact, ordered: false }
    }

    #[test]
    fn a_small_limit_begins_with_the_walk_that_is_set() {
        let start = Start::choose(demand(10.0, true), 100, 1, 1_000_000);
        assert_eq!(start, Start::Walk { ef: 100, allowance: 50, one_wave: true });
    }

    #[test]
    fn a_plan_that_reads_everything_begins_with_the_sweep() {
        for rows in [1000, 100_000, 100_000_000] {
            assert_eq!(Start::choose(Demand::default(), 100, 1, rows), Start::Sweep);
        }
    }

    #[test]
    fn a_walk_is_preferred_where_it_is_much_cheaper() {
        let start = |rows| Start::choose(demand(160.0, false), 100, 1, rows);
        assert_eq!(start(10_000), Start::Sweep);
        assert_eq!(start(1_000_000), Start::Walk { ef: 640, allowance: 320, one_wave: false });
    }

    #[test]
    fn where_order_matters_only_a_limit_keeps_to_the_walk() {
        let ordered = |exact| Demand { rows: 60.0, exact, ordered: true };
        assert_eq!(Start::choose(ordered(false), 100, 1, 1_000_000), Start::Sweep);
        let start = Start::choose(ordered(true), 100, 1, 1_000_000);
        assert_eq!(start, Start::Walk { ef: 240, allowance: 60, one_wave: true });
    }
}
