//! Do collections move in from Zarr arrays and from the older engine, and out again?

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::Cluster;
use postgres::Client;

mod arrays;
mod export;
mod old;
mod trouble;

/// Longest time that a cancelled statement may go on on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// A folder that the server can read and write.
fn folder(cluster: &Cluster, name: &str) -> PathBuf {
    let folder = cluster.store().with_file_name(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    harness::process::give_to_server_user(&folder);
    folder
}

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// The sample of the older engine, unpacked: the folder of its collection.
fn old_collection(cluster: &Cluster) -> PathBuf {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/old_collection.tar.gz");
    let folder = folder(cluster, "old");
    let status = Command::new("tar")
        .args(["--no-same-owner", "-xzf"])
        .arg(archive)
        .arg("-C")
        .arg(&folder)
        .status();
    assert!(status.expect("tar starts").success(), "the sample is unpacked");
    folder.join("dictionary")
}
