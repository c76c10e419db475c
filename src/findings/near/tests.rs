//! Owns tests of finding and comparing on drawn pictures, beside comparing all with all. Must not
//! know: thresholds.

use super::*;
use crate::findings::picture::Picture;
use crate::findings::thumbnail::Thumbnail;
use crate::util::random::splitmix64;

/// A picture of soft blobs, unlike those of other seeds: by colour at a place from 0 to 1.
fn blobs(seed: u64) -> impl Fn(f32, f32) -> [f32; 3] {
    let number = move |at: u64| (splitmix64(seed, at) >> 40) as f32 / (1u64 << 24) as f32;
    move |x, y| {
        let mut colour = [128.0; 3];
        for blob in 0..14 {
            let at = |which: u64| number(blob * 7 + which);
            let distance = (x - at(0)).powi(2) + (y - at(1)).powi(2);
            let weight = (-distance / (0.002 + 0.03 * at(2))).exp();
            for (channel, value) in colour.iter_mut().enumerate() {
                *value += weight * (400.0 * at(3) - 200.0 + 80.0 * at(4 + channel as u64) - 40.0);
            }
        }
        colour
    }
}

/// Draws what a picture shows at changed places, with changed values.
fn drawn(seed: u64, at: impl Fn(f32, f32) -> (f32, f32), change: impl Fn(f32) -> f32) -> Thumbnail {
    let (colour, side) = (blobs(seed), 32);
    let place = |index: usize| (index as f32 + 0.5) / side as f32;
    let pixels = (0..side * side).flat_map(|pixel| {
        let (x, y) = at(place(pixel % side), place(pixel / side));
        colour(x, y).map(|value| change(value).clamp(0.0, 255.0) as u8)
    });
    Thumbnail::of(&Picture { width: side, height: side, rgb: pixels.collect() })
}

/// 600 originals, then eight copies of some of them, each copy of another original.
fn planted() -> (Vec<Thumbnail>, Vec<(u32, u32, &'static str)>) {
    let same = |value: f32| value;
    let mut images: Vec<Thumbnail> =
        (0..600).map(|seed| drawn(seed, |x, y| (x, y), same)).collect();
    let mut truth = Vec::new();
    for copy in 0..80u64 {
        let original = copy * 7;
        let (image, relation) = match copy % 8 {
            0 => (drawn(original, |x, y| (x, y), |value| value * 1.3), "same"),
            1 => (drawn(original, |x, y| (1.0 - x, y), same), "mirrored"),
            2 => (drawn(original, |x, y| (1.0 - x, 1.0 - y), same), "turned"),
            3 => (drawn(original, |x, y| (y, 1.0 - x), same), "turned"),
            4 => (drawn(original, |x, y| (0.11 + 0.875 * x, 0.02 + 0.875 * y), same), "cropped"),
            5 => (drawn(original, |x, y| (0.01 + 0.94 * x, 0.05 + 0.94 * y), same), "cropped"),
            6 => (
                drawn(original, |x, y| (0.98 - 0.9 * x, 0.07 + 0.9 * y), same),
                "mirrored and cropped",
            ),
            _ => (drawn(original, |x, y| (x, y), |value| value * 0.6), "same"),
        };
        truth.push((original as u32, images.len() as u32, relation));
        images.push(image);
    }
    (images, truth)
}

#[test]
fn the_index_finds_what_comparing_all_with_all_finds() {
    let (images, truth) = planted();
    let weights = Weights::of(&[&images]);
    let set = Set::new(&images, &weights, &|_| true).unwrap();
    let found = within(&set, &weights, &mut || Ok(())).unwrap();
    let comparer = Comparer::new(&set, &weights);
    let (mut exhaustive, mut through_index) = (0, 0);
    for &(first, second, relation) in &truth {
        let all = comparer.pair(first, second);
        if all.score < 0.8 {
            continue;
        }
        exhaustive += 1;
        let pair = found.iter().find(|pair| (pair.first, pair.second) == (first, second));
        if let Some(pair) = pair.filter(|pair| pair.score >= 0.8) {
            through_index += 1;
            let sure = pair.score >= 0.9;
            assert!(!sure || pair.relation() == relation, "{first} {second} {pair:?} {relation}");
        }
    }
    assert!(exhaustive >= 76, "{exhaustive} of 80");
    assert!(through_index * 100 >= exhaustive * 95, "{through_index} of {exhaustive}");
    let strangers = found.iter().filter(|pair| pair.score >= 0.8).count() - through_index;
    assert_eq!(strangers, 0);
}

#[test]
fn what_isnt_taken_is_never_found_and_small_sets_are_no_trouble() {
    let (images, _) = planted();
    let weights = Weights::of(&[&images]);
    let taken = |at: usize| at != 0;
    let set = Set::new(&images, &weights, &taken).unwrap();
    let found = within(&set, &weights, &mut || Ok(())).unwrap();
    assert!(found.iter().all(|pair| pair.first != 0 && pair.second != 0));
    for few in [&images[..0], &images[..1]] {
        let set = Set::new(few, &weights, &|_| true).unwrap();
        assert!(within(&set, &weights, &mut || Ok(())).unwrap().is_empty());
    }
    let same = [images[5]; 40];
    let set = Set::new(&same, &weights, &|_| true).unwrap();
    let found = within(&set, &weights, &mut || Ok(())).unwrap();
    assert!(found.iter().all(|pair| pair.score > 0.999) && found.len() >= 20 * 8);
}

#[test]
fn pairs_across_two_sets_are_of_one_of_each_and_frames_make_none() {
    let (images, truth) = planted();
    let weights = Weights::of(&[&images]);
    let (ours, others) = images.split_at(600);
    let [ours, others] =
        [ours, others].map(|images| Set::new(images, &weights, &|_| true).unwrap());
    let found = across(&ours, &others, &weights, &mut || Ok(())).unwrap();
    let pairs: Vec<(u32, u32)> = (found.iter().filter(|pair| pair.score >= 0.8))
        .map(|pair| (pair.first, pair.second + 600))
        .collect();
    let planted = |pair: &&(u32, u32)| truth.iter().any(|one| (one.0, one.1) == **pair);
    assert_eq!(pairs.iter().filter(planted).count(), pairs.len());
    assert!(pairs.len() >= 76, "{}", pairs.len());
    let framed = [1000, 2000].map(|seed| {
        let frame = move |x: f32, y: f32| {
            let inside = |place: f32| (0.1..0.9).contains(&place);
            if inside(x) && inside(y) { (x, y) } else { (9.0, 9.0) }
        };
        drawn(seed, frame, |value| if value == 128.0 { 255.0 } else { value })
    });
    let set = Set::new(&framed, &weights, &|_| true).unwrap();
    assert!(Comparer::new(&set, &weights).pair(0, 1).score < 0.7);
}
