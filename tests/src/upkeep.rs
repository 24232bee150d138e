//! The functions and views that look after an index: flush, sweep, and what they report.

use std::time::SystemTime;

use postgres::{Client, Row};

use crate::wait::{wait_for, wait_until};

/// How many indexes named `items_index` there are, valid or not.
pub fn indexes(client: &mut Client) -> i64 {
    client
        .query_one("SELECT count(*) FROM pg_class WHERE relname = 'items_index'", &[])
        .expect("a count")
        .get(0)
}

/// What `s3vector_flush` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Delta rows that are in segments now.
    pub rows_flushed: i64,
    /// Entries that merges rewrote.
    pub rows_merged: i64,
    /// Segments written.
    pub segments_written: i32,
    /// Segments that others took the place of.
    pub segments_replaced: i32,
    /// Bytes uploaded.
    pub bytes_written: i64,
    /// Segments the index has now.
    pub segments: i32,
}

/// Turns an index's delta into a segment, and merges.
///
/// # Errors
///
/// What the server reported.
pub fn try_flush(client: &mut Client, index: &str) -> Result<Flushed, postgres::Error> {
    let row = client.query_one(
        &format!(
            "SELECT rows_flushed, rows_merged, segments_written, segments_replaced, bytes_written, \
             segments FROM s3vector_flush('{index}')"
        ),
        &[],
    )?;
    Ok(Flushed {
        rows_flushed: row.get(0),
        rows_merged: row.get(1),
        segments_written: row.get(2),
        segments_replaced: row.get(3),
        bytes_written: row.get(4),
        segments: row.get(5),
    })
}

/// Turns an index's delta into a segment, and merges.
#[track_caller]
pub fn flush(client: &mut Client, index: &str) -> Flushed {
    try_flush(client, index).unwrap_or_else(|error| panic!("flush of {index}: {error:?}"))
}

/// A segment as `s3vector_segments` describes it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// `<index uuid>/<segment uuid>`.
    pub prefix: String,
    /// 0 for a build or a flush, one more for every merge.
    pub generation: i32,
    /// Distinct vectors.
    pub rows: i64,
    /// Table rows.
    pub entries: i64,
    /// Table rows that VACUUM has removed.
    pub tombstones: i64,
}

