//! Server processes as children of a test.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::tools;

/// A TCP port of the loopback interface that nobody listens on, and that no other test gets.
///
/// Not one that the system picks: it may pick the same one again, for a listener or a connection,
/// before the server that it is meant for has it. These lie below what Linux picks from.
pub fn free_port() -> u16 {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().expect("no test failed here");
    loop {
        let port = fastrand::u16(15_000..32_000);
        if taken.insert(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Makes a command run as the user that PostgreSQL's programs run as.
pub fn as_server_user(command: &mut Command) -> &mut Command {
    if let Some((uid, gid)) = tools::server_user() {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    // Not every folder a test is started from is one that user may enter.
    command.current_dir("/")
}

/// Runs a program as the user that PostgreSQL's programs run as, to its end.
///
/// # Panics
///
/// When it fails; what it printed says why.
pub fn run_as_server_user(command: &mut Command) {
    let output =
        as_server_user(command).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives a file or folder to the user that PostgreSQL's programs run as.
pub fn give_to_server_user(path: &Path) {
    if let Some((uid, gid)) = tools::server_user() {
        std::os::unix::fs::chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
            .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// Starts a server whose output goes to the end of `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let output = File::options().append(true).create(true).open(log).expect("the log opens");
        let errors = output.try_clone().expect("the log is shared");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self(child)
    }

    /// Process id.
    pub fn pid(&self) -> i32 {
        self.0.id().try_into().expect("process ids fit")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Sends a signal and waits for the end, then by force.
    pub fn stop(&mut self, signal: Signal) {
        signal_process(self.pid(), signal);
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() > Duration::from_secs(20) {
                self.kill();
                panic!("a server did not stop within 20 seconds of {signal}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it at once, without a chance to clean up.
    pub fn kill(&mut self) {
        // A server that already ended is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to any process; one that is gone is none to complain about.
pub fn signal_process(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether a process exists.
pub fn exists(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
