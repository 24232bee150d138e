//! Estimates rank as distances do: one by one, in batches, and between codes alone.

mod common;

use common::{Encoded, METRICS, clustered};
use distance::{ExactQuery, Metric};
use rabitq::{Bits, Codes, FACTORS, SplitMix64, sketch, sketch_bytes};

/// Of the ten rows with the least `scores`, the part that is among the ten nearest.
fn recall(scores: &[f32], distances: &[f64]) -> f64 {
    let mut by_score: Vec<usize> = (0..scores.len()).collect();
    by_score.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let mut by_distance: Vec<usize> = (0..distances.len()).collect();
    by_distance.sort_by(|a, b| distances[*a].total_cmp(&distances[*b]));
    let nearest = &by_distance[..10];
    by_score[..10].iter().filter(|row| nearest.contains(row)).count() as f64 / 10.0
}

#[test]
fn estimates_find_the_nearest_rows() {
    let mut random = SplitMix64::new(1);
    let mut vectors = clustered(1020, 128, 8, 0.5, &mut random);
    let queries = vectors.split_off(1000);
    let rows: Vec<u32> = (0..1000).collect();
    for metric in METRICS {
        for (bits, least) in
            [(Bits::One, 0.25), (Bits::Two, 0.42), (Bits::Four, 0.78), (Bits::Eight, 0.96)]
        {
            let encoded = Encoded::new(&vectors, bits, metric);
            let mut sum = 0.0;
            for query in &queries {
                let exact = ExactQuery::new(metric, query.clone());
                let distances: Vec<f64> = vectors.iter().map(|row| exact.distance(row)).collect();
                let mut scores = vec![0.0; rows.len()];
                let prepared = encoded.quantizer.query(query);
                prepared.estimates(&encoded.all(), &rows, &mut scores);
                sum += recall(&scores, &distances) / queries.len() as f64;
            }
            println!("{metric:?} {bits:?}: {sum:.3}");
            assert!(sum >= least, "{metric:?} {bits:?}: recall {sum}");
        }
    }
}

#[test]
fn a_batch_gives_the_single_estimates() {
    let mut random = SplitMix64::new(2);
    let vectors = clustered(100, 70, 3, 0.5, &mut random);
    let rows: Vec<u32> = (0..90).map(|i| i * 37 % 100).collect();
    for metric in METRICS {
        for bits in Bits::ALL {
            let encoded = Encoded::new(&vectors, bits, metric);
            let query = encoded.quantizer.query(&vectors[5]);
            let mut node = encoded.quantizer.node_query();
            node.aim(encoded.code(5), encoded.factors(5));
            let (mut batch, mut node_batch) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
            query.estimates(&encoded.all(), &rows, &mut batch);
            node.estimates(&encoded.all(), &rows, &mut node_batch);
            for (i, row) in rows.iter().enumerate() {
                let (code, factors) = (encoded.code(*row as usize), encoded.factors(*row as usize));
                assert_eq!(batch[i], query.estimate(code, factors));
                assert_eq!(node_batch[i], node.estimate(code, factors));
            }
        }
    }
}

#[test]
fn codes_alone_rank_rows() {
    let mut random = SplitMix64::new(3);
    let vectors = clustered(600, 96, 6, 0.6, &mut random);
    for metric in METRICS {
        for (bits, least) in
            [(Bits::One, 0.35), (Bits::Two, 0.52), (Bits::Four, 0.8), (Bits::Eight, 0.96)]
        {
            let encoded = Encoded::new(&vectors, bits, metric);
            let mut node = encoded.quantizer.node_query();
            let mut sum = 0.0;
            for from in 0..20 {
                node.aim(encoded.code(from), encoded.factors(from));
                let exact = ExactQuery::new(metric, vectors[from].clone());
                let distances: Vec<f64> = vectors.iter().map(|row| exact.distance(row)).collect();
                let scores: Vec<f32> = (0..vectors.len())
                    .map(|row| node.estimate(encoded.code(row), encoded.factors(row)))
                    .collect();
                sum += recall(&scores, &distances) / 20.0;
            }
            println!("{metric:?} {bits:?}: {sum:.3}");
            assert!(sum >= least, "{metric:?} {bits:?}: recall {sum}");
        }
    }
}

#[test]
fn a_row_is_at_distance_zero_from_itself() {
    let mut random = SplitMix64::new(4);
    let vectors = clustered(50, 40, 2, 0.5, &mut random);
    for metric in [Metric::L2, Metric::Cosine] {
        for bits in [Bits::One, Bits::Two, Bits::Four] {
            let encoded = Encoded::new(&vectors, bits, metric);
            let mut node = encoded.quantizer.node_query();
            for row in 0..vectors.len() {
                let factors = encoded.factors(row);
                node.aim(encoded.code(row), factors);
                let own = node.estimate(encoded.code(row), factors);
                assert!(own.abs() <= 1e-4 * factors[0], "{metric:?} {bits:?}: {own}");
            }
        }
    }
}

