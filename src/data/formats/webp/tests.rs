//! Owns the unit tests of `webp`.

use super::*;

/// A lossless picture of 2 x 1 RGBA pixels as a whole file.
fn lossless(pixels: [u8; 8]) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let image = image::RgbaImage::from_raw(2, 1, pixels.to_vec()).unwrap();
    image.write_to(&mut out, image::ImageFormat::WebP).unwrap();
    out.into_inner()
}

fn riff(parts: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, content) in parts {
        body.extend_from_slice(*name);
        body.extend((content.len() as u32).to_le_bytes());
        body.extend_from_slice(content);
        body.resize(body.len() + content.len() % 2, 0);
    }
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// An animation of one frame of 2 x 1 pixels at (2, 2) on a canvas of 6 x 4, red after it.
fn animation(pixels: [u8; 8], flags: u8, announced: u8) -> Vec<u8> {
    let still = lossless(pixels);
    let picture = chunks(&still[12..]).find(|(name, _)| name == b"VP8L").unwrap().1;
    let frame = [
        &[1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0, flags][..],
        &riff(&[(b"VP8L", picture)])[12..],
    ];
    riff(&[
        (b"VP8X", &[announced, 0, 0, 0, 5, 0, 0, 3, 0, 0]),
        (b"ANIM", &[0, 0, 255, 255, 0, 0]),
        (b"ANMF", &frame.concat()),
    ])
}

fn rgba(bytes: &[u8]) -> Result<Vec<u8>, String> {
    match decode(bytes, &Limits::default()).map_err(|error| error.message)?.samples {
        Samples::Rgba(samples) | Samples::Rgb(samples) => Ok(samples),
        _ => Err("neither".into()),
    }
}

#[test]
fn a_first_frame_keeps_its_colours_whatever_it_blends_with() {
    let pixels = [200, 100, 50, 3, 9, 8, 7, 0];
    for flags in 0..4 {
        let mut expected = vec![0; 6 * 4 * 4];
        expected[(2 * 6 + 2) * 4..][..8].copy_from_slice(&pixels);
        assert_eq!(rgba(&animation(pixels, flags, 0x12)).unwrap(), expected, "{flags}");
    }
    let opaque = [1, 2, 3, 255, 4, 5, 6, 255];
    let rgb = rgba(&animation(opaque, 0, 0x02)).unwrap();
    assert_eq!(rgb.len(), 6 * 4 * 3);
    assert_eq!(rgb[(2 * 6 + 2) * 3..][..6], [1, 2, 3, 4, 5, 6]);
}

#[test]
fn frames_that_leave_their_canvas_are_told() {
    let mut bytes = animation([0; 8], 0, 0x12);
    let at = bytes.windows(4).position(|part| part == b"ANMF").unwrap() + 8;
    bytes[at] = 3;
    assert_eq!(rgba(&bytes).unwrap_err(), "WebP: the first frame leaves its canvas");
}

#[test]
fn a_length_that_is_not_the_files_is_damage() {
    let whole = lossless([1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(rgba(&whole).is_ok());
    for length in 12..whole.len() {
        let message = rgba(&whole[..length]).unwrap_err();
        assert!(message.ends_with("truncated"), "{message}");
    }
    for (change, reason) in [(2i32, "truncated"), (-2, "damaged"), (-100, "damaged")] {
        let mut bytes = whole.clone();
        let stated = (whole.len() as i32 - 8 + change).max(0) as u32;
        bytes[4..8].copy_from_slice(&stated.to_le_bytes());
        let message = rgba(&bytes).unwrap_err();
        assert!(message.ends_with(reason), "{change}: {message}");
    }
    assert!(rgba(&[&whole[..], b"trailing"].concat()).is_ok());
}

#[test]
fn parts_that_are_announced_and_missing_do_no_harm() {
    let still = lossless([1, 2, 3, 4, 5, 6, 7, 8]);
    let picture = chunks(&still[12..]).find(|(name, _)| name == b"VP8L").unwrap().1;
    let header = [0x3C, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    let bytes = riff(&[(b"VP8X", &header), (b"VP8L", picture)]);
    assert_eq!(rgba(&bytes).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
}
