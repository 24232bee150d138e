//! A PostgreSQL cluster of a test's own: data directory, Unix socket, server process.

use std::collections::BTreeMap;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use postgres::error::DbError;
use postgres::{Client, Config, NoTls};
use tempfile::TempDir;

use crate::check;
use crate::errors::Warnings;
use crate::process::{
    Server, as_server_user, exists, give_to_server_user, run_as_server_user, signal_process, tail,
};
use crate::tools;
use crate::wait::{PATIENCE, wait_for, wait_until};

/// How a server is told to end.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Disconnects clients, writes a checkpoint.
    Fast,
    /// No checkpoint: the next start recovers from WAL.
    Immediate,
}

/// A PostgreSQL cluster, stopped and removed when dropped. Before that every index must be found
/// sound, if the server still runs.
///
/// Its only connection is a Unix socket, so that clusters of parallel tests need no ports. The
/// database is `postgres`, the superuser `postgres` without a password.
pub struct Cluster {
    folder: TempDir,
    settings: BTreeMap<String, String>,
    launcher: Vec<String>,
    server: Option<Server>,
    damaged: AtomicBool,
}

/// Configures a [`Cluster`] before its first start.
pub struct Builder(Cluster);

impl Builder {
    /// Adds a line to `postgresql.conf`.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.0.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Adds several lines to `postgresql.conf`.
    pub fn set_all(mut self, settings: &[(&str, String)]) -> Self {
        for (name, value) in settings {
            self = self.set(name, value);
        }
        self
    }

    /// Has finished WAL copied to [`Cluster::archive`].
    pub fn archiving(self) -> Self {
        let archive = self.0.archive();
        fs::create_dir(&archive).expect("a folder for WAL");
        give_to_server_user(&archive);
        self.set("archive_mode", "on")
            .set("archive_command", format!(r#"cp "%p" "{}/%f""#, archive.display()))
    }

    /// Runs the server below another program: its arguments are followed by the server's.
    pub fn launcher(mut self, program: &[&str]) -> Self {
        self.0.launcher = program.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts it, with the extension created.
    pub fn start(self) -> Cluster {
        let cluster = self.start_bare();
        cluster
            .client()
            .batch_execute("CREATE EXTENSION s3vector CASCADE")
            .expect("the extension is created");
        cluster
    }

    /// Starts it with no extension created.
    pub fn start_bare(self) -> Cluster {
        let mut cluster = self.0;
        cluster.start_server();
        cluster
    }
}

impl Cluster {
    /// A new cluster with the library preloaded, not yet started.
    pub fn builder() -> Builder {
        Self::builder_in(&tools::directory())
    }

    /// As [`Cluster::builder`], with the cluster's folder in `place`.
    pub fn builder_in(place: &Path) -> Builder {
        let settings = [
            ("shared_preload_libraries", "s3vector"),
            ("s3vector.cache_size", "32MB"),
            ("shared_buffers", "32MB"),
            ("max_connections", "40"),
            ("maintenance_work_mem", "64MB"),
            ("autovacuum", "off"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self::builder_on(place, settings.into(), |data| {
            run_as_server_user(
                Command::new(tools::postgres("initdb"))
                    .args(["-U", "postgres", "--auth=trust", "--encoding=UTF8"])
                    .args(["--locale=C.UTF-8", "--no-sync", "-D"])
                    .arg(data),
            );
        })
    }

    /// A cluster in `place` with `settings` whose data directory `make` fills, not yet started.
    pub(crate) fn builder_on(
        place: &Path,
        settings: BTreeMap<String, String>,
        make: impl FnOnce(&Path),
    ) -> Builder {
        let folder = tempfile::Builder::new()
            .prefix("c")
            .tempdir_in(place)
            .expect("a folder for the cluster");
        give_to_server_user(folder.path());
        let cluster = Self {
            folder,
            settings,
            launcher: Vec::new(),
            server: None,
            damaged: AtomicBool::new(false),
        };
        make(&cluster.data());
        Builder(cluster)
    }

    /// The settings of a copy of this cluster: the same, with vectors stored where this one's are.
    pub(crate) fn settings_of_a_copy(&self) -> BTreeMap<String, String> {
        let mut settings = self.settings.clone();
        settings
            .entry("s3vector.storage_url".to_owned())
            .or_insert_with(|| format!("file://{}", self.store().display()));
        settings
    }

    /// A started cluster with default settings and the extension created.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Says that the test does damage, or takes the store away for good: nobody expects the indexes
    /// to be sound at the end.
    pub fn damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder that `s3vector.storage_url` names by default.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("data.s3vector")
    }

    /// The folder of the Unix socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> i32 {
        self.server.as_ref().expect("the server runs").pid()
    }

    /// The server log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).expect("the log is readable"))
            .into_owned()
    }

    /// A folder for WAL that the server archives, when [`Builder::archiving`] was asked for.
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }

    /// A new connection as superuser.
    pub fn client(&self) -> Client {
        self.try_client("postgres").unwrap_or_else(|error| panic!("connect: {error}"))
    }

    /// A new connection as superuser, and the warnings it gets.
    pub fn client_with_warnings(&self) -> (Client, Warnings) {
        let warnings = Warnings::default();
        let noting = warnings.clone();
        (self.client_with_notices(move |notice| noting.note(&notice)), warnings)
    }

    /// A new connection as superuser whose notices and warnings are handed to `hear`.
    pub fn client_with_notices(&self, hear: impl Fn(DbError) + Send + Sync + 'static) -> Client {
        self.address("postgres", "postgres")
            .notice_callback(hear)
            .connect(NoTls)
            .unwrap_or_else(|error| panic!("connect: {error}"))
    }

    /// A new connection as another role.
    pub fn client_as(&self, role: &str) -> Client {
        self.try_client(role).unwrap_or_else(|error| panic!("connect as {role}: {error}"))
    }

    /// A new connection, if the server accepts one.
    ///
    /// # Errors
    ///
    /// What the server or the socket said.
    pub fn try_client(&self, role: &str) -> Result<Client, postgres::Error> {
        self.try_client_of("postgres", role)
    }

    /// A new connection as superuser to another database than `postgres`.
    pub fn client_of(&self, database: &str) -> Client {
        self.try_client_of(database, "postgres")
            .unwrap_or_else(|error| panic!("connect to {database}: {error}"))
    }

    fn try_client_of(&self, database: &str, role: &str) -> Result<Client, postgres::Error> {
        self.address(database, role).connect(NoTls)
    }

    fn address(&self, database: &str, role: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.socket()).user(role).dbname(database).connect_timeout(PATIENCE);
        config
    }

