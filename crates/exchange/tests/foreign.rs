//! Arrays of any shape and any chunks, written by zarrs, are read as they are.

mod common;

use std::sync::Arc;

use common::{SMALL, bits, folder, read_all};
use exchange::{ExchangeError, ReadLimits, Source};
use half::f16;
use proptest::prelude::*;
use storage::Store;
use zarrs::array::codec::bytes_to_bytes::blosc::{
    BloscCodec, BloscCompressionLevel, BloscCompressor, BloscShuffleMode,
};
use zarrs::array::codec::{
    Bz2Codec, Crc32cCodec, GzipCodec, TransposeCodec, TransposeOrder, ZstdCodec,
};
use zarrs::array::{Array, ArrayBuilder, ArraySubset, BytesToBytesCodecTraits};
use zarrs::filesystem::FilesystemStore;

/// An array to write.
#[derive(Clone, Debug)]
struct Shape {
    rows: u64,
    columns: u64,
    chunk: [u64; 2],
    /// Chunks of a shard, down and across; none when 0.
    shard: [u64; 2],
    half: bool,
    transposed: bool,
    packer: usize,
    /// Of a hundred chunks, how many are not written.
    missing: u64,
    fill: f32,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let lengths = (0u64..60, 1u64..24, [1u64..20, 1u64..30], [0u64..4, 1u64..4]);
    let fill = prop_oneof![Just(0.0), Just(f32::NAN), Just(-1.5)];
    (lengths, any::<[bool; 2]>(), 0usize..6, 0u64..60, fill).prop_map(
        |((rows, columns, chunk, shard), [half, transposed], packer, missing, fill)| Shape {
            rows,
            columns,
            chunk,
            shard,
            half,
            transposed,
            packer,
            missing,
            fill,
        },
    )
}

fn packers(packer: usize) -> Vec<Arc<dyn BytesToBytesCodecTraits>> {
    let blosc = || {
        let level = BloscCompressionLevel::try_from(5).expect("a level");
        BloscCodec::new(BloscCompressor::LZ4, level, None, BloscShuffleMode::Shuffle, Some(4))
    };
    match packer {
        0 => vec![],
        1 => vec![Arc::new(ZstdCodec::new(3, true))],
        2 => vec![Arc::new(GzipCodec::new(5).expect("gzip"))],
        3 => vec![Arc::new(blosc().expect("blosc"))],
        4 => vec![Arc::new(Bz2Codec::new(5u32.try_into().expect("a level")))],
        _ => vec![Arc::new(ZstdCodec::new(1, false)), Arc::new(Crc32cCodec::new())],
    }
}

