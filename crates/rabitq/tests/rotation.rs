//! The rotation keeps lengths and angles, spreads every vector, and never changes for a seed.

use proptest::prelude::*;
use rabitq::Rotation;

fn rotate(rotation: &Rotation, vector: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; rotation.padded()];
    rotation.rotate(vector, &mut out);
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

#[test]
fn padding_is_in_whole_blocks() {
    for (dimensions, padded) in [
        (1, 128),
        (32, 128),
        (33, 64),
        (64, 64),
        (65, 128),
        (100, 128),
        (384, 384),
        (16_000, 16_000),
    ] {
        assert_eq!(Rotation::new(dimensions, 1).padded(), padded);
    }
}

#[test]
fn a_single_coordinate_spreads_over_all() {
    // As a random direction's, the largest of P coordinates is about √(2 ln P / P).
    for dimensions in [64, 100, 384, 576, 768, 960, 1536, 2047] {
        let rotation = Rotation::new(dimensions, 11);
        let padded = rotation.padded() as f32;
        for axis in [0, 1, dimensions / 3, dimensions / 2, dimensions - 1] {
            let mut vector = vec![0.0; dimensions];
            vector[axis] = 1.0;
            let rotated = rotate(&rotation, &vector);
            let largest = rotated.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            assert!(
                largest < 1.6 * (2.0 * padded.ln() / padded).sqrt(),
                "axis {axis} of {dimensions}: {largest}"
            );
            // No part of the output gets much more than its share.
            let quarter = rotation.padded() / 4;
            for part in rotated.chunks(quarter) {
                let share = dot(part, part) * rotated.len() as f64 / part.len() as f64;
                assert!((0.4..1.8).contains(&share), "axis {axis} of {dimensions}: {share}");
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_rotation_for_ever() {
    // Stored format: these bits may never change, on any machine.
    let vector: Vec<f32> = (1..=100).map(|i| i as f32).collect();
    let rotated = rotate(&Rotation::new(100, 42), &vector);
    let bits: Vec<u32> = rotated[..4].iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, GOLDEN_100);
    let vector: Vec<f32> = (1..=384).map(|i| (i % 7) as f32).collect();
    let rotated = rotate(&Rotation::new(384, 42), &vector);
    let bits: Vec<u32> = rotated[380..].iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, GOLDEN_384);
}

const GOLDEN_100: [u32; 4] = [1084353896, 1105046926, 3257194530, 1098905852];
const GOLDEN_384: [u32; 4] = [1065156466, 3213489086, 3222368709, 3210291207];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lengths_and_angles_stay(
        pairs in prop::collection::vec((-1f32..1.0, -1f32..1.0), 1..1100),
        seed: u64,
    ) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let rotation = Rotation::new(a.len(), seed);
        let (turned_a, turned_b) = (rotate(&rotation, &a), rotate(&rotation, &b));
        let scale = (dot(&a, &a) * dot(&b, &b)).sqrt();
        prop_assert!((dot(&turned_a, &turned_b) - dot(&a, &b)).abs() <= 1e-5 * scale + 1e-30);
        prop_assert!((dot(&turned_a, &turned_a) - dot(&a, &a)).abs() <= 1e-5 * dot(&a, &a));
    }
}
