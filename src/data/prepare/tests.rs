//! Owns the tests of an image's views: their pixels, and where these come from in the source.

use super::*;
use crate::data::resize::placement::Crop;
use crate::data::resize::rules::ResizeRule;

fn preparation(rule: ResizeRule, views: Option<Views>) -> Preparation {
    Preparation {
        limits: Default::default(),
        alpha: Default::default(),
        orientation: Default::default(),
        pillow: Default::default(),
        rule,
        size: Some(16),
        channels: 3,
        views,
        buckets: None,
    }
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 37 + y * 11) as u8, (x * y) as u8, (x * 5 + y * 91) as u8])
    })
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn views_of(image: &RgbImage, rule: ResizeRule, views: Option<Views>) -> Vec<Prepared> {
    views_from_bytes(&png(image), "a/b.png", None, &preparation(rule, views)).unwrap()
}

/// `size` pixels a side from (x, y) on, mirrored or not.
fn cut(image: &RgbImage, (x, y): (u32, u32), size: u32, flip: bool) -> Vec<u8> {
    let part = crop_imm(image, x, y, size, size).to_image();
    match flip {
        true => image::imageops::flip_horizontal(&part).into_raw(),
        false => part.into_raw(),
    }
}

#[test]
fn an_image_is_one_view_unless_it_has_more() {
    let image = picture(31, 22);
    for rule in ResizeRule::all() {
        let plain = views_of(&image, rule, None);
        let alone = from_bytes(&png(&image), &preparation(rule, None)).unwrap();
        assert_eq!(plain.len(), 1);
        assert!(plain[0].pixels == alone.pixels && !plain[0].flip, "{rule}");
        if rule.varies() {
            continue;
        }
        let [view, mirrored] = &views_of(&image, rule, Some(Views::Flips))[..] else { panic!() };
        assert!(view.pixels == alone.pixels && !view.flip && mirrored.flip);
        let square = RgbImage::from_raw(16, 16, view.pixels.clone()).unwrap();
        assert_eq!(mirrored.pixels, cut(&square, (0, 0), 16, true), "{rule}");
        assert_eq!((view.crop, mirrored.crop), (alone.crop, alone.crop));
    }
}

/// 40 x 20 at a side of int(16 * 1.25) = 20 keep their pixels; of the middle, which begins at 10,
/// four are left over.
#[test]
fn ten_crops_are_those_of_the_source_where_that_keeps_its_size() {
    let image = picture(40, 20);
    for rule in [ResizeRule::Llamagen, ResizeRule::Bicubic, ResizeRule::Taming] {
        let found = views_of(&image, rule, Some(Views::TenCrop { range: 1.25 }));
        let corners = [(10, 0), (14, 0), (10, 4), (14, 4), (12, 2)];
        let mirrored = [(14, 0), (10, 0), (14, 4), (10, 4), (12, 2)];
        assert_eq!(found.len(), 10);
        for (view, (x, y)) in corners.into_iter().chain(mirrored).enumerate() {
            let Prepared { crop, flip, pixels, .. } = &found[view];
            assert_eq!(*crop, Crop { x: x as i32, y: y as i32, width: 16, height: 16 });
            assert_eq!(*flip, view >= 5);
            assert_eq!(*pixels, cut(&image, (x, y), 16, *flip), "{rule} {view}");
        }
    }
}

#[test]
fn crops_are_in_pixels_of_the_source() {
    // 80 x 40 is halved: every crop is twice as large in the source.
    let found = views_of(&picture(80, 40), ResizeRule::Llamagen, "ten-crop=1.25".parse().ok());
    let places: Vec<_> = found.iter().map(|v| (v.crop.x, v.crop.y, v.crop.width)).collect();
    assert_eq!(places[..5], [(20, 0, 32), (28, 0, 32), (20, 8, 32), (28, 8, 32), (24, 4, 32)]);
    assert_eq!(places[5..7], [(28, 0, 32), (20, 0, 32)]);
    // 10 x 10 in the middle of a black square of 20: 5 to 15, of which 16 from 4 on show all.
    let found = views_of(&picture(10, 10), ResizeRule::Pad, "ten-crop=1.25".parse().ok());
    let whole = Crop { x: 0, y: 0, width: 10, height: 10 };
    assert!(found.iter().all(|view| view.crop == whole));
    for rule in ResizeRule::all().filter(|rule| !rule.varies()) {
        for (width, height) in [(1, 1), (3, 500), (90, 17)] {
            for words in ["flips", "ten-crop=1.9", "random-crops=5"] {
                for view in views_of(&picture(width, height), rule, words.parse().ok()) {
                    let Crop { x, y, width: w, height: h } = view.crop;
                    assert!(x >= 0 && y >= 0 && w >= 1 && h >= 1, "{rule} {words}");
                    assert!(x + w <= width as i32 && y + h <= height as i32, "{rule} {words}");
                    assert_eq!((view.width, view.height, view.pixels.len()), (16, 16, 768));
                }
            }
        }
    }
}

#[test]
fn random_crops_are_parts_by_the_rules_filter() {
    let image = picture(50, 41);
    for rule in [ResizeRule::Llamagen, ResizeRule::Bicubic, ResizeRule::Taming] {
        let views = views_of(&image, rule, Some(Views::RandomCrops { count: 12 }));
        assert!(views.iter().any(|v| v.flip) && views.iter().any(|v| !v.flip));
        for view in &views {
            let part = rules::part(&image, view.crop, rule, Some(16), Default::default()).unwrap();
            assert_eq!(view.pixels, cut(&part, (0, 0), 16, view.flip));
        }
    }
}

#[test]
fn views_are_part_of_the_digest_and_their_absence_is_not() {
    let digest = |views: &str| preparation(ResizeRule::Bicubic, views.parse().ok()).digest();
    let plain = digest("");
    // As before there were views.
    let limits = Limits::default();
    assert_eq!(plain, sha256_hex(format!("{limits:?} white bicubic Some(16) 3")));
    let all = ["flips", "ten-crop", "ten-crop=1.05", "random-crops=2", "random-crops=3"];
    let mut digests: Vec<_> = all.iter().map(|views| digest(views)).collect();
    digests.push(plain);
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 6);
}

#[test]
fn a_view_that_cannot_be_made_costs_the_image() {
    let long = picture(40, 1);
    let how = Preparation { size: Some(1 << 26), ..preparation(ResizeRule::Bicubic, None) };
    let how = Preparation { views: Some(Views::TenCrop { range: 1.1 }), ..how };
    let reject = views_from_bytes(&png(&long), "k", None, &how).unwrap_err();
    assert!(reject.stage == Stage::Resize && reject.message.contains("elongated"), "{reject}");
    let how = Preparation { size: None, views: "ten-crop".parse().ok(), ..how };
    assert!(views_from_bytes(&png(&long), "k", None, &how).is_err());
}
