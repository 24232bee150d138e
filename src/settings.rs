//! Every configuration parameter, and [`Settings`]: a plain copy of those that threads need.
//!
//! Storage settings are `SIGHUP`: one value for the whole server, set by whoever may edit
//! `postgresql.conf` or `ALTER SYSTEM`. The storage worker serves all databases and must read
//! the objects a backend wrote, so a per-session value would only break things, and nothing a
//! plain user can set may choose an address the server talks to (invariant 8).

use std::ffi::{CStr, CString};
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;
use storage::{RedisConfig, Secret, StorageConfig};

static STORAGE_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static S3_ENDPOINT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static S3_REGION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static S3_PATH_STYLE: GucSetting<bool> = GucSetting::<bool>::new(false);
static S3_ACCESS_KEY_ID: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
static S3_SECRET_ACCESS_KEY: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
static REDIS_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static REDIS_TTL: GucSetting<i32> = GucSetting::<i32>::new(24 * 3600);
static REDIS_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5);
static PAYLOAD_FALLBACK: GucSetting<PayloadFallback> =
    GucSetting::<PayloadFallback>::new(PayloadFallback::Heap);
static RERANK: GucSetting<Rerank> = GucSetting::<Rerank>::new(Rerank::Strict);
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);
static GRAPH_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(4 * 1024 * 1024);
static GRAPH_RELOAD: GucSetting<bool> = GucSetting::<bool>::new(true);
static EF_SEARCH: GucSetting<i32> = GucSetting::<i32>::new(DEFAULT_EF_SEARCH);
static FETCH_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static FETCH_CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(32);
static FLUSH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(4 * 1024);
static MERGE_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
static MAINTENANCE_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static GC_GRACE: GucSetting<i32> = GucSetting::<i32>::new(24 * 3600);
static SWEEP_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(3600);
static WAVE_ROWS: GucSetting<i32> = GucSetting::<i32>::new(10);

/// Candidates a search keeps unless told otherwise; `docs/benchmarks.md` has the measurement.
const DEFAULT_EF_SEARCH: i32 = 100;

/// What a query does when storage does not bring the vectors it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum PayloadFallback {
    /// Reads them from the table.
    #[name = c"heap"]
    Heap,
    /// Fails with the storage's error.
    #[name = c"error"]
    Error,
}

/// How exactly a scan settles the order of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PostgresGucEnum)]
pub enum Rerank {
    /// Every row by its exact distance.
    #[default]
    #[name = c"strict"]
    Strict,
    /// The right rows; those that are certainly among them in the order of their estimates.
    #[name = c"relaxed"]
    Relaxed,
    /// By estimates alone.
    #[name = c"off"]
    Off,
}

