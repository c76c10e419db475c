//! Owns the unit tests of `resize`, `pillow` and `opencv`, on the reference pixels where they are.

use super::PillowVersion::{Thirteen, Twelve};
use super::*;
use crate::testing::{npz, shared};

/// The arrays of an .npz of uint8 `[h, w, 3]`, by name.
fn arrays(path: &std::path::Path) -> Vec<(String, RgbImage)> {
    let image = |array: &crate::testing::NpzArray| {
        let [height, width] = [array.shape[0] as u32, array.shape[1] as u32];
        RgbImage::from_raw(width, height, array.u8()).unwrap()
    };
    npz(path).iter().map(|(name, array)| (name.clone(), image(array))).collect()
}

fn source(path: &std::path::Path) -> RgbImage {
    let bytes = std::fs::read(path).unwrap();
    let limits = crate::data::Limits::default();
    crate::data::decode(&bytes, &limits, crate::data::Alpha::White).unwrap().image
}

fn by_golden_name(image: &RgbImage, name: &str) -> RgbImage {
    let (what, size) = name.split_once("__").unwrap();
    if let Some((width, height)) = size.split_once('x') {
        let (width, height): (u32, u32) = (width.parse().unwrap(), height.parse().unwrap());
        let region = Region { x: 0, y: 0, width, height };
        let full = (width.into(), height.into());
        let pillow = |filter| pillow::resize(image, full, (filter, Twelve), region);
        return match what {
            "pil_box" => pillow(Filter::Box),
            "pil_bilinear" => pillow(Filter::Bilinear),
            "pil_bicubic" => pillow(Filter::Bicubic),
            "pil_lanczos" => pillow(Filter::Lanczos),
            "cv2_linear" => opencv::linear(image, width, height),
            "cv2_area" => opencv::area(image, width, height),
            other => panic!("unknown resize {other}"),
        };
    }
    let rule = match what {
        "taming_albu_linear" => ResizeRule::Taming,
        "adm_box_bicubic" => ResizeRule::Llamagen,
        "chameleon_lanczos" => ResizeRule::Chameleon,
        "tv_bilinear_center" => ResizeRule::Bilinear,
        "tv_bicubic_center" => ResizeRule::Bicubic,
        "dalle_lanczos_center" => ResizeRule::Dalle,
        "stretch_bilinear" => ResizeRule::Vit,
        other => panic!("unknown pipeline {other}"),
    };
    prepare(image, rule, Some(size.parse().unwrap()), Twelve).unwrap().image
}

