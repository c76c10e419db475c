//! Owns the tests of views: numbers computed by hand from the rules of torchvision and LlamaGen, and
//! properties of what is drawn.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn words_come_back_and_others_are_refused() {
    for (text, views, count) in [
        ("flips", Views::Flips, 2),
        ("ten-crop=1.1", Views::TenCrop { range: 1.1 }, 10),
        ("ten-crop=1.05", Views::TenCrop { range: 1.05 }, 10),
        ("ten-crop=1", Views::TenCrop { range: 1.0 }, 10),
        ("random-crops=7", Views::RandomCrops { count: 7 }, 7),
    ] {
        assert_eq!(text.parse::<Views>().unwrap(), views);
        assert_eq!((views.to_string().as_str(), views.count()), (text, count));
    }
    assert_eq!("ten-crop".parse::<Views>().unwrap().to_string(), "ten-crop=1.1");
    assert_eq!("ten-crop=1.10".parse::<Views>().unwrap().to_string(), "ten-crop=1.1");
    for bad in [
        "",
        "flip",
        "flips=2",
        "ten-crop=",
        "ten-crop=0.9",
        "ten-crop=2",
        "ten-crop=NaN",
        "ten-crop=inf",
        "random-crops",
        "random-crops=0",
        "random-crops=257",
        "random-crops=-1",
        "one",
    ] {
        let message = bad.parse::<Views>().unwrap_err().to_string();
        assert!(message.contains("flips, ten-crop") && !message.contains('\n'), "{message}");
    }
}

#[test]
fn sides_are_pythons() {
    // int(256 * 1.1) of 281.6; 1.15 * 100 is 114.99999999999999 in binary.
    let cases = [
        (256, 1.1, 281),
        (384, 1.1, 422),
        (512, 1.1, 563),
        (256, 1.05, 268),
        (448, 1.05, 470),
        (100, 1.15, 114),
        (16, 1.1, 17),
        (16, 1.0, 16),
    ];
    for (size, range, side) in cases {
        assert_eq!(ten_crop_side(size, range), side, "{size} {range}");
    }
}

fn places(side: u32, size: u32) -> Vec<(u32, u32, bool)> {
    ten_crop(side, size).map(|cut| (cut.x, cut.y, cut.flip)).to_vec()
}

#[test]
fn ten_crops_come_in_torchvisions_order_with_its_rounding() {
    // TenCrop(256) of 281 pixels: 25 are left over, the centre is at round(12.5) = 12. In the
    // mirrored picture it is at 12 as well, which is 25 - 12 = 13 in the picture itself.
    let expected = [
        (0, 0, false),
        (25, 0, false),
        (0, 25, false),
        (25, 25, false),
        (12, 12, false),
        (25, 0, true),
        (0, 0, true),
        (25, 25, true),
        (0, 25, true),
        (13, 12, true),
    ];
    assert_eq!(places(281, 256), expected);
    // 3 left over: round(1.5) = 2. 38: 19. 1: round(0.5) = 0. None: all are the same.
    for (side, size, middle, mirrored) in
        [(33, 30, 2, 1), (422, 384, 19, 19), (17, 16, 0, 1), (16, 16, 0, 0)]
    {
        let found = places(side, size);
        assert_eq!((found[4], found[9]), ((middle, middle, false), (mirrored, middle, true)));
    }
}

#[test]
fn a_crop_of_the_mirrored_square_is_the_mirrored_crop_of_the_square() {
    let (side, size) = (9_usize, 6_usize);
    let square: Vec<u8> = (0..side * side).map(|i| i as u8).collect();
    let mut mirrored = square.clone();
    mirror(&mut mirrored, side, 1);
    let cut = |pixels: &[u8], x: usize, y: usize| -> Vec<u8> {
        (y..y + size).flat_map(|y| pixels[y * side + x..][..size].to_vec()).collect()
    };
    // As TenCrop does it, on the mirrored picture: corners, and the centre at round(1.5) = 2.
    for (view, (x, y)) in [(0, 0), (3, 0), (0, 3), (3, 3), (2, 2)].into_iter().enumerate() {
        let Cut { x: in_square, y: row, flip } = ten_crop(9, 6)[5 + view];
        let mut ours = cut(&square, in_square as usize, row as usize);
        assert!(flip);
        mirror(&mut ours, size, 1);
        assert_eq!(ours, cut(&mirrored, x, y), "view {}", 5 + view);
    }
}

#[test]
fn random_views_depend_on_key_and_number_alone() {
    let size = (640, 480);
    let drawn = |key: &str| (0..200).map(|view| random_crop(key, view, size)).collect::<Vec<_>>();
    let (a, b) = (drawn("a.png"), drawn("b.png"));
    assert_eq!(a, drawn("a.png"));
    let places = |views: &[(Crop, bool)]| {
        views.iter().map(|(c, _)| (c.x, c.y, c.width, c.height)).collect::<BTreeSet<_>>()
    };
    assert!(places(&a).len() > 190 && places(&a).intersection(&places(&b)).count() < 3);
    let flips = a.iter().chain(&b).filter(|(_, flip)| *flip).count();
    // Of 400; standard deviation 10, five of them.
    assert!(flips.abs_diff(200) < 50, "{flips}");
    let share = |(c, _): &(Crop, bool)| f64::from(c.width * c.height) / (640.0 * 480.0);
    let mean = a.iter().chain(&b).map(share).sum::<f64>() / 400.0;
    // Evenly from 0.08 to 1, a little less where the largest don't fit.
    assert!((0.42..0.6).contains(&mean), "{mean}");
    // What an output holds must not change with a version.
    // These are from a few lines of Python.
    let crop = |x, y, width, height| Crop { x, y, width, height };
    assert_eq!(a[0], (crop(109, 112, 324, 364), true));
    assert_eq!(a[1], (crop(59, 73, 378, 305), false));
    let other = random_crop("b/\u{fc}.jpg", 3, (333, 500));
    assert_eq!(other, (crop(38, 200, 235, 196), true));
}

#[test]
fn mirrored_twice_is_as_before() {
    let pixels: Vec<u8> = (0..2 * 3 * 3).collect();
    let mut turned = pixels.clone();
    mirror(&mut turned, 3, 3);
    assert_eq!(turned[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
    mirror(&mut turned, 3, 3);
    assert_eq!(turned, pixels);
    let mut grey = vec![1, 2, 3, 4];
    mirror(&mut grey, 4, 1);
    assert_eq!(grey, [4, 3, 2, 1]);
}

proptest! {
    #[test]
    fn crops_lie_in_what_they_are_cut_from(
        size in 1_u32..600,
        range in 1.0_f64..1.99,
        key in "[a-z/]{1,12}",
        view in 0_u32..256,
        width in 1_u32..5000,
        height in 1_u32..5000,
    ) {
        let side = ten_crop_side(size, range);
        prop_assert!(side >= size && f64::from(side) <= f64::from(size) * range);
        for cut in ten_crop(side, size) {
            prop_assert!(cut.x + size <= side && cut.y + size <= side, "{cut:?}");
        }
        let (crop, _) = random_crop(&key, view, (width, height));
        prop_assert!(crop.x >= 0 && crop.y >= 0 && crop.width >= 1 && crop.height >= 1);
        prop_assert!(crop.x + crop.width <= width as i32, "{crop:?}");
        prop_assert!(crop.y + crop.height <= height as i32, "{crop:?}");
    }
}
