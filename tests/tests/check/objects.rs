//! Objects that are missing, too short, too long, or have a bit flipped.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use harness::store::objects;

use crate::{Ground, expect};

/// Every array of a segment.
const ARRAYS: [&str; 10] = [
    "vectors",
    "codes",
    "factors",
    "neighbors",
    "upper_nodes",
    "upper_offsets",
    "upper_neighbors",
    "tids",
    "tid_offsets",
    "centroid",
];

/// Does something to an object, lets the check find it, and undoes it.
fn damage(ground: &Ground, object: &Path, inflict: impl FnOnce(&Path), words: &[&str]) {
    let before = fs::read(object).expect("the object");
    inflict(object);
    let found = ground.findings();
    let name = object.strip_prefix(ground.cluster.store()).expect("an object of the store");
    println!("{}: {found:#?}", name.display());
    let mut all = vec![name.to_str().expect("a name")];
    all.extend_from_slice(words);
    // An object of another length is not what the manifest counts, either.
    expect(&found, &["objects", "manifest"], &all);
    fs::write(object, before).expect("the object is whole again");
}

fn flip(object: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(object).expect("the object opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte is read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("a byte is written");
}

/// Objects of an array: its chunks or shards, and its metadata.
fn parts(folder: &Path, array: &str) -> (Vec<PathBuf>, PathBuf) {
    let folder = folder.join(array);
    let chunks = objects(&folder).into_keys().filter(|name| name != "zarr.json");
    let chunks: Vec<PathBuf> = chunks.map(|name| folder.join(name)).collect();
    assert!(!chunks.is_empty(), "{array} has no chunks");
    (chunks, folder.join("zarr.json"))
}

/// The graph stays in memory, as it would on a busy server: the objects are looked at all the same.
fn every_array(with: &str) {
    let ground = Ground::new(900, with);
    let folder = ground.folder();
    for array in ARRAYS {
        let (chunks, metadata) = parts(&folder, array);
        let chunk = &chunks[0];
        let length = fs::metadata(chunk).expect("the object").len();
        for at in [0, length / 2, length - 1] {
            damage(&ground, chunk, |object| flip(object, at), &[]);
        }
        damage(&ground, chunk, |object| fs::remove_file(object).expect("removed"), &["not exist"]);
        let cut = |bytes: u64| {
            move |object: &Path| {
                File::options()
                    .write(true)
                    .open(object)
                    .and_then(|file| file.set_len(bytes))
                    .expect("cut");
            }
        };
        damage(&ground, chunk, cut(length - 1), &[]);
        damage(&ground, chunk, cut(0), &[]);
        damage(&ground, chunk, cut(length + 1), &[]);
        // In a number, not in white space.
        let text = fs::read_to_string(&metadata).expect("metadata");
        let digit = text
            .find("\"shape\"")
            .map(|at| at + text[at..].find(|c: char| c.is_ascii_digit()).expect("a digit"));
        let digit = digit.expect("a shape") as u64;
        damage(&ground, &metadata, |object| flip(object, digit), &[]);
        damage(
            &ground,
            &metadata,
            |object| fs::remove_file(object).expect("removed"),
            &["not exist"],
        );
    }
    let group = folder.join("zarr.json");
    let text = fs::read_to_string(&group).expect("metadata");
    for word in ["zarr_format", "\"m\"", "crc32c", "rows"] {
        let at = text.find(word).expect("a word") as u64;
        damage(&ground, &group, |object| flip(object, at + 1), &[]);
    }
    damage(&ground, &group, |object| fs::remove_file(object).expect("removed"), &["not exist"]);
    assert_eq!(ground.findings(), [], "all is whole again");
}

#[test]
fn each_array_of_an_uncompressed_segment() {
    every_array("WITH (compression = 'none', chunk_rows = 16, shard_rows = 256, m = 4)");
}

#[test]
fn each_array_of_a_compressed_segment() {
    every_array("WITH (compression = 'zstd', payload = 'float16', m = 4)");
}

/// After a restart the graph has to be loaded from what is damaged.
#[test]
fn an_array_that_keeps_the_graph_from_being_loaded() {
    let mut ground = Ground::new(300, "");
    let (chunks, _) = parts(&ground.folder(), "codes");
    ground.cluster.restart();
    flip(&chunks[0], 5);
    let found = ground.findings();
    expect(&found, &["objects", "heap"], &["codes", "checksum"]);
    expect(&found, &["objects", "heap"], &["its entries are not compared with the table"]);
}

#[test]
fn a_segment_that_is_gone() {
    let mut ground = Ground::new(300, "");
    let folder = ground.folder();
    ground.cluster.restart();
    fs::remove_dir_all(&folder).expect("removed");
    let found = ground.findings();
    expect(&found, &["objects", "heap"], &["zarr.json", "not exist"]);
    assert!(found[0].segment.is_some(), "{found:?}");
}