/// Whether the library is being loaded through `shared_preload_libraries`.
pub fn preloading() -> bool {
    // SAFETY: a flag of the main thread, which is the one that loads libraries.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Defines every parameter. Called once, from `_PG_init`.
pub fn register() {
    register_storage();
    register_redis();
    register_memory();
    register_search();
    register_quality();
    register_maintenance();
    // SAFETY: the prefix is a NUL-terminated literal; PostgreSQL copies it.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"s3vector".as_ptr()) };
}

fn register_storage() {
    GucRegistry::define_string_guc(
        c"s3vector.storage_url",
        c"Where segments are stored: file:///folder or s3://bucket/prefix.",
        c"Empty means a folder beside the data directory, named like it with .s3vector appended.",
        &STORAGE_URL,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"s3vector.s3_endpoint",
        c"Endpoint URL of an S3-compatible server.",
        c"Empty means Amazon S3 in the configured region.",
        &S3_ENDPOINT,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"s3vector.s3_region",
        c"Region of the bucket.",
        c"Empty means the region of the AWS environment or profile.",
        &S3_REGION,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_bool_guc(
        c"s3vector.s3_path_style",
        c"Puts the bucket into the path of a request instead of the host name.",
        c"Most S3-compatible servers other than Amazon's need this.",
        &S3_PATH_STYLE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    let secret = || GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL;
    // SAFETY: the show hooks cannot panic: they hand out literals.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"s3vector.s3_access_key_id",
            c"Access key for S3; empty means the AWS credential chain.",
            c"The chain is environment, profile, web identity, container, instance role.",
            &S3_ACCESS_KEY_ID,
            GucContext::Sighup,
            secret(),
            None,
            None,
            Some(show_access_key),
        );
        GucRegistry::define_string_guc_with_hooks(
            c"s3vector.s3_secret_access_key",
            c"Secret key for S3; empty means the AWS credential chain.",
            c"Never shown.",
            &S3_SECRET_ACCESS_KEY,
            GucContext::Sighup,
            secret(),
            None,
            None,
            Some(show_secret_key),
        );
    }
}

unsafe extern "C-unwind" fn show_access_key() -> *const std::ffi::c_char {
    masked(&S3_ACCESS_KEY_ID)
}

unsafe extern "C-unwind" fn show_secret_key() -> *const std::ffi::c_char {
    masked(&S3_SECRET_ACCESS_KEY)
}

/// What SHOW prints of a secret: whether there is one, nothing else.
fn masked(setting: &GucSetting<Option<CString>>) -> *const std::ffi::c_char {
    let shown: &'static CStr = if text(setting).is_some() { c"********" } else { c"" };
    shown.as_ptr()
}

fn register_redis() {
    // SAFETY: the show hook cannot panic: it hands out a buffer of its own.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"s3vector.redis_url",
            c"Redis that keeps vectors read from storage: redis://[user:password@]host[:port][/db].",
            c"rediss:// for TLS, several URLs with commas between them for a cluster. Empty means none.",
            &REDIS_URL,
            GucContext::Sighup,
            GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL,
            None,
            None,
            Some(show_redis_url),
        );
    }
    GucRegistry::define_int_guc(
        c"s3vector.redis_ttl",
        c"How long Redis keeps what was read from storage.",
        c"",
        &REDIS_TTL,
        1,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"s3vector.redis_timeout",
        c"Longest time a query waits for Redis before it asks storage.",
        c"",
        &REDIS_TIMEOUT,
        1,
        10_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

/// The URL without what may be a password.
unsafe extern "C-unwind" fn show_redis_url() -> *const std::ffi::c_char {
    static mut SHOWN: [u8; 256] = [0; 256];
    // What cannot be read as a URL may hold a password anywhere.
    let shown = redis().map_or(Ok(String::new()), |redis| redis.address());
    let shown = shown.unwrap_or_else(|_| "********".to_owned());
    let length = shown.floor_char_boundary(255.min(shown.len()));
    let buffer = &raw mut SHOWN;
    // SAFETY: settings are shown on the main thread only, one at a time; the last byte stays 0.
    unsafe {
        (&mut *buffer)[..length].copy_from_slice(&shown.as_bytes()[..length]);
        (&mut *buffer)[length] = 0;
        buffer.cast()
    }
}

fn register_memory() {
    // A parameter that can only change at server start cannot be defined later than that.
    let at_start = if preloading() { GucContext::Postmaster } else { GucContext::Sighup };
    GucRegistry::define_int_guc(
        c"s3vector.cache_size",
        c"Shared memory for vectors fetched from storage.",
        c"",
        &CACHE_SIZE,
        1024,
        i32::MAX,
        at_start,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"s3vector.graph_memory",
        c"Shared memory for the graphs and codes of all indexes.",
        c"The least recently used graphs are dropped when another one needs the room.",
        &GRAPH_MEMORY,
        1024,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_bool_guc(
        c"s3vector.graph_reload",
        c"Loads graphs when the server starts that were in memory when it stopped.",
        c"The most used ones first, as many as fit into s3vector.graph_memory.",
        &GRAPH_RELOAD,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

fn register_search() {
    GucRegistry::define_int_guc(
        c"s3vector.ef_search",
        c"Candidates a search keeps: larger finds more, slower.",
        c"",
        &EF_SEARCH,
        1,
        10_000,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_int_guc(
        c"s3vector.fetch_timeout",
        c"Longest time a query waits for one fetch from storage.",
        c"",
        &FETCH_TIMEOUT,
        10,
        3_600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"s3vector.fetch_concurrency",
        c"Requests to storage under way at once for one query or one load.",
        c"",
        &FETCH_CONCURRENCY,
        1,
        1024,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"s3vector.wave_rows",
        c"Rows the first fetch of a scan settles when the plan shows no LIMIT.",
        c"Every further fetch of the same scan settles twice as many.",
        &WAVE_ROWS,
        1,
        1000,
        GucContext::Userset,
        GucFlags::default(),
    );
}

fn register_quality() {
    GucRegistry::define_enum_guc(
        c"s3vector.payload_fallback",
        c"What a query does when storage does not bring the vectors it needs.",
        c"\"heap\" reads them from the table and warns, \"error\" fails.",
        &PAYLOAD_FALLBACK,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"s3vector.rerank",
        c"How exactly the order of rows is settled.",
        c"\"strict\": exact order; \"relaxed\": the right rows, partly in estimated order; \"off\": \
          estimates only, nothing is fetched.",
        &RERANK,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
}

fn register_maintenance() {
    GucRegistry::define_int_guc(
        c"s3vector.flush_size",
        c"Size of the rows inserted since the last flush at which they become a segment.",
        c"Every query reads these rows as they are; a maintenance worker turns them into a segment.",
        &FLUSH_SIZE,
        64,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"s3vector.merge_memory",
        c"Memory that a flush or a merge of segments may use.",
        c"Segments that would take more to merge stay apart.",
        &MERGE_MEMORY,
        4 * 1024,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"s3vector.maintenance_workers",
        c"Maintenance workers that run at once, at most one a database.",
        c"With 0 nothing is flushed, merged or swept unless a function is called to do it.",
        &MAINTENANCE_WORKERS,
        0,
        64,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"s3vector.gc_grace",
        c"How long objects that no index needs are kept.",
        c"Longer than the longest query, the lag of a replica and the age of a backup to restore.",
        &GC_GRACE,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"s3vector.sweep_interval",
        c"How often every database is looked through for work and for unused objects.",
        c"0 leaves that to the functions.",
        &SWEEP_INTERVAL,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

/// `s3vector.flush_size` in bytes.
pub fn flush_bytes() -> u64 {
    FLUSH_SIZE.get() as u64 * 1024
}

/// `s3vector.merge_memory` in bytes.
pub fn merge_memory() -> usize {
    MERGE_MEMORY.get() as usize * 1024
}

/// `s3vector.maintenance_workers`.
pub fn maintenance_workers() -> usize {
    MAINTENANCE_WORKERS.get() as usize
}

/// `s3vector.gc_grace`.
pub fn gc_grace() -> Duration {
    Duration::from_secs(GC_GRACE.get() as u64)
}

/// `s3vector.sweep_interval`; `None` for never.
pub fn sweep_interval() -> Option<Duration> {
    Some(Duration::from_secs(SWEEP_INTERVAL.get() as u64)).filter(|interval| !interval.is_zero())
}

/// The value of a string parameter, or `None` when it is empty.
fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    setting
        .get()
        .map(|value| value.to_string_lossy().trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// `s3vector.ef_search`.
pub fn ef_search() -> usize {
    EF_SEARCH.get() as usize
}

/// `s3vector.wave_rows`.
pub fn wave_rows() -> usize {
    WAVE_ROWS.get() as usize
}

/// `s3vector.fetch_timeout`.
pub fn fetch_timeout() -> Duration {
    Duration::from_millis(FETCH_TIMEOUT.get() as u64)
}

/// `s3vector.cache_size` in bytes.
pub fn cache_bytes() -> usize {
    CACHE_SIZE.get() as usize * 1024
}

/// `s3vector.graph_memory` in bytes.
pub fn graph_memory() -> u64 {
    GRAPH_MEMORY.get() as u64 * 1024
}

/// `s3vector.graph_reload`.
pub fn graph_reload() -> bool {
    GRAPH_RELOAD.get()
}

/// `s3vector.fetch_concurrency`.
pub fn fetch_concurrency() -> usize {
    FETCH_CONCURRENCY.get() as usize
}

/// `s3vector.payload_fallback`.
pub fn payload_fallback() -> PayloadFallback {
    PAYLOAD_FALLBACK.get()
}

/// `s3vector.rerank`.
pub fn rerank() -> Rerank {
    RERANK.get()
}

/// The Redis this server uses, if it does.
pub fn redis() -> Option<RedisConfig> {
    Some(RedisConfig {
        url: Secret::new(text(&REDIS_URL)?),
        ttl: Duration::from_secs(REDIS_TTL.get() as u64),
        timeout: Duration::from_millis(REDIS_TIMEOUT.get() as u64),
    })
}

/// `s3vector.storage_url`, or the default in its place.
pub fn storage_url() -> String {
    text(&STORAGE_URL).unwrap_or_else(default_storage_url)
}

/// The store this server uses, as threads need it: no reference to PostgreSQL's memory.
pub fn storage() -> StorageConfig {
    StorageConfig {
        s3_endpoint: text(&S3_ENDPOINT),
        s3_region: text(&S3_REGION),
        s3_path_style: S3_PATH_STYLE.get(),
        access_key_id: text(&S3_ACCESS_KEY_ID),
        secret_access_key: text(&S3_SECRET_ACCESS_KEY).map(Secret::new),
        timeout: fetch_timeout(),
        concurrency: fetch_concurrency(),
        ..StorageConfig::new(storage_url())
    }
}

/// `file://<data directory>.s3vector`: beside the data directory, so that neither a file-level
/// copy of the cluster nor `pg_basebackup` drags gigabytes of derived data along.
fn default_storage_url() -> String {
    // SAFETY: DataDir is set before any library is loaded and never changes.
    let directory = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    format!("file://{}.s3vector", directory.to_string_lossy().trim_end_matches('/'))
}