/// Writes the array as `a/vectors`; answers what it holds.
fn write(path: &std::path::Path, shape: &Shape) -> Vec<f32> {
    let store = Arc::new(FilesystemStore::new(path).expect("a store"));
    let [down, across] = shape.chunk;
    let sharded = shape.shard[0] > 0;
    let object =
        if sharded { [down * shape.shard[0], across * shape.shard[1]] } else { shape.chunk };
    let (whole, object) = (vec![shape.rows, shape.columns], object.to_vec());
    let mut builder = match shape.half {
        true => ArrayBuilder::new(whole, object.clone(), "float16", f16::from_f32(shape.fill)),
        false => ArrayBuilder::new(whole, object.clone(), "float32", shape.fill),
    };
    builder.bytes_to_bytes_codecs(packers(shape.packer));
    if shape.transposed {
        let order = TransposeOrder::new(&[1, 0]).expect("an order");
        builder.array_to_array_codecs(vec![Arc::new(TransposeCodec::new(order))]);
    }
    if sharded {
        builder.subchunk_shape(shape.chunk.to_vec());
    }
    let array: Array<FilesystemStore> = builder.build(store, "/a/vectors").expect("an array");
    array.store_metadata().expect("written");
    let element = |row: u64, column: u64| (row * 31 + column) as f32 / 8.0 - 3.0;
    let mut expected = vec![shape.fill; (shape.rows * shape.columns) as usize];
    for i in 0..shape.rows.div_ceil(object[0]) {
        for j in 0..shape.columns.div_ceil(object[1]) {
            if (i * 37 + j * 61) % 100 < shape.missing {
                continue;
            }
            let rows = i * object[0]..((i + 1) * object[0]).min(shape.rows);
            let columns = j * object[1]..((j + 1) * object[1]).min(shape.columns);
            let subset = ArraySubset::new_with_ranges(&[rows.clone(), columns.clone()]);
            let mut values = Vec::new();
            for row in rows {
                for column in columns.clone() {
                    let value = match (row / down + column / across) % 5 {
                        // Whole inner chunks that are left out of a shard.
                        0 => shape.fill,
                        _ => element(row, column),
                    };
                    expected[(row * shape.columns + column) as usize] = value;
                    values.push(value);
                }
            }
            match shape.half {
                true => {
                    let halves: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
                    array.store_array_subset(&subset, &halves).expect("written");
                }
                false => array.store_array_subset(&subset, &values).expect("written"),
            }
        }
    }
    match shape.half {
        true => expected.into_iter().map(|value| f16::from_f32(value).to_f32()).collect(),
        false => expected,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    storage::runtime("test", 2).expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_element_comes_back(shape in shapes(), small in any::<bool>()) {
        let (folder, store) = folder();
        let expected = write(folder.path(), &shape);
        let limits = if small { SMALL } else { ReadLimits::default() };
        runtime().block_on(async {
            let source = Source::open(&store, "a/vectors", None, None).await.expect("opened");
            prop_assert_eq!((source.rows(), source.dimensions() as u64), (shape.rows, shape.columns));
            let all = read_all(source.batches_within(limits)).await.expect("read");
            prop_assert_eq!(all.rows as u64, shape.rows);
            prop_assert_eq!(bits(&all.vectors), bits(&expected));
            Ok(())
        })?;
    }

    /// No byte of a chunk is fetched twice.
    #[test]
    fn chunks_are_fetched_once(mut shape in shapes()) {
        shape.missing = 0;
        let (folder, inner) = folder();
        write(folder.path(), &shape);
        let noting = common::Noting::new(inner);
        let store: Arc<dyn Store> = noting.clone();
        runtime().block_on(async {
            let source = Source::open(&store, "a/vectors", None, None).await.expect("opened");
            read_all(source.batches_within(SMALL)).await.expect("read");
        });
        for (key, mut ranges) in std::mem::take(&mut *noting.reads.lock().expect("no panic")) {
            ranges.sort_by_key(|range| range.start);
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start, "{key}: {ranges:?}");
            }
        }
    }
}

/// Shards beyond what is read whole: their index and inner chunks are read in ranges.
#[test]
fn large_shards_are_read_in_parts() {
    let shape = Shape {
        rows: 3000,
        columns: 512,
        chunk: [100, 256],
        shard: [30, 2],
        half: false,
        transposed: false,
        packer: 0,
        missing: 0,
        fill: 0.0,
    };
    let (folder, inner) = folder();
    let expected = write(folder.path(), &shape);
    let noting = common::Noting::new(inner);
    let store: Arc<dyn Store> = noting.clone();
    let limits = ReadLimits { band_bytes: 1 << 20, ..ReadLimits::default() };
    runtime().block_on(async {
        let source = Source::open(&store, "/a/vectors/", None, None).await.expect("opened");
        let mut batches = source.batches_within(limits);
        assert!(batches.next().await.expect("a batch").is_ok());
        let all = read_all(source.batches_within(limits)).await.expect("read");
        assert_eq!(bits(&all.vectors), bits(&expected));
        assert!(batches.missing_chunks() > 0, "a fifth of the inner chunks is not there");
    });
    let reads = noting.reads.lock().expect("no panic");
    let longest = reads["a/vectors/c/0/0"].iter().map(|range| range.end - range.start).max();
    assert!(reads["a/vectors/c/0/0"].len() > 5 && longest < Some(5 << 20), "{longest:?}");
}

