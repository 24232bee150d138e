//! No vector, however large, small or degenerate, makes an estimate NaN or a bound wrong.

mod common;

use common::{Encoded, METRICS};
use distance::{ExactQuery, Metric};
use proptest::prelude::*;
use rabitq::{Bits, Bounds};

fn bounds(
    row: &[f32],
    query: &[f32],
    centroid: &[f32],
    bits: Bits,
    metric: Metric,
) -> (f32, Bounds) {
    let encoded = Encoded::with_centroid(&[row.to_vec()], bits, metric, centroid.to_vec());
    assert!(encoded.factors.iter().all(|factor| factor.is_finite()), "{:?}", encoded.factors);
    let prepared = encoded.quantizer.query(query);
    let estimate = prepared.estimate(encoded.code(0), encoded.factors(0));
    let bounds = prepared.bounds(encoded.code(0), encoded.factors(0));
    assert!(!estimate.is_nan());
    assert!(bounds.lower <= bounds.estimate && bounds.estimate <= bounds.upper, "{bounds:?}");
    let mut node = encoded.quantizer.node_query();
    node.aim(encoded.code(0), encoded.factors(0));
    assert!(!node.estimate(encoded.code(0), encoded.factors(0)).is_nan());
    (estimate, bounds)
}

fn all(check: impl Fn(Bits, Metric)) {
    for bits in Bits::ALL {
        for metric in METRICS {
            check(bits, metric);
        }
    }
}

#[test]
fn a_vector_equal_to_the_centroid_is_exact() {
    let (centroid, query) = ([0.3, -0.4, 0.5], [1.0, 2.0, -1.0]);
    all(|bits, metric| {
        if metric == Metric::Cosine {
            return;
        }
        let exact = ExactQuery::new(metric, query.to_vec()).distance(&centroid);
        let (_, bounds) = bounds(&centroid, &query, &centroid, bits, metric);
        assert!((bounds.estimate - exact).abs() < 1e-5, "{bits:?} {metric:?} {bounds:?}");
        assert!(bounds.lower <= exact && exact <= bounds.upper, "{bits:?} {metric:?} {bounds:?}");
    });
}

#[test]
fn a_query_equal_to_the_centroid_is_nearly_exact() {
    let (row, centroid) = ([1.0, 2.0, -1.0], [0.3, -0.4, 0.5]);
    all(|bits, metric| {
        if metric != Metric::L2 {
            return;
        }
        let exact = ExactQuery::new(metric, centroid.to_vec()).distance(&row);
        let (_, bounds) = bounds(&row, &centroid, &centroid, bits, metric);
        assert!((bounds.estimate - exact).abs() < 1e-5, "{bits:?} {metric:?} {bounds:?}");
    });
}

#[test]
fn zero_vectors_are_harmless() {
    let (zero, other) = ([0.0; 5], [1.0, 2.0, 3.0, 4.0, 5.0]);
    all(|bits, metric| {
        for (row, query, centroid) in
            [(zero, zero, zero), (zero, other, zero), (other, zero, zero), (zero, zero, other)]
        {
            bounds(&row, &query, &centroid, bits, metric);
        }
    });
}

#[test]
fn huge_vectors_widen_the_bounds_as_far_as_they_go() {
    let (huge, small) = ([1e30f32, -2e30, 3e30, 3e38], [1.0, 2.0, 3.0, 4.0]);
    all(|bits, metric| {
        for (row, query) in [(huge, huge), (huge, small), (small, huge)] {
            let (_, bounds) = bounds(&row, &query, &[0.0; 4], bits, metric);
            let exact = ExactQuery::new(metric, query.to_vec()).distance(&row);
            let inside = bounds.lower <= exact && exact <= bounds.upper;
            // Under cosine the operator itself overflows to NaN.
            assert!(inside || exact.is_nan(), "{bits:?} {metric:?}: {exact} {bounds:?}");
        }
        let (_, widest) = bounds(&huge, &huge, &[0.0; 4], bits, metric);
        match metric {
            Metric::L2 => assert_eq!((widest.lower, widest.upper), (0.0, f64::INFINITY)),
            Metric::InnerProduct => {
                assert_eq!((widest.lower, widest.upper), (f64::NEG_INFINITY, f64::INFINITY));
            }
            Metric::Cosine => assert_eq!((widest.lower, widest.upper), (0.0, 2.0)),
        }
    });
}

#[test]
fn tiny_vectors_stay_within() {
    let tiny = |scale: f32| [1.0, -2.0, 3.0, 0.5].map(|x| x * scale);
    all(|bits, metric| {
        for (row, query) in [(1e-30, 1e-30), (1e-20, 2e-20), (1e-40, 1e-3), (1e-12, 1e-12)] {
            let (row, query) = (tiny(row), tiny(query));
            let (_, bounds) = bounds(&row, &query, &[0.0; 4], bits, metric);
            let exact = ExactQuery::new(metric, query.to_vec()).distance(&row);
            let inside = bounds.lower <= exact && exact <= bounds.upper;
            assert!(inside || exact.is_nan(), "{bits:?} {metric:?}: {exact} {bounds:?}");
        }
    });
}

fn any_finite() -> impl Strategy<Value = f32> {
    prop_oneof![
        -10f32..10.0,
        any::<f32>().prop_filter("finite", |x| x.is_finite()),
        Just(0.0),
        Just(f32::MAX),
        Just(f32::MIN_POSITIVE),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_is_nan(
        triples in prop::collection::vec((any_finite(), any_finite(), any_finite()), 1..80),
        bits in prop::sample::select(Bits::ALL.to_vec()),
        metric in prop::sample::select(METRICS.to_vec()),
    ) {
        let row: Vec<f32> = triples.iter().map(|t| t.0).collect();
        let query: Vec<f32> = triples.iter().map(|t| t.1).collect();
        let centroid: Vec<f32> = triples.iter().map(|t| t.2).collect();
        bounds(&row, &query, &centroid, bits, metric);
    }
}
