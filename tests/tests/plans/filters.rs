//! Conditions of all kinds on the rows of a table called `t`.

use fastrand::Rng;

use crate::column::Column;
use crate::world::{SIDE_ROWS, World};

/// A condition, `true` for none, of a query ordered by the distance of a column from `{q}`.
pub fn draw(rng: &mut Rng, world: &World, column: &Column) -> String {
    let mut atom = || self::atom(rng, world, column);
    let (a, b) = (atom(), atom());
    match rng.u32(..10) {
        0..3 => "true".to_owned(),
        3..7 => a,
        7 => format!("({a} AND {b})"),
        8 => format!("({a} OR {b})"),
        _ => format!("NOT coalesce({a}, false)"),
    }
}

/// A condition that fewer rows fulfil than the planner expects, those far from where others are.
pub fn far(world: &World) -> String {
    let table = &world.table;
    format!(
        "t.near >= (SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY t.near) FROM {table} t)"
    )
}

fn atom(rng: &mut Rng, world: &World, column: &Column) -> String {
    let table = &world.table;
    let distance = &column.distance("{q}");
    let share = [0.02, 0.1, 0.5][rng.usize(..3)];
    // A part of the table as `near` or `distance` orders it: near or far from the query.
    let quantile = |share: f64, of: &str| {
        format!("(SELECT percentile_disc({share}) WITHIN GROUP (ORDER BY {of}) FROM {table} t)")
    };
    let digit = rng.u32(..10);
    let row = rng.usize(1..=world.rows);
    match rng.u32(..22) {
        0 | 1 => format!("t.grp = {digit}"),
        2 => format!("t.fine = {}", rng.u32(..100)),
        3 => format!("t.grp IN ({digit}, {})", rng.u32(..10)),
        4 => format!("t.grp <> {digit}"),
        5 => format!("t.near < {}", quantile(share, "t.near")),
        6 => format!("t.near >= {}", quantile(1.0 - share, "t.near")),
        7 => "t.note IS NULL".to_owned(),
        8 => "t.note IS NOT NULL".to_owned(),
        9 => format!("t.note LIKE '%{digit}'"),
        10 => "length(t.note) > 5".to_owned(),
        11 => format!("t.id % 7 = {}", rng.u32(..7)),
        12 => format!("abs(t.grp - {digit}) < 2"),
        13 => format!("t.id = ANY (ARRAY[{row}, {}, {}])", row + 1, world.rows - row),
        14 => format!("t.id BETWEEN {row} AND {}", row + world.rows / 10),
        15 => {
            let id = rng.usize(1..=SIDE_ROWS);
            format!("t.grp IN (SELECT s.grp FROM {table}_side s WHERE s.id <= {id})")
        }
        16 => format!("(SELECT count(*) FROM {table}_side s WHERE s.grp = t.grp) > 1"),
        17 => format!("{distance} > {}", quantile(1.0 - share, distance)),
        18 => format!("{distance} <= {}", quantile(share, distance)),
        19 => {
            // Another scan of the index for each row of this one.
            let name = column.name;
            let near = format!("(SELECT count(*) FROM {table}_near_{name}(t.{name}, 3)) >= 0");
            format!("(t.fine = {} AND {near})", rng.u32(..100))
        }
        _ => format!("t.id = {}", if rng.bool() { row.to_string() } else { "-1".to_owned() }),
    }
}
