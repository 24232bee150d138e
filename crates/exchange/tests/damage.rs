//! Damaged bytes: an error, or what was written, but never a panic, and never other vectors where
//! a codec has a checksum.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{at, bits, read_all};
use exchange::{Batch, ExchangeError, Export, ExportInfo, Source};
use proptest::prelude::*;
use serde_json::{Value, json};
use storage::Store;
use zarrs::array::{Array, ArrayMetadata, ArraySubset};
use zarrs::filesystem::FilesystemStore;

const ROWS: u64 = 40;
const DIMENSIONS: u64 = 6;

fn codec(name: &str, configuration: &Value) -> Value {
    json!({"name": name, "configuration": configuration})
}

/// Codecs after `bytes`, and whether they notice every change.
fn packers() -> Vec<(Vec<Value>, bool)> {
    let blosc =
        json!({"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0});
    let crc = codec("crc32c", &json!({}));
    vec![
        (vec![crc.clone()], true),
        (vec![codec("zstd", &json!({"level": 3, "checksum": true}))], true),
        (vec![codec("gzip", &json!({"level": 5}))], true),
        (vec![codec("numcodecs.zlib", &json!({"level": 5}))], true),
        (vec![codec("numcodecs.bz2", &json!({"level": 5}))], true),
        (vec![codec("numcodecs.adler32", &json!({}))], true),
        // To it two bytes of zeros are the same as two of ones.
        (vec![codec("numcodecs.fletcher32", &json!({}))], false),
        (vec![codec("blosc", &blosc), crc], true),
        (vec![codec("blosc", &blosc)], false),
        (vec![codec("zstd", &json!({"level": 3, "checksum": false}))], false),
        (vec![], false),
    ]
}

/// Writes `vectors` and `ids` with these codecs; answers what they hold.
fn write(path: &Path, packers: &[Value], sharded: bool) {
    let store = Arc::new(FilesystemStore::new(path).expect("a store"));
    let chain = |first: Value| [vec![first], packers.to_vec()].concat();
    let index = json!([codec("bytes", &json!({"endian": "little"})), codec("crc32c", &json!({}))]);
    let mut codecs = chain(codec("bytes", &json!({"endian": "little"})));
    let mut chunk = [8, 4];
    if sharded {
        let inner = json!({"chunk_shape": chunk, "codecs": codecs, "index_codecs": index});
        codecs = vec![codec("sharding_indexed", &inner)];
        chunk = [16, 8];
    }
    let describe = |shape: Value, chunk: Value, kind: &str, fill: Value, codecs: &[Value]| {
        json!({"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": kind,
            "chunk_grid": codec("regular", &json!({"chunk_shape": chunk})),
            "chunk_key_encoding": codec("default", &json!({"separator": "/"})),
            "fill_value": fill, "codecs": codecs})
    };
    let build = |name: &str, document: Value| {
        let metadata: ArrayMetadata = serde_json::from_value(document).expect("metadata");
        let array = Array::new_with_metadata(Arc::clone(&store), name, metadata).expect(name);
        array.store_metadata().expect("written");
        array
    };
    let vectors = build(
        "/vectors",
        describe(json!([ROWS, DIMENSIONS]), json!(chunk), "float32", json!(0.0), &codecs),
    );
    let numbers: Vec<f32> = (0..ROWS * DIMENSIONS).map(|at| (at % 19) as f32 + 1.0).collect();
    let whole = ArraySubset::new_with_shape(vec![ROWS, DIMENSIONS]);
    vectors.store_array_subset(&whole, &numbers).expect("written");
    let codecs = chain(codec("vlen-utf8", &json!({})));
    let ids = build("/ids", describe(json!([ROWS]), json!([16]), "string", json!(""), &codecs));
    let texts: Vec<String> = (0..ROWS).map(|row| format!("id {row}")).collect();
    let whole = ArraySubset::new_with_shape(vec![ROWS]);
    ids.store_array_subset(&whole, &texts).expect("written");
}

async fn read(store: &Arc<dyn Store>) -> Result<Batch, ExchangeError> {
    let source = Source::open(store, "vectors", Some("ids"), None).await?;
    read_all(source.batches()).await
}

/// Every file below `path`, in order.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// What happens to an object.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Append(Vec<u8>),
    Overwrite(usize, Vec<u8>),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flip(at, bit) => {
                let at = at % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Cut(at) => bytes.truncate(at % bytes.len().max(1)),
            Self::Append(more) => bytes.extend(more),
            Self::Overwrite(at, with) => {
                let at = at % bytes.len().max(1);
                for (byte, with) in bytes[at..].iter_mut().zip(with) {
                    *byte = *with;
                }
            }
        }
    }
}

