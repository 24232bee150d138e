//! Collections of the old engine: every row, each id once, and what is said of broken ones.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{SMALL, at, read_all};
use exchange::{ExchangeError, OldCollection};
use serde_json::{Value, json};
use zarrs::array::codec::ZstdCodec;
use zarrs::array::{Array, ArrayBuilder, ArraySubset};
use zarrs::filesystem::FilesystemStore;

const DIMENSIONS: u64 = 3;

fn put(path: &Path, key: &str, document: &Value) {
    let file = path.join(key);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
    std::fs::write(file, document.to_string()).expect("written");
}

fn describe(path: &Path) {
    let document = json!({"collection_id": "words", "dimension": DIMENSIONS, "metric": "cosine",
        "total_vectors": 0, "num_shards": 0, "created_at": 1.5});
    put(path, "metadata.json", &document);
    put(path, "zarr.json", &json!({"zarr_format": 3, "node_type": "group", "attributes": {}}));
    put(path, "shard_metadata/index.json", &json!({"shards": ["shard_000099_1"]}));
}

/// A batch as the old engine wrote it: the vector of an id is (number, number, mark).
fn batch(path: &Path, place: &str, ids: &[&str], mark: f32) {
    let folder = path.join("shards").join(place);
    std::fs::create_dir_all(&folder).expect("created");
    let store = Arc::new(FilesystemStore::new(&folder).expect("a store"));
    let shape = vec![ids.len() as u64, DIMENSIONS];
    // Its chunks were always longer than the batch.
    let mut builder = ArrayBuilder::new(shape.clone(), vec![682, DIMENSIONS], "float32", 0f32);
    builder.bytes_to_bytes_codecs(vec![Arc::new(ZstdCodec::new(0, false))]);
    let array: Array<FilesystemStore> = builder.build(store, "/vectors").expect("an array");
    array.store_metadata().expect("written");
    let vectors: Vec<f32> = (0..ids.len()).flat_map(|row| [row as f32, row as f32, mark]).collect();
    array.store_array_subset(&ArraySubset::new_with_shape(shape), &vectors).expect("written");
    let metadata: Vec<Value> = ids.iter().map(|id| json!({"of": id, "mark": mark})).collect();
    let document = json!({"metadata": metadata, "ids": ids});
    put(path, &format!("shards/{place}/metadata.json"), &document);
    put(
        path,
        &format!("shards/{place}/zarr.json"),
        &json!({"zarr_format": 3, "node_type": "group"}),
    );
}

