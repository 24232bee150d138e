//! Measures writing, loading and fetching of one segment on a store.
//!
//! ```text
//! S3VECTOR_MEASURE_URL=file:///dir  cargo run --release --example measure [rows] [dimensions]
//! ```
//!
//! For S3 set `S3VECTOR_TEST_S3_ENDPOINT`, `S3VECTOR_TEST_S3_REGION` and the `AWS_*` credentials
//! as for the tests.

#[path = "../tests/common/mod.rs"]
mod common;

use std::env::var;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Random, Sample, Shape, load};
use distance::Payload;
use futures::StreamExt;
use futures::stream;
use segment::{Compression, Reader, remove};
use storage::{Metrics, StorageConfig, Store, open, runtime};

/// Fetches to time.
const WAVES: usize = 400;

/// Loads and downloads to time.
const LOADS: usize = 7;

/// Places a wave goes to, each of two neighbouring chunks: as a query's candidates do.
const PLACES: usize = 8;

fn main() {
    let url = var("S3VECTOR_MEASURE_URL").expect("S3VECTOR_MEASURE_URL names a store");
    let mut config = StorageConfig::new(url);
    config.s3_endpoint = var("S3VECTOR_TEST_S3_ENDPOINT").ok();
    config.s3_region = var("S3VECTOR_TEST_S3_REGION").ok();
    config.s3_path_style = true;
    let store = open(&config, Metrics::leak()).expect("a store");
    let number = |index: usize, default: u32| {
        std::env::args().nth(index).map_or(default, |text| text.parse().expect("a number"))
    };
    let (rows, dimensions) = (number(1, 100_000), number(2, 384));
    let runtime = runtime("measure", 2).expect("a runtime");
    println!("{}: {rows} rows of {dimensions} dimensions", store.url());
    for payload in [Payload::Float32, Payload::Float16] {
        for compression in [Compression::None, Compression::Zstd, Compression::Lz4] {
            let shape = Shape { payload, compression, ..Shape::new(rows, dimensions) };
            runtime.block_on(measure(&store, &Sample::new(shape)));
        }
    }
}

async fn measure(store: &Arc<dyn Store>, sample: &Sample) {
    let prefix = "measure/segment";
    let rate = |bytes: u64, took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    let start = Instant::now();
    let written = sample.write(store, prefix).await.expect("written");
    let write = rate(written.bytes, start.elapsed());

    let reader = Reader::open(Arc::clone(store), prefix).await.expect("opened");
    let (mut loads, mut downloads) = (Vec::new(), Vec::new());
    for _ in 0..LOADS {
        let start = Instant::now();
        let bytes = download(store, prefix).await;
        downloads.push(rate(bytes, start.elapsed()));
        let start = Instant::now();
        load(&reader).await.expect("loaded");
        loads.push(rate(bytes, start.elapsed()));
    }
    let middle = |rates: &mut Vec<f64>| *rates.select_nth_unstable_by(LOADS / 2, f64::total_cmp).1;
    let (load, download) = (middle(&mut loads), middle(&mut downloads));

    let mut random = Random(5);
    let mut times = Vec::new();
    let (mut requests, mut bytes) = (0, 0);
    for _ in 0..WAVES {
        let chunks: Vec<u32> = (0..PLACES)
            .map(|_| random.below(u64::from(sample.attributes.chunks() - 1)) as u32)
            .flat_map(|chunk| [chunk, chunk + 1])
            .collect();
        let start = Instant::now();
        let fetched = reader.fetch_chunks(&chunks).await.expect("fetched");
        times.push(start.elapsed());
        requests += fetched.cost.requests;
        bytes += fetched.cost.bytes;
    }
    times.sort_unstable();
    println!(
        "{:8} {:4}: {} objects {:.1} MB, write {write:.0} MB/s, load {load:.0} MB/s ({:.2} of \
         a plain download), wave of {:.1} requests {:.0} KB: p50 {:?} p99 {:?}",
        sample.attributes.payload.name(),
        sample.attributes.compression.name(),
        written.objects,
        written.bytes as f64 / 1e6,
        load / download,
        f64::from(requests) / WAVES as f64,
        bytes as f64 / 1e3 / WAVES as f64,
        times[WAVES / 2],
        times[WAVES * 99 / 100],
    );
    remove(store, prefix).await.expect("removed");
}

/// Reads what a load reads, in parallel ranges, into memory, and throws it away.
async fn download(store: &Arc<dyn Store>, prefix: &str) -> u64 {
    const PART: u64 = 4 << 20;
    let objects = store.list(&format!("{prefix}/")).await.expect("listed");
    let parts =
        objects.into_iter().filter(|object| !object.key.contains("/vectors/")).flat_map(|object| {
            let ranges = (0..object.size).step_by(PART as usize);
            ranges.map(move |at| (object.key.clone(), at..(at + PART).min(object.size)))
        });
    let reads = stream::iter(parts)
        .map(async |(key, range)| store.get_range(&key, range).await.expect("read").len() as u64)
        .buffer_unordered(store.concurrency());
    reads.fold(0, async |sum, length| sum + length).await
}
