//! Sessions that remember what they were told, so that a fault can be repeated, and what their
//! plans did.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harness::Cluster;
use postgres::{Client, SimpleQueryMessage};

use crate::plan::{self, Scan};

/// A row as text: SQL's NULL is `None`.
pub type Row = Vec<Option<String>>;

/// Something that must not happen.
#[derive(Clone, Debug)]
pub struct Fault {
    /// In a few words, the same for all of its kind.
    pub what: String,
    /// This one's numbers.
    pub detail: String,
}

impl Fault {
    /// A fault.
    pub fn new(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), detail: detail.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.detail)
    }
}

/// What all sessions of a table were told, in order.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Vec<Line>>);

#[derive(Debug)]
struct Line {
    session: &'static str,
    sql: String,
    /// Whether it leaves something behind when its transaction is over.
    lasting: bool,
}

impl Journal {
    fn note(&self, session: &'static str, sql: &str, lasting: bool) {
        lock(&self.0).push(Line { session, sql: sql.to_owned(), lasting });
    }

    /// Forgets what has left nothing behind: the next query begins.
    pub fn turn(&self) {
        lock(&self.0).retain(|line| line.lasting);
    }

    /// A script that repeats it, each line saying whose it is.
    pub fn script(&self) -> String {
        let lines = lock(&self.0);
        let line = |line: &Line| format!("/* {} */ {};\n", line.session, line.sql);
        lines.iter().map(line).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session.
pub struct Session {
    client: Client,
    name: &'static str,
    journal: Arc<Journal>,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Session {
    /// Connects; what is executed from now on reports its plan.
    pub fn open(cluster: &Cluster, name: &'static str, journal: &Arc<Journal>) -> Self {
        let notices: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&notices);
        let client = cluster.client_with_notices(move |notice| {
            lock(&heard).push(notice.message().to_owned());
        });
        let mut session = Self { client, name, journal: Arc::clone(journal), notices };
        session
            .client
            .batch_execute(
                "LOAD 'auto_explain';
                 SET auto_explain.log_min_duration = 0;
                 SET auto_explain.log_analyze = on;
                 SET auto_explain.log_timing = off;
                 SET auto_explain.log_buffers = off;
                 SET auto_explain.log_nested_statements = on;
                 SET auto_explain.log_level = notice;
                 SET statement_timeout = '60s'",
            )
            .expect("auto_explain is installed with PostgreSQL");
        session
    }

    /// Executes a statement that leaves nothing behind; returns its rows.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<Row>, Fault> {
        self.journal.note(self.name, sql, false);
        self.execute(sql)
    }

    /// Executes a statement that others will see.
    pub fn change(&mut self, sql: &str) -> Result<Vec<Row>, Fault> {
        self.journal.note(self.name, sql, true);
        self.execute(sql)
    }

    /// Executes a statement that tells nothing about a fault.
    pub fn look(&mut self, sql: &str) -> Result<Vec<Row>, Fault> {
        self.execute(sql)
    }

    fn execute(&mut self, sql: &str) -> Result<Vec<Row>, Fault> {
        let messages = self.client.simple_query(sql).map_err(|error| failure(&error, sql))?;
        let row = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The scans of our indexes in plans that have ended since this was last asked.
    pub fn scans(&mut self) -> Vec<Scan> {
        let notices = std::mem::take(&mut *lock(&self.notices));
        notices.iter().flat_map(|text| plan::scans(text)).collect()
    }
}

/// The error of a statement. One of a kind says the same, whatever its numbers.
fn failure(error: &postgres::Error, sql: &str) -> Fault {
    match error.as_db_error() {
        Some(report) => {
            let message = report.message().lines().next().unwrap_or_default();
            let numberless = message.replace(|c: char| c.is_ascii_digit(), "");
            let what = format!("error {} {numberless}", report.code().code());
            let detail = report.detail().unwrap_or_default();
            Fault::new(what, format!("{} {detail}\n  {sql}", report.message()))
        }
        None => Fault::new("the connection broke", format!("{error}\n  {sql}")),
    }
}
