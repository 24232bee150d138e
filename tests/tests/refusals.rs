//! Is what must not happen refused, with a message that tells what to do?

use std::process::Command;

use harness::errors::failure;
use harness::items::Source;
use harness::{Cluster, Items, Metric, answers, tools};

const STORAGE_SETTINGS: [&str; 7] = [
    "redis_url",
    "storage_url",
    "s3_endpoint",
    "s3_region",
    "s3_path_style",
    "s3_access_key_id",
    "s3_secret_access_key",
];

/// Invariant 8: nothing a plain user can set decides which address the server talks to.
#[test]
fn a_plain_user_cannot_change_storage_settings() {
    let cluster = Cluster::start();
    let mut admin = cluster.client();
    admin
        .batch_execute(
            "CREATE ROLE plain LOGIN; CREATE ROLE owner LOGIN CREATEDB CREATEROLE;
             GRANT ALL ON SCHEMA public TO plain",
        )
        .expect("roles");
    admin.batch_execute("CREATE DATABASE theirs OWNER owner").expect("a database");
    let mut plain = cluster.client_as("plain");
    let mut owner = cluster.client_as("owner");
    for setting in STORAGE_SETTINGS {
        let value = if setting == "s3_path_style" { "on" } else { "http://127.0.0.1:1" };
        for statement in [
            format!("SET s3vector.{setting} = '{value}'"),
            format!("SELECT set_config('s3vector.{setting}', '{value}', false)"),
        ] {
            failure(plain.batch_execute(&statement)).expect("55P02", &[setting]);
            // It belongs to the whole server: not even a superuser sets it for a session.
            failure(admin.batch_execute(&statement)).expect("55P02", &[setting]);
        }
        failure(plain.batch_execute(&format!("ALTER SYSTEM SET s3vector.{setting} = '{value}'")))
            .expect("42501", &[]);
        failure(
            owner.batch_execute(&format!(
                "ALTER DATABASE theirs SET s3vector.{setting} = '{value}'"
            )),
        )
        .expect("55P02", &[setting]);
        failure(
            plain.batch_execute(&format!("ALTER ROLE plain SET s3vector.{setting} = '{value}'")),
        )
        .expect("55P02", &[setting]);
    }
    // Reloptions cannot name a place either.
    let items = Items::create(&mut plain, "items", Metric::L2, Source::new(1, 8).vectors(20));
    failure(items.try_index(&mut plain, "WITH (storage_url = 'file:///tmp')"))
        .expect("22023", &["storage_url"]);
}

#[test]
fn secrets_are_not_shown() {
    let secret = "dont-show-me";
    let cluster = Cluster::builder()
        .set("s3vector.s3_access_key_id", secret)
        .set("s3vector.s3_secret_access_key", secret)
        .start();
    let mut admin = cluster.client();
    admin.batch_execute("CREATE ROLE plain LOGIN").expect("a role");
    let mut plain = cluster.client_as("plain");
    for setting in ["s3_access_key_id", "s3_secret_access_key"] {
        let shown: String =
            admin.query_one(&format!("SHOW s3vector.{setting}"), &[]).expect("shown").get(0);
        assert_eq!(shown, "********");
        failure(plain.query_one(&format!("SHOW s3vector.{setting}"), &[]))
            .expect("42501", &[setting]);
    }
    for client in [&mut admin, &mut plain] {
        let rows: i64 = client
            .query_one(
                &format!("SELECT count(*) FROM pg_settings WHERE setting LIKE '%{secret}%'"),
                &[],
            )
            .expect("a count")
            .get(0);
        assert_eq!(rows, 0);
    }
    assert!(!cluster.log().contains(secret), "the log shows a secret");
}

#[test]
fn an_unknown_scheme() {
    let cluster =
        Cluster::builder().set("s3vector.storage_url", "gopher://example/vectors").start();
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, Source::new(1, 8).vectors(20));
    failure(items.try_index(&mut client, "")).expect("22023", &["gopher"]);
}

#[test]
fn a_folder_that_cannot_be_made() {
    let cluster = Cluster::builder().set("s3vector.storage_url", "file:///proc/nowhere").start();
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, Source::new(1, 8).vectors(20));
    let report = failure(items.try_index(&mut client, ""));
    assert!(report.text().contains("/proc/nowhere"), "{report:?}");
}

#[test]
fn the_library_is_not_preloaded() {
    let cluster = Cluster::builder().set("shared_preload_libraries", "").start();
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, Source::new(1, 8).vectors(20));
    failure(items.try_index(&mut client, ""))
        .expect("55000", &["shared_preload_libraries", "s3vector", "postgresql.conf"]);
    // The rest of the database is none the worse.
    assert_eq!(answers::ask(&mut client, &items, &[0.0; 8], 10).len(), 10);
}

#[test]
fn options_out_of_bounds() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, Source::new(1, 8).vectors(20));
    for (option, value) in [
        ("m", "1"),
        ("m", "101"),
        ("ef_construction", "3"),
        ("ef_construction", "1001"),
        ("bits", "'3'"),
        ("payload", "'float64'"),
        ("compression", "'gzip'"),
        ("chunk_rows", "-1"),
        ("chunk_rows", "65536"),
        ("shard_rows", "-1"),
        ("shard_rows", "17"),
        ("nonsense", "1"),
    ] {
        failure(items.try_index(&mut client, &format!("WITH ({option} = {value})")))
            .expect("22023", &[option]);
    }
    items.index(&mut client, "");
    answers::assert_recall(&mut client, &items, &Source::new(2, 8).vectors(5), 0.95);
}

