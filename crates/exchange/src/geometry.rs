//! Rows, columns, and how chunks lie among them.
//!
//! A one-dimensional array is one of a single column.

use std::ops::Range;

/// An array of rows × columns, divided into units of one shape; those at the ends stick out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    /// Rows of a unit; at least 1.
    pub(crate) unit_rows: u64,
    /// Columns of a unit; at least 1.
    pub(crate) unit_columns: u64,
}

/// A unit: its number along the rows, then along the columns.
pub(crate) type Unit = [u64; 2];

impl Geometry {
    /// Units along the rows.
    pub(crate) fn unit_count(&self) -> u64 {
        self.rows.div_ceil(self.unit_rows)
    }

    /// Units side by side.
    pub(crate) fn units_across(&self) -> u64 {
        self.columns.div_ceil(self.unit_columns)
    }

    /// The units that hold the units' rows `band`, row-major.
    pub(crate) fn units(&self, band: &Range<u64>) -> Vec<Unit> {
        let across = self.units_across();
        band.clone().flat_map(|down| (0..across).map(move |right| [down, right])).collect()
    }

    /// The rows of the units' rows `band`, without those that stick out.
    pub(crate) fn rows_of(&self, band: &Range<u64>) -> Range<u64> {
        let row = |unit: u64| unit.saturating_mul(self.unit_rows).min(self.rows);
        row(band.start)..row(band.end)
    }

    /// Moves the elements of `unit` into their places among `target`, the rows of `band`.
    pub(crate) fn place<T>(
        &self,
        unit: Unit,
        elements: &mut [T],
        band: &Range<u64>,
        target: &mut [T],
    ) {
        let rows = self.rows_of(&(unit[0]..unit[0] + 1));
        let first = self.rows_of(band).start;
        let left = unit[1] * self.unit_columns;
        let width = (self.columns - left).min(self.unit_columns) as usize;
        for row in rows.clone() {
            let from = ((row - rows.start) * self.unit_columns) as usize;
            let to = ((row - first) * self.columns + left) as usize;
            target[to..to + width].swap_with_slice(&mut elements[from..from + width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_element_has_one_place(
            rows in 0u64..40, columns in 1u64..20, unit_rows in 1u64..50, unit_columns in 1u64..25,
            step in 1u64..9,
        ) {
            let geometry = Geometry { rows, columns, unit_rows, unit_columns };
            let mut all = Vec::new();
            let mut start = 0;
            while start < geometry.unit_count() {
                let band = start..geometry.unit_count().min(start + step);
                let lines = geometry.rows_of(&band);
                let mut target = vec![u64::MAX; ((lines.end - lines.start) * columns) as usize];
                for unit in geometry.units(&band) {
                    // What sticks out has no number that is asked for.
                    let mut elements: Vec<u64> = (0..unit_rows * unit_columns).map(|at| {
                        let row = unit[0] * unit_rows + at / unit_columns;
                        let column = unit[1] * unit_columns + at % unit_columns;
                        if column < columns { row * columns + column } else { u64::MAX - 1 }
                    }).collect();
                    geometry.place(unit, &mut elements, &band, &mut target);
                }
                all.extend(target);
                start = band.end;
            }
            prop_assert_eq!(all, (0..rows * columns).collect::<Vec<_>>());
        }
    }
}
