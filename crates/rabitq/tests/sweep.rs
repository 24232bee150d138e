//! Bounds of a sweep: less than one row in a million lies below, whatever the data and the machine.

mod common;

use common::{Encoded, METRICS, clustered, normal};
use distance::{ExactQuery, HALF_ERROR, HALF_LEAST, Level, Metric, f16};
use proptest::prelude::*;
use rabitq::{Bits, Codes, FACTORS, SplitMix64};

/// The bounds of all rows of arrays.
fn sweep(encoded: &Encoded, query: &[f32]) -> Vec<f32> {
    let mut bounds = vec![f32::NAN; encoded.factors.len() / FACTORS];
    encoded.quantizer.query(query).sure_lower_bounds(&encoded.all(), 0, &mut bounds);
    bounds
}

/// How many rows lie below their bounds, and how many there are; rows without a distance left out.
fn misses(rows: &[Vec<f32>], queries: &[Vec<f32>], encoded: &Encoded) -> [usize; 2] {
    let metric = encoded.quantizer.metric();
    let mut counts = [0; 2];
    for query in queries {
        let exact = ExactQuery::new(metric, query.clone());
        let prepared = encoded.quantizer.query(query);
        for (row, bound) in rows.iter().zip(sweep(encoded, query)) {
            let distance = exact.distance(&row[..]);
            counts[0] += usize::from(distance < prepared.distance_at(bound));
            counts[1] += usize::from(!distance.is_nan());
        }
    }
    counts
}

/// Draws `rows + 50` vectors from a seed for every width and metric, and counts over all of `seeds`.
fn check(seeds: u64, rows: usize, draw: impl Fn(usize, &mut SplitMix64) -> Vec<Vec<f32>>) {
    for bits in Bits::ALL {
        let mut sum = [0; 2];
        for seed in 0..seeds {
            let mut vectors = draw(rows + 50, &mut SplitMix64::new(seed));
            let queries = vectors.split_off(rows);
            for metric in METRICS {
                let encoded = Encoded::turned(&vectors, bits, metric, seed);
                let [below, all] = misses(&vectors, &queries, &encoded);
                sum = [sum[0] + below, sum[1] + all];
            }
        }
        let [below, all] = sum;
        assert!(below * 1_000_000 <= all, "{bits:?}: {below} of {all} below their bounds");
    }
}

#[test]
fn next_to_no_row_is_below_its_bound() {
    for (dimensions, clusters, spread) in
        [(384, 1, 1.0), (384, 20, 0.1), (100, 1, 1.0), (64, 30, 0.3), (33, 1, 1.0)]
    {
        check(4, 2000, |count, random| clustered(count, dimensions, clusters, spread, random));
    }
}

#[test]
fn next_to_no_row_of_few_dimensions_is_below_its_bound() {
    for dimensions in [1, 2, 3, 8, 16, 32] {
        check(24, 400, |count, random| clustered(count, dimensions, 1, 1.0, random));
        check(6, 400, |count, random| clustered(count, dimensions, 10, 0.02, random));
    }
}

/// On a circle some codes, and some rounded queries, are as good as exact, and the length of their errors is
/// lost in single precision.
#[test]
fn errors_too_small_to_be_measured_are_allowed_for() {
    check(60, 400, |count, random| {
        let angle = |random: &mut SplitMix64| (random.next_u64() >> 40) as f32 * 3.745e-7;
        (0..count).map(|_| angle(random)).map(|angle| vec![angle.cos(), angle.sin()]).collect()
    });
}

#[test]
fn next_to_no_row_of_uneven_data_is_below_its_bound() {
    let uneven: [fn(usize, &mut SplitMix64) -> f32; 5] = [
        |_, random| (2.0 * normal(random)).exp(),
        |_, random| f32::from(u8::from(random.next_u64().is_multiple_of(30))),
        |_, random| f32::from(u8::from(random.next_u64().is_multiple_of(2))),
        |i, random| normal(random) / (i + 1) as f32,
        |i, random| normal(random) + if i == 7 { 50.0 } else { 0.0 },
    ];
    for element in uneven {
        check(2, 1000, |count, random| {
            (0..count).map(|_| (0..128).map(|i| element(i, random)).collect()).collect()
        });
    }
}

