//! Ways to die at a fault point, each with the proof that it happened there.

use std::thread::{self, JoinHandle};

use harness::cluster::Stop;
use harness::errors::failure;
use harness::process::{exists, signal_process};
use harness::wait::{wait_for, wait_until};
use nix::sys::signal::Signal;
use postgres::Client;

use crate::ground::Ground;

/// The advisory lock that processes wait for at a fault point with the action `block`.
pub const LOCK: i64 = 7331;

/// What happens to a process at a fault point, or to the server while the process stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It kills itself with SIGKILL.
    Kill,
    /// It raises an error.
    Error,
    /// It goes on after others have done what they do meanwhile.
    GoOn,
    /// It is cancelled.
    Cancel,
    /// It is terminated.
    Terminate,
    /// The storage worker is killed with SIGKILL.
    KillStorageWorker,
    /// The server is stopped at once, without a checkpoint.
    StopImmediately,
    /// The postmaster is killed with SIGKILL.
    KillPostmaster,
}

/// Every way.
pub const WAYS: [Way; 8] = [
    Way::Kill,
    Way::Error,
    Way::GoOn,
    Way::Cancel,
    Way::Terminate,
    Way::KillStorageWorker,
    Way::StopImmediately,
    Way::KillPostmaster,
];

impl Ground {
    /// Runs a statement that dies at `point`; `meanwhile` runs while it stands there, when it
    /// does. The server is up again afterwards.
    ///
    /// # Panics
    ///
    /// When the statement does not reach the point, or is not ended in the way asked for.
    pub fn strike(
        &mut self,
        point: &str,
        way: Way,
        statement: &str,
        meanwhile: impl FnOnce(&mut Self),
    ) {
        let mut victim = self.cluster.client();
        let pid = backend(&mut victim);
        let set = |victim: &mut Client, action: &str| {
            victim
                .batch_execute(&format!("SET s3vector.fault_point = '{point}={action}'"))
                .expect("a build with fault points");
        };
        match way {
            Way::Kill => {
                set(&mut victim, "kill");
                let before = self.recoveries();
                let result = victim.batch_execute(statement);
                let error = result.expect_err("the statement passed the point");
                assert!(error.as_db_error().is_none(), "not killed at {point}: {error:?}");
                self.killed(before, pid);
            }
            Way::Error => {
                set(&mut victim, "error");
                let report = failure(victim.batch_execute(statement));
                assert_eq!(report.message, format!("fault point {point}"));
            }
            _ => {
                set(&mut victim, "block");
                let keeper = self.block();
                let statement = statement.to_owned();
                let end = thread::spawn(move || victim.batch_execute(&statement));
                wait_until("the statement to stand at the point", || {
                    assert!(!end.is_finished(), "the statement passed {point} without standing");
                    self.standing().is_some_and(|found| found == pid)
                });
                meanwhile(self);
                self.end(way, pid, keeper);
                self.judge(way, end);
            }
        }
    }

    /// Lets the maintenance worker die at `point` in the work that is waiting for it. It is not
    /// allowed to start again afterwards.
    ///
    /// # Panics
    ///
    /// When the worker does not reach the point, or does not end in the way asked for.
    pub fn strike_worker(&mut self, point: &str, way: Way, meanwhile: impl FnOnce(&mut Self)) {
        let action = match way {
            Way::Kill => "kill",
            Way::Error => "error",
            _ => "block",
        };
        let keeper = (action == "block").then(|| self.block());
        let log = self.cluster.log().len();
        self.configure(&[
            ("s3vector.fault_point", &format!("{point}={action}")),
            ("s3vector.maintenance_workers", "2"),
        ]);
        // A delta that grows asks for maintenance, also when its rows are dead at once. A worker
        // that kills itself takes this session with it.
        let asked = self.client.batch_execute(
            "BEGIN; INSERT INTO items SELECT -1, embedding FROM items LIMIT 60; ROLLBACK",
        );
        match way {
            Way::Kill => {
                wait_until("the worker to be killed", || {
                    self.cluster.log()[log..].lines().any(|line| {
                        line.contains("maintenance") && line.contains("terminated by signal 9")
                    })
                });
            }
            Way::Error => {
                asked.expect("rows are inserted");
                wait_until("the worker to fail", || {
                    self.cluster.log()[log..].contains(&format!("fault point {point}"))
                });
                let told = "SELECT count(*) FROM s3vector_stat_maintenance \
                     WHERE errors > 0 AND last_error LIKE '%fault point%'";
                wait_until("the view to tell of it", || self.number(told) == 1);
            }
            _ => {
                asked.expect("rows are inserted");
                let pid = wait_for("the worker to stand at the point", || self.standing());
                let kind: String = self
                    .client
                    .query_one("SELECT backend_type FROM pg_stat_activity WHERE pid = $1", &[&pid])
                    .expect("the process that stands at the point is listed")
                    .get(0);
                assert_eq!(kind, "s3vector maintenance worker");
                meanwhile(self);
                self.end(way, pid, keeper.expect("the lock is held"));
            }
        }
        self.calm();
    }

