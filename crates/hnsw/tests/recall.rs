//! Searches find the nearest rows, on data that is easy, flat, clustered or tied.

mod common;

use common::{Codes, Exact, built, clustered, cube, params, recall};
use distance::Metric;
use rabitq::Bits;

#[test]
fn exact_distances_find_nearly_all() {
    let rows = clustered(4000, 24, 40, 0.6, 1);
    let queries = clustered(60, 24, 40, 0.6, 2);
    let graph = built(rows.len(), &params(16, 64), &Exact(&rows), 2);
    for (ef, least) in [(20, 0.93), (60, 0.985), (200, 0.998)] {
        let recall = recall(&graph, &rows, &queries, Metric::L2, 10, ef, None);
        println!("ef {ef}: {recall}");
        assert!(recall >= least, "ef {ef}: recall {recall}");
    }
}

#[test]
fn codes_find_as_much_after_rerank() {
    let rows = clustered(3000, 96, 60, 0.8, 1);
    let queries = clustered(50, 96, 60, 0.8, 2);
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        for (bits, least) in
            [(Bits::One, 0.85), (Bits::Two, 0.93), (Bits::Four, 0.97), (Bits::Eight, 0.97)]
        {
            let codes = Codes::new(&rows, bits, metric);
            let graph = built(rows.len(), &params(16, 64), &codes, 2);
            let recall = recall(&graph, &rows, &queries, metric, 10, 100, Some(&codes));
            println!("{metric:?} {bits:?}: {recall}");
            assert!(recall >= least, "{metric:?} {bits:?}: recall {recall}");
        }
    }
}

#[test]
fn few_dimensions_are_no_worse() {
    for dimensions in [1, 2, 3] {
        let rows = cube(5000, dimensions, 1);
        let queries = cube(50, dimensions, 2);
        for bits in [Bits::Four, Bits::Eight] {
            let codes = Codes::new(&rows, bits, Metric::L2);
            let graph = built(rows.len(), &params(16, 64), &codes, 2);
            let recall = recall(&graph, &rows, &queries, Metric::L2, 10, 100, Some(&codes));
            println!("{dimensions} dimensions, {bits:?}: {recall}");
            assert!(recall >= 0.99, "{dimensions} dimensions, {bits:?}: recall {recall}");
        }
    }
}

#[test]
fn a_handful_of_rows_is_found_completely() {
    for count in [1, 2, 3, 9, 16, 17, 33] {
        for dimensions in [1, 3, 40] {
            let rows = cube(count, dimensions, 1);
            let queries = cube(10, dimensions, 2);
            let codes = Codes::new(&rows, Bits::Four, Metric::L2);
            let graph = built(count, &params(16, 64), &codes, 2);
            let recall = recall(&graph, &rows, &queries, Metric::L2, 10, 40, Some(&codes));
            assert_eq!(recall, 1.0, "{count} rows of {dimensions} dimensions");
        }
    }
}

#[test]
fn tight_clusters_larger_than_the_beam_are_found() {
    // 60 clusters of 98 rows that differ less than their codes can tell.
    let rows = clustered(60 * 98, 32, 60, 1e-4, 1);
    let queries = clustered(60, 32, 60, 1e-4, 2);
    let codes = Codes::new(&rows, Bits::Four, Metric::L2);
    let graph = built(rows.len(), &params(16, 64), &codes, 2);
    let recall = recall(&graph, &rows, &queries, Metric::L2, 10, 200, Some(&codes));
    println!("{recall}");
    assert!(recall >= 0.95, "recall {recall}");
}

#[test]
fn equal_rows_are_found() {
    // Ten different rows, each 300 times: all distances within a group are zero.
    let ten = cube(10, 8, 1);
    let rows: Vec<Vec<f32>> = (0..3000).map(|i| ten[i % 10].clone()).collect();
    let codes = Codes::new(&rows, Bits::Four, Metric::L2);
    let graph = built(rows.len(), &params(8, 64), &codes, 2);
    let recall = recall(&graph, &rows, &ten, Metric::L2, 10, 100, Some(&codes));
    assert!(recall >= 0.9, "recall {recall}");
}

#[test]
fn sorted_rows_are_found_as_well_as_shuffled_ones() {
    let mut rows = clustered(4000, 16, 100, 0.3, 1);
    rows.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let queries = clustered(50, 16, 100, 0.3, 2);
    let graph = built(rows.len(), &params(16, 64), &Exact(&rows), 2);
    let recall = recall(&graph, &rows, &queries, Metric::L2, 10, 60, None);
    println!("{recall}");
    assert!(recall >= 0.97, "recall {recall}");
}
