//! Ways a query gets to the server.

use fastrand::Rng;

use crate::forms::{ALL, Form};
use crate::queries::{Expected, Query};
use crate::session::{Fault, Row, Session};

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    Direct,
    /// As a prepared statement whose plan knows no parameter.
    Generic,
    /// As a prepared statement that is planned for its parameters.
    Custom,
    /// By a cursor, some rows at a time.
    Cursor(Cursor),
    /// By a loop of PL/pgSQL that ends when it has enough.
    Loop,
    /// By RETURN QUERY of PL/pgSQL.
    Function,
}

/// How a cursor is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Rows of a FETCH.
    pub fetch: usize,
    /// Whether all is read a second time from its beginning.
    pub scroll: bool,
    /// Whether the transaction ends after the first FETCH.
    pub hold: bool,
    /// Whether there is no LIMIT: the first rows are passed over by MOVE, and it is closed early.
    pub open_end: bool,
    /// What happens between the first FETCH and the second.
    pub meanwhile: Meanwhile,
}

/// What others do while a cursor is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meanwhile {
    /// Nothing.
    #[default]
    Nothing,
    /// The same session asks the same of another vector.
    Another,
    /// The row that came last is updated by its place.
    CurrentOf,
    /// Rows come and are flushed, segments are merged.
    Merge,
    /// The same, and the objects of the old segments go.
    MergeAndSweep,
    /// Rows go and are vacuumed, others take their places.
    Vacuum,
}

impl Way {
    /// Any way that a query of this form can take.
    pub fn draw(rng: &mut Rng, form: Form, limited: bool) -> Self {
        match rng.u32(..16) {
            0..3 => Self::Generic,
            3 => Self::Custom,
            4..9 if !form.changes() => {
                use Meanwhile::{Another, Merge, Nothing, Vacuum};
                let mut cursor = Cursor {
                    fetch: [1, 7, 60, 300][rng.usize(..4)],
                    open_end: limited && form.is_one_select() && rng.bool(),
                    meanwhile: [Nothing, Another, Merge, Vacuum][rng.usize(..4)],
                    ..Cursor::default()
                };
                if form == Form::ForUpdate && rng.bool() {
                    cursor.meanwhile = Meanwhile::CurrentOf;
                } else if !form.locks() {
                    // Read backward, scalar subqueries are searched anew.
                    cursor.scroll = form != Form::Scalar && rng.u32(..4) == 0;
                    cursor.hold = rng.u32(..4) == 0;
                }
                Self::Cursor(cursor)
            }
            9 | 10 if form.is_one_select() => Self::Loop,
            11 => Self::Function,
            _ => Self::Direct,
        }
    }

    /// A cursor that is half read when segments are merged.
    pub fn merging(rng: &mut Rng) -> Self {
        Self::Cursor(Cursor {
            fetch: [1, 7, 60, 300][rng.usize(..4)],
            meanwhile: [Meanwhile::Merge, Meanwhile::MergeAndSweep][rng.usize(..2)],
            ..Cursor::default()
        })
    }

    /// Whether rows come when the transaction is over.
    pub fn outlives_transaction(self) -> bool {
        matches!(self, Self::Cursor(Cursor { hold: true, .. }))
    }
}