/// The segments of an index.
#[track_caller]
pub fn segments(client: &mut Client, index: &str) -> Vec<Segment> {
    let sql = format!(
        "SELECT prefix, generation, rows, entries, tombstones FROM s3vector_segments('{index}')"
    );
    let rows = client.query(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter()
        .map(|row| Segment {
            prefix: row.get(0),
            generation: row.get(1),
            rows: row.get(2),
            entries: row.get(3),
            tombstones: row.get(4),
        })
        .collect()
}

/// An index as `s3vector_index_info` describes it.
#[derive(Clone, Debug)]
pub struct Info {
    /// Where it stores its segments, below the storage URL.
    pub uuid: String,
    /// How many segments it has.
    pub segments: i32,
    /// Table rows in segments.
    pub entries: i64,
    /// Table rows in the delta.
    pub delta_entries: i64,
    /// Table rows in segments that VACUUM has removed.
    pub tombstones: i64,
    /// Whether this database wrote it, rather than being a copy of the one that did.
    pub owned: bool,
}

/// Describes an index.
#[track_caller]
pub fn info(client: &mut Client, index: &str) -> Info {
    let sql = format!(
        "SELECT index_uuid, segments, entries, delta_entries, tombstones, owned \
         FROM s3vector_index_info('{index}')"
    );
    let row = client.query_one(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    Info {
        uuid: row.get(0),
        segments: row.get(1),
        entries: row.get(2),
        delta_entries: row.get(3),
        tombstones: row.get(4),
        owned: row.get(5),
    }
}

/// A line of `s3vector_sweep`.
#[derive(Clone, Debug)]
pub struct Swept {
    /// `<index uuid>` or `<index uuid>/<segment uuid>`.
    pub prefix: String,
    /// Why it is unused.
    pub reason: String,
    /// Objects below it.
    pub objects: i64,
    /// Their bytes.
    pub bytes: i64,
    /// When it was first seen unused.
    pub since: Option<SystemTime>,
    /// Whether it is gone now.
    pub deleted: bool,
}

/// Lists what is unused in the store, and without `dry_run` deletes what has been so for long.
///
/// # Errors
///
/// What the server reported.
pub fn try_sweep(client: &mut Client, dry_run: bool) -> Result<Vec<Swept>, postgres::Error> {
    let read = |row: &Row| Swept {
        prefix: row.get(0),
        reason: row.get(1),
        objects: row.get(2),
        bytes: row.get(3),
        since: row.get(4),
        deleted: row.get(5),
    };
    let rows = client.query(
        "SELECT prefix, reason, objects, bytes, since, deleted FROM s3vector_sweep(dry_run => $1)",
        &[&dry_run],
    )?;
    Ok(rows.iter().map(read).collect())
}

/// Lists what is unused in the store, and without `dry_run` deletes what has been so for long.
#[track_caller]
pub fn sweep(client: &mut Client, dry_run: bool) -> Vec<Swept> {
    try_sweep(client, dry_run).unwrap_or_else(|error| panic!("sweep: {error:?}"))
}

/// Maintenance of one database as `s3vector_stat_maintenance` describes it.
#[derive(Clone, Debug)]
pub struct Maintenance {
    /// Process id of the worker, when one runs.
    pub pid: Option<i32>,
    /// `idle`, `requested` or `running`.
    pub state: String,
    /// The index worked on.
    pub index: Option<u32>,
    /// What is done to it.
    pub phase: Option<String>,
    /// Flushes done.
    pub flushes: i64,
    /// Merges done.
    pub merges: i64,
    /// Sweeps done.
    pub sweeps: i64,
    /// Rounds through all indexes.
    pub rounds: i64,
    /// Failures.
    pub errors: i64,
    /// The last failure.
    pub last_error: Option<String>,
}

/// Maintenance of a database, when it has had any since the server started.
pub fn maintenance(client: &mut Client, database: &str) -> Option<Maintenance> {
    let row = client
        .query_opt(
            "SELECT pid, state, index, phase, flushes, merges, sweeps, rounds, errors, last_error \
             FROM s3vector_stat_maintenance WHERE database = $1",
            &[&database],
        )
        .expect("statistics of maintenance")?;
    Some(Maintenance {
        pid: row.get(0),
        state: row.get(1),
        index: row.get(2),
        phase: row.get(3),
        flushes: row.get(4),
        merges: row.get(5),
        sweeps: row.get(6),
        rounds: row.get(7),
        errors: row.get(8),
        last_error: row.get(9),
    })
}

/// Waits until a maintenance worker is at work in the database `postgres`.
pub fn wait_for_work(client: &mut Client) -> Maintenance {
    wait_for("the maintenance worker to work", || {
        maintenance(client, "postgres").filter(|found| found.state == "running")
    })
}

/// Waits until no maintenance worker is asked for or at work in the database `postgres`.
pub fn wait_for_rest(client: &mut Client) {
    wait_until("the maintenance worker to be idle", || {
        maintenance(client, "postgres").is_none_or(|found| found.state == "idle")
    });
}

/// Whether the delta of an index is larger than it should be.
pub fn backlog(client: &mut Client, index: &str) -> bool {
    let sql =
        format!("SELECT backlog FROM s3vector_stat_indexes WHERE index = to_regclass('{index}')");
    // The view says nothing of an index that is locked, as while a worker truncates it.
    wait_for("an index nobody keeps locked", || {
        client.query_one(&sql, &[]).expect("statistics of indexes").get(0)
    })
}