/// What a reader says about arrays it cannot take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_named() {
    let (folder, store) = folder();
    let absent = Source::open(&store, "vectors", None, None).await.expect_err("nothing there");
    assert!(matches!(absent, ExchangeError::Absent { .. }), "{absent}");

    let zarr = Arc::new(FilesystemStore::new(folder.path()).expect("a store"));
    let build = |name: &str, shape: Vec<u64>, kind: &str| {
        let chunk = shape.iter().map(|&length| length.max(1)).collect::<Vec<_>>();
        let builder = match kind {
            "string" => ArrayBuilder::new(shape, chunk, kind, ""),
            "int64" => ArrayBuilder::new(shape, chunk, kind, 0i64),
            "float64" => ArrayBuilder::new(shape, chunk, kind, 0f64),
            _ => ArrayBuilder::new(shape, chunk, kind, 0f32),
        };
        builder.build(Arc::clone(&zarr), name).expect(name).store_metadata().expect("written");
    };
    build("/g/vectors", vec![3, 2], "float32");
    build("/g/double", vec![3, 2], "float64");
    build("/g/line", vec![3], "float32");
    build("/g/none", vec![3, 0], "float32");
    build("/g/wide", vec![3, 16_001], "float32");
    build("/g/ids", vec![3], "int64");
    build("/g/short", vec![2], "string");

    let refused = async |array: &str, ids: Option<&str>| {
        let error = Source::open(&store, array, ids, None).await.expect_err(array);
        (error.to_string(), error.detail().unwrap_or_default(), error)
    };
    let (text, detail, error) = refused("vectors", None).await;
    assert!(
        matches!(error, ExchangeError::NoArray { .. }) && text.contains("\"vectors\""),
        "{text}"
    );
    assert!(detail.contains("\"g/vectors\"") && detail.contains("\"g/ids\""), "{detail}");
    let (text, detail, _) = refused("g/double", None).await;
    assert_eq!(text, "array \"g/double\" is of type float64");
    assert!(detail.contains("float32 and float16"), "{detail}");
    let (text, ..) = refused("g/line", None).await;
    assert_eq!(text, "array \"g/line\" has the shape [3]");
    let (_, detail, _) = refused("g/none", None).await;
    assert!(detail.contains("1 to 16000"), "{detail}");
    refused("g/wide", None).await;
    let (_, detail, error) = refused("g/vectors", Some("short")).await;
    assert!(matches!(error, ExchangeError::Lengths { .. }));
    assert_eq!(detail, "\"g/vectors\" has 3 rows, \"g/short\" has 2.");
    let (text, ..) = refused("g/vectors", Some("line")).await;
    assert_eq!(text, "array \"g/line\" is of type float32");
    let (text, ..) = refused("g/vectors", Some("absent")).await;
    assert!(text.contains("\"g/absent\""), "{text}");
    assert!(matches!(refused("../x", None).await.2, ExchangeError::Storage(_)));

    // Nothing was written into them: the fill value, where it can be one.
    let source = Source::open(&store, "g/vectors", Some("ids"), None).await.expect("opened");
    let all = read_all(source.batches()).await.expect("read");
    assert_eq!((all.vectors, all.ids), (vec![0.0; 6], Some(vec!["0".to_owned(); 3])));
    let source = Source::open(&store, "g/vectors", Some("ids"), Some("ids")).await.expect("opened");
    let error = read_all(source.batches()).await.expect_err("0 is not an object");
    assert_eq!(error.to_string(), "row 0 of array \"g/ids\" is not a JSON object");
}

/// A place that is itself an array.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_at_the_top_has_no_name() {
    let (folder, _) = folder();
    let shape = Shape {
        rows: 5,
        columns: 3,
        chunk: [2, 3],
        shard: [0, 1],
        half: false,
        transposed: false,
        packer: 1,
        missing: 0,
        fill: 0.0,
    };
    let expected = write(folder.path(), &shape);
    let store = common::at(&folder.path().join("a/vectors"));
    let source = Source::open(&store, "", None, None).await.expect("opened");
    assert_eq!(read_all(source.batches()).await.expect("read").vectors, expected);
    let error = Source::open(&store, "vectors", None, None).await.expect_err("no such array");
    assert!(error.hint().is_some_and(|hint| hint.contains("empty string")), "{error}");
    assert!(Source::open(&store, "", Some("ids"), None).await.is_err());
}

/// Dropping a stream ends its tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_ends_the_reading() {
    let (folder, inner) = folder();
    let shape = Shape {
        rows: 2000,
        columns: 8,
        chunk: [1, 8],
        shard: [0, 1],
        half: false,
        transposed: false,
        packer: 0,
        missing: 0,
        fill: 0.0,
    };
    write(folder.path(), &shape);
    let noting = common::Noting::new(inner);
    let store: Arc<dyn Store> = noting.clone();
    let source = Source::open(&store, "a/vectors", None, None).await.expect("opened");
    let mut batches = source.batches_within(SMALL);
    assert!(batches.next().await.expect("a batch").is_ok());
    drop(batches);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let read = noting.reads.lock().expect("no panic").len();
    assert!(read < 100, "{read} of 2000 chunks were read for one batch");
}