/// Asks a query in a transaction that has begun; `between` is called when a cursor has brought its
/// first rows.
pub fn ask(
    session: &mut Session,
    query: &Query,
    seen: &str,
    mut between: impl FnMut(&mut Session, &[Row]) -> Result<(), Fault>,
) -> Result<Vec<Row>, Fault> {
    let text = query.texts.query.replace("{seen}", seen);
    let Expected { skip, take, .. } = query.expected;
    let number = |number: Option<usize>| number.map_or("NULL".to_owned(), |n| n.to_string());
    let constant = match (take, skip) {
        (None, 0) => String::new(),
        (None, skip) => format!(" OFFSET {skip}"),
        (Some(take), skip) => format!(" LIMIT {take} OFFSET {skip}"),
    };
    match query.way {
        Way::Direct => {
            session.ask(&text.replace("{q}", &query.vector).replace("{limit}", &constant))
        }
        Way::Generic | Way::Custom => {
            let text = text.replace("{q}", "$1").replace("{limit}", " LIMIT $2 OFFSET $3");
            session.ask(&format!("PREPARE asked (vector, bigint, bigint) AS {text}"))?;
            let execute = format!("EXECUTE asked ({}, {}, {skip})", query.vector, number(take));
            if !query.form.changes() {
                // The plan is used a second time, with another limit.
                session.ask(&format!("EXECUTE asked ({}, 2, 0)", query.another))?;
                session.scans();
            }
            session.ask(&execute)
        }
        Way::Loop => {
            let text = text.replace("{limit}", "");
            let body = format!(
                "FOR r IN {text} LOOP n := n + 1; CONTINUE WHEN n <= {skip}; \
                 g := r.g; id := r.id; d := r.d; RETURN NEXT; EXIT WHEN n >= {}; END LOOP",
                number(take.map(|take| (skip + take).min(ALL)))
            );
            call(session, query, &body)
        }
        Way::Function => {
            let text = text.replace("{limit}", " LIMIT most OFFSET passed");
            call(session, query, &format!("RETURN QUERY {text}"))
        }
        Way::Cursor(cursor) => {
            let limit = if cursor.open_end { "" } else { &constant };
            let text = text.replace("{q}", &query.vector).replace("{limit}", limit);
            fetch(session, cursor, &text, query.expected, &mut between)
        }
    }
}

/// Calls a function of PL/pgSQL with this body.
fn call(session: &mut Session, query: &Query, body: &str) -> Result<Vec<Row>, Fault> {
    let Expected { skip, take, .. } = query.expected;
    let most = take.map_or("NULL".to_owned(), |take| take.to_string());
    let vector = &query.vector;
    let body = body.replace("{q}", "q");
    session.ask(&format!(
        "CREATE FUNCTION pg_temp.asked() RETURNS TABLE (g int, id int, d float8) LANGUAGE plpgsql AS $$
         #variable_conflict use_column
         DECLARE q vector := {vector}; most bigint := {most}; passed bigint := {skip}; n bigint := 0; r record;
         BEGIN {body}; END $$"
    ))?;
    session.ask("SELECT * FROM pg_temp.asked()")
}

/// What is done between two fetches, given the rows fetched so far.
type Between<'a> = dyn FnMut(&mut Session, &[Row]) -> Result<(), Fault> + 'a;

/// Reads a cursor to its end, or as far as is wanted.
fn fetch(
    session: &mut Session,
    cursor: Cursor,
    text: &str,
    expected: Expected,
    between: &mut Between<'_>,
) -> Result<Vec<Row>, Fault> {
    let scroll = if cursor.scroll { "SCROLL" } else { "NO SCROLL" };
    let hold = if cursor.hold { "WITH HOLD" } else { "" };
    session.ask(&format!("DECLARE asked {scroll} CURSOR {hold} FOR {text}"))?;
    if cursor.open_end && expected.skip > 0 {
        session.ask(&format!("MOVE {} FROM asked", expected.skip))?;
    }
    let most = expected.take.filter(|_| cursor.open_end).unwrap_or(usize::MAX);
    let mut rows: Vec<Row> = Vec::new();
    // A third is more than is still there is a good moment as well.
    for piece in 0.. {
        let wanted = match piece {
            0 | 1 => cursor.fetch,
            _ => cursor.fetch.max(500),
        };
        let wanted = wanted.min(most - rows.len());
        let some = session.ask(&format!("FETCH {wanted} FROM asked"))?;
        let ended = some.len() < wanted;
        rows.extend(some);
        if piece == 0 {
            // At its end a cursor is on no row.
            between(session, if ended { &[] } else { &rows })?;
            if cursor.hold {
                session.ask("COMMIT")?;
            }
        }
        if ended || rows.len() >= most {
            break;
        }
    }
    if cursor.scroll && !cursor.open_end {
        let mut again = session.ask("FETCH BACKWARD ALL FROM asked")?;
        again.reverse();
        if again != rows {
            let differs = again.iter().zip(&rows).position(|(a, b)| a != b);
            let at = differs.unwrap_or(rows.len().min(again.len()));
            let detail = format!(
                "{} rows forward, {} backward; row {at} is {:?} forward, {:?} backward",
                rows.len(),
                again.len(),
                rows.get(at),
                again.get(at)
            );
            return Err(Fault::new("a cursor read backward brings something else", detail));
        }
    }
    session.ask("CLOSE asked")?;
    Ok(rows)
}
