//! A database of a test's own in a cluster that tests share, and short ways to ask it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use harness::Cluster;
use harness::errors::{Report, failure};
use postgres::Client;
use postgres::types::FromSqlOwned;

/// The cluster of the tests that run at this moment. The last of them to end stops it.
static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
/// Names databases.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A database with the extension.
pub struct Ground {
    /// The cluster it is in, where nothing happens by itself.
    pub cluster: Arc<Cluster>,
    /// Its name; also the start of names that belong to the whole cluster, such as roles.
    pub name: String,
}

impl Ground {
    /// A new database.
    pub fn new() -> Self {
        let cluster = Self::shared();
        let name = format!("d{}", COUNT.fetch_add(1, Ordering::Relaxed));
        run(&mut cluster.client(), &format!("CREATE DATABASE {name} STRATEGY file_copy"));
        let ground = Self { cluster, name };
        run(&mut ground.client(), "CREATE EXTENSION s3vector CASCADE");
        ground
    }

    fn shared() -> Arc<Cluster> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Cluster::builder()
                .set("s3vector.maintenance_workers", 0)
                .set("s3vector.sweep_interval", 0)
                .start_bare();
            let cluster = Arc::new(cluster);
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// A new session of a superuser.
    pub fn client(&self) -> Client {
        self.cluster.client_of(&self.name)
    }

    /// A new session that acts as another role from its start on.
    pub fn client_as(&self, role: &str) -> Client {
        let mut client = self.client();
        run(&mut client, &format!("SET SESSION AUTHORIZATION {role}"));
        client
    }

    /// Creates a role that may use the schema `public`; returns its name.
    pub fn role(&self, name: &str) -> String {
        let role = format!("{}_{name}", self.name);
        run(
            &mut self.client(),
            &format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA public TO {role}"),
        );
        role
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let log = self.cluster.log();
            assert!(!log.contains("was terminated by signal"), "a server process has died");
        }
    }
}

/// Runs statements that must succeed.
#[track_caller]
pub fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The report of statements that must fail.
#[track_caller]
pub fn refused(client: &mut Client, sql: &str) -> Report {
    failure(client.batch_execute(sql))
}

/// The value of a query with one row and one column.
#[track_caller]
pub fn one<T: FromSqlOwned>(client: &mut Client, sql: &str) -> T {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// The first column of a query.
#[track_caller]
pub fn column<T: FromSqlOwned>(client: &mut Client, sql: &str) -> Vec<T> {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// The first column of a query, of type text.
#[track_caller]
pub fn texts(client: &mut Client, sql: &str) -> Vec<String> {
    column(client, sql)
}

/// `count_vectors` of a collection.
#[track_caller]
pub fn count(client: &mut Client, collection: &str) -> i64 {
    let row = client.query_one("SELECT s3vector.count_vectors($1)", &[&collection]);
    row.unwrap_or_else(|error| panic!("count_vectors({collection}): {error:?}")).get(0)
}

/// Asserts that a condition holds in the database.
#[track_caller]
pub fn holds(client: &mut Client, condition: &str) {
    assert!(one::<bool>(client, &format!("SELECT {condition}")), "{condition}");
}

/// Asserts that a query's first column is these texts.
#[track_caller]
pub fn gives<T: AsRef<str> + Debug>(client: &mut Client, sql: &str, wanted: &[T]) {
    let wanted: Vec<&str> = wanted.iter().map(AsRef::as_ref).collect();
    assert_eq!(texts(client, sql), wanted, "{sql}");
}
