//! TRUNCATE needs no storage; CREATE INDEX says at once when there is none.

use harness::answers::{assert_all_found, assert_recall};
use harness::errors::failure;
use harness::items::Source;
use harness::store;
use harness::upkeep::{flush, info, sweep};

use super::temporary::Away;
use super::{DIMENSIONS, empty, indexed, strict};

#[test]
fn a_table_is_truncated_while_storage_is_away() {
    let mut cluster = strict().start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    let old = info(&mut client, "items_index").uuid;
    let away = Away::new(&cluster.store());
    client.batch_execute("BEGIN; TRUNCATE items; ROLLBACK").expect("rolled back");
    assert_eq!(info(&mut client, "items_index").uuid, old);
    for _ in 0..2 {
        client.batch_execute("TRUNCATE items").expect("truncated");
        items.rows.fill(None);
        items.copy(&mut client, source.vectors(300));
        assert_all_found(&mut client, &items, items.live().step_by(7));
    }
    client.batch_execute("BEGIN; TRUNCATE items; TRUNCATE items; COMMIT").expect("truncated");
    items.rows.fill(None);
    items.copy(&mut client, source.vectors(300));
    drop(away);
    let found = info(&mut client, "items_index");
    assert!(found.owned, "nobody else does");
    assert_eq!((found.segments, found.entries, found.delta_entries), (0, 0, 300));
    assert!(sweep(&mut client, false).iter().any(|line| line.prefix == old && line.deleted));
    flush(&mut client, "items_index");
    let found = info(&mut client, "items_index");
    assert!(found.owned && found.uuid != old, "{found:?}");
    assert!(sweep(&mut client, false).is_empty(), "all there is is in use");
    assert_eq!(store::folders(&cluster.store()), [found.uuid].into());
    drop(client);
    cluster.restart();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, items.live().step_by(7));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}

/// Copies of a database whose index has written nothing yet go ways of their own.
#[test]
fn an_index_that_has_written_nothing_is_copied() {
    let cluster = strict().start();
    let mut client = cluster.client();
    client.batch_execute("CREATE DATABASE original").expect("a database");
    let mut original = cluster.client_of("original");
    original.batch_execute("CREATE EXTENSION s3vector CASCADE").expect("the extension");
    let (mut items, mut source) = indexed(&mut original, 300);
    original.batch_execute("TRUNCATE items").expect("truncated");
    items.rows.fill(None);
    items.copy(&mut original, source.vectors(200));
    drop(original);
    client.batch_execute("CREATE DATABASE copy TEMPLATE original").expect("a copy");
    let mut theirs = items.clone();
    let (mut original, mut copy) = (cluster.client_of("original"), cluster.client_of("copy"));
    for _ in 0..2 {
        for (client, items) in [(&mut original, &mut items), (&mut copy, &mut theirs)] {
            items.copy(client, source.vectors(200));
            flush(client, "items_index");
            sweep(client, false);
        }
    }
    assert_ne!(info(&mut original, "items_index").uuid, info(&mut copy, "items_index").uuid);
    for (client, items) in [(&mut original, &items), (&mut copy, &theirs)] {
        assert_all_found(client, items, items.live().step_by(7));
        assert_recall(client, items, &source.vectors(50), 0.95);
    }
}

/// Better now than after a night of inserts.
#[test]
fn an_index_on_an_empty_table_is_not_created_while_storage_is_away() {
    let cluster = strict().start();
    let mut client = cluster.client();
    let mut source = Source::new(175, DIMENSIONS);
    let mut items = empty(&mut client, "items");
    let away = Away::new(&cluster.store());
    let place = cluster.store().display().to_string();
    failure(items.try_index(&mut client, "")).expect("58030", &[&place]);
    for statement in [
        "BEGIN; CREATE TABLE another (embedding vector(16)); \
         CREATE INDEX ON another USING s3vector (embedding)",
        "CREATE INDEX CONCURRENTLY items_index ON items USING s3vector (embedding)",
        "CREATE UNLOGGED TABLE another (embedding vector(16)); \
         CREATE INDEX ON another USING s3vector (embedding)",
    ] {
        failure(client.batch_execute(statement)).expect("58030", &[&place]);
        client.batch_execute("ROLLBACK").expect("rolled back");
    }
    drop(away);
    client.batch_execute("DROP INDEX items_index").expect("the invalid one goes");
    items.index(&mut client, "");
    assert_eq!(store::folders(&cluster.store()).len(), 1);
    items.copy(&mut client, source.vectors(300));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}
