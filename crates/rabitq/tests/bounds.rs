//! The exact distance lies within the bounds, and estimates are close, for all widths and metrics.

mod common;

use common::{Encoded, METRICS, clustered};
use distance::ExactQuery;
use rabitq::{Bits, SplitMix64};

/// Part of the pairs whose exact distance is below, within and above the bounds.
fn shares(rows: &[Vec<f32>], queries: &[Vec<f32>], encoded: &Encoded) -> [f64; 3] {
    let mut counts = [0usize; 3];
    for query in queries {
        let exact = ExactQuery::new(encoded.quantizer.metric(), query.clone());
        let prepared = encoded.quantizer.query(query);
        for (i, row) in rows.iter().enumerate() {
            let distance = exact.distance(row);
            let bounds = prepared.bounds(encoded.code(i), encoded.factors(i));
            assert!(
                bounds.lower <= bounds.estimate && bounds.estimate <= bounds.upper,
                "{bounds:?}"
            );
            let at = if distance < bounds.lower {
                0
            } else if distance > bounds.upper {
                2
            } else {
                1
            };
            counts[at] += 1;
        }
    }
    counts.map(|count| count as f64 / (rows.len() * queries.len()) as f64)
}

fn check(dimensions: usize, clusters: usize, spread: f32) {
    let mut random = SplitMix64::new(dimensions as u64 * 31 + clusters as u64);
    let mut vectors = clustered(440, dimensions, clusters, spread, &mut random);
    let queries = vectors.split_off(400);
    for metric in METRICS {
        for bits in Bits::ALL {
            let encoded = Encoded::new(&vectors, bits, metric);
            let [below, within, above] = shares(&vectors, &queries, &encoded);
            let name = format!("{metric:?} {bits:?} {dimensions} dimensions, {clusters} clusters");
            println!("{name}: {below:.4} below, {within:.4} within, {above:.4} above");
            assert!(within >= 0.93, "{name}: {below} below, {within} within, {above} above");
        }
    }
}

#[test]
fn random_vectors_lie_within() {
    for dimensions in [100, 384] {
        check(dimensions, 1, 1.0);
    }
}

#[test]
fn clustered_vectors_lie_within() {
    for dimensions in [50, 384] {
        check(dimensions, 20, 0.1);
    }
}

#[test]
fn vectors_of_few_dimensions_lie_within() {
    for dimensions in [1, 2, 3, 8] {
        check(dimensions, 1, 1.0);
        check(dimensions, 10, 0.05);
    }
}

#[test]
fn more_bits_give_narrower_bounds() {
    let mut random = SplitMix64::new(5);
    let mut vectors = clustered(210, 200, 4, 0.5, &mut random);
    let queries = vectors.split_off(200);
    for metric in METRICS {
        let width = |bits| -> f64 {
            let encoded = Encoded::new(&vectors, bits, metric);
            let width = |query: &Vec<f32>| -> f64 {
                let query = encoded.quantizer.query(query);
                let bounds = |row| query.bounds(encoded.code(row), encoded.factors(row));
                (0..vectors.len()).map(bounds).map(|bounds| bounds.upper - bounds.lower).sum()
            };
            queries.iter().map(width).sum()
        };
        let widths = Bits::ALL.map(width);
        // Each step from 1 to 4 bits halves the error at least; at 8 the rounded query shows.
        assert!(widths[1] < 0.55 * widths[0], "{metric:?} {widths:?}");
        assert!(widths[2] < 0.4 * widths[1], "{metric:?} {widths:?}");
        assert!(widths[3] < 0.3 * widths[2], "{metric:?} {widths:?}");
    }
}

#[test]
fn a_missing_centroid_only_widens() {
    let mut random = SplitMix64::new(6);
    let mut vectors = clustered(320, 96, 5, 0.3, &mut random);
    let queries = vectors.split_off(300);
    for metric in METRICS {
        let encoded = Encoded::with_centroid(&vectors, Bits::Four, metric, vec![0.0; 96]);
        let [below, within, above] = shares(&vectors, &queries, &encoded);
        assert!(within >= 0.93, "{metric:?}: {below} {within} {above}");
    }
}
