//! Forms of queries: each returns a group, an id and a distance.

use fastrand::Rng;

use crate::column::Column;
use crate::queries::Expected;
use crate::world::{SIDE_ROWS, World};

/// What a query looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// SELECT … ORDER BY.
    Plain,
    /// Below another SELECT.
    Subquery,
    /// WITH … AS MATERIALIZED.
    MaterializedCte,
    /// WITH … AS NOT MATERIALIZED.
    InlinedCte,
    /// Two of them, one after the other.
    UnionAll,
    /// DISTINCT above it.
    Distinct,
    /// Numbered by a window function.
    Window,
    /// Ranked by a window function: rows of one distance have one rank.
    Rank,
    /// Grouped by the distance.
    Group,
    /// Joined with the distances that there are.
    MergeJoin,
    /// Gathered by aggregates, in the order they come.
    Aggregate,
    /// min() of the distance.
    Minimum,
    /// Then by id: an incremental sort.
    ThenById,
    /// Then by the distance from something else.
    ThenByDistance,
    /// FETCH FIRST … WITH TIES.
    WithTies,
    /// For each row of another table the nearest ones.
    Lateral,
    /// For each row of another table the nearest one, by scalar subqueries.
    Scalar,
    /// Joined with another table.
    Join,
    /// Rows that have a partner elsewhere.
    SemiJoin,
    /// Rows that have none.
    AntiJoin,
    /// With the place of each row, by which it is looked up again.
    Ctid,
    /// FOR UPDATE.
    ForUpdate,
    /// FOR UPDATE SKIP LOCKED.
    SkipLocked,
    /// For each row of another table, by a function.
    Called,
    /// The nearest rows are deleted.
    Delete,
    /// The nearest rows are inserted once more.
    InsertSelect,
    /// Any rows, in any order.
    Unordered,
    /// A number of rows.
    Count,
}

use Form::*;

/// More rows than there ever are: the largest LIMIT.
pub const ALL: usize = i64::MAX as usize;

/// Forms that any query can have; what is most common comes more often.
const ANY: [Form; 26] = [
    Plain,
    Plain,
    Plain,
    Subquery,
    MaterializedCte,
    InlinedCte,
    UnionAll,
    Distinct,
    Window,
    Rank,
    Group,
    MergeJoin,
    Aggregate,
    ThenById,
    ThenById,
    ThenByDistance,
    Lateral,
    Join,
    SemiJoin,
    AntiJoin,
    Ctid,
    ForUpdate,
    SkipLocked,
    InsertSelect,
    Unordered,
    Count,
];

/// Forms that need a limit.
const LIMITED: [Form; 9] =
    [Plain, Join, Lateral, Lateral, Minimum, WithTies, Scalar, Called, Delete];

impl Form {
    /// Any form of a query with a limit, or without one.
    pub fn draw(rng: &mut Rng, limited: bool) -> Self {
        let choice = rng.usize(..ANY.len() + if limited { LIMITED.len() } else { 0 });
        ANY.get(choice).copied().unwrap_or_else(|| LIMITED[choice - ANY.len()])
    }

    /// Whether it changes rows.
    pub fn changes(self) -> bool {
        matches!(self, Delete | InsertSelect)
    }

    /// Whether it locks or changes rows.
    pub fn locks(self) -> bool {
        matches!(self, ForUpdate | SkipLocked) || self.changes()
    }

    /// Whether its rows are other ones where distances are out of order.
    pub fn needs_order(self) -> bool {
        matches!(self, Rank | Group | MergeJoin)
    }

    /// Whether it asks for rows in no order: no index can help.
    pub fn is_unordered(self) -> bool {
        matches!(self, Unordered | Count)
    }

    /// Whether it leaves alone what others have locked.
    pub fn skips_locked(self) -> bool {
        self == SkipLocked
    }

    /// Whether it can be ended early instead of by LIMIT.
    pub fn is_one_select(self) -> bool {
        matches!(self, Plain | ThenById | ThenByDistance | Join | SemiJoin | AntiJoin | Ctid)
    }
}

/// The texts of a query. They have places to be filled in: `{q}` the vector, `{seen}` a condition,
/// `{limit}` LIMIT and OFFSET.
#[derive(Clone, Debug)]
pub struct Texts {
    /// What is asked.
    pub query: String,
    /// The rows that this would return without limits, in any order.
    pub all: String,
}