#[test]
fn a_centroid_of_other_data_only_lowers_bounds() {
    let mut random = SplitMix64::new(6);
    let mut vectors = clustered(1050, 96, 5, 0.3, &mut random);
    let queries = vectors.split_off(1000);
    for offset in [0.0, 3.0, 300.0] {
        let centroid: Vec<f32> = (0..96).map(|_| offset * normal(&mut random)).collect();
        for metric in METRICS {
            for bits in Bits::ALL {
                let encoded = Encoded::with_centroid(&vectors, bits, metric, centroid.clone());
                let [below, all] = misses(&vectors, &queries, &encoded);
                assert_eq!(below, 0, "{metric:?} {bits:?}, {offset} away: of {all}");
            }
        }
    }
}

#[test]
fn duplicates_and_queries_equal_to_rows_are_never_below_their_bounds() {
    let mut random = SplitMix64::new(7);
    for dimensions in [1, 2, 8, 40, 384, 1000] {
        let different = clustered(40, dimensions, 1, 1.0, &mut random);
        let rows: Vec<_> = different.iter().cycle().take(400).cloned().collect();
        for metric in METRICS {
            for bits in Bits::ALL {
                let encoded = Encoded::new(&rows, bits, metric);
                let [below, _] = misses(&rows, &different, &encoded);
                assert_eq!(below, 0, "{metric:?} {bits:?} {dimensions} dimensions");
                // All rows equal: no residual is left.
                let encoded = Encoded::new(&rows[..1], bits, metric);
                let [below, _] = misses(&rows[..1], &different, &encoded);
                assert_eq!(below, 0, "{metric:?} {bits:?} {dimensions} dimensions, one row");
            }
        }
    }
}

#[test]
fn the_most_dimensions_there_can_be() {
    let mut random = SplitMix64::new(8);
    let mut vectors = clustered(70, 16_000, 3, 0.5, &mut random);
    let queries = vectors.split_off(64);
    for metric in METRICS {
        for bits in Bits::ALL {
            let encoded = Encoded::new(&vectors, bits, metric);
            assert_eq!(misses(&vectors, &queries, &encoded)[0], 0, "{metric:?} {bits:?}");
        }
    }
}

/// Rounding errors of a sum of equal numbers all go the same way, and here nothing else is uncertain: the row
/// is the centroid.
#[test]
fn sums_of_many_equal_numbers_are_allowed_for() {
    const DIMENSIONS: usize = 16_000;
    let centroid = vec![1.0 / (DIMENSIONS as f32).sqrt(); DIMENSIONS];
    let queries: Vec<Vec<f32>> = (1..400)
        .map(|i| (0..DIMENSIONS).map(|j| if j % 2 == 0 { i as f32 * 0.013 } else { 0.3 }).collect())
        .collect();
    for row in [0.1, 0.3, 0.7] {
        let rows = [vec![row; DIMENSIONS]];
        for metric in METRICS {
            let encoded = Encoded::with_centroid(&rows, Bits::Eight, metric, centroid.clone());
            assert_eq!(misses(&rows, &queries, &encoded)[0], 0, "{metric:?} {row}");
        }
    }
}

#[test]
fn bounds_are_no_lower_than_they_must_be() {
    let mut random = SplitMix64::new(9);
    let mut vectors = clustered(1060, 384, 1, 1.0, &mut random);
    let queries = vectors.split_off(1000);
    for metric in METRICS {
        for bits in Bits::ALL {
            let encoded = Encoded::new(&vectors, bits, metric);
            let (mut far, mut all) = (0, 0);
            for query in &queries {
                let exact = ExactQuery::new(metric, query.clone());
                let prepared = encoded.quantizer.query(query);
                for (i, bound) in sweep(&encoded, query).into_iter().enumerate() {
                    let estimate = prepared.estimate(encoded.code(i), encoded.factors(i));
                    // Two standard deviations, which a fortieth of the rows is beyond.
                    let step = 2.0 / rabitq::SURE[bits.count().ilog2() as usize] as f32;
                    let lower = estimate - step * (estimate - bound);
                    far +=
                        usize::from(exact.distance(&vectors[i][..]) < prepared.distance_at(lower));
                    all += 1;
                }
            }
            let share = far as f64 / all as f64;
            assert!((0.012..0.03).contains(&share), "{metric:?} {bits:?}: {share}");
        }
    }
}

