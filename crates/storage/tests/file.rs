//! The directory store: its promises, and what the operating system can do to it.

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::{ErrorKind, FileStore, Metrics, StorageConfig, Store, open};

fn store_at(path: &Path) -> Arc<dyn Store> {
    let url = format!("file://{}", path.display());
    open(&StorageConfig::new(url), Metrics::leak()).expect("a file store")
}

fn files_below(path: &Path) -> usize {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => files_below(&path),
            _ => 1,
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_the_promises_of_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    common::keeps_its_promises(store_at(&directory.path().join("made/on/demand"))).await;
}

#[tokio::test]
async fn objects_are_private_and_deletions_leave_no_directories() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("store");
    let store = store_at(&root);
    store.put("a/b/c", "x".into()).await.expect("put");
    let mode = |path: &str| {
        let metadata = std::fs::metadata(root.join(path)).expect("it exists");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("a/b"), mode("a/b/c")), (0o700, 0o600));
    store.delete(&["a/b/c".into()]).await.expect("delete");
    assert!(root.is_dir() && !root.join("a").exists());
}

#[tokio::test]
async fn links_in_place_of_objects_are_not_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let outside = directory.path().join("outside");
    std::fs::write(&outside, "secret").expect("a file");
    let root = directory.path().join("store");
    std::fs::create_dir(&root).expect("a directory");
    symlink(&outside, root.join("link")).expect("a link");
    let store = store_at(&root);
    let error = store.get("link").await.expect_err("a link");
    assert_eq!(error.kind(), ErrorKind::AccessDenied, "{error:?}");
    assert!(store.list("").await.expect("a listing").is_empty());
    store.put("link", "new".into()).await.expect("replaces the link");
    assert_eq!(std::fs::read(&outside).expect("untouched"), b"secret");
}

#[tokio::test]
async fn a_path_through_a_file_is_an_error_with_a_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = store_at(directory.path());
    store.put("a", "x".into()).await.expect("put");
    let error = store.put("a/b", "x".into()).await.expect_err("a is a file");
    assert_eq!(error.key(), Some("a/b"));
    assert!(error.to_string().contains("could not write object \"a/b\""), "{error}");
    assert_eq!(store.get("a/b").await.expect_err("none").kind(), ErrorKind::NotFound);
    store.delete(&["a/b".into()]).await.expect("nothing to delete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_given_up_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = store_at(directory.path());
    let large = common::body(32 << 20, 1);
    for _ in 0..5 {
        let put = store.put("given/up", large.clone());
        let _ = tokio::time::timeout(Duration::from_millis(2), put).await;
        store.settle().await;
        // Whole or not there: nothing in between, and no stray file.
        match store.get("given/up").await {
            Ok(read) => assert_eq!(read, large),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert_eq!(files_below(directory.path()), 0);
            }
        }
        store.delete(&["given/up".into()]).await.expect("delete");
    }
}

#[test]
fn the_url_is_the_path() {
    let store = FileStore::new("/some/where odd".into());
    assert_eq!(store.url(), "file:///some/where%20odd");
}
