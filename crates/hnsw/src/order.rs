//! A row order that puts near rows next to each other.

use distance::prefetch;
use rayon::prelude::*;

use crate::{BuildError, Control, Graph, GraphView, NONE};

/// Rows placed between two looks whether to stop: well under a millisecond.
const STRIDE: usize = 1024;

/// The order in which rows should be stored, as `order[new] = old`: greedily, the row comes next
/// that is linked most often on level 0 with the last `window` rows placed.
///
/// Rows in the same chunk of the payload are then often candidates of the same query. Takes
/// `O(edges)`; ties go to the row that was linked last.
///
/// # Errors
/// [`BuildError::Cancelled`] after [`Control::stop`].
pub fn order(
    graph: &GraphView<'_>,
    window: usize,
    control: &Control,
) -> Result<Vec<u32>, BuildError> {
    let lists = graph.neighbors;
    let rows = lists.len();
    let mut queue = Queue::new(rows);
    let mut order: Vec<u32> = Vec::with_capacity(rows);
    while let Some(row) = queue.pop() {
        if order.len().is_multiple_of(STRIDE) && control.is_stopped() {
            return Err(BuildError::Cancelled);
        }
        lists.list(row).for_each(|neighbor| queue.prefetch(neighbor));
        if let Some(leaving) = order.len().checked_sub(window).map(|at| order[at]) {
            for neighbor in lists.list(leaving) {
                queue.lower(neighbor);
            }
        }
        order.push(row);
        for neighbor in lists.list(row) {
            queue.raise(neighbor);
        }
    }
    Ok(order)
}

/// Rows by how many links lead to them: changing a count by one and taking a row with the
/// highest take constant time. Rows of one count form a doubly linked list.
struct Queue {
    places: Vec<Place>,
    /// First row of each count.
    heads: Vec<u32>,
    /// No count above this has rows.
    highest: usize,
}

/// Where a row is in the queue; together in one cache line, since every link leads to another row.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Place {
    count: u32,
    next: u32,
    previous: u32,
}

/// The count of rows that have been taken.
const TAKEN: u32 = u32::MAX;

impl Queue {
    fn new(rows: usize) -> Self {
        let mut queue = Self {
            places: vec![Place { count: 0, next: NONE, previous: NONE }; rows],
            heads: vec![NONE],
            highest: 0,
        };
        // Backwards, so that among rows of count zero the first comes first.
        for row in (0..rows as u32).rev() {
            queue.link(row, 0);
        }
        queue
    }

    fn pop(&mut self) -> Option<u32> {
        while self.highest > 0 && self.heads[self.highest] == NONE {
            self.highest -= 1;
        }
        let row = self.heads[self.highest];
        if row == NONE {
            return None;
        }
        self.unlink(row);
        self.place(row).count = TAKEN;
        Some(row)
    }

    fn raise(&mut self, row: u32) {
        let count = self.place(row).count;
        if count != TAKEN {
            self.unlink(row);
            self.link(row, count + 1);
        }
    }

    fn lower(&mut self, row: u32) {
        let count = self.place(row).count;
        if count != TAKEN {
            self.unlink(row);
            self.link(row, count.saturating_sub(1));
        }
    }

    /// Asks for a row's place ahead.
    fn prefetch(&self, row: u32) {
        prefetch::read(&self.places[row as usize..=row as usize]);
    }

    fn place(&mut self, row: u32) -> &mut Place {
        &mut self.places[row as usize]
    }

    fn link(&mut self, row: u32, count: u32) {
        let list = count as usize;
        if list == self.heads.len() {
            self.heads.push(NONE);
        }
        let head = std::mem::replace(&mut self.heads[list], row);
        *self.place(row) = Place { count, next: head, previous: NONE };
        if head != NONE {
            self.place(head).previous = row;
        }
        self.highest = self.highest.max(list);
    }

    fn unlink(&mut self, row: u32) {
        let Place { count, next, previous } = *self.place(row);
        match previous {
            NONE => self.heads[count as usize] = next,
            previous => self.place(previous).next = next,
        }
        if next != NONE {
            self.place(next).previous = previous;
        }
    }
}

impl Graph {
    /// The same graph with its rows renumbered: the new row `i` is the old row `order[i]`. Upper
    /// nodes keep their numbers. Runs on the current rayon pool.
    ///
    /// # Panics
    /// When `order` is not a permutation of the rows.
    pub fn reorder(&self, order: &[u32]) -> Graph {
        let rows = self.rows();
        assert_eq!(order.len(), rows, "an order names every row");
        let mut place = vec![NONE; rows];
        for (new, old) in order.iter().enumerate() {
            let old = std::mem::replace(&mut place[*old as usize], new as u32);
            assert_eq!(old, NONE, "an order names every row once");
        }
        let renumber = |row: &u32| if *row == NONE { NONE } else { place[*row as usize] };
        let width = 2 * self.m;
        let mut neighbors = vec![NONE; self.neighbors.len()];
        neighbors.par_chunks_exact_mut(width).zip(order).with_min_len(STRIDE).for_each(
            |(target, old)| {
                let list = &self.neighbors[*old as usize * width..][..width];
                target.iter_mut().zip(list).for_each(|(target, row)| *target = renumber(row));
            },
        );
        let entry = if self.upper_nodes.is_empty() && rows > 0 {
            place[self.entry as usize]
        } else {
            self.entry
        };
        Graph {
            m: self.m,
            neighbors,
            upper_nodes: self.upper_nodes.iter().map(renumber).collect(),
            upper_offsets: self.upper_offsets.clone(),
            upper_neighbors: self.upper_neighbors.clone(),
            entry,
        }
    }
}
