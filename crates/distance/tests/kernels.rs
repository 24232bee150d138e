//! Every level this machine has computes what a double-precision sum does, at every length and
//! alignment.

use distance::{Element, Kernels, Level, f16};
use proptest::prelude::*;

/// The sums in double precision, and what rounding may add to each in single precision.
struct Expected {
    dot: f64,
    l2_squared: f64,
    norm_squared: f64,
}

fn expected<R: Element>(a: &[f32], b: &[R]) -> Expected {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(y.to_f32())));
    Expected {
        dot: pairs().map(|(x, y)| x * y).sum(),
        l2_squared: pairs().map(|(x, y)| (x - y).powi(2)).sum(),
        norm_squared: pairs().map(|(_, y)| y * y).sum(),
    }
}

fn check<R: Element>(a: &[f32], b: &[R]) {
    let expected = expected(a, b);
    let absolute: f64 =
        a.iter().zip(b).map(|(x, y)| f64::from((x * y.to_f32()).abs())).sum::<f64>();
    let near = |value: f32, expected: f64, scale: f64| {
        (f64::from(value) - expected).abs() <= 1e-5 * scale + 1e-30
    };
    for level in Level::available() {
        let kernels = Kernels::of(level).expect("an available level has kernels");
        let dot = kernels.dot(a, b);
        assert!(near(dot, expected.dot, absolute), "{level:?} dot, {} elements", a.len());
        let l2_squared = kernels.l2_squared(a, b);
        assert!(
            near(l2_squared, expected.l2_squared, expected.l2_squared),
            "{level:?} l2_squared, {} elements",
            a.len()
        );
        let (dot, norm_squared) = kernels.dot_and_norm(a, b);
        assert!(near(dot, expected.dot, absolute), "{level:?} dot and norm, {} elements", a.len());
        assert!(
            near(norm_squared, expected.norm_squared, expected.norm_squared),
            "{level:?} dot and norm, {} elements",
            a.len()
        );
    }
}

#[test]
fn every_length_agrees() {
    let a: Vec<f32> = (0..=201).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
    let b: Vec<f32> = (0..=201).map(|i| (i as f32 * 1.3).cos() * 2.0).collect();
    let half: Vec<f16> = b.iter().map(|x| f16::from_f32(*x)).collect();
    for length in 0..=200 {
        for shift in 0..2 {
            check(&a[shift..shift + length], &b[1 - shift..1 - shift + length]);
            check(&a[shift..shift + length], &half[1 - shift..1 - shift + length]);
        }
    }
}

#[test]
fn the_fastest_level_is_chosen_and_plain_is_always_there() {
    assert_eq!(Level::available().next(), Some(Level::Plain));
    assert_eq!(Level::available().max(), Some(Level::best()));
    assert_eq!(Kernels::best().level(), Level::best());
}

#[test]
fn overflow_is_infinity() {
    for level in Level::available() {
        let kernels = Kernels::of(level).expect("an available level has kernels");
        let huge = [1e30f32; 37];
        assert_eq!(kernels.dot(&huge, &huge), f32::INFINITY, "{level:?}");
        assert_eq!(kernels.l2_squared(&huge, &[-1e30f32; 37]), f32::INFINITY, "{level:?}");
    }
}

#[test]
#[should_panic(expected = "different dimensions")]
fn vectors_of_different_lengths_are_refused() {
    distance::dot(&[1.0, 2.0], &[1.0f32]);
}

proptest! {
    #[test]
    fn any_elements_agree(
        pairs in prop::collection::vec((-1e3f32..1e3, -1e3f32..1e3), 0..700),
        start in 0usize..16,
    ) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let half: Vec<f16> = b.iter().map(|x| f16::from_f32(*x)).collect();
        let start = start.min(a.len());
        check(&a[start..], &b[start..]);
        check(&a[start..], &half[start..]);
    }
}
