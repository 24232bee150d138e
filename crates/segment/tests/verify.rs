//! Reading a whole segment finds each damage, and none where there is none.

mod common;

use std::sync::Arc;

use common::{Random, Sample, Shape, elements, load, shapes, store};
use distance::Payload;
use proptest::prelude::*;
use segment::{Compression, Contents, Fault, Reader, ResidentView, SegmentError, Verified};
use serde_json::json;
use storage::Store;

/// What is wrong with the segment `s`; and what is right, if its metadata can be read.
async fn verify(store: &Arc<dyn Store>) -> (Vec<Fault>, Option<Verified>) {
    let mut faults = Vec::new();
    let mut tell = |fault: Fault| {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    };
    let reader = match Reader::open(Arc::clone(store), "s").await {
        Ok(reader) => reader,
        Err(error) => {
            tell(Fault::of(error).expect("a fault"));
            return (faults, None);
        }
    };
    let verified = reader.verify(&mut tell).await.expect("a store that answers");
    reader.verify_vectors(&mut tell, &mut |_, _| ()).await.expect("a store that answers");
    (faults, Some(verified))
}

fn shape(compression: Compression, payload: Payload) -> Shape {
    let base = Shape::new(45, 6);
    Shape { compression, payload, chunk_rows: Some(4), shard_rows: Some(16), ..base }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_as_it_was_written_has_no_faults() {
    for shape in shapes() {
        let (_directory, store) = store();
        let sample = Sample::new(shape);
        let written = sample.write(&store, "s").await.expect("written");
        let (faults, verified) = verify(&store).await;
        assert_eq!(faults, [], "{shape:?}");
        let verified = verified.expect("a whole segment");
        assert_eq!(verified.bytes, written.bytes, "{shape:?}");
        assert!(verified.contents.is_whole());

        let reader = Reader::open(Arc::clone(&store), "s").await.expect("opened");
        let buffer = load(&reader).await.expect("loaded");
        let view = ResidentView::new(buffer.bytes()).expect("a segment in memory");
        let loaded = Contents::of(&view, &|| false).expect("nobody stops it");
        assert_eq!(loaded, verified.contents, "{shape:?}");

        let (mut next, mut rows) = (0, Vec::new());
        let mut visit = |chunk: u32, bytes: &bytes::Bytes| {
            assert_eq!(chunk, next);
            next += 1;
            rows.extend(elements(shape.payload, bytes));
        };
        let mut tell = |fault: Fault| panic!("{fault:?}");
        reader.verify_vectors(&mut tell, &mut visit).await.expect("a store that answers");
        rows.truncate(sample.vectors.len());
        assert_eq!(rows, sample.vectors, "{shape:?}");
    }
}

/// Damages one object and asserts that it is found, and named.
fn damage(
    compression: Compression,
    seed: u64,
    inflict: impl Fn(&mut Vec<u8>, &mut Random),
) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut random = Random(seed);
        let payload = if random.below(2) == 0 { Payload::Float32 } else { Payload::Float16 };
        let (_directory, store) = store();
        Sample::new(shape(compression, payload)).write(&store, "s").await.expect("written");
        let mut objects = store.list("s/").await.expect("a listing");
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        let key = objects[random.below(objects.len() as u64) as usize].key.clone();
        let whole = store.get(&key).await.expect("get").to_vec();
        let mut body = whole.clone();
        inflict(&mut body, &mut random);
        prop_assume!(body != whole);
        store.put(&key, body.into()).await.expect("put");
        let (faults, _) = verify(&store).await;
        prop_assert!(!faults.is_empty(), "{key} seems whole");
        prop_assert!(faults.iter().all(|fault| fault.key == key), "{key}: {faults:?}");
        Ok(())
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![Compression::None, Compression::Zstd, Compression::Lz4])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is(compression in compression(), seed: u64) {
        damage(compression, seed, |body, random| {
            let bit = random.below(body.len() as u64 * 8);
            body[(bit / 8) as usize] ^= 1 << (bit % 8);
        })?;
    }

    #[test]
    fn an_object_of_another_length_is_found(compression in compression(), seed: u64) {
        damage(compression, seed, |body, random| match random.below(2) {
            0 => body.truncate(random.below(body.len() as u64) as usize),
            _ => body.extend_from_slice(b"}more"),
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_missing_object_is_named() {
    for compression in [Compression::None, Compression::Zstd] {
        let (_directory, store) = store();
        Sample::new(shape(compression, Payload::Float32))
            .write(&store, "s")
            .await
            .expect("written");
        for object in store.list("s/").await.expect("a listing") {
            let body = store.get(&object.key).await.expect("get");
            store.delete(std::slice::from_ref(&object.key)).await.expect("delete");
            let (faults, verified) = verify(&store).await;
            let expected =
                Fault { key: object.key.clone(), what: "the object does not exist".into() };
            assert_eq!(faults, [expected]);
            let whole = verified.is_some_and(|verified| verified.contents.is_whole());
            assert_eq!(
                whole,
                object.key.contains("vectors")
                    || object.key.contains("/zarr.json") && object.key != "s/zarr.json"
            );
            store.put(&object.key, body).await.expect("put");
        }
    }
}

/// Sound objects of another segment are not those of this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_content_differs() {
    let (_directory, store) = store();
    let one = Sample::new(shape(Compression::None, Payload::Float32));
    let mut other = one.clone();
    other.codes[3] ^= 1;
    other.tids[7] ^= 1;
    other.graph.neighbors.swap(0, 1);
    one.write(&store, "s").await.expect("written");
    let (_, stored) = verify(&store).await;
    let stored = stored.expect("a whole segment").contents;
    other.write(&store, "t").await.expect("written");
    let reader = Reader::open(Arc::clone(&store), "t").await.expect("opened");
    let buffer = load(&reader).await.expect("loaded");
    let view = ResidentView::new(buffer.bytes()).expect("a segment in memory");
    let loaded = Contents::of(&view, &|| false).expect("nobody stops it");
    let mut expected = vec!["codes", "tids"];
    if one.graph.neighbors[0] != one.graph.neighbors[1] {
        expected.insert(1, "neighbors");
    }
    assert_eq!(stored.differing(&loaded, &one.attributes), expected);
    assert!(Contents::of(&view, &|| true).is_none(), "it ends when told");
}

/// A store that cannot be asked is an error and no fault.
#[test]
fn only_what_is_about_an_object_is_a_fault() {
    use storage::{ErrorKind, StorageError};
    for (kind, is_fault) in [
        (ErrorKind::NotFound, true),
        (ErrorKind::Corrupt, true),
        (ErrorKind::Unreachable, false),
        (ErrorKind::BucketMissing, false),
        (ErrorKind::AccessDenied, false),
        (ErrorKind::Timeout, false),
    ] {
        let error = StorageError::new(kind, "read", "file:///x", "cause").with_key("a/b");
        assert_eq!(Fault::of(SegmentError::Storage(error)).is_ok(), is_fault, "{kind:?}");
    }
}

/// What metadata say is compared word by word: they must stay as segments of this format have them.
/// If a new version of zarrs changes them, compare what they mean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_are_in_the_words_of_the_format() {
    let (_directory, store) = store();
    let shape = shape(Compression::Zstd, Payload::Float16);
    Sample::new(shape).write(&store, "s").await.expect("written");
    let words = |name: &str| {
        let (store, key) = (Arc::clone(&store), format!("s/{name}/zarr.json"));
        async move {
            let body = store.get(&key).await.expect("metadata");
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON")
        }
    };
    let elements = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let checksum = json!({"name": "crc32c"});
    let keys = json!({"name": "default", "configuration": {"separator": "/"}});
    let grid = |rows: u64, width: u64| json!({"name": "regular", "configuration": {"chunk_shape": [rows, width]}});
    let codes = json!({
        "zarr_format": 3, "node_type": "array", "shape": [45, 64], "data_type": "uint8",
        "chunk_grid": grid(45, 64), "chunk_key_encoding": keys, "fill_value": 0,
        "codecs": [elements, checksum], "dimension_names": ["row", "byte"],
    });
    assert_eq!(words("codes").await, codes);
    let blosc = json!({"name": "blosc", "configuration": {
        "cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": 2, "blocksize": 0,
    }});
    let shards = json!({"name": "sharding_indexed", "configuration": {
        "chunk_shape": [4, 6], "codecs": [elements, blosc, checksum],
        "index_codecs": [elements, checksum], "index_location": "end",
    }});
    let vectors = json!({
        "zarr_format": 3, "node_type": "array", "shape": [45, 6], "data_type": "float16",
        "chunk_grid": grid(16, 6), "chunk_key_encoding": keys, "fill_value": 0.0,
        "codecs": [shards], "dimension_names": ["row", "dimension"],
    });
    assert_eq!(words("vectors").await, vectors);
}
