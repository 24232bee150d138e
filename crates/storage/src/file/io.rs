//! The blocking file operations behind a [`FileStore`](super::FileStore).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{ErrorKind, ObjectMeta, validate_key};

/// Bytes written between two looks at the stop flag.
const WRITE_STEP: usize = 1 << 20;

/// How often a write recreates its directory when a deletion removes it at the same moment.
const DIRECTORY_ATTEMPTS: usize = 5;

/// The kind of an operating system error.
pub(super) fn kind_of(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound | Io::NotADirectory => ErrorKind::NotFound,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::AccessDenied,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::DiskFull,
        Io::UnexpectedEof => ErrorKind::Corrupt,
        Io::Interrupted => ErrorKind::Cancelled,
        Io::TimedOut => ErrorKind::Timeout,
        // A link where an object should be would lead out of the store.
        _ if error.raw_os_error() == Some(libc::ELOOP) => ErrorKind::AccessDenied,
        _ => ErrorKind::Other,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "the path is not a regular file"))
    }
}

pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut body = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    file.read_to_end(&mut body)?;
    Ok(body)
}

pub(super) fn read_range(path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let size = file.metadata()?.len();
    if range.start > range.end || range.end > size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("bytes {} to {} were wanted but it has {size}", range.start, range.end),
        ));
    }
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut body = vec![0; length];
    file.read_exact_at(&mut body, range.start)?;
    Ok(body)
}

pub(super) fn size(path: &Path) -> io::Result<u64> {
    Ok(open(path)?.metadata()?.len())
}

/// Writes `body` as the object `key` below `root`; ends early when `stop` is raised.
pub(super) fn write(root: &Path, key: &str, body: &[u8], stop: &AtomicBool) -> io::Result<()> {
    let path = root.join(key);
    let directory = path.parent().unwrap_or(root);
    let (mut file, temporary) = create_temporary(&path, directory)?;
    let outcome = fill(&mut file, body, stop).and_then(|()| fs::rename(&temporary, &path));
    if outcome.is_err() {
        // The first error is the one to report; a stray file is found by the next sweep.
        let _ = fs::remove_file(&temporary);
        prune(root, directory);
    }
    outcome?;
    sync_directory(directory)
}

fn fill(file: &mut File, body: &[u8], stop: &AtomicBool) -> io::Result<()> {
    let stopped = || match stop.load(Ordering::Relaxed) {
        true => Err(io::Error::new(io::ErrorKind::Interrupted, "the write was given up")),
        false => Ok(()),
    };
    for step in body.chunks(WRITE_STEP) {
        stopped()?;
        file.write_all(step)?;
    }
    stopped()?;
    file.sync_all()
}

/// A new file beside `path`, in a directory that is made when it is missing.
fn create_temporary(path: &Path, directory: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut attempt = 1;
    loop {
        create_directory(directory)?;
        let temporary = directory.join(format!(".{name}.{}.tmp", unique()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&temporary);
        match file {
            Ok(file) => return Ok((file, temporary)),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && attempt < DIRECTORY_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A name no other write uses: several servers may share one directory.
fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanoseconds =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{nanoseconds:x}-{count:x}", std::process::id())
}

/// Makes `directory` and its missing parents, each durably.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent();
    if let Some(parent) = parent {
        create_directory(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        outcome => outcome?,
    }
    parent.map_or(Ok(()), sync_directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|open| open.sync_all()) {
        // Some file systems cannot flush a directory; theirs are durable without it.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        // Removed by a deletion since: then there is nothing to make durable.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

pub(super) fn delete(root: &Path, key: &str) -> io::Result<()> {
    let path = root.join(key);
    match fs::remove_file(&path) {
        Err(error) if kind_of(&error) != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(directory) = path.parent() {
        prune(root, directory);
    }
    Ok(())
}

/// Removes `directory` and its parents below `root` as far as they are empty.
fn prune(root: &Path, directory: &Path) {
    for directory in directory.ancestors() {
        if directory == root || !directory.starts_with(root) || fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Every file below `root` whose key begins with `prefix`.
pub(super) fn list(root: &Path, prefix: &str) -> io::Result<Vec<ObjectMeta>> {
    let directory = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in entries(&root.join(&directory))? {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let key = match directory.as_str() {
                "" => name,
                directory => format!("{directory}/{name}"),
            };
            if validate_key(&key, "").is_err() {
                continue;
            }
            // Links are not followed; an entry may vanish while the listing runs.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() && (key.starts_with(prefix) || prefix.starts_with(&key)) {
                pending.push(key);
            } else if metadata.is_file() && key.starts_with(prefix) {
                found.push(ObjectMeta {
                    key,
                    size: metadata.len(),
                    modified: metadata.modified()?,
                });
            }
        }
    }
    Ok(found)
}

/// The directories in `root` that keys can begin with.
pub(super) fn folders(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in entries(root)? {
        let is_directory = entry.metadata().is_ok_and(|metadata| metadata.is_dir());
        let name = entry.file_name().to_str().map(str::to_owned);
        found.extend(name.filter(|name| is_directory && validate_key(name, "").is_ok()));
    }
    Ok(found)
}

/// The entries of `directory`; none when it does not exist.
fn entries(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Err(error) if kind_of(&error) == ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome?.collect(),
    }
}
