//! Tests of low information: drawn pictures of each kind, and what mustn't be taken for one.

use super::super::picture::Picture;
use super::super::testing::{grid, images, picture};
use super::*;
use crate::audit::Grid;

const USUAL: Usual = Usual {
    smooth: false,
    unique_codes: 48.0,
    quantization_error: 3.0,
    darkest: 40.0,
    lightest: 200.0,
    page_luma: 120.0,
    page_even: 0.0,
};

/// The reason for a picture of 32 x 32 pixels in 64 tokens with so many codes.
fn reason(codes: u32, drawn: &Picture) -> Option<&'static str> {
    reason_of(&grid(8, 8, |at| at % codes), drawn)
}

fn reason_of(grid: &Grid, drawn: &Picture) -> Option<&'static str> {
    let seen = Features::of(grid, Some(drawn), None);
    judge(&seen, 1.0, USUAL).map(|(reason, sure)| {
        assert!((0.0..=1.0).contains(&sure), "{reason} {sure}");
        reason
    })
}

/// The grid of one colour: its border has a code of its own. Some tokens of the middle waver.
fn even(wavering: u32) -> Grid {
    grid(8, 8, |at| match [at / 8, at % 8].map(|place| place.min(7 - place)) {
        [0, _] | [_, 0] => 1,
        [y, x] if y > 1 && x > 1 && at < 18 + wavering => at,
        _ => 0,
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
    let cases: [(&str, u32, Picture); 6] = [
        ("constant", 1, drawn(|_, _| [0; 3])),
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
fn one_colour_is_told_by_even_codes() {
    let noise = |x: u8, y: u8| x.wrapping_mul(97).wrapping_add(y.wrapping_mul(57)) % 5;
    let noisy = picture(32, 32, |x, y| [90 + noise(x, y), 40, 200]);
    assert_eq!(reason_of(&even(0), &noisy), Some("constant"));
    // Three tokens of 16 waver, which is 58 of 64 places; four are too many for one colour.
    assert_eq!(reason_of(&even(3), &noisy), Some("constant"));
    assert_eq!(reason_of(&even(4), &noisy), Some("near-constant"));
    // Scattered codes are no one colour, however alike a blurred picture of them is.
    assert_eq!(reason(6, &noisy), Some("blurred"));
    assert_eq!(reason(3, &noisy), Some("near-constant"));
    // Whatever border a decoder draws.
    let framed = picture(32, 32, |x, y| match (x, y) {
        (6..26, 6..26) => [90, 40, 200],
        _ => [20, 0, 80],
    });
    assert_eq!(reason_of(&even(2), &framed), Some("constant"));
    let white = picture(32, 32, |_, _| [250; 3]);
    assert_eq!(reason_of(&even(0), &white), Some("overexposed"));
}

#[test]
fn shapes_on_black_have_no_bars() {
    // As wide as the picture in the middle, but round.
    let ellipse = |across: i32, along: i32| {
        picture(32, 32, move |x, y| {
            let [x, y] = [x, y].map(|place| 2 * i32::from(place) - 31);
            let inside = x * x * along * along + y * y * across * across;
            if inside < across * across * along * along { [150; 3] } else { [0; 3] }
        })
    };
    assert_eq!(reason(40, &ellipse(31, 16)), None);
    assert_eq!(reason(40, &ellipse(16, 31)), None);
    let bars = |first: u8, last: u8, level: u8| {
        picture(32, 32, move |x, y| {
            if (first..last).contains(&x) { [60 + y * 3, 90, 60 + x] } else { [level; 3] }
        })
    };
    assert_eq!(reason(40, &bars(4, 28, 0)), Some("letterbox"));
    assert_eq!(reason(40, &bars(3, 28, 20)), Some("letterbox"));
    // At one end, too narrow, not black.
    assert_eq!(reason(40, &bars(8, 32, 0)), None);
    assert_eq!(reason(40, &bars(3, 29, 0)), None);
    assert_eq!(reason(40, &bars(4, 28, 50)), None);
}

#[test]
fn a_page_may_be_grey_where_its_codes_are_even() {
    let on = |page: [u8; 3]| {
        picture(32, 32, move |x, y| match (x, y) {
            (12..20, 12..20) => [250, 20, 20],
            _ => page,
        })
    };
    let codes = |at: u32| match (at / 8, at % 8) {
        (3..5, 3..5) => at,
        _ => 0,
    };
    assert_eq!(reason_of(&grid(8, 8, codes), &on([130; 3])), Some("letterbox"));
    assert_eq!(reason_of(&grid(8, 8, codes), &on([100, 130, 150])), None);
    assert_eq!(reason(16, &on([130; 3])), None);
    // A set of things on grey pages.
    let seen = Features::of(&grid(8, 8, codes), Some(&on([130; 3])), None);
    assert_eq!(judge(&seen, 1.0, Usual { page_even: 0.9, ..USUAL }), None);
}

#[test]
fn a_slope_in_steps_is_a_gradient_where_codes_follow_it() {
    let steps = picture(32, 32, |_, y| [[10, 10, 10, 120, 130, 240, 240, 240][y as usize / 4]; 3]);
    assert_eq!(reason_of(&grid(8, 8, |at| at / 8), &steps), Some("gradient"));
    assert_eq!(reason_of(&grid(8, 8, |at| at), &steps), None);
    let horizon = picture(32, 32, |_, y| [if y < 16 { 230 } else { 40 }; 3]);
    assert_eq!(reason_of(&grid(8, 8, |at| at / 8), &horizon), None);
}

/// Which of the images of a set are named, and which are of one colour.
fn named(looks: &[Features]) -> (Vec<usize>, Vec<usize>) {
    let looks: Vec<(Features, u8)> = looks.iter().map(|seen| (*seen, 0)).collect();
    let low = find(&images(&looks).unwrap());
    let plain = (0..looks.len()).filter(|&at| low.is_plain(at)).collect();
    (low.found.iter().map(|(at, _)| *at).collect(), plain)
}

#[test]
fn plain_colours_are_named_in_every_set() {
    let violet = picture(32, 32, |x, _| [120, 30 + x, 220]);
    let plain = Features::of(&even(2), Some(&violet), None);
    let other = Features::of(&grid(8, 8, |at| at), Some(&picture(32, 32, motley)), None);
    let digit = Features::of(&grid(8, 8, |at| at * at % 5), Some(&picture(32, 32, motley)), None);
    for without in [0, 10, 60, 400] {
        for others in [other, digit] {
            let mut looks = vec![plain; 40];
            looks.extend(vec![others; without]);
            let all: Vec<usize> = (0..40).collect();
            assert_eq!(named(&looks), (all.clone(), all), "{without} others");
        }
    }
    let unseen = Features::of(&even(2), None, None);
    let all: Vec<usize> = (0..30).collect();
    assert_eq!(named(&[unseen; 30]), (all.clone(), all));
}

#[test]
fn in_a_set_of_skies_only_wholly_even_codes_tell() {
    // Darker at its sides, so that no picture says one colour.
    let sky = picture(32, 32, |x, _| [100 + x.min(31 - x); 3]);
    let look = |wavering: u32| Features::of(&even(wavering), Some(&sky), None);
    let looks: Vec<Features> = (0..40).map(|at| look([0, 3, 14, 14][at % 4])).collect();
    let whole: Vec<usize> = (0..40).step_by(4).collect();
    assert_eq!(named(&looks), (whole, vec![]));
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