    /// Takes the lock that makes others stand at their fault points.
    fn block(&self) -> Client {
        let mut keeper = self.cluster.client();
        keeper.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).expect("the lock is free");
        keeper
    }

    /// The process that stands at a fault point.
    fn standing(&mut self) -> Option<i32> {
        let sql = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND classid = 0 AND objid = 7331 AND objsubid = 1";
        self.client.query_opt(sql, &[]).expect("locks").map(|row| row.get(0))
    }

    /// Brings about the end of process `pid`, which stands at a fault point.
    fn end(&mut self, way: Way, pid: i32, mut keeper: Client) {
        match way {
            Way::GoOn => {
                keeper.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).expect("unlocked");
            }
            Way::Cancel => {
                self.client.execute("SELECT pg_cancel_backend($1)", &[&pid]).expect("cancelled");
                // Its wait must end by the signal, not by the lock.
                wait_until("it to stop waiting", || self.standing().is_none());
            }
            Way::Terminate => {
                self.client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("asked");
                wait_until("it to end", || !exists(pid));
            }
            Way::KillStorageWorker => {
                let worker = wait_for("the storage worker", || {
                    let sql = "SELECT pid FROM s3vector_stat_worker";
                    self.client.query_one(sql, &[]).expect("statistics").get::<_, Option<i32>>(0)
                });
                let before = self.recoveries();
                signal_process(worker, Signal::SIGKILL);
                self.killed(before, worker);
            }
            Way::StopImmediately => {
                self.cluster.stop(Stop::Immediate);
                self.cluster.start_server();
                self.connect();
            }
            Way::KillPostmaster => {
                self.cluster.crash();
                self.cluster.start_server();
                self.connect();
            }
            Way::Kill | Way::Error => unreachable!("the process does that itself"),
        }
    }

    /// Asserts that a statement has ended as it must.
    fn judge(&self, way: Way, end: JoinHandle<Result<(), postgres::Error>>) {
        let result = end.join().expect("the thread ends");
        match way {
            Way::GoOn => result.unwrap_or_else(|error| panic!("after the point: {error:?}")),
            Way::Cancel => {
                failure(result).expect("57014", &[]);
            }
            _ => {
                let error = result.expect_err("the statement passed the end of its server");
                let code = error.code().map(|code| code.code().to_owned());
                let codes = [None, Some("57P01"), Some("57P02")];
                assert!(codes.contains(&code.as_deref()), "{error:?}");
            }
        }
    }

    /// How often the server has restarted everything because a process was killed.
    fn recoveries(&self) -> usize {
        self.cluster.log().matches("all server processes terminated; reinitializing").count()
    }

    /// Waits for the restart that follows the death of process `pid`; there were `before` others.
    fn killed(&mut self, before: usize, pid: i32) {
        drop(self.cluster.client_after_recovery(before + 1));
        let log = self.cluster.log();
        let proof = format!("(PID {pid}) was terminated by signal 9");
        assert!(log.contains(&proof), "the log does not say that process {pid} was killed");
        self.connect();
    }

    /// Turns the fault off and maintenance too, and waits until no worker is at work.
    fn calm(&mut self) {
        loop {
            let before = self.recoveries();
            self.configure(&[("s3vector.fault_point", ""), ("s3vector.maintenance_workers", "0")]);
            self.connect();
            let sql = "SELECT count(*) FROM s3vector_stat_maintenance WHERE state = 'running'";
            let rest = wait_for("maintenance to rest", || {
                // A worker that did not know yet may have killed itself once more.
                match self.client.query_one(sql, &[]) {
                    Ok(row) => (row.get::<_, i64>(0) == 0).then_some(true),
                    Err(_) => Some(false),
                }
            });
            if rest && self.recoveries() == before {
                return;
            }
        }
    }
}

fn backend(client: &mut Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).expect("a process id").get(0)
}
