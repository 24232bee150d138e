//! What is written is what is read.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::{Random, Sample, Shape, directory, load, shapes, store};
use distance::Payload;
use rabitq::{Bits, FACTORS, sketch};
use segment::{
    Compression, Reader, ResidentBuffer, ResidentView, SegmentError, WriteControl, remove,
};
use storage::{COALESCE_GAP, Metered, Metrics, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_comes_back_whole() {
    for shape in shapes() {
        let (_directory, store) = store();
        let sample = Sample::new(shape);
        let control = WriteControl::default();
        let written = sample.write_with(&store, "i/s", &control).await.expect("written");
        let objects = store.list("i/s/").await.expect("a listing");
        assert_eq!(written.objects, objects.len() as u64);
        assert_eq!(written.bytes, objects.iter().map(|object| object.size).sum::<u64>());
        let total = control.bytes_total.load(Ordering::Relaxed);
        assert_eq!(control.bytes_done.load(Ordering::Relaxed), total, "{shape:?}");

        let reader = Reader::open(Arc::clone(&store), "i/s").await.expect("opened");
        assert_eq!(reader.attributes(), &sample.attributes);
        let buffer = load(&reader).await.expect("loaded");
        let view = ResidentView::new(buffer.bytes()).expect("a view");
        assert!(sample.is_shown_by(&view), "{shape:?}");
        assert_eq!(view.prefix(), "i/s");

        let all: Vec<u32> = (0..sample.attributes.chunks()).rev().collect();
        let fetched = reader.fetch_chunks(&all).await.expect("fetched");
        assert_eq!(fetched.chunks.len(), all.len());
        assert!(fetched.chunks.is_sorted_by_key(|(chunk, _)| *chunk));
        assert!(sample.agrees_with(&fetched), "{shape:?}");

        remove(&store, "i/s").await.expect("removed");
        assert!(store.list("").await.expect("a listing").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_of_several_chunks_come_back_whole() {
    let (_directory, store) = store();
    let sample = Sample::new(Shape { bits: Bits::Eight, ..Shape::new(180_000, 129) });
    sample.write(&store, "s").await.expect("written");
    let chunks = store.list("s/codes/c/").await.expect("a listing");
    assert_eq!(chunks.len(), 2);
    assert!(chunks.iter().all(|chunk| chunk.size <= (32 << 20) + 4));
    let reader = Reader::open(store, "s").await.expect("opened");
    let buffer = load(&reader).await.expect("loaded");
    assert!(sample.is_shown_by(&ResidentView::new(buffer.bytes()).expect("a view")));
}

#[tokio::test]
async fn sketches_are_made_of_the_codes_of_upper_nodes() {
    for bits in Bits::ALL {
        let (_directory, store) = store();
        let sample = Sample::new(Shape { bits, ..Shape::new(300, 40) });
        assert!(!sample.graph.upper_nodes.is_empty());
        sample.write(&store, "s").await.expect("written");
        let reader = Reader::open(store, "s").await.expect("opened");
        let buffer = load(&reader).await.expect("loaded");
        let view = ResidentView::new(buffer.bytes()).expect("a view");
        for (node, row) in (0..).zip(&sample.graph.upper_nodes) {
            let mut code = vec![0; view.sketches().code_bytes()];
            let mut factors = [0.0; FACTORS];
            let codes = view.codes();
            sketch(bits, codes.code(*row), codes.factors(*row), &mut code, &mut factors);
            assert_eq!(view.sketches().code(node), code);
            assert_eq!(view.sketches().factors(node), &factors);
        }
    }
}

/// What other readers of the array see, and a segment written before there were levels has none.
#[tokio::test]
async fn the_level_of_compression_is_written_down() {
    for (compression, level, shown) in
        [(Compression::Zstd, 0, 3), (Compression::Zstd, 9, 9), (Compression::Lz4, 1, 1)]
    {
        let (_directory, store) = store();
        let shape = Shape { compression, compression_level: level, ..Shape::new(40, 8) };
        Sample::new(shape).write(&store, "s").await.expect("written");
        let array = store.get("s/vectors/zarr.json").await.expect("metadata");
        let text =
            String::from_utf8(array.to_vec()).expect("text").replace(char::is_whitespace, "");
        assert!(text.contains(&format!("\"clevel\":{shown}")), "{text}");
        let group = store.get("s/zarr.json").await.expect("metadata");
        let text = String::from_utf8(group.to_vec()).expect("text");
        assert_eq!(text.contains("compression_level"), level != 0, "{text}");
    }
}

#[tokio::test]
async fn a_single_threaded_runtime_will_do() {
    let (_directory, store) = directory();
    let store: Arc<dyn Store> = Arc::new(store.with_concurrency(1));
    let shape = Shape { compression: Compression::Lz4, ..Shape::new(300, 20) };
    let sample = Sample::new(shape);
    sample.write(&store, "s").await.expect("written");
    let reader = Reader::open(store, "s").await.expect("opened");
    let buffer = load(&reader).await.expect("loaded");
    assert!(sample.is_shown_by(&ResidentView::new(buffer.bytes()).expect("a view")));
}

/// Equal in everything that they say about themselves, and loaded into the same memory one after the other.
#[tokio::test]
async fn a_segment_in_memory_tells_which_one_it_is() {
    let (_directory, store) = store();
    let sample = Sample::new(Shape::new(50, 8));
    let mut buffer = ResidentBuffer::new(&sample.attributes);
    let long = ["6d0e4cd4-1f54-4ef4-9c0b-0c43ea1bb1f3"; 2].join("/");
    for prefix in [long.as_str(), "a", "b", &"x".repeat(80)] {
        sample.write(&store, prefix).await.expect("written");
        let reader = Reader::open(Arc::clone(&store), prefix).await.expect("opened");
        reader.load(buffer.bytes_mut()).await.expect("loaded");
        assert_eq!(ResidentView::new(buffer.bytes()).expect("a view").prefix(), prefix);
        ResidentView::of(buffer.bytes(), prefix).expect("the segment asked for");
        for other in ["", "c", &prefix[1..], &format!("{prefix}x"), &prefix.to_uppercase()] {
            let error = ResidentView::of(buffer.bytes(), other).expect_err("another segment");
            assert!(format!("{error:?}").contains("in place of"), "{error:?}");
        }
    }
    let prefix = "x".repeat(81);
    sample.write(&store, &prefix).await.expect("written");
    let reader = Reader::open(store, &prefix).await.expect("opened");
    let error = reader.load(buffer.bytes_mut()).await.expect_err("no room for its name");
    assert!(matches!(error, SegmentError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn a_damaged_name_is_no_name() {
    let (_directory, store) = store();
    Sample::new(Shape::new(50, 8)).write(&store, "name").await.expect("written");
    let reader = Reader::open(store, "name").await.expect("opened");
    let buffer = load(&reader).await.expect("loaded");
    let at = buffer.bytes()[..256].windows(4).position(|bytes| bytes == b"name").expect("the name");
    // Its length is the integer before it.
    for (at, byte) in [(at, 0xFF), (at - 8, 81), (at - 1, 1)] {
        let mut damaged = buffer.clone();
        damaged.bytes_mut()[at] = byte;
        assert!(ResidentView::new(damaged.bytes()).is_err(), "byte {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_choice_of_chunks_comes_back_once_each() {
    let mut random = Random(7);
    for compression in [Compression::None, Compression::Zstd] {
        let (_directory, store) = store();
        let sample = Sample::new(Shape {
            compression,
            chunk_rows: Some(2),
            shard_rows: Some(64),
            ..Shape::new(999, 10)
        });
        sample.write(&store, "s").await.expect("written");
        let reader = Reader::open(store, "s").await.expect("opened");
        for _ in 0..30 {
            let count = random.below(40);
            let chunks: Vec<u32> = (0..count)
                .map(|_| random.below(u64::from(sample.attributes.chunks())) as u32)
                .collect();
            let fetched = reader.fetch_chunks(&chunks).await.expect("fetched");
            let got: HashSet<u32> = fetched.chunks.iter().map(|(chunk, _)| *chunk).collect();
            assert_eq!(got, chunks.iter().copied().collect());
            assert_eq!(fetched.chunks.len(), got.len());
            assert!(sample.agrees_with(&fetched));
        }
        let error = reader.fetch_chunks(&[0, sample.attributes.chunks()]).await;
        assert!(matches!(error, Err(SegmentError::Invalid { .. })), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_chunks_share_a_request_and_indexes_are_read_once() {
    let (_directory, inner) = directory();
    let metered = Arc::new(Metered::new(inner, Metrics::leak()));
    let store: Arc<dyn Store> = Arc::clone(&metered) as Arc<dyn Store>;
    for compression in [Compression::None, Compression::Lz4] {
        // A chunk of 64 KiB; the gap of two between 0 and 3 is under COALESCE_GAP, four is not.
        let sample = Sample::new(Shape {
            compression,
            chunk_rows: Some(64),
            shard_rows: Some(64 * 16),
            ..Shape::new(64 * 20, 256)
        });
        let prefix = compression.name();
        sample.write(&store, prefix).await.expect("written");
        assert_eq!(sample.attributes.chunk_bytes() as u64 * 4, COALESCE_GAP);
        let reader = Reader::open(Arc::clone(&store), prefix).await.expect("opened");
        let ask = async |chunks: &[u32]| {
            let before = metered.snapshot();
            let fetched = reader.fetch_chunks(chunks).await.expect("fetched");
            let cost = metered.snapshot().since(&before);
            assert_eq!(u64::from(fetched.cost.requests), cost.requests());
            assert_eq!(fetched.cost.bytes, cost.bytes_read);
            assert!(sample.agrees_with(&fetched));
            fetched.cost.requests
        };
        let indexes = if compression == Compression::None { 0 } else { 2 };
        assert_eq!(ask(&[0, 3]).await, 1 + indexes);
        assert_eq!(ask(&[3, 0]).await, 1);
        assert_eq!(ask(&[]).await, 0);
        if compression == Compression::None {
            assert_eq!(ask(&[0, 5]).await, 2);
            // 15 and 16 are neighbours, but in two shards.
            assert_eq!(ask(&[15, 16]).await, 2);
        }
    }
}

#[tokio::test]
async fn uncompressed_chunks_are_not_copied() {
    let (_directory, store) = store();
    let sample = Sample::new(Shape { chunk_rows: Some(4), ..Shape::new(100, 10) });
    sample.write(&store, "s").await.expect("written");
    let reader = Reader::open(store, "s").await.expect("opened");
    let fetched = reader.fetch_chunks(&[3, 4]).await.expect("fetched");
    let stride = sample.attributes.chunk_bytes() + 4;
    let addresses: Vec<_> = fetched.chunks.iter().map(|(_, b)| b.as_ptr().addr()).collect();
    assert_eq!(addresses[1] - addresses[0], stride, "parts of one read");
}

#[tokio::test]
async fn tids_of_rows_and_bad_regions() {
    let (_directory, store) = store();
    let sample = Sample::new(Shape::new(50, 4));
    sample.write(&store, "s").await.expect("written");
    let reader = Reader::open(store, "s").await.expect("opened");
    let mut buffer = load(&reader).await.expect("loaded");
    let view = ResidentView::new(buffer.bytes()).expect("a view");
    let grouped: Vec<u64> = (0..50).flat_map(|row| view.tids(row).to_vec()).collect();
    assert_eq!(grouped, sample.tids);
    assert!((0..50).all(|row| !view.tids(row).is_empty()));
    assert!(view.tids(50).is_empty() && view.tids(usize::MAX).is_empty());
    assert_eq!((view.rows(), view.entries()), (50, sample.tids.len()));
    assert_eq!((view.payload(), view.dimensions()), (Payload::Float32, 4));

    let bytes = buffer.bytes();
    assert!(ResidentView::new(&bytes[..100]).is_err(), "too short for a header");
    assert!(ResidentView::new(&bytes[..bytes.len() - 64]).is_err(), "too short for the arrays");
    assert!(ResidentView::new(&bytes[8..]).is_err(), "not aligned");
    let short = buffer.bytes().len() - 64;
    let error = reader.load(&mut buffer.bytes_mut()[..short]).await;
    assert!(matches!(error, Err(SegmentError::Invalid { .. })), "{error:?}");
    buffer.bytes_mut().fill(0);
    assert!(ResidentView::new(buffer.bytes()).is_err(), "no segment");
}
