//! A collection of seeded vectors with metadata, and the truth about what a search of it returns.

use std::fmt::Write;

use harness::Metric;
use harness::answers::TOLERANCE;
use harness::items::text;
use postgres::Client;

use crate::ground::run;

/// Rows added in one call.
const BATCH: usize = 500;

/// A collection and what it holds.
pub struct Docs {
    /// Its name.
    pub name: String,
    /// Its metric.
    pub metric: Metric,
    /// The vectors of rows 0, 1, …
    pub vectors: Vec<Vec<f32>>,
}

/// A filter, and which rows it lets pass.
#[derive(Clone, Copy)]
pub struct Filter {
    /// As SQL writes it.
    pub json: &'static str,
    /// Whether row `n` passes.
    pub passes: fn(usize) -> bool,
}

/// Every row.
pub const ALL: Filter = Filter { json: "{}", passes: |_| true };
/// One row of a hundred.
pub const PERCENT: Filter = Filter { json: r#"{"part": "p7"}"#, passes: |n| n % 100 == 7 };
/// One row of a thousand.
pub const PER_MILLE: Filter = Filter { json: r#"{"rare": true}"#, passes: |n| n % 1000 == 7 };
/// One row of a hundred, by a range of a nested key that no index knows.
pub const RANGE: Filter =
    Filter { json: r#"{"of.rest": {"$gte": 50, "$lt": 51}}"#, passes: |n| n % 100 == 50 };

/// The id of row `n`.
pub fn id(n: usize) -> String {
    format!("d{n:05}")
}

/// The row with an id.
fn row(id: &str) -> usize {
    id.trim_start_matches('d').parse().unwrap_or_else(|_| panic!("a strange id: {id}"))
}

/// The metadata of row `n`.
pub fn metadata(n: usize) -> String {
    let (part, rare) = (n % 100, n % 1000 == 7);
    format!(r#"{{"n": {n}, "part": "p{part}", "rare": {rare}, "of": {{"rest": {part}}}}}"#)
}

/// The name of a metric in SQL.
pub fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::L2 => "l2",
        Metric::InnerProduct => "ip",
        Metric::Cosine => "cosine",
    }
}

impl Docs {
    /// Creates a collection and adds vectors.
    pub fn create(client: &mut Client, name: &str, metric: Metric, vectors: Vec<Vec<f32>>) -> Self {
        let dimension = vectors.first().expect("at least one vector").len();
        run(
            client,
            &format!(
                "SELECT s3vector.create_collection('{name}', {dimension}, '{}')",
                metric_name(metric)
            ),
        );
        let mut docs = Self { name: name.to_owned(), metric, vectors: Vec::new() };
        docs.add(client, vectors);
        docs
    }

    /// Adds vectors by `add_vectors`.
    pub fn add(&mut self, client: &mut Client, vectors: Vec<Vec<f32>>) {
        for batch in vectors.chunks(BATCH) {
            let mut items = String::new();
            for vector in batch {
                let n = self.vectors.len();
                let comma = if items.is_empty() { "" } else { ", " };
                let (id, metadata) = (id(n), metadata(n));
                let vector_text = text(vector);
                write!(
                    items,
                    r#"{comma}{{"id": "{id}", "vector": {vector_text}, "metadata": {metadata}}}"#
                )
                .expect("text grows");
                self.vectors.push(vector.clone());
            }
            client
                .execute(
                    "SELECT s3vector.add_vectors($1, items => ($2::text)::jsonb)",
                    &[&self.name, &format!("[{items}]")],
                )
                .unwrap_or_else(|error| panic!("add_vectors: {error:?}"));
        }
    }

    /// The score that a search gives row `n`.
    pub fn score(&self, query: &[f32], n: usize) -> f64 {
        let distance = self.metric.distance(&self.vectors[n], query);
        match self.metric {
            Metric::L2 => 1.0 / (1.0 + distance),
            Metric::InnerProduct => -distance,
            Metric::Cosine => 1.0 - distance,
        }
    }

    /// Scores of the rows that pass a filter, the best first.
    pub fn scores(&self, query: &[f32], filter: Filter) -> Vec<f64> {
        let passing = (0..self.vectors.len()).filter(|&n| (filter.passes)(n));
        let mut scores: Vec<f64> = passing.map(|n| self.score(query, n)).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores
    }

    /// Searches and checks what every answer must fulfil: as many rows as asked for and there are,
    /// each once, all passing the filter and with the right score, the best first. Returns rows and
    /// scores.
    #[track_caller]
    pub fn search(
        &self,
        client: &mut Client,
        query: &[f32],
        filter: Filter,
        limit: usize,
    ) -> Vec<(usize, f64)> {
        let sql = format!(
            "SELECT id, score FROM s3vector.search_vectors('{}', '{}', '{}', {limit})",
            self.name,
            text(query),
            filter.json
        );
        let rows = client.query(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let found: Vec<(usize, f64)> =
            rows.iter().map(|found| (row(found.get(0)), found.get(1))).collect();
        let there_are = (0..self.vectors.len()).filter(|&n| (filter.passes)(n)).count();
        assert_eq!(found.len(), limit.min(there_are), "rows that pass {}", filter.json);
        for &(n, score) in &found {
            assert!((filter.passes)(n), "row {n} does not pass {}", filter.json);
            let truth = self.score(query, n);
            let close = (score - truth).abs() < TOLERANCE * truth.abs().max(1.0);
            assert!(close, "the score of row {n} is {truth}, not {score}");
        }
        for pair in found.windows(2) {
            assert!(pair[0].1 >= pair[1].1 - TOLERANCE, "scores increase: {pair:?}");
        }
        let mut ids: Vec<usize> = found.iter().map(|&(n, _)| n).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), found.len(), "a row came twice");
        found
    }

    /// The share of the best rows that searches find. Rows as good as the last of them count too.
    #[track_caller]
    pub fn recall(
        &self,
        client: &mut Client,
        queries: &[Vec<f32>],
        filter: Filter,
        limit: usize,
    ) -> f64 {
        let (mut found, mut wanted) = (0, 0);
        for query in queries {
            let truth = self.scores(query, filter);
            let best = &truth[..limit.min(truth.len())];
            let last = best.last().expect("rows that pass") - TOLERANCE;
            let answer = self.search(client, query, filter, limit);
            found += answer.iter().filter(|(_, score)| *score >= last).count();
            wanted += best.len();
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let recall = found as f64 / wanted as f64;
        recall
    }
}