fn damages() -> impl Strategy<Value = Damage> {
    let some = || prop::collection::vec(any::<u8>(), 1..12);
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<usize>().prop_map(Damage::Cut),
        1 => some().prop_map(Damage::Append),
        2 => (any::<usize>(), some()).prop_map(|(at, with)| Damage::Overwrite(at, with)),
        1 => any::<usize>().prop_map(|at| Damage::Overwrite(at, vec![0xFF; 8])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn damaged_chunks_are_noticed(
        sharded in any::<bool>(),
        which in prop::collection::vec((any::<prop::sample::Index>(), damages()), 40),
    ) {
        let runtime = storage::runtime("test", 2).expect("a runtime");
        for (packers, checked) in packers() {
            let folder = tempfile::tempdir().expect("a folder");
            write(folder.path(), &packers, sharded);
            let store = at(folder.path());
            let whole = runtime.block_on(read(&store)).expect("whole");
            let chunks = files(folder.path());
            let chunks: Vec<_> = chunks.iter().filter(|file| !file.ends_with("zarr.json")).collect();
            for (index, damage) in &which {
                let file = index.get(&chunks);
                let before = std::fs::read(file).expect("a file");
                let mut after = before.clone();
                damage.apply(&mut after);
                std::fs::write(file, &after).expect("written");
                match runtime.block_on(read(&store)) {
                    Ok(all) if checked => {
                        prop_assert_eq!(bits(&all.vectors), bits(&whole.vectors), "{:?}", packers);
                        prop_assert_eq!(&all.ids, &whole.ids);
                    }
                    Ok(_) | Err(ExchangeError::Row { .. }) => {}
                    Err(ExchangeError::Corrupt { key, what }) => {
                        // The object is named, and no codec has panicked over it.
                        prop_assert!(file.ends_with(&key), "{key} for {}", file.display());
                        prop_assert!(!what.contains("cannot take"), "{packers:?} {damage:?}");
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                }
                std::fs::write(file, &before).expect("written");
            }
        }
    }

    #[test]
    fn damaged_metadata_are_an_error_or_harmless(
        sharded in any::<bool>(),
        which in prop::collection::vec((any::<prop::sample::Index>(), damages()), 60),
    ) {
        let runtime = storage::runtime("test", 2).expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[codec("crc32c", &json!({}))], sharded);
        let store = at(folder.path());
        let documents = files(folder.path());
        let documents: Vec<_> = documents.iter().filter(|file| file.ends_with("zarr.json")).collect();
        for (index, damage) in &which {
            let file = index.get(&documents);
            let before = std::fs::read(file).expect("a file");
            let mut after = before.clone();
            damage.apply(&mut after);
            std::fs::write(file, &after).expect("written");
            // A digit that has become another one is not to be noticed; ending is what counts.
            let _ = runtime.block_on(read(&store));
            std::fs::write(file, &before).expect("written");
        }
        prop_assert!(runtime.block_on(read(&store)).is_ok());
    }
}

/// Each bit of an export's chunks.
#[test]
fn no_bit_of_an_export_changes_unnoticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = at(folder.path());
    let runtime = storage::runtime("test", 2).expect("a runtime");
    runtime.block_on(async {
        let info =
            ExportInfo { collection: "c".into(), distance_metric: "l2".into(), dimensions: 2 };
        let mut export = Export::create(&store, info).await.expect("begun");
        let (ids, metadata) = (vec!["a".into(), "b".into()], vec!["{}".into(), "{\"x\":1}".into()]);
        export.write(&[1.0, 2.0, 3.0, 4.0], ids, metadata).await.expect("written");
        export.finish().await.expect("finished");
    });
    let whole = runtime.block_on(read(&store)).expect("whole");
    let mut noticed = 0;
    for file in files(folder.path()) {
        if file.ends_with("zarr.json") || file.to_string_lossy().contains("metadata") {
            continue;
        }
        let bytes = std::fs::read(&file).expect("a file");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, damaged).expect("written");
            match runtime.block_on(read(&store)) {
                Ok(all) => assert_eq!(all, whole, "bit {bit} of {}", file.display()),
                Err(_) => noticed += 1,
            }
        }
        std::fs::write(&file, bytes).expect("written");
    }
    assert!(noticed > 100, "{noticed} changes were noticed");
}

/// What metadata could ask for: more memory than there is.
#[test]
fn impossible_sizes_take_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = storage::runtime("test", 2).expect("a runtime");
    write(folder.path(), &[], false);
    let store = at(folder.path());
    let file = folder.path().join("vectors/zarr.json");
    let document: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    for (shape, chunk) in [
        ([1u64 << 62, 6], [1u64 << 62, 6]),
        ([40, 6], [u64::MAX, u64::MAX]),
        ([u64::MAX, 16_000], [1 << 40, 1]),
        ([40, 6], [0, 6]),
    ] {
        let mut document = document.clone();
        document["shape"] = json!(shape);
        document["chunk_grid"]["configuration"]["chunk_shape"] = json!(chunk);
        std::fs::write(&file, document.to_string()).expect("written");
        let outcome = runtime.block_on(async {
            let source = Source::open(&store, "vectors", None, None).await?;
            source.batches().next().await.transpose()
        });
        let error = outcome.expect_err("impossible");
        assert!(matches!(error, ExchangeError::Unsupported { .. }), "{shape:?} {chunk:?}: {error}");
    }
}
