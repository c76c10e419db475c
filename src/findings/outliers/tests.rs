//! Tests of distances: correlated features, outliers that shape nothing, features that say nothing.

use super::*;
use crate::util::random::SplitMix64;

/// Points of which the second feature follows the first, the third is constant, the fourth unknown.
fn points(count: usize) -> Vec<Point> {
    let mut random = SplitMix64(7);
    let mut normal = || (0..12).map(|_| random.next() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
    let mut point = || {
        let mut point: Point = std::array::from_fn(|_| normal());
        point[1] = 2.0 * point[0] + 0.1 * normal();
        (point[2], point[3]) = (5.0, f64::NAN);
        point
    };
    (0..count).map(|_| point()).collect()
}

#[test]
fn what_breaks_with_the_others_is_further_than_what_goes_along() {
    let mut sample = points(1000);
    let usual = Usual::of(&sample).unwrap();
    let distance = |point: &Point| usual.distance(&usual.scaled(point));
    let (mut along, mut across) = ([0.0; FEATURES], [0.0; FEATURES]);
    (along[0], along[1], along[2]) = (2.0, 4.0, 5.0);
    (across[0], across[1], across[2]) = (2.0, -4.0, 5.0);
    assert!(distance(&along) < 30.0 && distance(&across) > 1000.0);
    // Some outliers alike don't become the middle.
    sample.extend(vec![across; 30]);
    let usual = Usual::of(&sample).unwrap();
    assert!(usual.distance(&usual.scaled(&across)) > 500.0);
}

#[test]
fn features_that_say_nothing_count_for_nothing() {
    let sample = points(300);
    let usual = Usual::of(&sample).unwrap();
    let mut other = sample[0];
    let before = usual.distance(&usual.scaled(&other));
    (other[2], other[3]) = (77.0, 77.0);
    assert_eq!(usual.distance(&usual.scaled(&other)), before);
    assert!(Usual::of(&vec![[f64::NAN; FEATURES]; 200]).is_none());
    assert!(Usual::of(&vec![[3.0; FEATURES]; 200]).is_none());
}