    /// A new connection once the server has gone through crash recovery `times` times.
    pub fn client_after_recovery(&self, times: usize) -> Client {
        // Until it says so, the dying server may still take a connection.
        wait_until("the server to reinitialize", || {
            self.log().matches("all server processes terminated; reinitializing").count() >= times
        });
        wait_for("recovery", || self.try_client("postgres").ok())
    }

    /// Changes settings in the configuration file and has the running server read it.
    pub fn reconfigure(&mut self, settings: &[(&str, String)]) {
        for (name, value) in settings {
            self.settings.insert((*name).to_owned(), value.clone());
        }
        self.write_settings();
        let mut client = self.client();
        let loaded = |client: &mut Client| -> String {
            client.query_one("SELECT pg_conf_load_time()::text", &[]).expect("a time").get(0)
        };
        let before = loaded(&mut client);
        signal_process(self.pid(), Signal::SIGHUP);
        // A backend that has seen the file tells that the postmaster has: it passes the signal on.
        wait_until("the configuration to be read", || loaded(&mut client) != before);
    }

    /// Stops the server.
    pub fn stop(&mut self, how: Stop) {
        if let Some(mut server) = self.server.take() {
            server.stop(match how {
                Stop::Fast => Signal::SIGINT,
                Stop::Immediate => Signal::SIGQUIT,
            });
        }
    }

    /// Kills the postmaster with SIGKILL and waits until its children have noticed and gone.
    pub fn crash(&mut self) {
        let children = self.processes();
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
        wait_until("the children of a killed postmaster to end", || {
            !children.iter().any(|pid| exists(*pid))
        });
    }

    /// Process ids of the postmaster's children.
    pub fn processes(&self) -> Vec<i32> {
        let pid = self.pid();
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .expect("children are listed")
            .split_whitespace()
            .map(|pid| pid.parse().expect("a process id"))
            .collect()
    }

    /// Starts a stopped server.
    pub fn start_server(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        self.write_settings();
        let log = self.log_file();
        let mut arguments = self.launcher.clone();
        arguments.push(tools::postgres("postgres").to_string_lossy().into_owned());
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).arg("-D").arg(self.data());
        if self.launcher.is_empty() {
            as_server_user(&mut command);
        }
        self.server = Some(Server::start(&mut command, &log));
        wait_for("PostgreSQL to accept connections", || {
            let server = self.server.as_mut().expect("just started");
            assert!(server.is_running(), "PostgreSQL ended:\n{}", tail(&log, 20));
            self.try_client("postgres").ok()
        });
    }

    /// Stops the server and starts it again: shared memory is empty afterwards.
    pub fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.start_server();
    }

    fn write_settings(&self) {
        let mut text = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nlogging_collector = off\n",
            self.socket().display()
        );
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} = '{value}'\n"));
        }
        // initdb's own file holds nothing that a test wants.
        fs::write(self.data().join("postgresql.conf"), text).expect("postgresql.conf is written");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let runs = self.server.as_mut().is_some_and(Server::is_running);
        let outcome = match runs
            && !std::thread::panicking()
            && !self.damaged.load(Ordering::Relaxed)
        {
            true => std::panic::catch_unwind(AssertUnwindSafe(|| check::assert_all_sound(self))),
            false => Ok(()),
        };
        if std::thread::panicking() || outcome.is_err() {
            eprintln!("---- the end of the server log ----\n{}\n----", tail(&self.log_file(), 40));
        }
        if let Some(server) = &mut self.server {
            // SIGQUIT lets the postmaster end its children; SIGKILL follows when `server` drops.
            signal_process(server.pid(), Signal::SIGQUIT);
            let start = std::time::Instant::now();
            while server.is_running() && start.elapsed() < PATIENCE {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }
}