/// Whether this machine lets us give a server a view of its own of the file system.
fn can_mount() -> bool {
    let can = tools::is_root()
        && Command::new("unshare")
            .args(["--mount", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !can {
        println!("skipped: needs root and the right to unshare mounts");
    }
    can
}

/// A launcher that mounts a small tmpfs, seen by the server alone, and runs it as its user.
fn with_small(folder: &str, size: &str) -> String {
    format!(
        "mount -t tmpfs -o size={size},mode=1777 tmpfs '{folder}' && \
         exec setpriv --reuid=postgres --regid=postgres --clear-groups \"$@\""
    )
}

fn unshared(script: &str) -> [&str; 6] {
    ["unshare", "--mount", "sh", "-c", script, "sh"]
}

#[test]
fn the_disk_is_full_while_building() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir_in(tools::directory()).expect("a folder");
    let store = folder.path().to_string_lossy().into_owned();
    let script = with_small(&store, "1m");
    let cluster = Cluster::builder()
        .launcher(&unshared(&script))
        .set("s3vector.storage_url", format!("file://{store}"))
        .start();
    let mut client = cluster.client();
    let mut source = Source::new(1, 128);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(4000));
    failure(items.try_index(&mut client, "")).expect("53100", &[&store]);
    let indexes: i64 = client
        .query_one("SELECT count(*) FROM pg_class WHERE relname = 'items_index'", &[])
        .expect("a count")
        .get(0);
    assert_eq!(indexes, 0);
    // What was written before the disk was full is gone: a small index fits.
    let small = Items::create(&mut client, "small", Metric::L2, source.vectors(200));
    small.index(&mut client, "");
    answers::assert_recall(&mut client, &small, &source.vectors(200), 0.95);
}

#[test]
fn shared_memory_is_too_small_for_the_graph() {
    if !can_mount() {
        return;
    }
    let script = with_small("/dev/shm", "2m");
    let cluster = Cluster::builder().launcher(&unshared(&script)).start();
    let mut client = cluster.client();
    let mut source = Source::new(1, 128);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(12_000));
    items.index(&mut client, "");
    answers::prefer_index(&mut client);
    failure(answers::try_ask(&mut client, &items, &source.vector(), 10))
        .expect("53200", &["/dev/shm"]);
    // A smaller one still fits, and the server goes on.
    let small = Items::create(&mut client, "small", Metric::L2, source.vectors(200));
    small.index(&mut client, "");
    answers::assert_recall(&mut client, &small, &source.vectors(200), 0.95);
    // Nor does it fit for the check at the end.
    client.batch_execute("DROP TABLE items").expect("dropped");
}

/// The same with the extension's own limit.
#[test]
fn graph_memory_is_too_small_for_the_graph() {
    let mut cluster = Cluster::builder().set("s3vector.graph_memory", "1MB").start();
    let mut client = cluster.client();
    let mut source = Source::new(1, 128);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(12_000));
    items.index(&mut client, "");
    answers::prefer_index(&mut client);
    failure(answers::try_ask(&mut client, &items, &source.vector(), 10))
        .expect("53200", &["s3vector.graph_memory"]);
    cluster.reconfigure(&[("s3vector.graph_memory", "64MB".to_owned())]);
    answers::assert_recall(&mut client, &items, &source.vectors(20), 0.9);
}

/// Neither the server log nor SHOW has the value of a secret setting, however it was set.
#[test]
fn secrets_that_change_are_not_logged() {
    let secret = "dont-show-me";
    let mut cluster = Cluster::builder()
        .set("log_statement", "all")
        .set("log_min_error_statement", "log")
        .start();
    let url = format!("redis://:{secret}@127.0.0.1:1");
    cluster.reconfigure(&[
        ("s3vector.redis_url", url.clone()),
        ("s3vector.s3_secret_access_key", secret.to_owned()),
        ("s3vector.s3_access_key_id", secret.to_owned()),
    ]);
    let mut client = cluster.client();
    for setting in ["redis_url", "s3_secret_access_key", "s3_access_key_id"] {
        client
            .batch_execute(&format!("ALTER SYSTEM SET s3vector.{setting} = '{secret} in a file'"))
            .expect("a setting");
        let error = client.batch_execute(&format!("SET S3Vector.{setting} = '{secret}'"));
        failure(error).expect("55P02", &[setting]);
    }
    let shown: String = client.query_one("SHOW s3vector.redis_url", &[]).expect("shown").get(0);
    assert!(shown.contains("127.0.0.1:1") && !shown.contains(secret), "{shown}");
    cluster.reconfigure(&[("s3vector.redis_url", format!("redis://:{secret}"))]);
    let mut client = cluster.client();
    let shown: String = client.query_one("SHOW s3vector.redis_url", &[]).expect("shown").get(0);
    assert!(!shown.contains(secret), "{shown}");
    let log = cluster.log();
    assert!(log.contains("s3vector.redis_url"), "the log tells what has changed");
    assert!(!log.contains(secret), "the log shows a secret");
}
