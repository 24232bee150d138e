//! One query: asked by the index, asked of the table, compared.

use std::collections::HashSet;

use fastrand::Rng;

use crate::beside::Shared;
use crate::compare::{self, Figures};
use crate::coverage::Beside;
use crate::plan::Scan;
use crate::queries::{Aim, Query};
use crate::session::{Fault, Row, Session};
use crate::ways::{self, Meanwhile};

/// Settings under which a query reads the table and no index.
const BY_TABLE: &str = "SET LOCAL enable_indexscan = off; SET LOCAL work_mem = '64MB'";

/// The sessions at a table.
pub struct Stage<'a> {
    /// What they share with those beside.
    pub shared: &'a Shared,
    /// Asks.
    pub reader: Session,
    /// Does things meanwhile.
    pub other: Session,
}

/// What a query that was answered right has met.
pub struct Outcome {
    pub scans: Vec<Scan>,
    pub beside: Beside,
    pub figures: Figures,
}

impl Stage<'_> {
    /// Does what has to be done before a query with this aim.
    pub fn prepare(&mut self, rng: &mut Rng, turn: usize, aim: Aim) -> Result<(), Fault> {
        let Self { shared, other, .. } = self;
        let _quiet = shared.quiet.lock();
        if aim != Aim::Merge {
            // Where it is crowded, a graph that is made at once does not fit.
            if !shared.world.crowded && rng.u32(..40) == 0 {
                other.change(&shared.world.rebuild(rng))?;
            }
            return Ok(());
        }
        // Removed rows, so that the next flush rewrites a segment, and rows for it to write.
        other.change(&shared.world.delete(&format!("id % 12 = {}", turn % 12)))?;
        other.change(&shared.world.vacuum())?;
        shared.insert(other, shared.world.rows / 14)
    }

    /// Asks a query by the index and by the table, and compares the answers.
    pub fn take(&mut self, query: &Query) -> Result<Outcome, Fault> {
        let quiet = query.needs_quiet().then(|| self.shared.quiet.lock());
        self.reader.scans();
        let before = self.ready_graphs()?;
        let asked = self.ask(query);
        let over = asked.is_ok() && query.way.outlives_transaction();
        let ended = self.reader.ask(if over { "CLOSE ALL" } else { "ROLLBACK" });
        if query.form.skips_locked() {
            self.other.ask("ROLLBACK")?;
        }
        drop(quiet);
        let (rows, all, scans, merged) = asked?;
        ended?;
        let evicted = self.has_lost(&before)?;
        let figures = compare::compare(query, &rows, &all, &scans)?;
        Ok(Outcome { scans, beside: Beside { merged, evicted }, figures })
    }

    /// The rows that the index returned, all that there are, the scans, and whether segments were
    /// merged meanwhile.
    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn ask(&mut self, query: &Query) -> Result<(Vec<Row>, Vec<Row>, Vec<Scan>, bool), Fault> {
        let Self { shared, reader, other } = self;
        if query.form.skips_locked() {
            other.ask("BEGIN")?;
            let table = &shared.world.table;
            other.ask(&format!("SELECT FROM {table} WHERE id % 5 = 2 FOR UPDATE"))?;
        }
        reader.ask("DEALLOCATE ALL")?;
        reader.ask(&format!("BEGIN ISOLATION LEVEL {}", query.isolation))?;
        for sql in &query.own_changes {
            reader.ask(sql)?;
        }
        let set = |(name, value): &(&str, String)| format!("SET LOCAL {name} = '{value}'");
        let settings: Vec<String> = query.settings.iter().map(set).collect();
        reader.ask(&settings.join("; "))?;

        // With a cursor that outlives the snapshot, the table is read while that is there.
        let held = query.way.outlives_transaction();
        let by_index = query.forced && !held && !query.form.is_unordered();
        let seen = if by_index { "true" } else { &query.indexed };
        if query.form.changes() {
            reader.ask("SAVEPOINT unchanged")?;
        }
        let mut merged = false;
        let mut all = None;
        let rows = ways::ask(reader, query, seen, |reader, rows| {
            merged = meanwhile(shared, reader, other, query, rows)?;
            if held {
                all = Some(read_table(reader, query, &query.indexed)?);
            }
            Ok(())
        })?;
        let scans = reader.scans();
        if query.form.changes() {
            reader.ask("ROLLBACK TO unchanged")?;
        }
        let all = match all {
            Some(all) => all,
            None => {
                // NULL and the like are not in the index, and come where it is not used.
                let indexed = !scans.is_empty() || !by_index;
                read_table(reader, query, if indexed { &query.indexed } else { "true" })?
            }
        };
        Ok((rows, all, scans, merged))
    }

    /// The graphs in memory, where that may be too small for them.
    fn ready_graphs(&mut self) -> Result<HashSet<String>, Fault> {
        if !self.shared.world.crowded {
            return Ok(HashSet::new());
        }
        let sql = "SELECT segment_uuid FROM s3vector_stat_graphs WHERE state = 'ready'";
        Ok(self.other.look(sql)?.into_iter().filter_map(|row| row[0].clone()).collect())
    }

    /// Whether one of the graphs that were in memory is not, though an index needs it.
    fn has_lost(&mut self, before: &HashSet<String>) -> Result<bool, Fault> {
        let now = self.ready_graphs()?;
        let mut lost = false;
        for index in &self.shared.indexes {
            let sql =
                format!("SELECT split_part(prefix, '/', 2) FROM s3vector_segments('{index}')");
            let named = self.other.look(&sql)?;
            let named = named.iter().filter_map(|row| row[0].as_ref());
            lost |= named.into_iter().any(|uuid| before.contains(uuid) && !now.contains(uuid));
        }
        Ok(lost)
    }
}

