//! The graph while it grows: what every way of making one has in common.

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use distance::prefetch;

use super::{
    BuildError, BuildParams, Control,
    connect::connect,
    insert::Inserter,
    levels::Levels,
    links::{Link, Links},
    select::Selection,
};
use crate::{BuildDistances, Graph, NONE, Scorer, pool::PENDING, walk::Layer};

/// Rows a thread takes at a time.
const CHUNK: usize = 16;

/// Whether a graph of `rows` rows can be built with `params`.
pub(super) fn check(rows: usize, params: &BuildParams) -> Result<(), BuildError> {
    if rows >= PENDING as usize {
        return Err(BuildError::TooManyRows { rows });
    }
    if params.m < 2 || params.ef_construction == 0 {
        return Err(BuildError::Parameters { params: *params });
    }
    Ok(())
}

/// Does `step` for all of `0..count` with all threads, a few at a time, each thread with a state
/// of its own; stops early only when `control` says so, which is an error.
pub(super) fn in_chunks<S>(
    count: usize,
    threads: &rayon::ThreadPool,
    control: &Control,
    state: impl Fn() -> S + Sync,
    step: impl Fn(&mut S, Range<usize>) + Sync,
) -> Result<(), BuildError> {
    let next = AtomicUsize::new(0);
    threads.broadcast(|_| {
        let mut state = state();
        while !control.is_stopped() {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= count {
                break;
            }
            step(&mut state, start..count.min(start + CHUNK));
        }
    });
    if control.is_stopped() { Err(BuildError::Cancelled) } else { Ok(()) }
}

/// The graph while it grows, shared by all threads.
pub(super) struct Growing {
    pub(super) params: BuildParams,
    pub(super) levels: Levels,
    /// Upper node of each row, or [`NONE`].
    pub(super) upper_of: Vec<u32>,
    /// Level-0 lists by row.
    pub(super) base: Links,
    /// Upper lists, numbered as in [`GraphView`](crate::GraphView), but naming rows.
    pub(super) upper: Links,
    /// The row that insertions start from: one of the highest level among those that are linked.
    pub(super) entry: u32,
}

impl Growing {
    /// A graph without links, its entry the first row of the highest level.
    pub(super) fn new(rows: usize, params: &BuildParams, levels: Levels) -> Self {
        let mut upper_of = vec![NONE; rows];
        for (node, row) in levels.nodes.iter().enumerate() {
            upper_of[*row as usize] = node as u32;
        }
        Self {
            params: *params,
            entry: levels.entry_row(),
            upper_of,
            base: Links::new(rows, 2 * params.m),
            upper: Links::new(levels.lists(), params.m),
            levels,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.upper_of.len()
    }

    /// Level of a row.
    pub(super) fn level(&self, row: u32) -> u32 {
        match self.upper_of[row as usize] {
            NONE => 0,
            node => self.levels.level(node as usize),
        }
    }

    pub(super) fn layer(&self, level: u32) -> GrowingLayer<'_> {
        match level {
            0 => GrowingLayer { links: &self.base, upper: None },
            _ => GrowingLayer { links: &self.upper, upper: Some((self, level)) },
        }
    }

    /// Inserts the rows `wanted` says, those with upper levels first, highest first, then the
    /// others; `done` is told how many have been inserted.
    pub(super) fn insert<D: BuildDistances>(
        &self,
        wanted: impl Fn(u32) -> bool,
        distances: &D,
        threads: &rayon::ThreadPool,
        control: &Control,
        done: impl Fn(usize) + Sync,
    ) -> Result<(), BuildError> {
        let mut order: Vec<u32> =
            self.levels.nodes.iter().copied().filter(|row| wanted(*row)).collect();
        order.sort_by_key(|row| std::cmp::Reverse(self.level(*row)));
        order.extend(
            (0..self.rows() as u32)
                .filter(|row| self.upper_of[*row as usize] == NONE && wanted(*row)),
        );
        let inserter = || Inserter::new(self, distances, control);
        in_chunks(order.len(), threads, control, inserter, |inserter, chunk| {
            for row in &order[chunk.clone()] {
                inserter.insert(*row);
            }
            done(chunk.len());
        })
    }

    /// Turns the grown lists into the graph's arrays, and makes every row reachable.
    pub(super) fn finish<D: BuildDistances>(
        self,
        distances: &D,
        control: &Control,
    ) -> Result<Graph, BuildError> {
        let Self { params, levels, upper_of, base, upper, .. } = self;
        let neighbors = base.into_rows();
        let mut upper_neighbors = upper.into_rows();
        for neighbor in &mut upper_neighbors {
            if *neighbor != NONE {
                *neighbor = upper_of[*neighbor as usize];
            }
        }
        let mut graph = Graph {
            m: params.m,
            neighbors,
            upper_nodes: levels.nodes,
            upper_offsets: levels.offsets,
            upper_neighbors,
            entry: levels.entry,
        };
        if connect(&mut graph, distances, control) { Ok(graph) } else { Err(BuildError::Cancelled) }
    }
}

/// One level of the growing graph.
pub(super) struct GrowingLayer<'a> {
    pub(super) links: &'a Links,
    /// What finding an upper list takes; nothing on level 0, where a list's number is its row.
    upper: Option<(&'a Growing, u32)>,
}

impl GrowingLayer<'_> {
    #[inline(always)]
    pub(super) fn list(&self, row: u32) -> usize {
        match self.upper {
            None => row as usize,
            Some((growing, level)) => {
                let node = growing.upper_of[row as usize] as usize;
                (growing.levels.offsets[node] + level - 1) as usize
            }
        }
    }

    /// Adds `row` to the lists of the rows that `links`, its own, lead to. `scorer` is aimed at it.
    pub(super) fn answer(
        &self,
        row: u32,
        links: &[Link],
        scorer: &mut impl Scorer,
        selection: &mut Selection,
    ) {
        links.iter().for_each(|link| self.links.prefetch(self.list(link.row)));
        for link in links {
            let list = self.list(link.row);
            let _guard = self.links.lock(list);
            self.links.read(list, &mut selection.links);
            selection.links.iter().for_each(|known| scorer.prefetch(known.row));
            selection.add(scorer, Link { row, ..*link }, self.links.width());
            self.links.write(list, &selection.links);
        }
    }
}

impl Layer for GrowingLayer<'_> {
    #[inline(always)]
    fn for_each(&self, row: u32, visit: impl FnMut(u32)) {
        self.links.for_each(self.list(row), visit);
    }

    #[inline(always)]
    fn prefetch(&self, row: u32) {
        prefetch::read::<AtomicU32>(self.links.elements(self.list(row)));
    }

    #[inline(always)]
    fn is_far(&self) -> bool {
        self.upper.is_none()
    }
}
