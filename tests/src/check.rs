//! `s3vector_check`, and the check that every cluster ends with.

use postgres::Client;

use crate::cluster::Cluster;

/// A row of `s3vector_check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `pages`, `manifest`, `tombstones`, `owner`, `objects`, `graph`, `heap`, `vectors`.
    pub part: String,
    /// The segment, when it is about one.
    pub segment: Option<String>,
    /// Where.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

/// Checks an index, stored vectors too if `deep`.
///
/// # Errors
///
/// What the server reported.
pub fn try_check(
    client: &mut Client,
    index: &str,
    deep: bool,
) -> Result<Vec<Finding>, postgres::Error> {
    let sql = format!("SELECT * FROM s3vector_check('{index}', deep => {deep})");
    let rows = client.query(&sql, &[])?;
    let finding = |row: &postgres::Row| Finding {
        part: row.get("part"),
        segment: row.get("segment"),
        place: row.get("place"),
        problem: row.get("problem"),
    };
    Ok(rows.iter().map(finding).collect())
}

/// Everything that is wrong with an index.
#[track_caller]
pub fn findings(client: &mut Client, index: &str) -> Vec<Finding> {
    try_check(client, index, true).unwrap_or_else(|error| panic!("check of {index}: {error:?}"))
}

/// Asserts that nothing is wrong with an index, nor with its vectors.
#[track_caller]
pub fn assert_sound(client: &mut Client, index: &str) {
    assert_eq!(findings(client, index), [], "{index} is not sound");
}

/// The indexes of a database that can be checked by any session.
const INDEXES: &str = "
    SELECT indexrelid::regclass::text FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    WHERE amname = 's3vector' AND relkind = 'i' AND relpersistence <> 't' AND indisvalid
    ORDER BY 1";

/// Asserts that nothing is wrong with any index of a cluster: how every test ends whose server still
/// runs, unless it has done damage ([`Cluster::damaged`]).
pub(crate) fn assert_all_sound(cluster: &Cluster) {
    let databases: Vec<String> = {
        // A server that takes no connections any more cannot be asked, and some tests leave it so.
        let Ok(mut client) = cluster.try_client("postgres") else { return };
        let sql = "SELECT datname::text FROM pg_database WHERE datallowconn";
        let Ok(rows) = client.query(sql, &[]) else { return };
        rows.iter().map(|row| row.get(0)).collect()
    };
    let mut unsound = Vec::new();
    for database in databases {
        let mut client = cluster.client_of(&database);
        let created = "SELECT FROM pg_extension WHERE extname = 's3vector'";
        if client.query(created, &[]).expect("the extensions of a database").is_empty() {
            continue;
        }
        client
            .batch_execute("SET statement_timeout = '60s'; SET lock_timeout = '10s'; SET client_min_messages = error")
            .expect("settings");
        for row in client.query(INDEXES, &[]).expect("the indexes of a database") {
            let index: String = row.get(0);
            match try_check(&mut client, &index, false) {
                Ok(found) if found.is_empty() => {}
                other => unsound.push(format!("{database}: {index}: {other:#?}")),
            }
        }
    }
    assert!(unsound.is_empty(), "at the end of the test:\n{}", unsound.join("\n"));
}
