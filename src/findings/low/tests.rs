//! Tests of low information: drawn pictures of each kind, and what mustn't be taken for one.

use super::super::picture::Picture;
use super::super::testing::{grid, picture};
use super::*;

const USUAL: Usual = Usual {
    unique_codes: 48.0,
    quantization_error: 3.0,
    darkest: 40.0,
    lightest: 200.0,
    page_luma: 120.0,
};

/// The reason for a picture of 32 x 32 pixels in 64 tokens with so many codes.
fn reason(codes: u32, drawn: &Picture) -> Option<&'static str> {
    let seen = Features::of(&grid(8, 8, |at| at % codes), Some(drawn), None);
    judge(&seen, 1.0, USUAL).map(|(reason, sure)| {
        assert!((0.0..=1.0).contains(&sure), "{reason} {sure}");
        reason
    })
}

/// Something with edges, light and shade.
fn motley(x: u8, y: u8) -> [u8; 3] {
    let patch = (x / 3).wrapping_mul(89) ^ (y / 5).wrapping_mul(151);
    [patch, patch.wrapping_mul(3), x * 7]
}

#[test]
fn every_kind_is_told_by_its_name() {
    let side = 32;
    let drawn = |colour: fn(u8, u8) -> [u8; 3]| picture(side, side, colour);
    let noise = |x: u8, y: u8| x.wrapping_mul(97).wrapping_add(y.wrapping_mul(57)) % 5;
    let cases: [(&str, u32, Picture); 8] = [
        ("constant", 1, drawn(|_, _| [0; 3])),
        ("constant", 3, drawn(|_, _| [30, 120, 200])),
        ("near-constant", 6, picture(side, side, |x, y| [90 + noise(x, y), 40, 200])),
        ("dark", 8, picture(side, side, |x, y| motley(x, y).map(|c| c / 12))),
        ("overexposed", 5, picture(side, side, |x, y| motley(x, y).map(|c| 240 + c / 17))),
        (
            "letterbox",
            12,
            picture(side, side, |x, y| match (x, y) {
                (4..10, 20..26) => motley(x, y).map(|c| c / 2),
                _ => [255; 3],
            }),
        ),
        (
            "letterbox",
            40,
            picture(side, side, |x, y| match y {
                8..24 => motley(x, y).map(|c| 60 + c / 2),
                _ => [0; 3],
            }),
        ),
        ("gradient", 10, drawn(|x, y| [x * 6, 40 + y * 2, 200 - x * 3])),
    ];
    for (name, codes, drawn) in cases {
        assert_eq!(reason(codes, &drawn), Some(name), "{codes} codes");
    }
    let wave = |x: u8| (128.0 + 80.0 * (f32::from(x) / 6.0).sin()) as u8;
    assert_eq!(
        reason(30, &picture(side, side, |x, y| [wave(x), wave(y), wave(x)])),
        Some("blurred")
    );
}

#[test]
fn what_shows_something_is_left_alone() {
    assert_eq!(reason(40, &picture(32, 32, motley)), None);
    // A thing on a page that is no small one; a small one in the sky; a row of black without an edge.
    let bird = |x: u8, y: u8| {
        if (14..18).contains(&x) && (14..18).contains(&y) { [40; 3] } else { [90, 140, 230] }
    };
    assert_eq!(reason(20, &picture(32, 32, bird)), None);
    let thing = |x: u8, y: u8| {
        if (8..24).contains(&x) && (8..24).contains(&y) { motley(x, y) } else { [255; 3] }
    };
    assert_eq!(reason(25, &picture(32, 32, thing)), None);
    let night = |x: u8, y: u8| {
        if (12..20).contains(&x) && (8..24).contains(&y) { [250; 3] } else { [0; 3] }
    };
    assert_eq!(reason(25, &picture(32, 32, night)), None);
    // Blur that others have as well.
    let wave = |x: u8| (128.0 + 80.0 * (f32::from(x) / 6.0).sin()) as u8;
    assert_eq!(reason(45, &picture(32, 32, |x, y| [wave(x), wave(y), wave(x)])), None);
}

#[test]
fn without_a_picture_few_codes_alone_count() {
    let reason = |side: usize, codes: u32| {
        let look = Look { features: Features::of(&grid(side, side, |at| at % codes), None, None) };
        (blank(&look), judge(&look.features, f32::NAN, USUAL).map(|(reason, _)| reason))
    };
    assert_eq!(reason(8, 1), (true, Some("constant")));
    assert_eq!(reason(8, 4), (true, Some("constant")));
    assert_eq!(reason(8, 5), (false, None));
    assert_eq!(reason(3, 1), (false, None), "nine tokens say too little");
    assert_eq!(reason(1, 1), (false, None));
}

#[test]
fn a_set_of_few_codes_throughout_is_not_low_throughout() {
    let usual = Usual { unique_codes: 4.0, ..USUAL };
    let seen = Features::of(
        &grid(8, 8, |at| at % 4),
        Some(&picture(32, 32, |x, y| [100 + (x ^ y) % 3; 3])),
        None,
    );
    assert_eq!(judge(&seen, 1.0, usual), None);
    assert!(judge(&seen, 1.0, USUAL).is_some());
}

#[test]
fn what_a_set_is_like_throughout_is_no_finding() {
    let judged = |codes: u32, drawn: &Picture, usual: Usual| {
        let seen = Features::of(&grid(8, 8, |at| at % codes), Some(drawn), None);
        judge(&seen, 1.0, usual).map(|(reason, _)| reason)
    };
    let digit = picture(32, 32, |x, y| match (x, y) {
        (14..18, 8..16) => [250; 3],
        _ => [0; 3],
    });
    assert_eq!(judged(12, &digit, USUAL), Some("letterbox"));
    assert_eq!(judged(12, &digit, Usual { page_luma: 0.0, ..USUAL }), None);
    let night = picture(32, 32, |x, y| motley(x, y).map(|c| c / 12));
    assert_eq!(judged(12, &night, USUAL), Some("dark"));
    assert_eq!(judged(12, &night, Usual { lightest: 40.0, ..USUAL }), None);
    let paper = picture(32, 32, |x, y| motley(x, y).map(|c| 240 + c / 17));
    assert_eq!(judged(8, &paper, USUAL), Some("overexposed"));
    assert_eq!(judged(12, &paper, Usual { darkest: 220.0, ..USUAL }), None);
}

#[test]
fn the_middle_passes_over_what_is_unknown() {
    assert_eq!(middle([3.0, f32::NAN, 1.0, 2.0].into_iter()), 2.0);
    assert!(middle([f32::NAN].into_iter()).is_nan());
}
