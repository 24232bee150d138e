//! Sessions that are at work while a table is asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;

use crate::session::{Fault, Session};
use crate::world::World;

/// What the sessions at one table share.
pub struct Shared {
    /// The table.
    pub world: World,
    /// Held by who changes rows, and by who must not meet changes.
    pub quiet: Mutex<()>,
    /// The id of the next row.
    pub next_id: AtomicUsize,
    /// Names of the indexes.
    pub indexes: Vec<String>,
    /// Whether the others are to come to their end.
    pub ended: AtomicBool,
}

impl Shared {
    /// Inserts `count` new rows.
    pub fn insert(&self, session: &mut Session, count: usize) -> Result<(), Fault> {
        let first = self.next_id.fetch_add(count, Ordering::Relaxed);
        session.change(&self.world.insert(first, first + count - 1)).map(drop)
    }

    /// Flushes all indexes; returns whether segments were merged.
    pub fn flush(&self, session: &mut Session) -> Result<bool, Fault> {
        let mut merged = false;
        for index in &self.indexes {
            let sql = format!("SELECT segments_replaced FROM s3vector_flush('{index}')");
            let rows = session.change(&sql)?;
            merged |= rows[0][0].as_deref() != Some("0");
        }
        Ok(merged)
    }

    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }
}

/// Ends the others when it goes, also when a test fails.
pub struct End<'a>(pub &'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

/// Changes rows all the time.
pub fn write(mut session: Session, shared: &Shared, mut rng: Rng) -> Result<(), Fault> {
    let world = &shared.world;
    while shared.goes_on() {
        let fine = rng.u32(..100);
        let quiet = shared.quiet.lock();
        match rng.u32(..11) {
            0..3 => shared.insert(&mut session, rng.usize(1..40))?,
            3..5 => drop(session.change(&world.delete(&format!("fine = {fine} AND id % 2 = 0")))?),
            5..7 => {
                let version = rng.usize(1..1000);
                session.change(&world.update(version, &format!("fine = {fine}")))?;
            }
            7 if rng.bool() => {
                let next = shared.next_id.fetch_add(5, Ordering::Relaxed);
                session.change(&world.upsert(next.saturating_sub(5), next + 4))?;
            }
            7 => {
                // Makes no index entry where the page has room.
                let sql = format!("UPDATE {} SET note = 'new' WHERE fine = {fine}", world.table);
                session.change(&sql)?;
            }
            8 => drop(session.change(&world.vacuum())?),
            _ => drop(shared.flush(&mut session)?),
        }
        drop(quiet);
        sleep(Duration::from_millis(rng.u64(1..20)));
    }
    Ok(())
}

/// Looks for the nearest rows all the time, in one index after another: what does not fit into
/// memory is loaded and dropped by several at once. Rows of another index would come in no order.
pub fn read(mut session: Session, shared: &Shared, mut rng: Rng) -> Result<(), Fault> {
    session.ask("SET enable_seqscan = off")?;
    let columns = &shared.world.columns;
    for turn in 0.. {
        if !shared.goes_on() {
            break;
        }
        let column = &columns[turn % columns.len()];
        let distance = column.distance(&column.query(&mut rng));
        let sql = format!(
            "SELECT {distance} FROM {} t WHERE {} ORDER BY {distance} LIMIT 10",
            shared.world.table,
            column.condition()
        );
        let rows = session.ask(&sql)?;
        let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        let distances: Vec<f64> = rows.iter().filter_map(|row| number(&row[0])).collect();
        if distances.windows(2).any(|pair| pair[0] > pair[1] + 1e-4 * pair[1].abs().max(1.0)) {
            let detail = format!("{distances:?}\n  {sql}");
            return Err(Fault::new("another session's rows are out of order", detail));
        }
        sleep(Duration::from_millis(rng.u64(1..20)));
    }
    Ok(())
}