#[test]
fn every_reference_pixel_is_equal() {
    let Some(folder) = shared("golden/preproc") else { return };
    let mut checked = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let Some(stem) = name.strip_suffix(".expected.npz") else { continue };
        let images = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let png = images
            .filter(|path| path.extension().is_some_and(|extension| extension == "png"))
            .find(|path| {
                path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{stem}_"))
            })
            .unwrap();
        let image = source(&png);
        for (key, expected) in arrays(&path) {
            let ours = by_golden_name(&image, &key);
            assert_eq!(ours.dimensions(), expected.dimensions(), "{stem} {key}");
            let differing =
                ours.as_raw().iter().zip(expected.as_raw()).filter(|(a, b)| a != b).count();
            if differing > 0 {
                wrong.push(format!("{stem} {key}: {differing}"));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} differ: {wrong:#?}", wrong.len());
    assert!(checked >= 5 * 26, "only {checked} reference pictures found");
}

/// What a pipeline of the families from 2024 on makes of a picture.
fn by_pipeline(image: &RgbImage, name: &str) -> RgbImage {
    let (what, sizes) = name.split_once("__").unwrap_or((name, ""));
    let numbers: Vec<u32> = sizes.split(['x', '_']).filter_map(|n| n.parse().ok()).collect();
    let square = |rule| prepare(image, rule, Some(numbers[0]), Twelve).unwrap().image;
    match what {
        "var_lanczos_1125" => square(ResizeRule::Var),
        "unitok_bilinear_1125" => square(ResizeRule::Unitok),
        "movq_bicubic_gap1" => square(ResizeRule::Movq),
        "cosmos_short_size" => smart::cosmos(image, numbers[0], Twelve).image,
        "infinity_cover_lanczos" => {
            let to = (numbers[1], numbers[0]);
            prepare_to(image, ResizeRule::Infinity, to, Twelve).unwrap().image
        }
        "emu3_smart" => {
            let pixels = (numbers[0].into(), numbers[1].into());
            smart::emu3(image, pixels, Twelve).unwrap().image
        }
        "emu35_smart" => smart::emu35(image, numbers[0].into(), Twelve).unwrap().image,
        other => panic!("unknown pipeline {other}"),
    }
}

#[test]
fn every_reference_pixel_of_the_families_is_equal() {
    let Some(folder) = shared("golden_families/preproc_families") else { return };
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut pngs: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "png")).collect();
    pngs.sort();
    let (mut checked, mut wrong) = (0, Vec::new());
    for png in pngs {
        let image = source(&png);
        let name = png.file_name().unwrap().to_str().unwrap();
        let stem = name.split('_').next().unwrap();
        for (key, expected) in arrays(&folder.join(format!("{stem}.expected.npz"))) {
            // The engine's, since it pads whatever the rule gives.
            if key == "cosmos_pad16" {
                continue;
            }
            let ours = by_pipeline(&image, &key);
            if ours != expected {
                let sizes = (ours.dimensions(), expected.dimensions());
                wrong.push(format!("{name} {key}: {sizes:?}"));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} differ: {wrong:#?}", wrong.len());
    assert!(checked >= 90, "only {checked} reference pictures found");
}

#[test]
fn every_reference_pixel_of_pillow_13_is_equal() {
    let Some(folder) = shared("golden_families/preproc_pillow13") else { return };
    let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let (mut checked, mut vertical_first) = (0, 0);
    for (stem, facts) in index["sources"].as_object().unwrap() {
        let [width, height] = [0, 1].map(|i| facts["size"][i].as_u64().unwrap());
        let image = source(&folder.join(format!("{stem}_{width}x{height}.png")));
        for (key, expected) in arrays(&folder.join(format!("{stem}.expected.npz"))) {
            let (name, size) = key.split_once("__").unwrap();
            let (w, h) = size.split_once('x').unwrap();
            let full: (u64, u64) = (w.parse().unwrap(), h.parse().unwrap());
            let filter = match name {
                "box" => Filter::Box,
                "bilinear" => Filter::Bilinear,
                "bicubic" => Filter::Bicubic,
                "lanczos" => Filter::Lanczos,
                other => panic!("unknown filter {other}"),
            };
            let region = Region { x: 0, y: 0, width: full.0 as u32, height: full.1 as u32 };
            let ours = pillow::resize(&image, full, (filter, Thirteen), region);
            assert!(ours == expected, "{stem} {key}");
            let otherwise = pillow::resize(&image, full, (filter, Twelve), region);
            if facts["vertical_first"][&key] == true {
                vertical_first += u32::from(otherwise != expected);
            } else {
                assert!(otherwise == expected, "{stem} {key}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 90 && vertical_first >= 30, "{checked} pictures, {vertical_first} differ");
}

/// What the resampling makes of a picture in two steps, each along one side.
fn in_steps(image: &RgbImage, full: (u64, u64), filter: Filter, first: (u64, u64)) -> RgbImage {
    let step = |image: &RgbImage, to: (u64, u64)| {
        let region = Region { x: 0, y: 0, width: to.0 as u32, height: to.1 as u32 };
        pillow::resize(image, to, (filter, Twelve), region)
    };
    step(&step(image, first), full)
}

#[test]
fn pillow_13_makes_pictures_vertically_first_that_lose_twice_as_many_rows_as_columns() {
    // (from, to, vertically first): rows lost against twice the columns lost.
    let cases = [
        ((60, 200), (30, 40), true),   // 160 against 60
        ((60, 120), (30, 60), false),  // 60 against 60
        ((60, 121), (30, 60), true),   // 61 against 60
        ((60, 120), (31, 60), true),   // 60 against 58
        ((60, 40), (80, 41), false),   // no row is lost
        ((60, 40), (80, 39), true),    // one row, and columns are won
        ((200, 300), (100, 60), true), // 240 against 200
        ((200, 300), (60, 90), false), // 210 against 280
    ];
    for ((w, h), full, vertical_first) in cases {
        let image = gradient(w, h);
        let (rows, columns) = ((w.into(), full.1), (full.0, h.into()));
        let region = Region { x: 0, y: 0, width: full.0 as u32, height: full.1 as u32 };
        for filter in [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let ours = |version| pillow::resize(&image, full, (filter, version), region);
            let first = if vertical_first { rows } else { columns };
            let words = format!("{w}x{h} to {full:?}, {filter:?}");
            assert!(ours(Thirteen) == in_steps(&image, full, filter, first), "{words}");
            assert!(ours(Twelve) == in_steps(&image, full, filter, columns), "{words}");
        }
    }
    // The ways differ, so the tests above tell them apart.
    let image = gradient(60, 200);
    let filter = Filter::Bicubic;
    let rows_first = in_steps(&image, (30, 40), filter, (60, 40));
    assert!(rows_first != in_steps(&image, (30, 40), filter, (30, 200)));
}

#[test]
fn the_version_of_pillow_reaches_every_rule_but_opencvs() {
    let tall = gradient(70, 400);
    for rule in ResizeRule::all().filter(|rule| *rule == ResizeRule::None || !rule.varies()) {
        let with = |version| prepare(&tall, rule, Some(32), version).unwrap().image;
        let without_pillow = matches!(rule, ResizeRule::Taming | ResizeRule::None);
        // Resized is a square, which loses as many rows as columns.
        let square = rule == ResizeRule::Movq;
        assert_eq!(with(Twelve) == with(Thirteen), without_pillow || square, "{rule}");
        let crop = Crop { x: 3, y: 5, width: 61, height: 333 };
        let of_part = |version| part(&tall, crop, rule, Some(32), version).unwrap();
        let without_pillow = rule == ResizeRule::Taming;
        assert_eq!(of_part(Twelve) == of_part(Thirteen), without_pillow, "part {rule}");
    }
}

#[test]
fn names_come_back_and_unknown_ones_list_the_known() {
    for rule in ResizeRule::all() {
        assert_eq!(rule.to_string().parse::<ResizeRule>().unwrap(), rule);
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<ResizeRule>(&json).unwrap(), rule);
    }
    let message = "lanczos3".parse::<ResizeRule>().unwrap_err().to_string();
    assert!(message.contains("llamagen") && message.contains("none"), "{message}");
}

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7 + y) as u8, (y * 5) as u8, (x ^ y) as u8])
    })
}

