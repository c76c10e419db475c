//! Tests of turned classes on drawn pictures: a share that is told, one that can't be.

use super::super::testing::picture;
use super::*;
use crate::util::random::SplitMix64;

/// Skies over grounds, turned by these quarters one after another.
fn all(seed: u64, count: usize, quarters: &[usize]) -> Turned {
    let (mut random, mut turned) = (SplitMix64(seed), Turned::default());
    for image in 0..count {
        turned.take("class", &drawn(&mut random, true, quarters[image % quarters.len()]));
    }
    turned
}

fn told(set: &Turned, upright: &Turned) -> Told {
    share(&set.labels["class"], &upright.labels["class"]).unwrap()
}

/// A sky above a ground, or clouds that look alike whichever way they are turned.
fn drawn(random: &mut SplitMix64, landscape: bool, quarters: usize) -> Picture {
    below_line(random, landscape, quarters, 3)
}

/// The horizon is so many rows from the top, and up to 11 more.
fn below_line(random: &mut SplitMix64, landscape: bool, quarters: usize, low: u8) -> Picture {
    let mut next = |below: u64| (random.next() % below) as u8;
    let (line, sky, ground) = (low + next(12), 120 + next(100), 40 + next(120));
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
    let told = told(&set(2, 1000, true, 5), &upright);
    let Share { value, deviation } = told.share;
    assert!((value - 0.2).abs() < 3.0 * deviation && deviation < 0.05, "{told:?}");
    // Nothing is turned: nothing is said.
    assert_eq!(remarks(&set(3, 1000, true, 10_000), &upright), []);
}

#[test]
fn whichever_way_and_however_many_are_turned_it_is_told() {
    let upright = set(1, 300, true, 1000);
    for (turned, part) in [
        (&[1][..], 1.0),
        (&[2], 1.0),
        (&[3], 1.0),
        (&[1, 2, 3], 1.0),
        (&[0, 2], 0.5),
        (&[0, 0, 0, 1], 0.25),
        (&[0, 0, 0, 2], 0.25),
        (&[0, 0, 0, 3], 0.25),
    ] {
        let set = all(4, 1000, turned);
        let Told { share, least } = told(&set, &upright);
        assert!((share.value - part).abs() < 3.0 * share.deviation, "{turned:?}: {share:?}");
        assert!(share.deviation < 0.06, "{turned:?}: {share:?}");
        assert!(least.value < part + 3.0 * least.deviation, "{turned:?}: {least:?}");
        let found = remarks(&set, &upright);
        assert!(found.len() == 1 && found[0].finding, "{turned:?}: {found:?}");
    }
}

#[test]
fn where_half_of_one_turn_looks_like_another_the_least_is_told() {
    // Horizons about the middle: as many on either side look like half as many on their heads.
    let set = |seed: u64, count: usize, quarters: usize| {
        let (mut random, mut turned) = (SplitMix64(seed), Turned::default());
        (0..count).for_each(|_| turned.take("class", &below_line(&mut random, true, quarters, 10)));
        turned
    };
    let upright = set(1, 300, 0);
    for (quarters, least) in [(1, 0.5), (2, 1.0), (3, 0.5)] {
        let set = set(2, 600, quarters);
        let told = told(&set, &upright);
        assert!(!told.share.is_told(), "{quarters}: {told:?}");
        assert!((told.least.value - least).abs() < 0.05, "{quarters}: {told:?}");
        let found = remarks(&set, &upright);
        assert!(found.len() == 1 && found[0].finding, "{quarters}: {found:?}");
        assert!(found[0].text.starts_with("class: at least "), "{quarters}: {found:?}");
    }
}

#[test]
fn three_equations_are_solved_or_say_too_little() {
    let system = [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 4.0]];
    assert_eq!(solve_three(system, [4.0, 9.0, 13.0]), Some([1.0, 2.0, 3.0]));
    assert_eq!(solve_three([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 1.0, 1.0]], [1.0; 3]), None);
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
    let told = told(&paler, &upright);
    assert!(told.is_turned(), "{told:?}");
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