async fn refused(path: &Path) -> ExchangeError {
    match OldCollection::open(&at(path)).await {
        Err(error) => error,
        Ok(old) => read_all(old.batches()).await.expect_err("refused"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_comes_whatever_the_indexes_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    describe(path);
    for shard in 0..4 {
        for number in 0..12 {
            let ids: Vec<String> =
                (0..5 + number).map(|row| format!("{shard}/{number}/{row}")).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            batch(path, &format!("shard_{shard:06}_17/batch_{number:06}"), &ids, number as f32);
        }
    }
    // Given up before anything was written.
    put(path, "shards/shard_000000_17/batch_000099/zarr.json", &json!({}));
    put(path, "shards/shard_000000_17/zarr.json", &json!({}));
    let rows = 4 * (0..12u64).map(|number| 5 + number).sum::<u64>();
    let old = OldCollection::open(&at(path)).await.expect("opened");
    assert_eq!((old.name(), old.metric(), old.dimensions()), ("words", "cosine", 3));
    assert_eq!(old.stored_rows(), rows);
    for batches in [old.batches(), old.batches_within(SMALL)] {
        let all = read_all(batches).await.expect("read");
        assert_eq!(all.rows as u64, rows);
        let (ids, metadata) = (all.ids.expect("ids"), all.metadata.expect("metadata"));
        for ((id, text), vector) in ids.iter().zip(&metadata).zip(all.vectors.chunks(3)) {
            let parts: Vec<f32> =
                id.split('/').map(|part| part.parse().expect("a number")).collect();
            assert_eq!(vector, [parts[2], parts[2], parts[1]]);
            let object: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(object["of"], **id);
        }
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len() as u64, rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_written_last_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    describe(path);
    batch(path, "shard_000001_17/batch_000000", &["a", "b", "a"], 1.0);
    batch(path, "shard_000000_17/batch_000001", &["b", "c"], 2.0);
    batch(path, "shard_000000_17/batch_000010", &["c", "d"], 3.0);
    // All at once, as a copy or an archive has it: names decide.
    for key in ["1_17/batch_000000", "0_17/batch_000001", "0_17/batch_000010"] {
        let file = path.join(format!("shards/shard_00000{key}/metadata.json"));
        let file = std::fs::File::options().append(true).open(file).expect("a file");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("a time");
    }
    let old = OldCollection::open(&at(path)).await.expect("opened");
    assert_eq!(old.stored_rows(), 7);
    let mut batches = old.batches();
    let mut found = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch.expect("read");
        let marks = batch.vectors.chunks(3).map(|vector| (vector[0], vector[2]));
        found.extend(batch.ids.expect("ids").into_iter().zip(marks));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("a", (2.0, 1.0)), ("b", (0.0, 2.0)), ("c", (0.0, 3.0)), ("d", (1.0, 3.0))];
    assert_eq!(found, expected.map(|(id, marks)| (id.to_owned(), marks)));
    assert_eq!(batches.repeated_ids(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let error = refused(path).await;
    assert!(matches!(error, ExchangeError::NoCollection { .. }), "{error}");
    put(path, "metadata.json", &json!({"dimension": "many"}));
    assert!(matches!(refused(path).await, ExchangeError::NoCollection { .. }));

    describe(path);
    let place = "shard_000003_17/batch_000004";
    let metadata = format!("shards/{place}/metadata.json");
    let named = async |what: &str| {
        let error = refused(path).await;
        let text = format!("{error}: {}", error.detail().unwrap_or_default());
        assert!(text.contains(&format!("shards/{place}")) && text.contains(what), "{text}");
    };
    batch(path, place, &["a", "b"], 1.0);
    std::fs::remove_file(path.join(&metadata)).expect("removed");
    named("metadata.json").await;
    put(path, &metadata, &json!({"ids": ["a", "b"], "metadata": [{}]}));
    named("2 vectors, 2 ids and 1 metadata").await;
    put(path, &metadata, &json!({"ids": ["a"], "metadata": [{}]}));
    named("2 vectors, 1 ids and 1 metadata").await;
    put(path, &metadata, &json!({"ids": ["a", ""], "metadata": [{}, {}]}));
    named("row 1").await;
    put(path, &metadata, &json!({"ids": ["a", "b"], "metadata": [{}, 7]}));
    named("not an object").await;
    std::fs::write(path.join(&metadata), b"{\"ids\": [").expect("written");
    named("JSON").await;
    // Numbers are ids too, and metadata may be missing from a row.
    put(path, &metadata, &json!({"ids": [7, u64::MAX], "metadata": [{"x": 1.0}, null]}));
    let all = read_all(OldCollection::open(&at(path)).await.expect("opened").batches()).await;
    let all = all.expect("read");
    assert_eq!(all.ids.expect("ids"), ["7", "18446744073709551615"]);
    assert_eq!(all.metadata.expect("metadata"), ["{\"x\":1.0}", "{}"]);

    let chunk = path.join(format!("shards/{place}/vectors/c/0/0"));
    let bytes = std::fs::read(&chunk).expect("a chunk");
    std::fs::write(&chunk, &bytes[..bytes.len() / 2]).expect("written");
    named("vectors/c/0/0").await;
    std::fs::remove_file(&chunk).expect("removed");
    named("chunks").await;
    std::fs::remove_file(path.join(format!("shards/{place}/vectors/zarr.json"))).expect("removed");
    named("no vectors").await;
}
