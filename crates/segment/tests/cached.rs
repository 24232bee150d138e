//! Equal misses at one time make one fetch, and what was fetched is kept.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{Random, Sample, Shape, directory};
use segment::{CachedReader, ChunkCache, Reader, SegmentError};
use storage::{Effect, ErrorKind, Fault, Faulty, FileStore, Metered, Metrics, Operation, Store};

/// Keeps everything, or nothing.
#[derive(Clone, Debug, Default)]
struct Kept {
    chunks: Arc<Mutex<HashMap<u32, Bytes>>>,
    forgets: bool,
}

impl ChunkCache for Kept {
    fn get(&self, chunk: u32) -> Option<Bytes> {
        self.chunks.lock().expect("no panic").get(&chunk).cloned()
    }

    fn put(&self, chunk: u32, bytes: &[u8]) {
        if !self.forgets {
            let mut chunks = self.chunks.lock().expect("no panic");
            let before = chunks.insert(chunk, Bytes::copy_from_slice(bytes));
            assert!(before.is_none(), "chunk {chunk} was fetched though it was here");
        }
    }
}

struct Setup {
    _directory: tempfile::TempDir,
    sample: Sample,
    faulty: Arc<Faulty<FileStore>>,
    metered: Arc<Metered<Arc<Faulty<FileStore>>>>,
    reader: Arc<CachedReader>,
}

async fn setup(cache: Kept) -> Setup {
    let (directory, inner) = directory();
    let faulty = Arc::new(Faulty::new(inner, Vec::new()));
    let metered = Arc::new(Metered::new(Arc::clone(&faulty), Metrics::leak()));
    let store: Arc<dyn Store> = Arc::clone(&metered) as Arc<dyn Store>;
    let sample = Sample::new(Shape { chunk_rows: Some(4), ..Shape::new(400, 10) });
    sample.write(&store, "s").await.expect("written");
    let reader = Arc::new(Reader::open(store, "s").await.expect("opened"));
    let reader = Arc::new(CachedReader::new(reader, Box::new(cache)));
    Setup { _directory: directory, sample, faulty, metered, reader }
}

/// Every read of a range takes so long.
fn slow(milliseconds: u64) -> Fault {
    Fault::always(Effect::Delay(Duration::from_millis(milliseconds))).on(Operation::GetRange)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_equal_misses_makes_one_fetch() {
    let setup = setup(Kept::default()).await;
    setup.faulty.set_script(vec![slow(100)]);
    let before = setup.metered.snapshot();
    let mut burst = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let reader = Arc::clone(&setup.reader);
        burst.spawn(async move { reader.fetch_chunks(&[7, 8, 9]).await.expect("fetched") });
    }
    let answers = burst.join_all().await;
    assert_eq!(setup.metered.snapshot().since(&before).requests(), 1);
    for fetched in &answers {
        let numbers: Vec<u32> = fetched.chunks.iter().map(|(chunk, _)| *chunk).collect();
        assert_eq!(numbers, [7, 8, 9]);
        assert!(setup.sample.agrees_with(fetched));
    }
    let requests: u32 = answers.iter().map(|fetched| fetched.cost.requests).sum();
    assert_eq!(requests, 1, "paid by one of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bursts_fetch_every_chunk_once() {
    let setup = setup(Kept::default()).await;
    setup.faulty.set_script(vec![slow(2)]);
    let mut burst = tokio::task::JoinSet::new();
    for seed in 0..200 {
        let reader = Arc::clone(&setup.reader);
        burst.spawn(async move {
            let mut random = Random(seed);
            // Some in the burst, some after the first have landed: `Kept` complains of a chunk that
            // is fetched twice.
            tokio::time::sleep(Duration::from_millis(random.below(20))).await;
            let chunks: Vec<u32> = (0..5).map(|_| random.below(100) as u32).collect();
            let fetched = reader.fetch_chunks(&chunks).await.expect("fetched");
            assert!(fetched.chunks.is_sorted_by_key(|(chunk, _)| *chunk));
            assert!(chunks.iter().all(|wanted| fetched.chunks.iter().any(|(c, _)| c == wanted)));
            fetched
        });
    }
    for fetched in burst.join_all().await {
        assert!(setup.sample.agrees_with(&fetched));
    }
    let before = setup.metered.snapshot();
    let all: Vec<u32> = (0..100).collect();
    setup.reader.fetch_chunks(&all).await.expect("fetched");
    let rest = setup.metered.snapshot().since(&before).requests();
    assert!(rest <= 1, "what was never asked for comes together, the rest is here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_is_given_up_fills_the_cache_all_the_same() {
    let cache = Kept::default();
    let setup = setup(cache.clone()).await;
    setup.faulty.set_script(vec![slow(50)]);
    let fetch = setup.reader.fetch_chunks(&[3]);
    assert!(tokio::time::timeout(Duration::from_millis(5), fetch).await.is_err());
    for _ in 0..1000 {
        if cache.get(3).is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the chunk never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_reaches_all_who_wait_and_the_next_call_tries_again() {
    let setup = setup(Kept { forgets: true, ..Kept::default() }).await;
    let fails = Fault::always(Effect::Fail(ErrorKind::Unreachable)).on(Operation::GetRange);
    setup.faulty.set_script(vec![fails]);
    let (a, b) = tokio::join!(setup.reader.fetch_chunks(&[1, 2]), setup.reader.fetch_chunks(&[2]));
    for outcome in [a, b] {
        let Err(SegmentError::Storage(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
    setup.faulty.set_script(Vec::new());
    // The flight may land a moment after its answer.
    let again = async || {
        for _ in 0..1000 {
            if let Ok(fetched) = setup.reader.fetch_chunks(&[1, 2]).await {
                return fetched;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it never recovers")
    };
    assert!(setup.sample.agrees_with(&again().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_on_the_way_are_read_again() {
    let setup = setup(Kept::default()).await;
    let flip = Fault::always(Effect::FlipBit(1000)).on(Operation::GetRange).key("vectors");
    setup.faulty.set_script(vec![flip.clone().nth(0)]);
    let fetched = setup.reader.fetch_chunks(&[5]).await.expect("the second read is right");
    assert!(setup.sample.agrees_with(&fetched));
    assert_eq!(fetched.cost.requests, 2);
    setup.faulty.set_script(vec![flip]);
    let error = setup.reader.fetch_chunks(&[6]).await.expect_err("wrong twice");
    let SegmentError::Corrupt { key, what } = &error else { panic!("{error:?}") };
    assert!(key.contains("vectors") && what.contains("for bytes "), "{error:?}");
}
