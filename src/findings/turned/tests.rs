//! Tests of turned classes on drawn pictures: a share that is told, one that can't be.

use super::super::testing::picture;
use super::*;
use crate::util::random::SplitMix64;

/// A sky above a ground, or clouds that look alike whichever way they are turned.
fn drawn(random: &mut SplitMix64, landscape: bool, quarters: usize) -> Picture {
    let mut next = |below: u64| (random.next() % below) as u8;
    let (line, sky, ground) = (6 + next(20), 120 + next(100), 40 + next(120));
    let noise: Vec<u8> = (0..256).map(|_| next(60)).collect();
    picture(32, 32, |x, y| {
        let (mut across, mut down) = (x, y);
        (0..quarters).for_each(|_| (across, down) = (31 - down, across));
        let shade = noise[usize::from(across / 2 + 16 * (down / 2))];
        let lit = if landscape && down < line { sky } else { ground };
        [lit.saturating_add(shade), lit, lit / 2 + shade]
    })
}

fn set(seed: u64, count: usize, landscape: bool, every: usize) -> Turned {
    let (mut random, mut turned) = (SplitMix64(seed), Turned::default());
    for image in 0..count {
        let quarters = if image % every == 1 { 1 + image % 3 } else { 0 };
        turned.take("class", &drawn(&mut random, landscape, quarters));
    }
    turned
}

#[test]
fn a_turned_share_is_told_against_what_stands_upright() {
    let upright = set(1, 300, true, 1000);
    let found = remarks(&set(2, 1000, true, 5), &upright);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].finding && found[0].text.starts_with("class: about "), "{found:?}");
    let (told, deviation) =
        share(&set(2, 1000, true, 5).labels["class"], &upright.labels["class"]).unwrap();
    assert!((told - 0.2).abs() < 3.0 * deviation && deviation < 0.05, "{told} {deviation}");
    // Nothing is turned: nothing is said.
    assert_eq!(remarks(&set(3, 1000, true, 10_000), &upright), []);
}

#[test]
fn what_looks_alike_or_is_rare_can_not_be_told() {
    for (upright, set) in [
        (set(1, 300, false, 1000), set(2, 1000, false, 5)),
        (set(1, 20, true, 1000), set(2, 1000, true, 5)),
        (set(1, 300, true, 1000), set(2, 50, true, 5)),
    ] {
        let found = remarks(&set, &upright);
        assert!(found.len() == 1 && !found[0].finding, "{found:?}");
        assert!(found[0].text.contains("can't be told of 1 of 1 labels"), "{found:?}");
    }
    assert_eq!(remarks(&set(1, 200, true, 5), &Turned::default()), []);
}

#[test]
fn paler_or_softer_pictures_say_nothing_of_turns() {
    let upright = set(1, 300, true, 1000);
    let pale = |picture: Picture| {
        let rgb = picture.rgb.iter().map(|&value| 40 + value / 10 * 7).collect();
        Picture { rgb, ..picture }
    };
    let (mut random, mut paler) = (SplitMix64(2), Turned::default());
    (0..1000).for_each(|_| paler.take("class", &pale(drawn(&mut random, true, 0))));
    // By their means alone a part of them would lie on its side.
    let (told, deviation) = share(&paler.labels["class"], &upright.labels["class"]).unwrap();
    assert!(told > SHARE && told > DEVIATIONS * deviation, "{told} {deviation}");
    let found = remarks(&paler, &upright);
    assert!(found.len() == 1 && !found[0].finding, "{found:?}");
    assert_eq!(
        found[0].text,
        "whether images are turned can't be told of 1 of 1 labels (class): they show more or less detail \
         than the other output's, which no turn does"
    );
}

#[test]
fn detail_is_that_of_neighbours_however_a_picture_is_turned() {
    let stripes = |across: bool| {
        picture(32, 32, |x, y| [if (if across { x } else { y }) % 2 == 0 { 0 } else { 100 }; 3])
    };
    let expected = 100.0 * 100.0 * 31.0 / 32.0;
    assert!(
        [true, false].map(|across| (detail(&stripes(across)) - expected).abs() < 1e-6) == [true; 2]
    );
    assert_eq!(detail(&picture(32, 32, |_, _| [7; 3])), 0.0);
}

#[test]
fn four_quarters_are_no_turn() {
    for at in 0..SIZE {
        assert_eq!((before(at, 4), before(before(at, 1), 3)), (at, at));
    }
    assert_eq!((before(0, 1), before(64, 1), before(80, 2)), (7, 67, 95));
}
