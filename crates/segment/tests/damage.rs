//! Damaged, short and missing objects: an error that names the place, or the very same data.

mod common;

use std::sync::Arc;

use common::{Random, Sample, Shape, load, store};
use distance::Payload;
use proptest::prelude::*;
use segment::{Compression, Reader, ResidentView, SegmentError};
use storage::{ErrorKind, Store};

/// Reads everything there is to read.
async fn read_all(store: &Arc<dyn Store>, sample: &Sample) -> segment::Result<()> {
    let reader = Reader::open(Arc::clone(store), "s").await?;
    assert_eq!(reader.attributes(), &sample.attributes, "other attributes, no error");
    let buffer = load(&reader).await?;
    let view = ResidentView::new(buffer.bytes())?;
    assert!(sample.is_shown_by(&view), "other arrays, no error");
    let all: Vec<u32> = (0..sample.attributes.chunks()).collect();
    let fetched = reader.fetch_chunks(&all).await?;
    assert!(sample.agrees_with(&fetched), "other vectors, no error");
    Ok(())
}

fn shape(compression: Compression, payload: Payload) -> Shape {
    let base = Shape::new(45, 6);
    Shape { compression, payload, chunk_rows: Some(4), shard_rows: Some(16), ..base }
}

/// Whether damage to this object must be an error: other readers' metadata is not read here.
fn matters(key: &str) -> bool {
    key == "s/zarr.json" || !key.ends_with("zarr.json")
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![Compression::None, Compression::Zstd, Compression::Lz4])
}

/// Writes a segment, lets `damage` loose on one of its objects, and reads it.
fn after(
    compression: Compression,
    seed: u64,
    damage: impl Fn(&mut Vec<u8>, &mut Random),
) -> (String, segment::Result<()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut random = Random(seed);
        let payload = if random.below(2) == 0 { Payload::Float32 } else { Payload::Float16 };
        let (_directory, store) = store();
        let sample = Sample::new(shape(compression, payload));
        sample.write(&store, "s").await.expect("written");
        let mut objects = store.list("s/").await.expect("a listing");
        objects.retain(|object| matters(&object.key));
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        let key = objects[random.below(objects.len() as u64) as usize].key.clone();
        let mut body = store.get(&key).await.expect("get").to_vec();
        damage(&mut body, &mut random);
        store.put(&key, body.into()).await.expect("put");
        (key, read_all(&store, &sample).await)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_flipped_bit_is_never_other_data(compression in compression(), seed: u64) {
        let (key, outcome) = after(compression, seed, |body, random| {
            let bit = random.below(body.len() as u64 * 8);
            body[(bit / 8) as usize] ^= 1 << (bit % 8);
        });
        // `read_all` fails if anything differs. No error is fine where nothing is read: the
        // spaces of JSON, and the index of an uncompressed shard.
        let unread = key == "s/zarr.json"
            || compression == Compression::None && key.starts_with("s/vectors/");
        if let Err(error) = outcome {
            let named = error.to_string().contains(&key)
                || error.detail().is_some_and(|detail| detail.contains(&key));
            prop_assert!(named, "{error} does not name {key}");
        } else {
            prop_assert!(unread, "{key} was read as if whole");
        }
    }

    #[test]
    fn a_short_object_is_never_other_data(compression in compression(), seed: u64) {
        let (key, outcome) = after(compression, seed, |body, random| {
            body.truncate(random.below(body.len() as u64) as usize);
        });
        let unread = compression == Compression::None && key.starts_with("s/vectors/");
        prop_assert!(outcome.is_err() || unread, "{key} was read as if whole");
    }

    #[test]
    fn zeros_in_place_of_a_stretch_are_never_other_data(compression in compression(), seed: u64) {
        // `after` fails if anything differs; a stretch that was zeros before is no damage.
        let (_key, _outcome) = after(compression, seed, |body, random| {
            let start = random.below(body.len() as u64) as usize;
            let end = start + random.below((body.len() - start) as u64 + 1) as usize;
            body[start..end].fill(0);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_missing_object_is_an_error_that_names_it() {
    for compression in [Compression::None, Compression::Zstd] {
        let (_directory, store) = store();
        let sample = Sample::new(shape(compression, Payload::Float32));
        sample.write(&store, "s").await.expect("written");
        for object in store.list("s/").await.expect("a listing") {
            let body = store.get(&object.key).await.expect("get");
            store.delete(std::slice::from_ref(&object.key)).await.expect("delete");
            let outcome = read_all(&store, &sample).await;
            if matters(&object.key) {
                let Err(SegmentError::Storage(error)) = outcome else {
                    panic!("{}: {outcome:?}", object.key);
                };
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert_eq!(error.key(), Some(object.key.as_str()));
            } else {
                outcome.expect("not needed here");
            }
            store.put(&object.key, body).await.expect("put back");
        }
        read_all(&store, &sample).await.expect("whole again");
    }
}

#[tokio::test]
async fn an_unknown_version_says_so() {
    let (_directory, store) = store();
    Sample::new(Shape::new(3, 3)).write(&store, "s").await.expect("written");
    let text = store.get("s/zarr.json").await.expect("get");
    let text = String::from_utf8(text.to_vec()).expect("text");
    let newer = text.replace("\"format_version\": 1", "\"format_version\": 7");
    assert_ne!(text, newer);
    store.put("s/zarr.json", newer.into()).await.expect("put");
    let error = Reader::open(Arc::clone(&store), "s").await.expect_err("another version");
    assert!(matches!(error, SegmentError::Version { found: 7, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("format version 7"), "{error}");

    // Other attributes beside ours are welcome; ours must not change.
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    json["attributes"]["title"] = "mine".into();
    store.put("s/zarr.json", json.to_string().into()).await.expect("put");
    Reader::open(Arc::clone(&store), "s").await.expect("another attribute");
    for (field, value) in [("entry", 1), ("bits", 8), ("rows", 2), ("surprise", 1)] {
        let mut changed = json.clone();
        changed["attributes"]["s3vector"][field] = value.into();
        store.put("s/zarr.json", changed.to_string().into()).await.expect("put");
        let error = Reader::open(Arc::clone(&store), "s").await;
        assert!(matches!(error, Err(SegmentError::Corrupt { .. })), "{field}: {error:?}");
    }
}