/// Records with the codes and factors of `encoded`, and what lies between them.
fn records(encoded: &Encoded, padding: usize) -> (Vec<u8>, usize) {
    let rows = encoded.factors.len() / FACTORS;
    let mut bytes = Vec::new();
    for row in 0..rows {
        bytes.extend_from_slice(encoded.code(row));
        encoded.factors(row).iter().for_each(|factor| bytes.extend(factor.to_ne_bytes()));
        bytes.extend(vec![0xAB; padding]);
    }
    let stride = bytes.len() / rows;
    (bytes, stride)
}

#[test]
fn all_machines_and_all_ways_to_ask_give_the_same_bounds() {
    let mut random = SplitMix64::new(10);
    for dimensions in [5, 100, 384] {
        let vectors = clustered(150, dimensions, 3, 0.5, &mut random);
        for metric in METRICS {
            for bits in Bits::ALL {
                let encoded = Encoded::new(&vectors, bits, metric);
                let query = encoded.quantizer.query(&vectors[7]);
                let expected: Vec<f32> = (0..vectors.len())
                    .map(|row| {
                        let (code, factors) = (encoded.code(row), encoded.factors(row));
                        query.sure_lower_bound(query.estimate(code, factors), code, factors)
                    })
                    .collect();
                let (bytes, stride) = records(&encoded, 20);
                let floats: Vec<f32> =
                    bytes.as_chunks().0.iter().map(|four| f32::from_ne_bytes(*four)).collect();
                let code_bytes = encoded.quantizer.code_bytes();
                let records = Codes::records(&bytes, &floats, code_bytes, stride);
                for level in Level::available() {
                    let query = query.at_level(level).expect("available");
                    // Pieces as a scan asks for them, the last one of a few rows.
                    for (first, length) in [(0, 150), (0, 0), (1, 1), (3, 64), (147, 3), (31, 100)]
                    {
                        for codes in [encoded.all(), records] {
                            let mut bounds = vec![f32::NAN; length];
                            query.sure_lower_bounds(&codes, first, &mut bounds);
                            let expected = &expected[first as usize..][..length];
                            assert_eq!(bounds, expected, "{metric:?} {bits:?} {level:?} {first}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic]
fn rows_beyond_the_codes_are_refused() {
    let vectors = clustered(10, 100, 1, 1.0, &mut SplitMix64::new(1));
    let encoded = Encoded::new(&vectors, Bits::Four, Metric::L2);
    let query = encoded.quantizer.query(&vectors[0]);
    query.sure_lower_bounds(&encoded.all(), 5, &mut [0.0; 6]);
}

#[test]
fn distances_rise_with_ranking_values() {
    let rankings = [f32::NEG_INFINITY, -2.0, -1e-9, 0.0, 1e-9, 0.25, 1.0, 4.0, f32::INFINITY];
    let encoded = |metric| Encoded::new(&[vec![1.0, 2.0]], Bits::Four, metric);
    let distances = |metric| {
        let query = encoded(metric).quantizer.query(&[2.0, 1.0]);
        let distances = rankings.map(|ranking| query.distance_at(ranking));
        assert!(distances.is_sorted(), "{metric:?} {distances:?}");
        distances
    };
    // Less what the operator's own sums may be off.
    let near = |distance: f64, expected: f64| {
        assert!((expected - 2e-6..=expected).contains(&distance), "{distance} for {expected}");
    };
    let l2 = distances(Metric::L2);
    assert_eq!((l2[0], l2[1], l2[8]), (0.0, 0.0, f64::INFINITY));
    near(l2[5], 0.5);
    near(l2[7], 2.0);
    let cosine = distances(Metric::Cosine);
    assert_eq!((cosine[0], cosine[7]), (0.0, 2.0));
    near(cosine[5], 0.25);
    let product = distances(Metric::InnerProduct);
    assert_eq!((product[0], product[1]), (f64::NEG_INFINITY, -2.0));
}

#[test]
fn bounds_of_codes_of_rounded_rows_hold_for_the_rows_before() {
    let mut random = SplitMix64::new(9);
    for metric in METRICS {
        for dimensions in [1, 3, 16, 64] {
            // Rows close to each other: rounding moves them farther than their codes are off.
            let mut row = || -> Vec<f32> {
                let unit = |bits: u64| (bits >> 40) as f32 / (1u64 << 24) as f32;
                (0..dimensions).map(|_| 1.0 + 1e-3 * unit(random.next_u64())).collect()
            };
            let rows: Vec<Vec<f32>> = (0..300).map(|_| row()).collect();
            let halves = |row: &Vec<f32>| row.iter().map(|x| f16::from_f32(*x).to_f32()).collect();
            let rounded: Vec<Vec<f32>> = rows.iter().map(halves).collect();
            for bits in Bits::ALL {
                let encoded = Encoded::new(&rounded, bits, metric);
                for number in 0..5 {
                    let mut query = encoded.quantizer.query(&rows[number]);
                    query.allow_rounding(HALF_ERROR, (dimensions as f64).sqrt() * HALF_LEAST);
                    let mut bounds = vec![0.0; rows.len()];
                    query.sure_lower_bounds(&encoded.all(), 0, &mut bounds);
                    let exact = ExactQuery::new(metric, rows[number].clone());
                    for (row, bound) in rows.iter().zip(bounds) {
                        let (bound, value) = (query.distance_at(bound), exact.distance(&row[..]));
                        // The operator's value is not the distance itself either.
                        assert!(bound <= value + 1e-6, "{metric:?} {bits:?}: {bound} > {value}");
                    }
                }
            }
        }
    }
}

#[test]
fn numbers_too_large_for_single_precision_leave_no_bound() {
    let (huge, small) = ([1e30f32, -2e30, 3e30, 3e38], [1.0, 2.0, 3.0, 4.0]);
    for metric in METRICS {
        for bits in Bits::ALL {
            for (row, query) in [(huge, huge), (huge, small), (small, huge)] {
                let encoded = Encoded::with_centroid(&[row.to_vec()], bits, metric, vec![0.0; 4]);
                let bound = sweep(&encoded, &query)[0];
                let known = metric == Metric::InnerProduct && (row == small || query == small);
                assert!(known || bound <= -1e30, "{metric:?} {bits:?}: {bound}");
            }
        }
    }
}

fn any_finite() -> impl Strategy<Value = f32> {
    prop_oneof![
        -10f32..10.0,
        any::<f32>().prop_filter("finite", |x| x.is_finite()),
        (-10f32..10.0).prop_map(|x| x * 1e-20),
        Just(0.0),
        Just(f32::MAX),
        Just(f32::MIN_POSITIVE),
        Just(1e-42),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn bounds_of_any_vectors_hold(
        triples in prop_oneof![
            prop::collection::vec((any_finite(), any_finite(), any_finite()), 1..80),
            prop::collection::vec((-10f32..10.0, -10f32..10.0, -10f32..10.0), 1..80),
        ],
        scale in prop::sample::select(vec![1e-40f32, 1e-20, 1e-6, 1.0, 1e6, 1e18]),
        bits in prop::sample::select(Bits::ALL.to_vec()),
        metric in prop::sample::select(METRICS.to_vec()),
        seed in 0..4u64,
    ) {
        let row: Vec<f32> = triples.iter().map(|t| t.0).collect();
        let query: Vec<f32> =
            triples.iter().map(|t| (t.1 * scale).clamp(f32::MIN, f32::MAX)).collect();
        let centroid: Vec<f32> = triples.iter().map(|t| t.2).collect();
        let rows = std::slice::from_ref(&row);
        let encoded = Encoded::turned_around(rows, bits, metric, seed, centroid);
        let bound = sweep(&encoded, &query)[0];
        prop_assert!(!bound.is_nan());
        let distance = ExactQuery::new(metric, query.clone()).distance(&row[..]);
        let lower = encoded.quantizer.query(&query).distance_at(bound);
        prop_assert!(lower <= distance || distance.is_nan(), "{lower} above {distance}");
    }
}
