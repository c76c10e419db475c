//! Tests of features: what is known beforehand of drawn pictures.

use super::super::testing::{grid, picture};
use super::*;

#[test]
fn what_is_drawn_is_measured() {
    let even = Features::of(&grid(8, 8, |_| 3), Some(&picture(32, 32, |_, _| [10, 20, 30])), None);
    let luma = 0.299 * 10.0 + 0.587 * 20.0 + 0.114 * 30.0;
    assert_eq!((even.tokens, even.unique_codes), (64.0, 1.0));
    assert!((even.luma - luma).abs() < 1e-3 && even.is_seen());
    assert_eq!((even.reach, even.far_share, even.slope, even.sharpness), (0.0, 0.0, 0.0, 0.0));
    assert_eq!((even.page_share, even.bars, even.even, even.stripy), (1.0, 0.0, 1.0, 1.0));
    assert!(even.spread.iter().all(|spread| (spread - 4.0_f32.ln()).abs() < 1e-3));
    let slope =
        Features::of(&grid(8, 8, |at| at), Some(&picture(32, 32, |x, y| [x * 3 + y; 3])), None);
    assert!(slope.slope > 0.999 && slope.unique_codes == 64.0);
    assert!((slope.steps[0] - 3.5_f32.ln()).abs() < 1e-3, "{:?}", slope.steps);
    assert!((slope.steps[1] - 1.5_f32.ln()).abs() < 1e-3);
}

#[test]
fn without_a_picture_codes_are_left() {
    let seen = Features::of(&grid(2, 3, |at| at % 2), None, None);
    assert_eq!((seen.tokens, seen.unique_codes, seen.is_seen()), (6.0, 2.0, false));
    assert!(seen.bits.is_nan() && seen.sharpness.is_nan());
}

#[test]
fn pictures_smaller_than_their_grids_are_measured_as_well() {
    for (width, height) in [(1, 1), (3, 2), (1, 40), (7, 5)] {
        for (rows, columns) in [(1, 1), (16, 16), (1, 77)] {
            let drawn = picture(width, height, |x, y| [x * 30, y * 6, 0]);
            let seen = Features::of(&grid(rows, columns, |at| at), Some(&drawn), None);
            assert!(seen.luma.is_finite() && seen.sharpness.is_finite() && seen.reach.is_finite());
            assert!(seen.spread.iter().chain(&seen.steps).all(|value| value.is_finite()));
        }
    }
}
