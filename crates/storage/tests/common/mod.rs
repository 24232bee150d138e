//! What every store must do, as checks that any test can run against its own.

use std::sync::Arc;

use bytes::Bytes;
use storage::{ErrorKind, Store};

/// Bytes that are not all alike.
pub fn body(length: usize, seed: u32) -> Bytes {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect::<Vec<u8>>()
        .into()
}

/// Runs every check. The store must be empty and is empty again afterwards.
pub async fn keeps_its_promises(store: Arc<dyn Store>) {
    reads_what_was_written(&*store).await;
    ranges_are_exact(&*store).await;
    lists_by_prefix(&*store).await;
    deletes(&*store).await;
    refuses_bad_keys(&*store).await;
    writes_side_by_side(&store).await;
    let left = store.list("").await.expect("a listing");
    assert!(left.is_empty(), "{left:?}");
}

async fn reads_what_was_written(store: &dyn Store) {
    for (length, seed) in [(0, 1), (1, 2), (70_000, 3), (17_000_000, 4)] {
        let written = body(length, seed);
        store.put("a/object", written.clone()).await.expect("put");
        assert_eq!(store.get("a/object").await.expect("get"), written);
        assert_eq!(store.size("a/object").await.expect("size"), length as u64);
    }
    store.put("a/object", "short".into()).await.expect("put");
    assert_eq!(store.get("a/object").await.expect("get"), "short");
    for error in [
        store.get("a/absent").await.expect_err("no object"),
        store.get_range("a/absent", 0..1).await.expect_err("none"),
        store.size("a/absent").await.expect_err("no object"),
        store.get("a").await.expect_err("a prefix is no object"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    store.delete(&["a/object".into()]).await.expect("delete");
}

async fn ranges_are_exact(store: &dyn Store) {
    let whole = body(10_000_000, 5);
    store.put("r", whole.clone()).await.expect("put");
    let ranges = [0..1, 0..0, 5..5, 9_999_999..10_000_000, 17..4_000_017, 0..10_000_000];
    for range in ranges {
        let part = store.get_range("r", range.clone()).await.expect("a range");
        assert_eq!(part, whole.slice(range.start as usize..range.end as usize));
    }
    for range in [9_999_999..10_000_001, 10_000_000..10_000_001, 20_000_000..20_000_010] {
        let error = store.get_range("r", range).await.expect_err("too far");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert_eq!(error.key(), Some("r"));
    }
    store.delete(&["r".into()]).await.expect("delete");
}

async fn lists_by_prefix(store: &dyn Store) {
    let keys = ["l/a/1", "l/a/2", "l/ab/3", "l/b", "lone"];
    for key in keys {
        store.put(key, key.into()).await.expect("put");
    }
    for (prefix, expected) in [
        ("", &keys[..]),
        ("l", &keys),
        ("l/", &keys[..4]),
        ("l/a", &keys[..3]),
        ("l/a/", &keys[..2]),
        ("l/a/2", &keys[1..2]),
        ("nothing/here", &[]),
    ] {
        let mut found = store.list(prefix).await.expect("a listing");
        found.sort_by(|a, b| a.key.cmp(&b.key));
        let names: Vec<_> = found.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(names, expected, "{prefix}");
        assert!(found.iter().all(|o| o.size == o.key.len() as u64));
        let recent =
            |o: &storage::ObjectMeta| o.modified.elapsed().map_or(true, |age| age.as_secs() < 3600);
        assert!(found.iter().all(recent));
    }
    // Other checks may have left folders of their own; what has one part only is in none.
    let folders = store.folders().await.expect("a listing");
    assert_eq!(folders.iter().filter(|name| *name == "l").count(), 1, "{folders:?}");
    assert!(!folders.iter().any(|name| name.contains('/') || name == "lone"), "{folders:?}");
    store.delete(&keys.map(String::from)).await.expect("delete");
    assert!(!store.folders().await.expect("a listing").contains(&"l".to_owned()));
}

async fn deletes(store: &dyn Store) {
    let many: Vec<String> = (0..30).map(|n| format!("d/{n}")).collect();
    for key in &many[..15] {
        store.put(key, "x".into()).await.expect("put");
    }
    store.delete(&many).await.expect("half of them never were");
    store.delete(&many).await.expect("none of them are");
    store.delete(&[]).await.expect("nothing to do");
    assert!(store.list("d/").await.expect("a listing").is_empty());
}

async fn refuses_bad_keys(store: &dyn Store) {
    for key in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/"] {
        for error in [
            store.get(key).await.expect_err("get"),
            store.get_range(key, 0..1).await.expect_err("range"),
            store.size(key).await.expect_err("size"),
            store.put(key, "x".into()).await.expect_err("put"),
            store.delete(&[key.into()]).await.expect_err("delete"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Config, "{key:?}: {error:?}");
        }
    }
    assert!(store.list("../").await.is_err());
}

async fn writes_side_by_side(store: &Arc<dyn Store>) {
    let keys: Vec<String> = (0..20).map(|n| format!("p/{}/{n}", n % 3)).collect();
    let tasks = keys.iter().cloned().enumerate().map(|(n, key)| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let written = body(50_000 + n, n as u32);
            store.put(&key, written.clone()).await.expect("put");
            assert_eq!(store.get(&key).await.expect("get"), written);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    store.delete(&keys).await.expect("delete");
}
