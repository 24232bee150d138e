//! Exact distances have the operators' values, from elements and from stored bytes alike.

use distance::{ExactQuery, Metric, Payload, f16};
use proptest::prelude::*;

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

#[test]
fn the_values_are_the_operators() {
    let (a, b) = (vec![1.0, 2.0, 3.0], [4.0f32, 6.0, 3.0]);
    let distance = |metric| ExactQuery::new(metric, a.clone()).distance(&b);
    assert_eq!(distance(Metric::L2), 5.0);
    assert_eq!(distance(Metric::InnerProduct), -25.0);
    let cosine = 1.0 - 25.0 / (14.0f64 * 61.0).sqrt();
    assert!((distance(Metric::Cosine) - cosine).abs() < 1e-12);
}

#[test]
fn cosine_stays_in_its_range() {
    let vector = vec![0.1f32, 0.7, 0.3, 0.9, 0.4];
    let opposite: Vec<f32> = vector.iter().map(|x| x * -3.0).collect();
    let query = ExactQuery::new(Metric::Cosine, vector.clone());
    assert!((0.0..1e-7).contains(&query.distance(&vector)));
    assert!((1.9999999..=2.0).contains(&query.distance(&opposite)));
}

#[test]
fn a_zero_vector_has_no_cosine_distance() {
    let zero = [0.0f32; 3];
    let vector = [1.0f32, 2.0, 3.0];
    assert!(ExactQuery::new(Metric::Cosine, zero.to_vec()).distance(&vector).is_nan());
    assert!(ExactQuery::new(Metric::Cosine, vector.to_vec()).distance(&zero).is_nan());
}

#[test]
fn overflow_gives_infinity_or_nan_but_no_panic() {
    let huge = [3e38f32; 5];
    let distance = |metric| ExactQuery::new(metric, huge.to_vec()).distance(&huge.map(|x| -x));
    assert_eq!(distance(Metric::L2), f64::INFINITY);
    assert_eq!(distance(Metric::InnerProduct), f64::INFINITY);
    assert!(distance(Metric::Cosine).is_nan());
}

#[test]
#[should_panic(expected = "stored row of 3 dimensions")]
fn a_row_of_another_length_is_refused() {
    ExactQuery::new(Metric::L2, vec![0.0; 3]).distance_bytes(Payload::Float32, &[0; 11]);
}

proptest! {
    #[test]
    fn stored_bytes_give_the_same_distance_at_any_alignment(
        pairs in prop::collection::vec((-100f32..100.0, -100f32..100.0), 1..1400),
        shift in 0usize..4,
    ) {
        let (query, row): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let half: Vec<f16> = row.iter().map(|x| f16::from_f32(*x)).collect();
        let mut single_bytes = vec![0xFF; shift];
        single_bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        let mut half_bytes = vec![0xFF; shift];
        half_bytes.extend(half.iter().flat_map(|x| x.to_le_bytes()));
        for metric in METRICS {
            let query = ExactQuery::new(metric, query.clone());
            // Sums of unaligned rows are made block by block and may round differently.
            let near = |a: f64, b: f64| {
                (a - b).abs() <= 1e-4 * query.dimensions() as f64 * (1.0 + a.abs() / 1e3)
            };
            let bytes = query.distance_bytes(Payload::Float32, &single_bytes[shift..]);
            prop_assert!(near(bytes, query.distance(&row)), "{metric:?} {bytes}");
            let bytes = query.distance_bytes(Payload::Float16, &half_bytes[shift..]);
            prop_assert!(near(bytes, query.distance(&half)), "{metric:?} {bytes}");
        }
    }
}