#[test]
fn a_region_equals_the_same_part_of_the_whole() {
    let image = gradient(83, 61);
    let filters = [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];
    // Version 13 makes the second and the last of these vertically first.
    let sizes = [(40, 29), (83, 29), (40, 61), (83, 61), (200, 150), (78, 29)];
    for (filter, version) in filters.into_iter().flat_map(|f| [(f, Twelve), (f, Thirteen)]) {
        for (width, height) in sizes {
            let all = Region { x: 0, y: 0, width: width as u32, height: height as u32 };
            let full = (width, height);
            let whole = pillow::resize(&image, full, (filter, version), all);
            let part = Region { x: 7, y: 5, width: 20, height: 17 };
            let cut = crop_imm(&whole, 7, 5, 20, 17).to_image();
            assert_eq!(pillow::resize(&image, full, (filter, version), part), cut);
        }
    }
}

#[test]
fn every_rule_gives_the_square_or_the_picture() {
    for (width, height) in [(1, 1), (1, 300), (300, 1), (64, 64), (63, 200), (130, 31), (5, 4)] {
        let image = gradient(width, height);
        for rule in ResizeRule::all().filter(|rule| *rule == ResizeRule::None || !rule.varies()) {
            let prepared = prepare(&image, rule, Some(32), Twelve).unwrap();
            let crop = prepared.crop;
            assert!(crop.x >= 0 && crop.y >= 0 && crop.width > 0 && crop.height > 0);
            assert!(crop.x + crop.width <= width as i32, "{rule} {width}x{height} {crop:?}");
            assert!(crop.y + crop.height <= height as i32, "{rule} {width}x{height} {crop:?}");
            let expected = if rule == ResizeRule::None { (width, height) } else { (32, 32) };
            assert_eq!(prepared.image.dimensions(), expected, "{rule} {width}x{height}");
        }
    }
}

#[test]
fn crops_are_in_source_pixels() {
    let crop = |rule| prepare(&gradient(200, 100), rule, Some(50), Twelve).unwrap().crop;
    assert_eq!(crop(ResizeRule::Bicubic), Crop { x: 50, y: 0, width: 100, height: 100 });
    assert_eq!(crop(ResizeRule::Llamagen), Crop { x: 50, y: 0, width: 100, height: 100 });
    assert_eq!(crop(ResizeRule::Stretch), Crop { x: 0, y: 0, width: 200, height: 100 });
    assert_eq!(crop(ResizeRule::None), Crop { x: 0, y: 0, width: 200, height: 100 });
}

#[test]
fn impossible_requests_are_rejections() {
    let image = gradient(4, 4);
    for (rule, (width, height)) in [
        (ResizeRule::Emu3, (7, 300)),
        (ResizeRule::Emu3, (10, 51)),
        (ResizeRule::Emu35, (1, 5000)),
        (ResizeRule::Emu35, (5_000_000, 1)),
    ] {
        let reject = prepare(&RgbImage::new(width, height), rule, None, Twelve).unwrap_err();
        assert!(reject.message.starts_with("the image is "), "{}", reject.message);
    }
    for size in [None, Some(0)] {
        let reject = prepare(&image, ResizeRule::Bicubic, size, Twelve).unwrap_err();
        assert_eq!(reject.stage, Stage::Resize);
        assert!(reject.message.contains("needs a size"));
    }
    assert!(prepare(&RgbImage::new(0, 3), ResizeRule::None, None, Twelve).is_err());
    assert!(prepare(&image, ResizeRule::None, None, Twelve).is_ok());
}

