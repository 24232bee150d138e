//! pgvector's own packages and the collections API, used by clients that know nothing of s3vector.

use harness::clients::{self, conninfo, node, python};
use harness::{Cluster, tools};

#[test]
fn psycopg() {
    let cluster = Cluster::start();
    clients::run(&mut python(&tools::client("through_psycopg.py")), &[&conninfo(&cluster)]);
}

#[test]
fn sqlalchemy() {
    let cluster = Cluster::start();
    clients::run(&mut python(&tools::client("through_sqlalchemy.py")), &[&conninfo(&cluster)]);
}

#[test]
fn node_postgres() {
    let cluster = Cluster::start();
    clients::run(&mut node("through_pg.mjs"), &[&cluster.socket()]);
}

#[test]
fn collections_from_psycopg() {
    let cluster = Cluster::start();
    clients::run(&mut python(&tools::client("collections_psycopg.py")), &[&conninfo(&cluster)]);
}

#[test]
fn collections_from_node_postgres() {
    let cluster = Cluster::start();
    clients::run(&mut node("collections_pg.mjs"), &[&cluster.socket()]);
}
