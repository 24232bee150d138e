//! What queries read and from where: the last scan, the caches, the storage worker.

use std::fs;

use postgres::Client;

use crate::wait::wait_for;

/// What a session's last scan did, as `s3vector_last_scan` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Rows whose exact distance was needed.
    pub reranked: i32,
    /// Of those, rows that the payload cache had.
    pub cache_hits: i32,
    /// Of those, rows that were read from the table.
    pub heap_rows: i32,
    /// Inner chunks that the storage worker brought.
    pub chunks_fetched: i32,
    /// Of those, the ones that Redis had.
    pub redis_chunks: i32,
    /// Requests to storage.
    pub requests: i32,
    /// Times the scan waited.
    pub waves: i32,
    /// Walks over graphs.
    pub walks: i32,
    /// Passes over the codes of all rows.
    pub sweeps: i32,
    /// Rows handed out although one farther away had been before.
    pub late: i32,
}

/// What the session's last scan did.
#[track_caller]
pub fn last_scan(client: &mut Client) -> Scan {
    let row = client
        .query_one(
            "SELECT reranked, cache_hits, heap_rows, chunks_fetched, redis_chunks, requests, waves, \
             walks, sweeps, late FROM s3vector_last_scan()",
            &[],
        )
        .unwrap_or_else(|error| panic!("the last scan: {error:?}"));
    Scan {
        reranked: row.get(0),
        cache_hits: row.get(1),
        heap_rows: row.get(2),
        chunks_fetched: row.get(3),
        redis_chunks: row.get(4),
        requests: row.get(5),
        waves: row.get(6),
        walks: row.get(7),
        sweeps: row.get(8),
        late: row.get(9),
    }
}

/// Empties the payload cache of the server.
pub fn drop_cache(client: &mut Client) {
    client.batch_execute("SELECT s3vector_drop_cache()").expect("the payload cache is emptied");
}

/// The storage worker: its process, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Process id.
    pub pid: i32,
    /// Bytes of memory of its own: shared memory is not counted.
    pub memory: u64,
    /// Open file descriptors: connections, files.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

/// The storage worker.
pub fn worker(client: &mut Client) -> Worker {
    let pid: i32 = wait_for("the storage worker to run", || {
        client.query_one("SELECT pid FROM s3vector_stat_worker", &[]).expect("a row").get(0)
    });
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker's status");
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("a number")
    };
    Worker {
        pid,
        memory: field("RssAnon:") * 1024,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count(),
        threads: field("Threads:").try_into().expect("few"),
    }
}