#[test]
fn grey_is_pillows() {
    let mut image = RgbImage::new(3, 1);
    image.put_pixel(0, 0, image::Rgb([255, 255, 255]));
    image.put_pixel(1, 0, image::Rgb([12, 200, 99]));
    assert_eq!(to_grey(&image), [255, 132, 0]);
}

#[test]
fn a_part_is_what_is_left_when_the_rest_is_cut_off_first() {
    let image = RgbImage::from_fn(60, 45, |x, y| {
        image::Rgb([(x * 37 + y * 11) as u8, (x * y) as u8, (x * 5 + y * 91) as u8])
    });
    let crop = Crop { x: 7, y: 4, width: 41, height: 33 };
    let alone = crop_imm(&image, 7, 4, 41, 33).to_image();
    let mut around = image.clone();
    around.enumerate_pixels_mut().for_each(|(x, y, pixel)| {
        if !(7..48).contains(&x) || !(4..37).contains(&y) {
            *pixel = image::Rgb([255, 0, 128]);
        }
    });
    let whole = Crop { x: 0, y: 0, width: 41, height: 33 };
    for (rule, version) in ResizeRule::all().flat_map(|r| [(r, Twelve), (r, Thirteen)]) {
        for size in [8, 32, 50] {
            let expected = part(&alone, whole, rule, Some(size), version).unwrap();
            assert_eq!(expected.dimensions(), (size, size));
            assert!(
                part(&image, crop, rule, Some(size), version).unwrap() == expected,
                "{rule} {size}"
            );
            assert!(
                part(&around, crop, rule, Some(size), version).unwrap() == expected,
                "{rule} {size}"
            );
        }
    }
    // Where a rule stretches, the whole picture's part is the rule itself.
    for rule in [ResizeRule::Vit, ResizeRule::Stretch] {
        let stretched = prepare(&alone, rule, Some(16), Twelve).unwrap().image;
        assert!(part(&image, crop, rule, Some(16), Twelve).unwrap() == stretched, "{rule}");
    }
    let refused = [
        Crop { x: -1, ..crop },
        Crop { x: 20, ..crop },
        Crop { height: 0, ..crop },
        Crop { width: i32::MAX, ..crop },
    ];
    for crop in refused {
        let reject = part(&image, crop, ResizeRule::Box, Some(8), Twelve).unwrap_err();
        assert!(reject.to_string().contains("no part"), "{reject}");
    }
    assert!(part(&image, crop, ResizeRule::Box, None, Twelve).is_err());
}

#[test]
fn a_bucket_is_covered_and_its_middle_cut_out() {
    let sides = [1, 7, 16, 33, 100, 257];
    for rule in ResizeRule::all().filter(|rule| rule.covers()) {
        for (width, height) in sides.into_iter().flat_map(|w| sides.map(|h| (w, h))) {
            let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]));
            for to in [(16, 16), (24, 16), (16, 40), (48, 8)] {
                let made = prepare_to(&image, rule, to, Twelve).unwrap();
                assert_eq!(made.image.dimensions(), to, "{rule} {width}x{height}");
                let Crop { x, y, width: w, height: h } = made.crop;
                let (wide, high) = (width as i32, height as i32);
                assert!((w, x) == (wide, 0) || (h, y) == (high, 0), "{rule} {:?}", made.crop);
                // To a pixel of the result, which sides and middles are rounded to.
                let pixel = 2.0 + f64::from(width) / f64::from(to.0);
                let pixel = pixel.max(2.0 + f64::from(height) / f64::from(to.1));
                let off = (wide - w - 2 * x).abs().max((high - h - 2 * y).abs());
                assert!(f64::from(off) <= pixel, "{rule} {width}x{height} {to:?} {:?}", made.crop);
                let ratio = f64::from(to.0) / f64::from(to.1);
                let far = (f64::from(w) - f64::from(h) * ratio).abs();
                assert!(
                    far <= pixel * ratio.max(1.0),
                    "{rule} {width}x{height} {to:?} {:?}",
                    made.crop
                );
            }
        }
    }
    // Of the same ratio: the whole picture, made smaller.
    let image = RgbImage::from_fn(96, 64, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
    let region = Region { x: 0, y: 0, width: 24, height: 16 };
    let whole = pillow::resize(&image, (24, 16), (Filter::Bicubic, Twelve), region);
    assert_eq!(prepare_to(&image, ResizeRule::Bicubic, (24, 16), Twelve).unwrap().image, whole);
    let long = RgbImage::new(1 << 20, 1);
    let reject = prepare_to(&long, ResizeRule::Bicubic, (16, 1 << 12), Twelve).unwrap_err();
    assert_eq!(reject.message, "the image is 1048576 x 1: too elongated to resize to 16x4096");
}
