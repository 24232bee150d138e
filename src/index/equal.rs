//! Finding equal vectors.
//!
//! Equal vectors share one row and one node: hundreds of copies of one vector would fill its
//! neighbours' lists with each other and cut it off from the rest of the graph.

use std::hash::{DefaultHasher, Hasher};

use rayon::prelude::*;

use super::collect::{Rows, unreadable};
use crate::errors::Failure;

/// The distinct vectors of some rows, and which rows hold each.
pub struct Groups {
    /// A row that holds the vector, for each distinct vector, ascending.
    pub distinct: Vec<u32>,
    /// The distinct vector that each row holds, by number.
    pub group_of: Vec<u32>,
    /// Where a vector's rows start in `members`, `distinct + 1`.
    offsets: Vec<u32>,
    /// Every row, grouped by vector.
    members: Vec<u32>,
}

impl Groups {
    /// The rows that hold the `group`th distinct vector.
    pub fn rows(&self, group: usize) -> &[u32] {
        &self.members[self.offsets[group] as usize..self.offsets[group + 1] as usize]
    }
}

/// Groups rows by vector, bit for bit. Runs on the current rayon pool; `check` tells, often, when
/// to give up.
///
/// # Errors
/// When rows cannot be read; what `check` says.
pub fn group(
    rows: &Rows,
    check: &(dyn Fn() -> Result<(), Failure> + Sync),
) -> Result<Groups, Failure> {
    let read = |row: u32| rows.vector(row as usize).map_err(unreadable);
    let mut hashed: Vec<(u64, u32)> = (0..rows.len() as u32)
        .into_par_iter()
        .map(|row| {
            check()?;
            Ok((hash(&read(row)?), row))
        })
        .collect::<Result<_, Failure>>()?;
    hashed.par_sort_unstable();

    // For every row the first one that holds the same vector.
    let mut first = vec![0u32; rows.len()];
    for same_hash in hashed.chunk_by(|a, b| a.0 == b.0) {
        check()?;
        let mut different: Vec<u32> = Vec::new();
        for &(_, row) in same_hash {
            let mut known = None;
            if same_hash.len() > 1 {
                let vector = read(row)?;
                for &candidate in &different {
                    if equal(&vector, &read(candidate)?) {
                        known = Some(candidate);
                        break;
                    }
                }
            }
            if known.is_none() {
                different.push(row);
            }
            first[row as usize] = known.unwrap_or(row);
        }
    }
    Ok(collect(&first))
}

fn collect(first: &[u32]) -> Groups {
    let is_first = |&row: &u32| first[row as usize] == row;
    let distinct: Vec<u32> = (0..first.len() as u32).filter(is_first).collect();
    let mut group_of = vec![0u32; first.len()];
    for (group, &row) in distinct.iter().enumerate() {
        group_of[row as usize] = group as u32;
    }
    // A row's first equal comes before it, so that its group is known already.
    for row in 0..first.len() {
        group_of[row] = group_of[first[row] as usize];
    }
    let mut offsets = vec![0u32; distinct.len() + 1];
    for &group in &group_of {
        offsets[group as usize + 1] += 1;
    }
    for group in 0..distinct.len() {
        offsets[group + 1] += offsets[group];
    }
    let mut next = offsets.clone();
    let mut members = vec![0u32; first.len()];
    for (row, &group) in group_of.iter().enumerate() {
        let place = &mut next[group as usize];
        members[*place as usize] = row as u32;
        *place += 1;
    }
    Groups { distinct, group_of, offsets, members }
}

fn hash(vector: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for element in vector {
        hasher.write_u32(element.to_bits());
    }
    hasher.finish()
}

fn equal(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|element| element.to_bits()).eq(b.iter().map(|element| element.to_bits()))
}
