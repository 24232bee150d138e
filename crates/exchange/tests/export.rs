//! What was exported comes back, opens in another reader, and is whole or not at all.

mod common;

use std::sync::Arc;

use common::{SMALL, bits, folder, read_all};
use exchange::{ExchangeError, Export, ExportInfo, Exported, ReadLimits, Source};
use proptest::prelude::*;
use storage::{Effect, ErrorKind, Fault, Faulty, Operation, Store};
use zarrs::array::{Array, ArraySubset};
use zarrs::filesystem::FilesystemStore;
use zarrs::group::Group;

fn info(dimensions: usize) -> ExportInfo {
    ExportInfo { collection: "My.Docs ä".into(), distance_metric: "cosine".into(), dimensions }
}

/// Rows made up by number.
fn rows(count: usize, dimensions: usize) -> (Vec<f32>, Vec<String>, Vec<String>) {
    let vectors = (0..count * dimensions).map(|at| (at as f32).sin()).collect();
    let ids = (0..count).map(|row| format!("id-ä-{row}")).collect();
    let metadata =
        (0..count).map(|row| format!(r#"{{"row": {row}, "text": "{}"}}"#, "ö".repeat(row % 17)));
    (vectors, ids, metadata.collect())
}

async fn export(
    store: &Arc<dyn Store>,
    (vectors, ids, metadata): &(Vec<f32>, Vec<String>, Vec<String>),
    dimensions: usize,
    step: usize,
) -> Result<Exported, ExchangeError> {
    let mut export = Export::create(store, info(dimensions)).await?;
    for start in (0..ids.len()).step_by(step) {
        let part = start..ids.len().min(start + step);
        let elements = &vectors[part.start * dimensions..part.end * dimensions];
        let written =
            export.write(elements, ids[part.clone()].to_vec(), metadata[part].to_vec()).await;
        if let Err(error) = written {
            export.abandon().await;
            return Err(error);
        }
    }
    export.finish().await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_come_back(count in 0usize..9000, dimensions in 1usize..900, step in 1usize..5000, small in any::<bool>()) {
        // Several chunks and few, without many megabytes.
        let count = count.min(4_000_000 / dimensions);
        let (_folder, store) = folder();
        let written = rows(count, dimensions);
        let runtime = storage::runtime("test", 2).expect("a runtime");
        runtime.block_on(async {
            let exported = export(&store, &written, dimensions, step).await.expect("exported");
            prop_assert_eq!(exported.rows, count as u64);
            let listed = store.list("").await.expect("listed");
            prop_assert_eq!(exported.objects, listed.len() as u64);
            prop_assert_eq!(exported.bytes, listed.iter().map(|object| object.size).sum::<u64>());
            let source = Source::open(&store, "vectors", Some("ids"), Some("metadata")).await.expect("opened");
            prop_assert_eq!((source.rows(), source.dimensions()), (count as u64, dimensions));
            let limits = if small { ReadLimits { band_bytes: 1 << 16, ..SMALL } } else { ReadLimits::default() };
            let mut batches = source.batches_within(limits);
            let missing = batches.missing_chunks();
            let first = batches.next().await.transpose().expect("read");
            prop_assert_eq!((first.is_some(), missing), (count > 0, 0));
            let all = read_all(source.batches_within(limits)).await.expect("read");
            prop_assert_eq!(bits(&all.vectors), bits(&written.0));
            prop_assert_eq!(all.ids.unwrap_or_default(), written.1);
            prop_assert_eq!(all.metadata.unwrap_or_default(), written.2);
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_reader_opens_it() {
    let (folder, store) = folder();
    let written = rows(9000, 3);
    export(&store, &written, 3, 1000).await.expect("exported");
    let zarr = Arc::new(FilesystemStore::new(folder.path()).expect("a store"));
    let group = Group::open(Arc::clone(&zarr), "/").expect("a group");
    assert_eq!(group.attributes()["collection"], "My.Docs ä");
    assert_eq!(group.attributes()["distance_metric"], "cosine");
    assert_eq!(
        (&group.attributes()["dimension"], &group.attributes()["rows"]),
        (&3.into(), &9000.into())
    );
    let array = Array::open(Arc::clone(&zarr), "/vectors").expect("an array");
    let names = array.dimension_names().clone().expect("names");
    assert_eq!(names, [Some("row".to_owned()), Some("dimension".to_owned())]);
    let whole = ArraySubset::new_with_shape(array.shape().to_vec());
    assert_eq!(array.retrieve_array_subset::<Vec<f32>>(&whole).expect("read"), written.0);
    for (name, texts) in [("/ids", &written.1), ("/metadata", &written.2)] {
        let array = Array::open(Arc::clone(&zarr), name).expect("an array");
        let whole = ArraySubset::new_with_shape(array.shape().to_vec());
        assert_eq!(&array.retrieve_array_subset::<Vec<String>>(&whole).expect("read"), texts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_with_anything_in_it_is_refused() {
    for key in ["x", "some/folder/x", "zarr.json"] {
        let (_folder, store) = folder();
        store.put(key, bytes::Bytes::from_static(b"{}")).await.expect("written");
        let error = Export::create(&store, info(3)).await.expect_err("not empty");
        let first = key.split('/').next().expect("a part");
        assert!(
            matches!(&error, ExchangeError::NotEmpty { found, .. } if found.starts_with(first))
        );
        assert_eq!(store.list("").await.expect("listed").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_off_does_not_open_and_can_be_taken_back() {
    let (_folder, store) = folder();
    let (vectors, ids, metadata) = rows(9000, 3);
    let mut broken = Export::create(&store, info(3)).await.expect("begun");
    broken.write(&vectors, ids.clone(), metadata.clone()).await.expect("written");
    drop(broken);
    let error = Source::open(&store, "vectors", None, None).await.expect_err("broken off");
    assert!(
        matches!(error, ExchangeError::NoArray { .. } | ExchangeError::Absent { .. }),
        "{error}"
    );

    let (_folder, store) = folder();
    let mut given_up = Export::create(&store, info(3)).await.expect("begun");
    given_up.write(&vectors, ids.clone(), metadata.clone()).await.expect("written");
    given_up.abandon().await;
    assert!(store.list("").await.expect("listed").is_empty());

    let mut odd = Export::create(&store, info(3)).await.expect("begun");
    let error = odd.write(&vectors[1..], ids, metadata).await.expect_err("an element is missing");
    assert!(matches!(error, ExchangeError::Invalid { .. }));
    assert!(Export::create(&store, info(0)).await.is_err());
}

/// A store that fails in the middle: the error is the store's, and nothing stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_leaves_nothing() {
    for failing in ["vectors/c/1", "ids/c/0", "metadata/zarr.json"] {
        let (folder, inner) = folder();
        let fault =
            Fault::always(Effect::Fail(ErrorKind::DiskFull)).on(Operation::Put).key(failing);
        let store: Arc<dyn Store> = Arc::new(Faulty::new(common::at(folder.path()), vec![fault]));
        let error = export(&store, &rows(40_000, 3), 3, 8000).await.expect_err(failing);
        match error {
            ExchangeError::Storage(error) => assert_eq!(error.kind(), ErrorKind::DiskFull),
            error => panic!("{error}"),
        }
        assert!(inner.list("").await.expect("listed").is_empty(), "{failing}");
    }
}
