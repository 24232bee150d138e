//! Copies of a cluster: a streaming standby, a base backup restored to an earlier moment, bare files.
//!
//! All read the vectors where the cluster they are copies of stores them.

use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::Client;
use tempfile::TempDir;

use crate::cluster::{Builder, Cluster};
use crate::process::{give_to_server_user, run_as_server_user};
use crate::tools;
use crate::wait::{wait_for, wait_until};

/// Where the server's WAL is after all that `client` has committed.
pub fn position(client: &mut Client) -> u64 {
    // A commit of its own: what came before it in WAL is flushed with it.
    client.batch_execute("SELECT pg_current_xact_id()").expect("a transaction");
    lsn(client, "pg_current_wal_flush_lsn()").expect("a server that writes WAL")
}

/// How far a standby has replayed its primary's WAL.
pub fn replayed(client: &mut Client) -> u64 {
    lsn(client, "pg_last_wal_replay_lsn()").expect("a standby")
}

/// A place in WAL, in bytes.
fn lsn(client: &mut Client, function: &str) -> Option<u64> {
    let bytes: Option<i64> = client
        .query_one(&format!("SELECT ({function} - '0/0')::bigint"), &[])
        .expect("a place in WAL")
        .get(0);
    bytes.map(|bytes| bytes.try_into().expect("not negative"))
}

fn in_recovery(client: &mut Client) -> bool {
    client.query_one("SELECT pg_is_in_recovery()", &[]).expect("a state").get(0)
}

/// `pg_basebackup` of a running cluster into `folder`.
fn base_backup(of: &Cluster, folder: &Path, arguments: &[&str]) {
    run_as_server_user(
        Command::new(tools::postgres("pg_basebackup"))
            .args(["-U", "postgres", "--checkpoint=fast", "--no-sync", "-h"])
            .arg(of.socket())
            .args(arguments)
            .arg("-D")
            .arg(folder),
    );
}

impl Cluster {
    /// Starts a streaming standby of this cluster with the same settings and the same store.
    pub fn standby(&self) -> Self {
        let settings = self.settings_of_a_copy();
        let backup = |data: &Path| base_backup(self, data, &["-R"]);
        Self::builder_on(&tools::directory(), settings, backup).start_bare()
    }

    /// A base backup of this cluster in `place`, to be started beside it as if it were the original.
    pub fn base_backup_in(&self, place: &Path) -> Builder {
        let backup = |data: &Path| base_backup(self, data, &[]);
        Self::builder_on(place, self.settings_of_a_copy(), backup)
    }

    /// Starts a copy of this cluster's files, as somebody without PostgreSQL's tools would make it.
    /// This cluster must be stopped.
    pub fn copy_files(&self) -> Self {
        self.copy_files_in(&tools::directory()).start_bare()
    }

    /// A copy of this cluster's files in `place`. This cluster must be stopped.
    pub fn copy_files_in(&self, place: &Path) -> Builder {
        let copy = |data: &Path| {
            run_as_server_user(Command::new("cp").arg("-a").arg(self.data()).arg(data));
        };
        Self::builder_on(place, self.settings_of_a_copy(), copy)
    }

    /// Waits until this standby has replayed what `primary` has committed.
    pub fn catch_up(&self, primary: &mut Client) {
        let position = position(primary);
        let mut client = self.client();
        wait_until("the standby to replay", || replayed(&mut client) >= position);
    }

    /// Makes a standby a primary, on a timeline of its own.
    pub fn promote(&self) {
        let mut client = self.client();
        let promoted: bool =
            client.query_one("SELECT pg_promote(true, 30)", &[]).expect("promoted").get(0);
        assert!(promoted && !in_recovery(&mut client), "the standby was not promoted");
    }

    /// Names the present moment, and waits until WAL up to it is archived.
    pub fn restore_point(&self, client: &mut Client, name: &str) {
        client.execute("SELECT pg_create_restore_point($1)", &[&name]).expect("a restore point");
        let file: String = client
            .query_one("SELECT pg_walfile_name(pg_current_wal_insert_lsn())", &[])
            .expect("a WAL file")
            .get(0);
        client.batch_execute("SELECT pg_switch_wal()").expect("switched");
        wait_until("WAL to be archived", || self.archive().join(&file).exists());
    }
}

/// A base backup of a cluster that archives its WAL ([`archiving`](crate::cluster::Builder::archiving)).
pub struct Backup(TempDir);

impl Backup {
    /// Takes one.
    pub fn take(of: &Cluster) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("b")
            .tempdir_in(tools::directory())
            .expect("a folder for a base backup");
        give_to_server_user(folder.path());
        let backup = Self(folder);
        base_backup(of, &backup.data(), &[]);
        backup
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Starts a cluster from this backup and the archive of the cluster it was taken of, as that
    /// was at a [restore point](Cluster::restore_point). It can be restored again.
    pub fn restore(&self, of: &Cluster, point: &str) -> Cluster {
        let mut settings = of.settings_of_a_copy();
        settings.insert("archive_mode".to_owned(), "off".to_owned());
        let cluster = Cluster::builder_on(&tools::directory(), settings, |data| {
            run_as_server_user(Command::new("cp").arg("-a").arg(self.data()).arg(data));
            run_as_server_user(Command::new("touch").arg(data.join("recovery.signal")));
        })
        .set("restore_command", format!(r#"cp "{}/%f" "%p""#, of.archive().display()))
        .set("recovery_target_name", point)
        .set("recovery_target_action", "promote")
        .start_bare();
        wait_for("the end of recovery", || {
            let mut client = cluster.try_client("postgres").ok()?;
            (!in_recovery(&mut client)).then_some(())
        });
        cluster
    }
}