/// Makes a query; what it is to return may become something else by its form.
pub fn build(
    rng: &mut Rng,
    world: &World,
    column: &Column,
    form: Form,
    filter: &str,
    expected: &mut Expected,
) -> Texts {
    let table = &world.table;
    let distance = column.distance("{q}");
    let select = |id: &str, from: &str, filter: &str, then: &str| {
        format!(
            "SELECT 0 AS g, {id} AS id, {distance} AS d FROM {table} t{from} \
             WHERE {filter} AND {{seen}} ORDER BY {distance}{then}{{limit}}"
        )
    };
    let base = select("t.id", "", filter, "");
    // Where the query is no more than the base with something around it.
    let around = |query: String| Texts { query, all: base.clone() };
    let itself = |query: String| Texts { all: query.clone(), query };
    let partner = format!(
        "EXISTS (SELECT FROM {table}_side p WHERE p.grp = t.grp AND p.id < {})",
        rng.u32(2..9)
    );
    let Expected { skip, take, .. } = *expected;
    match form {
        Plain => itself(base),
        Subquery => around(format!("SELECT s.g, s.id, s.d FROM ({base}) s")),
        MaterializedCte => around(format!("WITH s AS MATERIALIZED ({base}) SELECT * FROM s")),
        InlinedCte => around(format!("WITH s AS NOT MATERIALIZED ({base}) SELECT * FROM s")),
        UnionAll => {
            let half = |n: u32| {
                let half = select("t.id", "", &format!("{filter} AND t.id % 2 = {n}"), "");
                half.replacen("0 AS g", &format!("{n} AS g"), 1)
            };
            itself(format!("({}) UNION ALL ({})", half(0), half(1)))
        }
        Distinct => {
            expected.ordered = false;
            around(format!("SELECT DISTINCT s.g, s.id, s.d FROM ({base}) s"))
        }
        Window => {
            let last = |take: usize| format!(" AND s.n <= {}", (skip + take).min(ALL));
            let last = take.map(last).unwrap_or_default();
            around(format!(
                "SELECT 0 AS g, s.id, s.d FROM (SELECT t.id, {distance} AS d, \
                 row_number() OVER (ORDER BY {distance}) AS n FROM {table} t \
                 WHERE {filter} AND {{seen}}) s WHERE s.n > {skip}{last}"
            ))
        }
        Rank => {
            *expected = Expected::default();
            itself(format!(
                "SELECT (rank() OVER (ORDER BY {distance}))::int AS g, t.id, {distance} AS d \
                 FROM {table} t WHERE {filter} AND {{seen}}"
            ))
        }
        Group => {
            *expected = Expected::default();
            itself(format!(
                "SELECT 0 AS g, count(*)::int AS id, {distance} AS d FROM {table} t \
                 WHERE {filter} AND {{seen}} GROUP BY {distance}"
            ))
        }
        MergeJoin => {
            *expected = Expected::default();
            let all = base.replace("{limit}", "");
            itself(format!(
                "SELECT 0 AS g, count(*)::int AS id, a.d FROM ({all}) a \
                 JOIN (SELECT DISTINCT s.d FROM ({all}) s) b ON a.d = b.d GROUP BY a.d"
            ))
        }
        Aggregate => around(format!(
            "SELECT 0 AS g, unnest(array_agg(s.id)) AS id, unnest(array_agg(s.d)) AS d FROM ({base}) s"
        )),
        Minimum => {
            *expected = Expected { take: Some(1), ..Expected::default() };
            let from = |what: &str| {
                format!(
                    "SELECT 0 AS g, 0 AS id, s.d FROM (SELECT {what} AS d FROM {table} t \
                     WHERE {filter} AND {{seen}}) s WHERE s.d IS NOT NULL"
                )
            };
            Texts { query: from(&format!("min({distance})")), all: from(&distance) }
        }
        ThenById => {
            expected.by_id = true;
            itself(select("t.id", "", filter, ", t.id"))
        }
        ThenByDistance => {
            let other = &world.columns[rng.usize(..world.columns.len())];
            let then = format!(", {}", other.distance(&other.query(rng)));
            itself(select("t.id", "", filter, &then))
        }
        WithTies => {
            expected.ties = true;
            let end = format!(" OFFSET {skip} FETCH FIRST {} ROWS WITH TIES", take.unwrap_or(10));
            Texts { query: base.replace("{limit}", &end), all: base }
        }
        Lateral => {
            let inner = base.replace("{q}", &format!("p.{}", column.name));
            let join = ["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"][rng.usize(..2)];
            let on = if join.starts_with("LEFT") { "ON true" } else { "" };
            itself(format!(
                "SELECT p.id AS g, s.id, s.d FROM {table}_side p {join} ({inner}) s {on} \
                 WHERE p.id <= {} AND s.id IS NOT NULL",
                rng.usize(1..=SIDE_ROWS / 2)
            ))
        }
        Scalar => {
            *expected = Expected { take: Some(1), ordered: true, ..Expected::default() };
            let distance = distance.replace("{q}", &format!("p.{}", column.name));
            let condition = format!("t.grp <> p.grp AND {}", column.condition());
            let nearest = |what: &str| {
                format!(
                    "(SELECT {what} FROM {table} t WHERE {condition} AND {{seen}} \
                     ORDER BY {distance} LIMIT 1)"
                )
            };
            Texts {
                query: format!(
                    "SELECT p.id AS g, {} AS id, {} AS d FROM {table}_side p",
                    nearest("t.id"),
                    nearest(&distance)
                ),
                all: format!(
                    "SELECT p.id AS g, t.id, {distance} AS d FROM {table}_side p \
                     JOIN {table} t ON {condition} AND {{seen}}"
                ),
            }
        }
        Join => {
            let on = ["p.grp = t.grp", "p.id = t.fine", "p.id < t.grp"][rng.usize(..3)];
            itself(select("t.id", &format!(" JOIN {table}_side p ON {on}"), filter, ""))
        }
        SemiJoin => itself(select("t.id", "", &format!("{filter} AND {partner}"), "")),
        AntiJoin => itself(select("t.id", "", &format!("{filter} AND NOT {partner}"), "")),
        Ctid => {
            let row = "u.ctid = t.ctid AND u.tableoid = t.tableoid";
            around(select(&format!("(SELECT u.id FROM {table} u WHERE {row})"), "", filter, ""))
        }
        ForUpdate => itself(format!("{base} FOR UPDATE OF t")),
        SkipLocked => itself(format!("{base} FOR UPDATE OF t SKIP LOCKED")),
        Unordered => {
            *expected = Expected::default();
            let condition = format!("{filter} AND {{seen}}");
            itself(format!("SELECT 0 AS g, t.id, {distance} AS d FROM {table} t WHERE {condition}"))
        }
        Count => {
            *expected = Expected::default();
            itself(format!(
                "SELECT 0 AS g, 0 AS id, count(*)::float8 AS d FROM {table} t WHERE {filter} AND {{seen}}"
            ))
        }
        Called => {
            expected.skip = 0;
            let (name, take) = (column.name, take.unwrap_or(10));
            let probes = rng.usize(1..=SIDE_ROWS / 2);
            let from = |nearest: &str| {
                format!(
                    "SELECT p.id AS g, s.id, s.d FROM {table}_side p CROSS JOIN LATERAL {nearest} s \
                     WHERE p.id <= {probes}"
                )
            };
            let distance = column.distance(&format!("p.{name}"));
            let all =
                format!("(SELECT t.id, {distance} AS d FROM {table} t WHERE {})", column.indexed());
            Texts {
                query: from(&format!("{table}_near_{name}(p.{name}, {take})")),
                all: from(&all),
            }
        }
        InsertSelect => {
            expected.ordered = false;
            let names: Vec<String> =
                world.columns.iter().map(|column| format!("t.{}", column.name)).collect();
            around(format!(
                "WITH s AS (INSERT INTO {table} AS t SELECT t.id + 20000000, t.grp, t.fine, t.near, t.note, {} \
                 FROM {table} t WHERE {filter} AND {{seen}} ORDER BY {distance}{{limit}} \
                 RETURNING 0 AS g, t.id - 20000000 AS id, {distance} AS d) SELECT * FROM s",
                names.join(", ")
            ))
        }
        Delete => {
            expected.ordered = false;
            around(format!(
                "WITH s AS MATERIALIZED ({base}), gone AS (DELETE FROM {table} t USING s \
                 WHERE t.id = s.id RETURNING 0 AS g, t.id, s.d) SELECT * FROM gone"
            ))
        }
    }
}
