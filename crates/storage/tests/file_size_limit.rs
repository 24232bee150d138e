//! A write that the system cuts short. Alone in its process: the limit holds for all of it.

use storage::{ErrorKind, FileStore, Store};

/// Lowers the process's limit of file sizes, so that a longer write fails part of the way through
/// as it would on a full disk.
fn limit_file_size(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the limit is a valid `rlimit`; with SIGXFSZ ignored the write fails instead.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
    }
}

#[tokio::test]
async fn a_write_without_room_is_reported_as_such_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(directory.path().to_owned());
    limit_file_size(1 << 20);
    let body = vec![1; 4 << 20];
    let error = store.put("a/b", body.into()).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
    assert!(error.to_string().contains("no space left"), "{error}");
    let mut left = std::fs::read_dir(directory.path()).expect("a listing");
    assert!(left.next().is_none());
    store.put("a/b", "small".into()).await.expect("there is room for this");
}
