//! Compares what a query returned with all rows that it could have returned.

use std::collections::{BTreeMap, HashMap};

use crate::plan::Scan;
use crate::queries::{Expected, Query};
use crate::session::{Fault, Row};

/// A row of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answer {
    group: String,
    id: String,
    /// As PostgreSQL prints it, so that equal ones are equal.
    distance: Option<String>,
}

impl Answer {
    fn read(row: &Row) -> Self {
        let text = |column: usize| row[column].clone().unwrap_or_else(|| "NULL".to_owned());
        Self { group: text(0), id: text(1), distance: row[2].clone() }
    }

    /// What rows are ordered by: as in PostgreSQL, what is no number comes last.
    fn key(&self) -> f64 {
        let number = self.distance.as_ref().and_then(|text| text.parse().ok());
        number.filter(|number: &f64| !number.is_nan()).unwrap_or(f64::INFINITY)
    }
}

/// What a comparison has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Rows returned.
    pub rows: usize,
    /// Rows returned after a farther one.
    pub late: usize,
    /// Rows among those nearest by which a limit is measured.
    pub found: usize,
    /// How many of them there should be.
    pub wanted: usize,
}

/// Compares the `rows` of a query with `all` that it would return without limits.
pub fn compare(query: &Query, rows: &[Row], all: &[Row], scans: &[Scan]) -> Result<Figures, Fault> {
    let rows: Vec<Answer> = rows.iter().map(Answer::read).collect();
    let all: Vec<Answer> = all.iter().map(Answer::read).collect();
    let expected = &query.expected;
    every_row_exists(&rows, &all)?;
    let mut figures = Figures { rows: rows.len(), ..Figures::default() };
    let (returned, possible) = (by_group(&rows), by_group(&all));
    for (group, possible) in &possible {
        let returned = returned.get(group).map(Vec::as_slice).unwrap_or_default();
        as_many_as_wanted(expected, returned, possible)?;
        let (found, wanted) = nearest(expected, returned, possible);
        figures.found += found;
        figures.wanted += wanted;
    }
    if expected.ordered && query.strict {
        figures.late = returned.values().map(|rows| late(rows)).sum();
        let counted: u64 = scans.iter().map(|scan| scan.late).sum();
        // What parallel workers count is not told.
        let known = scans.iter().all(|scan| !scan.parallel);
        if known && figures.late as u64 > counted {
            let detail =
                format!("{} of {} rows are late, {counted} were counted", figures.late, rows.len());
            return Err(Fault::new("rows out of order", detail));
        }
    }
    if expected.by_id && query.strict {
        in_order_of_id(&rows)?;
    }
    Ok(figures)
}

/// Each row is one of all, as often as it is there.
fn every_row_exists(rows: &[Answer], all: &[Answer]) -> Result<(), Fault> {
    let mut left: HashMap<&Answer, i64> = HashMap::new();
    for row in all {
        *left.entry(row).or_default() += 1;
    }
    let count = all.len();
    for row in rows {
        match left.get_mut(row) {
            None if row.id == "NULL" => {
                return Err(Fault::new("a place that leads to no row", format!("{row:?}")));
            }
            None => {
                let same = all.iter().find(|other| other.id == row.id && other.group == row.group);
                let detail = format!("{row:?} is none of {count}; by its id it is {same:?}");
                return Err(Fault::new("a row that is no answer", detail));
            }
            Some(0) => {
                return Err(Fault::new("a row came twice", format!("{row:?}")));
            }
            Some(left) => *left -= 1,
        }
    }
    Ok(())
}

fn by_group(rows: &[Answer]) -> BTreeMap<&str, Vec<&Answer>> {
    let mut groups: BTreeMap<&str, Vec<&Answer>> = BTreeMap::new();
    for row in rows {
        groups.entry(&row.group).or_default().push(row);
    }
    groups
}

/// No row is missing but by the limit, and none is too much.
fn as_many_as_wanted(
    expected: &Expected,
    returned: &[&Answer],
    possible: &[&Answer],
) -> Result<(), Fault> {
    let there = possible.len().saturating_sub(expected.skip);
    let wanted = expected.take.unwrap_or(usize::MAX).min(there);
    let detail = || format!("{} came, {wanted} of {} were to come", returned.len(), possible.len());
    if returned.len() < wanted {
        let what = if expected.take.is_some() { "rows lost within a limit" } else { "rows lost" };
        return Err(Fault::new(what, detail()));
    }
    if returned.len() > wanted && !expected.ties {
        return Err(Fault::new("too many rows", detail()));
    }
    Ok(())
}

/// How many of the rows within a limit are as near as the exact ones, and how many should be.
fn nearest(expected: &Expected, returned: &[&Answer], possible: &[&Answer]) -> (usize, usize) {
    let Some(take) = expected.take else { return (0, 0) };
    let mut keys: Vec<f64> = possible.iter().map(|row| row.key()).collect();
    keys.sort_by(f64::total_cmp);
    let end = (expected.skip + take).min(keys.len());
    let exact = &keys[expected.skip.min(end)..end];
    let (Some(first), Some(last)) = (exact.first(), exact.last()) else { return (0, 0) };
    if !last.is_finite() {
        return (0, 0);
    }
    let within = |row: &&&Answer| (*first..=*last).contains(&row.key());
    (returned.iter().filter(within).count().min(exact.len()), exact.len())
}

/// Rows that come after a farther one, to the last bit: plans that rely on the order do. Of equal ones after each other only the first counts: a late
/// row of the index can be several of a join.
fn late(rows: &[&Answer]) -> usize {
    let mut farthest = f64::NEG_INFINITY;
    let mut before = None;
    let mut late = 0;
    for row in rows {
        let key = row.key();
        late += usize::from(key < farthest && before != Some(&row.distance));
        farthest = farthest.max(key);
        before = Some(&row.distance);
    }
    late
}

fn in_order_of_id(rows: &[Answer]) -> Result<(), Fault> {
    let id = |row: &Answer| row.id.parse::<i64>().unwrap_or(i64::MAX);
    let wrong = rows.windows(2).find(|pair| {
        let same = pair[0].distance == pair[1].distance && pair[0].group == pair[1].group;
        same && id(&pair[0]) > id(&pair[1])
    });
    match wrong {
        Some(pair) => {
            Err(Fault::new("rows of one distance not in order of id", format!("{pair:?}")))
        }
        None => Ok(()),
    }
}
