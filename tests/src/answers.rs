//! Asking an index, and what every answer must fulfil.

use postgres::Client;

use crate::items::{Items, Metric, literal};
use crate::reading::last_scan;

/// Rows as they came: id and distance.
pub type Answer = Vec<(i32, f64)>;

/// Two distances that differ by less are the same: PostgreSQL sums in single precision.
pub const TOLERANCE: f64 = 1e-4;

/// Makes the planner prefer an index, for tests that are not about the planner: on a few hundred
/// rows a sequential scan would often win.
pub fn prefer_index(client: &mut Client) {
    client.batch_execute("SET enable_seqscan = off").expect("a setting");
}

/// The SQL of a nearest-neighbour query on a table of [`Items`].
pub fn sql(table: &str, metric: Metric, query: &[f32], limit: usize) -> String {
    let (operator, query) = (metric.operator(), literal(query));
    format!(
        "SELECT id, embedding {operator} {query} FROM {table} ORDER BY embedding {operator} {query} LIMIT {limit}"
    )
}

/// Asks for the nearest rows: id and distance.
///
/// # Errors
///
/// What the server reported.
pub fn try_ask(
    client: &mut Client,
    items: &Items,
    query: &[f32],
    limit: usize,
) -> Result<Answer, postgres::Error> {
    let rows = client.query(&sql(&items.table, items.metric, query, limit), &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Asks for the nearest rows and checks what every answer must fulfil: each row at most once, in
/// order of distance but for rows that the scan has counted as late, every one existing and at the
/// distance reported.
#[track_caller]
pub fn ask(client: &mut Client, items: &Items, query: &[f32], limit: usize) -> Answer {
    let answer =
        try_ask(client, items, query, limit).unwrap_or_else(|error| panic!("ask: {error:?}"));
    let late = late_rows(&answer);
    let mut in_order = answer.clone();
    if late > 0 {
        let counted = last_scan(client).late;
        assert!(late <= counted, "{late} rows are late, {counted} are counted: {answer:?}");
        in_order.sort_by(|a, b| a.1.total_cmp(&b.1));
    }
    check(items, query, &in_order);
    answer
}

/// Rows of an answer that come after one that is farther away, to the last bit.
fn late_rows(answer: &[(i32, f64)]) -> i32 {
    let mut farthest = f64::NEG_INFINITY;
    let mut late = 0;
    for (_, distance) in answer {
        late += i32::from(*distance < farthest);
        farthest = farthest.max(*distance);
    }
    late
}

/// Checks that no row of an answer is there twice or farther than its successor.
#[track_caller]
pub fn check_order(answer: &[(i32, f64)]) {
    for pair in answer.windows(2) {
        assert!(pair[0].1 <= pair[1].1, "distances decrease: {pair:?}");
    }
    let mut ids: Vec<i32> = answer.iter().map(|row| row.0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), answer.len(), "a row came twice: {answer:?}");
}

/// Checks an answer. See [`ask`].
#[track_caller]
pub fn check(items: &Items, query: &[f32], answer: &[(i32, f64)]) {
    check_order(answer);
    for (id, distance) in answer {
        let row =
            usize::try_from(*id).ok().and_then(|id| items.rows.get(id)).and_then(Option::as_ref);
        let Some(row) = row else {
            panic!("row {id} does not exist, it came at distance {distance}")
        };
        let truth = items.metric.distance(row, query);
        assert!(
            (truth - distance).abs() < TOLERANCE * truth.abs().max(1.0),
            "row {id} is at {truth}, not {distance}"
        );
    }
}

/// The share of the true `k` nearest rows that the index finds, over all queries. Rows as near as
/// the last of them count too.
#[track_caller]
pub fn recall(client: &mut Client, items: &Items, queries: &[Vec<f32>], k: usize) -> f64 {
    let mut found = 0;
    let mut wanted = 0;
    for query in queries {
        let truth = items.nearest(query, k);
        let limit = truth.last().expect("rows exist").1 + TOLERANCE;
        let answer = ask(client, items, query, k);
        assert_eq!(answer.len(), truth.len(), "fewer rows than asked for and there are");
        found += answer.iter().filter(|row| row.1 <= limit).count();
        wanted += truth.len();
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let recall = found as f64 / wanted as f64;
    recall
}

/// Asserts that the index finds at least `floor` of the true ten nearest rows.
///
/// The mean of a few queries is a poor estimate: one query with three rows missed takes three
/// points from ten queries, and 0.15 from two hundred.
#[track_caller]
pub fn assert_recall(client: &mut Client, items: &Items, queries: &[Vec<f32>], floor: f64) {
    prefer_index(client);
    let recall = recall(client, items, queries, 10);
    println!("recall@10 is {recall:.4} over {} queries", queries.len());
    assert!(recall >= floor, "recall@10 is {recall:.3}, expected at least {floor}");
}

/// Asserts that every row is found when asked for by its own vector.
#[track_caller]
pub fn assert_all_found(client: &mut Client, items: &Items, ids: impl IntoIterator<Item = usize>) {
    prefer_index(client);
    for id in ids {
        let row = items.rows[id].as_ref().expect("the row exists");
        let answer = ask(client, items, row, 10);
        let wanted = i32::try_from(id).expect("ids are small");
        assert!(
            answer.iter().any(|row| row.0 == wanted),
            "row {id} is not among its own nearest: {answer:?}"
        );
    }
}
