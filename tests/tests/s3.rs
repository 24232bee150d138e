//! Does S3 give the answers that files give, and what happens when it refuses or is gone?

use std::net::TcpListener;
use std::time::{Duration, Instant};

use harness::answers::Answer;
use harness::errors::failure;
use harness::items::Source;
use harness::{Cluster, Garage, Items, Metric, answers};
use postgres::Client;

/// Relations of the index access method that exist.
fn index_count(client: &mut Client) -> i64 {
    client
        .query_one(
            "SELECT count(*) FROM pg_class JOIN pg_am ON pg_am.oid = relam WHERE amname = 's3vector'",
            &[],
        )
        .expect("a count")
        .get(0)
}

/// CREATE INDEX with the storage settings given must fail so, and leave nothing.
#[track_caller]
fn refused(settings: &[(&str, String)], sqlstate: &str, words: &[&str]) {
    let cluster = Cluster::builder().set_all(settings).start();
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, Source::new(1, 16).vectors(200));
    failure(items.try_index(&mut client, "")).expect(sqlstate, words);
    assert_eq!(index_count(&mut client), 0);
}

/// The settings of a Garage, one of them replaced.
fn changed(garage: &Garage, name: &str, value: &str) -> Vec<(&'static str, String)> {
    let mut settings = garage.settings();
    settings.iter_mut().find(|setting| setting.0 == name).expect("a setting").1 = value.to_owned();
    settings
}

#[test]
fn answers_equal_those_from_files() {
    let garage = Garage::start();
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(1, 48);
    let items = Items::create(&mut client, "items", Metric::Cosine, source.vectors(2000));
    let queries = source.vectors(200);
    answers::prefer_index(&mut client);
    let ask_all = |client: &mut Client| -> Vec<Answer> {
        queries.iter().map(|query| answers::ask(client, &items, query, 10)).collect()
    };

    items.index(&mut client, "");
    let from_files = ask_all(&mut client);
    answers::assert_recall(&mut client, &items, &queries, 0.95);

    client.batch_execute("DROP INDEX items_index").expect("the index is dropped");
    cluster.reconfigure(&garage.settings());
    items.index(&mut client, "");
    let url: String = client
        .query_one("SELECT storage_url FROM s3vector_index_info('items_index')", &[])
        .expect("the index is described")
        .get(0);
    assert!(url.starts_with("s3://"), "the index is stored at {url}");
    assert_eq!(from_files, ask_all(&mut client));
}

#[test]
fn answers_are_the_same_after_a_restart() {
    let garage = Garage::start();
    let mut cluster = Cluster::builder().set_all(&garage.settings()).start();
    let mut client = cluster.client();
    let mut source = Source::new(2, 48);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(1000));
    items.index(&mut client, "");
    cluster.restart();
    answers::assert_recall(&mut cluster.client(), &items, &source.vectors(200), 0.95);
}

#[test]
fn missing_bucket() {
    let garage = Garage::start();
    refused(&changed(&garage, "s3vector.storage_url", "s3://nowhere/test"), "58P01", &["nowhere"]);
}

#[test]
fn wrong_secret() {
    let garage = Garage::start();
    let secret = "f".repeat(64);
    refused(&changed(&garage, "s3vector.s3_secret_access_key", &secret), "42501", &["vectors"]);
}

#[test]
fn unknown_key() {
    let garage = Garage::start();
    let key = "GKffffffffffffffffffffffff";
    refused(&changed(&garage, "s3vector.s3_access_key_id", key), "42501", &["vectors"]);
}

#[test]
fn nobody_listens_at_the_endpoint() {
    let mut garage = Garage::start();
    let endpoint = garage.endpoint();
    garage.stop();
    let address = endpoint.trim_start_matches("http://").to_owned();
    refused(&garage.settings(), "08006", &[&address]);
}

/// A server that accepts connections and never answers.
#[test]
fn the_endpoint_never_answers() {
    let garage = Garage::start();
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut settings = changed(&garage, "s3vector.s3_endpoint", &endpoint);
    settings.push(("s3vector.fetch_timeout", "1s".to_owned()));
    let start = Instant::now();
    refused(&settings, "08006", &[]);
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "CREATE INDEX hung for {:?}",
        start.elapsed()
    );
}

#[test]
fn a_query_while_the_store_is_down_fails_and_recovers() {
    let mut garage = Garage::start();
    let mut cluster =
        Cluster::builder().set_all(&garage.settings()).set("s3vector.fetch_timeout", "5s").start();
    let mut client = cluster.client();
    let mut source = Source::new(3, 48);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(1000));
    items.index(&mut client, "");

    // Nothing cached, nothing in memory: the store is needed.
    garage.stop();
    cluster.restart();
    let mut client = cluster.client();
    answers::prefer_index(&mut client);
    let start = Instant::now();
    let report = failure(answers::try_ask(&mut client, &items, &source.vector(), 10));
    report.expect("08006", &["s3://vectors/test"]);
    assert!(start.elapsed() < Duration::from_secs(60), "the query hung for {:?}", start.elapsed());

    // Writing needs no store, and asking works again when it is back.
    let mut items = items;
    items.insert(&mut client, source.vector());
    garage.start_server();
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    answers::assert_all_found(&mut client, &items, [1000]);
}