/// All rows that a query could return, from the table.
fn read_table(reader: &mut Session, query: &Query, seen: &str) -> Result<Vec<Row>, Fault> {
    let back: Vec<String> =
        query.settings.iter().map(|(name, _)| format!("SET LOCAL {name} TO DEFAULT; ")).collect();
    reader.ask(&format!("{}{BY_TABLE}", back.concat()))?;
    let text = &query.texts.all;
    let text = text.replace("{seen}", seen).replace("{limit}", "").replace("{q}", &query.vector);
    let rows = reader.ask(&text)?;
    match reader.scans().is_empty() || query.way.outlives_transaction() {
        true => Ok(rows),
        false => Err(Fault::new("the truth was asked of an index", text)),
    }
}

/// What happens while a cursor is half read; returns whether segments were merged.
fn meanwhile(
    shared: &Shared,
    reader: &mut Session,
    other: &mut Session,
    query: &Query,
    rows: &[Row],
) -> Result<bool, Fault> {
    let _quiet = (!query.needs_quiet()).then(|| shared.quiet.lock());
    let mut merged = false;
    match query.meanwhile() {
        Meanwhile::Nothing => {}
        Meanwhile::Another => {
            let text =
                query.texts.all.replace("{seen}", &query.indexed).replace("{limit}", " LIMIT 7");
            reader.ask(&text.replace("{q}", &query.another))?;
            reader.scans();
        }
        Meanwhile::CurrentOf => {
            if let Some(last) = rows.last() {
                let table = &shared.world.table;
                let sql =
                    format!("UPDATE {table} SET grp = grp WHERE CURRENT OF asked RETURNING id");
                let updated = reader.ask(&sql)?;
                if updated.len() != 1 || updated[0][0] != last[1] {
                    let detail = format!("{last:?} was fetched, {updated:?} updated");
                    return Err(Fault::new("another row is current", detail));
                }
            }
        }
        Meanwhile::Vacuum => {
            other.change(&shared.world.delete(&format!("fine = {}", shared.world.rows % 100)))?;
            other.change(&shared.world.vacuum())?;
            shared.insert(other, 20)?;
        }
        what @ (Meanwhile::Merge | Meanwhile::MergeAndSweep) => {
            shared.insert(other, 20)?;
            merged = shared.flush(other)?;
            if what == Meanwhile::MergeAndSweep {
                // The first marks what nobody names, the second removes it.
                for _ in 0..2 {
                    other.change("SELECT prefix, deleted FROM s3vector_sweep()")?;
                }
            }
            // So that the table has rows that no segment has.
            shared.insert(other, 20)?;
        }
    }
    Ok(merged)
}
