//! Which objects there are, how large they are, and reading many of them at once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use storage::{ErrorKind, MAX_RANGE, Piece, StorageError, Store};

/// The sizes of the objects below a path.
///
/// An array is listed once: whether a chunk exists is then known without asking for it, and a large
/// one is read in ranges side by side.
#[derive(Debug, Default)]
pub(crate) struct Objects(HashMap<String, u64>);

impl Objects {
    /// Lists `store` below `path`; an empty path is the store itself.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn list(store: &dyn Store, path: &str) -> Result<Self, StorageError> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let found = store.list(&prefix).await?;
        Ok(found.into_iter().map(|object| (object.key, object.size)).collect())
    }

    /// The size of an object in bytes, if it exists.
    pub(crate) fn size(&self, key: &str) -> Option<u64> {
        self.0.get(key).copied()
    }
}

impl FromIterator<(String, u64)> for Objects {
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(objects: I) -> Self {
        Self(objects.into_iter().collect())
    }
}

/// The path of `name` below `path`.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The object, or `None` if it does not exist.
///
/// # Errors
/// Those of the store.
pub(crate) async fn read_if_there(
    store: &dyn Store,
    key: &str,
) -> Result<Option<Bytes>, StorageError> {
    match store.get(key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads ranges of objects, all side by side and long ones in several requests. The answers are in
/// the order asked for.
///
/// # Errors
/// Those of the store.
pub(crate) async fn read_ranges(
    store: &dyn Store,
    ranges: &[(Arc<str>, Range<u64>)],
) -> Result<Vec<Bytes>, StorageError> {
    let mut pieces = Vec::with_capacity(ranges.len());
    for (key, range) in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + MAX_RANGE);
            pieces.push(Piece { key: Arc::clone(key), range: start..end });
            start = end;
        }
    }
    if pieces.is_empty() {
        return Ok(vec![Bytes::new(); ranges.len()]);
    }
    let mut read = store.get_pieces(&pieces).await?.pieces.into_iter();
    let answers = ranges.iter().map(|(_, range)| {
        let length = range.end - range.start;
        let mut parts = read.by_ref().take(length.div_ceil(MAX_RANGE) as usize);
        match length {
            0..=MAX_RANGE => parts.next().unwrap_or_default(),
            _ => parts
                .fold(BytesMut::new(), |mut whole, part| {
                    whole.extend_from_slice(&part);
                    whole
                })
                .freeze(),
        }
    });
    Ok(answers.collect())
}

#[cfg(test)]
mod tests {
    use storage::FileStore;

    use super::*;

    #[tokio::test]
    async fn long_ranges_come_whole_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = FileStore::new(folder.path().to_owned());
        let long: Vec<u8> = (0..2 * MAX_RANGE + 77).map(|at| (at % 251) as u8).collect();
        store.put("a/long", Bytes::from(long.clone())).await.expect("written");
        store.put("a/short", Bytes::from_static(b"short")).await.expect("written");
        let all = 0..long.len() as u64;
        let ranges = [("a/short", 1..3), ("a/long", all), ("a/short", 2..2), ("a/long", 5..9)];
        let ranges: Vec<_> = ranges.map(|(key, range)| (Arc::from(key), range)).into();
        let read = read_ranges(&store, &ranges).await.expect("read");
        assert_eq!(read, [&b"ho"[..], &long, b"", &long[5..9]]);

        let objects = Objects::list(&store, "a").await.expect("listed");
        assert_eq!(objects.size("a/short"), Some(5));
        assert_eq!(objects.size("a/none"), None);
        assert_eq!(read_if_there(&store, "a/none").await, Ok(None));
    }
}
