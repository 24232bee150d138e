//! Writing that is stopped, or that fails: nothing half, nothing left behind.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Sample, Shape, directory};
use distance::Payload;
use segment::{
    Compression, Reader, RowSource, SegmentError, SliceRows, WriteControl, choose_rows, write,
};
use storage::{Effect, ErrorKind, Fault, Faulty, Latency, Operation, Store};

fn sample() -> Sample {
    Sample::new(Shape { chunk_rows: Some(8), shard_rows: Some(64), ..Shape::new(2000, 16) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_write_ends_soon_and_leaves_nothing() {
    let (_directory, inner) = directory();
    let store: Arc<dyn Store> = Arc::new(Latency::new(inner, Duration::from_millis(50)));
    let sample = sample();
    let control = Arc::new(WriteControl::default());
    let watcher = Arc::clone(&control);
    let stopper = tokio::spawn(async move {
        while watcher.bytes_done.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        watcher.stop.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let error = sample.write_with(&store, "s", &control).await.expect_err("stopped");
    let took = stopper.await.expect("stopped").elapsed();
    assert_eq!(error, SegmentError::Cancelled);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(store.list("").await.expect("a listing").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_stopped_before_it_began_does_nothing() {
    let (_directory, store) = directory();
    let store: Arc<dyn Store> = Arc::new(store);
    let control = WriteControl::default();
    control.stop.store(true, Ordering::Relaxed);
    let error = sample().write_with(&store, "s", &control).await;
    assert_eq!(error, Err(SegmentError::Cancelled));
    assert!(store.list("").await.expect("a listing").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_put_fails_the_segment_does_not_exist() {
    let sample = sample();
    let (_directory, inner) = directory();
    let counted: Arc<dyn Store> = Arc::new(inner);
    let puts = sample.write(&counted, "s").await.expect("written").objects;
    for nth in (0..puts).step_by(5).chain([puts - 1]) {
        let (_directory, inner) = directory();
        let fault = Fault::always(Effect::Fail(ErrorKind::DiskFull)).on(Operation::Put).nth(nth);
        let store: Arc<dyn Store> = Arc::new(Faulty::new(inner, vec![fault]));
        let error = sample.write(&store, "s").await.expect_err("a full disk");
        let SegmentError::Storage(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert!(error.key().is_some());
        assert!(store.list("").await.expect("a listing").is_empty(), "put {nth}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_is_written_last() {
    let (_directory, inner) = directory();
    let fault = Fault::always(Effect::Fail(ErrorKind::Unreachable));
    // What was written cannot be deleted either: as after a crash.
    let script =
        vec![fault.clone().on(Operation::Put).key("s/zarr.json"), fault.on(Operation::Delete)];
    let store: Arc<dyn Store> = Arc::new(Faulty::new(inner, script));
    let sample = sample();
    sample.write(&store, "s").await.expect_err("no group");
    let objects = store.list("s/").await.expect("a listing");
    assert!(objects.len() > 20 && objects.iter().all(|object| object.key != "s/zarr.json"));
    let error = Reader::open(store, "s").await.expect_err("no whole segment");
    let SegmentError::Storage(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Rows that cannot be read from a certain one on.
struct Broken<'a>(SliceRows<'a>, usize);

impl RowSource for Broken<'_> {
    fn read_rows(&self, first_row: usize, out: &mut [f32]) -> io::Result<()> {
        if first_row >= self.1 {
            return Err(io::Error::other("the spill file is gone"));
        }
        self.0.read_rows(first_row, out)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_cannot_be_read_or_stored_are_named() {
    for compression in [Compression::None, Compression::Lz4] {
        let (_directory, store) = directory();
        let store: Arc<dyn Store> = Arc::new(store);
        let mut sample = sample();
        sample.attributes.compression = compression;
        let rows = SliceRows::new(&sample.vectors, 16);
        let broken = Broken(rows, 1000);
        let mut data = sample.data(&rows);
        data.vectors = &broken;
        let error = write(&store, "s", &data, &WriteControl::default()).await;
        let Err(SegmentError::Rows { row, message }) = error else { panic!("{error:?}") };
        assert!(row >= 1000 && message.contains("spill"), "{row} {message}");

        sample.attributes.payload = Payload::Float16;
        sample.vectors[16 * 1234 + 5] = 65505.0;
        let error = sample.write(&store, "s").await.expect_err("too large for float16");
        let expected = SegmentError::OutOfRange { row: 1234, dimension: 5, value: 65505.0 };
        assert_eq!(error, expected);
        assert!(store.list("").await.expect("a listing").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contradictions_are_refused_before_anything_is_written() {
    type Change = fn(&mut Sample);
    let changes: [(&str, Change); 12] = [
        ("codes", |s| s.codes.truncate(1)),
        ("factors", |s| s.factors.push(0.0)),
        ("neighbors", |s| s.graph.neighbors.truncate(1)),
        ("tids", |s| s.tids.push(1)),
        ("tid_offsets", |s| s.tid_offsets[1] = 0),
        ("tid_offsets", |s| s.tid_offsets[7] = s.tid_offsets[8]),
        ("centroid", |s| s.centroid.clear()),
        ("dimensions", |s| s.attributes.dimensions = 16_001),
        ("rows", |s| s.attributes.rows = 0),
        ("bits", |s| s.attributes.bits = 3),
        ("shard_rows", |s| s.attributes.shard_rows = 65),
        ("entry", |s| s.graph.entry = 1),
    ];
    let (_directory, store) = directory();
    let store: Arc<dyn Store> = Arc::new(store);
    for (word, change) in changes {
        let mut sample = sample();
        change(&mut sample);
        let error = sample.write(&store, "s").await.expect_err(word);
        assert!(matches!(error, SegmentError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error} does not say {word}");
    }
    assert!(store.list("").await.expect("a listing").is_empty());
    assert!(choose_rows(16, Payload::Float32, 10, Some(3), Some(10)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_read_is_passed_on_and_the_region_stays_empty() {
    let (_directory, inner) = directory();
    let store = Arc::new(Faulty::new(inner, Vec::new()));
    let sample = sample();
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    sample.write(&shared, "s").await.expect("written");
    let reader = Reader::open(shared, "s").await.expect("opened");
    let mut buffer = common::load(&reader).await.expect("loaded");
    for effect in [Effect::Fail(ErrorKind::Timeout), Effect::Truncate(3), Effect::FlipBit(77)] {
        store.set_script(vec![Fault::always(effect).on(Operation::GetRange).nth(4)]);
        reader.load(buffer.bytes_mut()).await.expect_err("a failing read");
        assert!(segment::ResidentView::new(buffer.bytes()).is_err());
        store.set_script(vec![Fault::always(effect).on(Operation::GetRange)]);
        reader.fetch_chunks(&[0, 100]).await.expect_err("a failing read");
    }
    store.set_script(Vec::new());
    reader.load(buffer.bytes_mut()).await.expect("loads again");
}