#[test]
fn near_vectors_of_few_dimensions_are_told_apart() {
    // Points a hundredth of the data's extent apart, at eight bits.
    for dimensions in [1, 2, 3, 8] {
        let mut random = SplitMix64::new(dimensions as u64);
        let mut vectors = clustered(200, dimensions, 1, 1.0, &mut random);
        let query = vectors[0].clone();
        for step in 1..=5 {
            let mut near = query.clone();
            near[dimensions - 1] += 0.03 * step as f32;
            vectors.push(near);
        }
        let encoded = Encoded::new(&vectors, Bits::Eight, Metric::L2);
        let prepared = encoded.quantizer.query(&query);
        let estimates: Vec<f32> = (200..205)
            .map(|row| prepared.estimate(encoded.code(row), encoded.factors(row)))
            .collect();
        println!("{dimensions} dimensions: {estimates:?}");
        assert!(estimates.is_sorted(), "{dimensions} dimensions: {estimates:?}");
    }
}

/// The sketches of all rows, as arrays.
fn sketches(encoded: &Encoded, bits: Bits, rows: usize) -> (Vec<u8>, Vec<f32>) {
    let bytes = sketch_bytes(bits, encoded.quantizer.code_bytes());
    let (mut codes, mut factors) = (vec![0xFF; rows * bytes], vec![0.0; rows * FACTORS]);
    let targets = codes.chunks_exact_mut(bytes).zip(factors.chunks_exact_mut(FACTORS));
    for (row, (code, to)) in targets.enumerate() {
        sketch(bits, encoded.code(row), encoded.factors(row), code, to);
    }
    (codes, factors)
}

#[test]
fn sketches_rank_rows_as_one_bit_codes_do() {
    let mut random = SplitMix64::new(11);
    let mut vectors = clustered(1020, 128, 8, 0.5, &mut random);
    let queries = vectors.split_off(1000);
    let rows: Vec<u32> = (0..1000).collect();
    for metric in METRICS {
        let single = Encoded::new(&vectors, Bits::One, metric);
        for bits in Bits::ALL {
            let encoded = Encoded::new(&vectors, bits, metric);
            let (codes, factors) = sketches(&encoded, bits, vectors.len());
            let sketches = Codes::arrays(&codes, codes.len() / vectors.len(), &factors);
            let (mut from_sketches, mut from_codes) = (0.0, 0.0);
            for query in &queries {
                let exact = ExactQuery::new(metric, query.clone());
                let distances: Vec<f64> = vectors.iter().map(|row| exact.distance(row)).collect();
                let mut scores = vec![0.0; rows.len()];
                let prepared = encoded.quantizer.query(query);
                prepared.coarse_estimates(&sketches, &rows, &mut scores);
                from_sketches += recall(&scores, &distances) / queries.len() as f64;
                single.quantizer.query(query).estimates(&single.all(), &rows, &mut scores);
                from_codes += recall(&scores, &distances) / queries.len() as f64;
            }
            println!("{metric:?} {bits:?}: {from_sketches:.3}, one-bit codes {from_codes:.3}");
            assert!(from_sketches >= from_codes - 0.06, "{metric:?} {bits:?}: {from_sketches}");
        }
    }
}

#[test]
fn records_give_the_estimates_of_arrays() {
    let mut random = SplitMix64::new(12);
    let vectors = clustered(50, 100, 3, 0.5, &mut random);
    let rows: Vec<u32> = (0..50).rev().collect();
    for bits in Bits::ALL {
        let encoded = Encoded::new(&vectors, bits, Metric::L2);
        let code_bytes = encoded.quantizer.code_bytes();
        let stride = code_bytes + FACTORS * 4 + 20;
        let mut bytes = Vec::new();
        for row in 0..vectors.len() {
            bytes.extend_from_slice(encoded.code(row));
            encoded.factors(row).iter().for_each(|factor| bytes.extend(factor.to_ne_bytes()));
            bytes.extend([0xAB; 20]);
        }
        let floats: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect();
        let records = Codes::records(&bytes, &floats, code_bytes, stride);
        let query = encoded.quantizer.query(&vectors[7]);
        let (mut one, mut other) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        query.estimates(&encoded.all(), &rows, &mut one);
        query.estimates(&records, &rows, &mut other);
        assert_eq!(one, other, "{bits:?}");
    }
}
