//! Owns the unit tests of `decode`.

use super::*;

fn encoded(image: &image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 77]))
}

#[test]
fn lossless_formats_give_their_pixels() {
    use image::ImageFormat::{Bmp, Png, Pnm, Qoi, Tiff, WebP};
    let image = pattern(7, 5);
    for format in [Bmp, Pnm, Png, Qoi, Tiff, WebP] {
        let bytes = encoded(&image.clone().into(), format);
        let decoded = decode(&bytes, &Limits::default(), Alpha::White).unwrap();
        assert_eq!(decoded.image, image, "{format:?}");
        assert_eq!((decoded.orientation, decoded.color_mode), (1, "RGB"), "{format:?}");
        assert!(SUPPORTED.contains(decoded.format));
    }
}

#[test]
fn alpha_follows_the_rule() {
    let mut image = image::RgbaImage::new(3, 1);
    image.put_pixel(0, 0, image::Rgba([10, 20, 30, 255]));
    image.put_pixel(1, 0, image::Rgba([10, 20, 30, 0]));
    image.put_pixel(2, 0, image::Rgba([100, 0, 255, 128]));
    let bytes = encoded(&image.into(), image::ImageFormat::Png);
    let pixels = |alpha| decode(&bytes, &Limits::default(), alpha).unwrap().image.into_raw();
    assert_eq!(pixels(Alpha::Drop), [10, 20, 30, 10, 20, 30, 100, 0, 255]);
    assert_eq!(pixels(Alpha::White), [10, 20, 30, 255, 255, 255, 177, 127, 255]);
    assert_eq!(pixels(Alpha::Black), [10, 20, 30, 0, 0, 0, 50, 0, 128]);
    for alpha in [Alpha::White, Alpha::Black, Alpha::Drop] {
        assert_eq!(alpha.to_string().parse::<Alpha>().unwrap(), alpha);
    }
    assert!("transparent".parse::<Alpha>().is_err());
}

#[test]
fn sixteen_bits_become_eight() {
    let grey = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(4, 1, vec![0, 128, 129, 65535]);
    let bytes = encoded(&image::DynamicImage::ImageLuma16(grey.unwrap()), image::ImageFormat::Png);
    let decoded = decode(&bytes, &Limits::default(), Alpha::White).unwrap();
    assert_eq!(decoded.color_mode, "I;16");
    assert_eq!(decoded.image.into_raw(), [0, 0, 0, 0, 0, 0, 1, 1, 1, 255, 255, 255]);
    let rgb = image::ImageBuffer::<image::Rgb<u16>, _>::from_raw(1, 1, vec![0x1FF, 0x200, 0xFFFF]);
    let bytes = encoded(&image::DynamicImage::ImageRgb16(rgb.unwrap()), image::ImageFormat::Png);
    let decoded = decode(&bytes, &Limits::default(), Alpha::White).unwrap();
    assert_eq!(decoded.image.into_raw(), [1, 2, 255]);
}

#[test]
fn limits_hold_before_anything_is_allocated() {
    let bytes = encoded(&pattern(7, 5).into(), image::ImageFormat::Png);
    let message = |limits: &Limits| decode(&bytes, limits, Alpha::White).unwrap_err().message;
    let few = Limits { pixels_max: 34, ..Limits::default() };
    assert_eq!(message(&few), "the image is 7 x 5, more than the limit of 34 pixels");
    let small = Limits { decoded_bytes_max: 35 * 8 - 1, ..Limits::default() };
    assert!(message(&small).contains("takes 280 bytes"));
    let mut huge =
        b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR\x7F\xFF\xFF\xFF\x7F\xFF\xFF\xFF\x08\x06\0\0\0".to_vec();
    huge.extend_from_slice(&[0x22, 0x07, 0xF5, 0xE5]);
    assert!(decode(&huge, &Limits::default(), Alpha::White).is_err());
}

#[test]
fn what_is_no_supported_image_is_named() {
    let message =
        |bytes: &[u8]| decode(bytes, &Limits::default(), Alpha::White).unwrap_err().message;
    assert_eq!(message(b""), "the file is empty");
    assert!(message(b"\0\0\0\x1Cftypheic\0\0\0\0").starts_with("HEIC is not supported; convert"));
    assert!(message(b"plain text").contains("not an image in a known format"));
    assert!(message(b"\xFF\xD8\xFF\xE0\0\x10JFIF").starts_with("JPEG: "));
}

#[test]
fn orientations_turn_the_picture_upright() {
    // The upright picture is 2 x 1, left a, right b; each entry is how it is stored.
    let (a, b) = (image::Rgb([255, 0, 0]), image::Rgb([0, 0, 255]));
    let row = |first, second| {
        let mut image = RgbImage::new(2, 1);
        image.put_pixel(0, 0, first);
        image.put_pixel(1, 0, second);
        image
    };
    let column = |first, second| {
        let mut image = RgbImage::new(1, 2);
        image.put_pixel(0, 0, first);
        image.put_pixel(0, 1, second);
        image
    };
    let upright = row(a, b);
    assert_eq!(orient(row(a, b), 1), upright);
    assert_eq!(orient(row(b, a), 2), upright);
    assert_eq!(orient(row(b, a), 3), upright);
    assert_eq!(orient(row(a, b), 4), upright);
    assert_eq!(orient(column(a, b), 5), upright);
    assert_eq!(orient(column(b, a), 6), upright);
    assert_eq!(orient(column(b, a), 7), upright);
    assert_eq!(orient(column(a, b), 8), upright);
}

#[test]
fn cmyk_is_pillows() {
    assert_eq!(without_ink(0, 0), 255);
    assert_eq!(without_ink(255, 0), 0);
    assert_eq!(without_ink(0, 255), 0);
    assert_eq!(without_ink(100, 50), 125);
}
