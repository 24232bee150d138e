//! What lies in a store that is a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every object below a folder: its name relative to it, and its bytes.
///
/// Objects that come or go while this reads may be missing.
pub fn objects(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let mut open: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let name = path.strip_prefix(folder).expect("below the folder");
                objects.insert(name.to_string_lossy().into_owned(), bytes);
            }
        }
    }
    objects
}

/// The part of [`objects`] that an index's owner wrote: what clones register and sweeps mark is
/// left out.
pub fn written(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut objects = objects(folder);
    objects.retain(|name, _| !name.contains("readers/") && !name.ends_with("retired"));
    objects
}

/// Names of the folders right below `folder` that hold an object.
pub fn folders(folder: &Path) -> BTreeSet<String> {
    objects(folder)
        .into_keys()
        .filter_map(|name| name.split_once('/').map(|(first, _)| first.to_owned()))
        .collect()
}

/// Names of the folders of segments (`<index uuid>/<segment uuid>`) that hold an object.
pub fn segments(folder: &Path) -> BTreeSet<String> {
    objects(folder)
        .into_keys()
        .filter_map(|name| {
            let mut parts = name.split('/');
            let (index, segment, _) = (parts.next()?, parts.next()?, parts.next()?);
            (segment != "readers").then(|| format!("{index}/{segment}"))
        })
        .collect()
}
