//! Owns the unit tests of `tiff` and `tiff_jpeg`.

use super::*;

#[test]
fn packed_samples_come_apart_row_by_row() {
    assert_eq!(unpack(&[0b1010_0000, 0b0110_0000], 1, 3, 2), [1, 0, 1, 0, 1, 1]);
    assert_eq!(unpack(&[0x12, 0x30, 0x45, 0x60], 4, 3, 2), [1, 2, 3, 4, 5, 6]);
    let mut grey = [0, 1, 2, 3];
    scale_up(&mut grey, 2);
    assert_eq!(grey, [0, 85, 170, 255]);
}

/// One directory with an entry for each tag (its values as longs, those of JPEGTables as bytes and those of ExtraSamples as shorts), and
/// `data` after it as the only strip.
fn file(tags: &[(u16, &[u32])], data: &[u8]) -> Vec<u8> {
    let mut entries: Vec<(u16, Vec<u32>)> =
        tags.iter().map(|(tag, values)| (*tag, values.to_vec())).collect();
    let strips = 8 + 2 + (entries.len() + 2) * 12 + 4;
    entries.push((279, vec![data.len() as u32]));
    let unit = |tag: u16| match tag {
        338 => 2,
        347 => 1,
        _ => 4,
    };
    let outside = entries.iter().filter(|entry| entry.1.len() > 1);
    let outside: usize = outside.map(|(tag, values)| values.len() * unit(*tag)).sum();
    entries.push((273, vec![(strips + outside) as u32]));
    entries.sort();
    let mut out = b"II*\0\x08\0\0\0".to_vec();
    out.extend((entries.len() as u16).to_le_bytes());
    let mut beyond: Vec<u8> = Vec::new();
    for (tag, values) in &entries {
        out.extend(tag.to_le_bytes());
        out.extend([7u16, 3, 4, 4][unit(*tag) - 1].to_le_bytes());
        out.extend((values.len() as u32).to_le_bytes());
        let cut = |value: &u32| value.to_le_bytes().into_iter().take(unit(*tag));
        let bytes: Vec<u8> = values.iter().flat_map(cut).collect();
        match values.len() {
            1 => out.extend(bytes.iter().copied().chain([0; 4]).take(4)),
            _ => {
                out.extend(((strips + beyond.len()) as u32).to_le_bytes());
                beyond.extend(bytes);
            }
        }
    }
    out.extend([0; 4]);
    [out, beyond, data.to_vec()].concat()
}

/// A picture of one row of `width` pixels: bits of its samples, their format, photometric.
fn row(width: u32, bits: &[u32], format: u32, photometric: u32, data: &[u8]) -> Vec<u8> {
    let formats = vec![format; bits.len()];
    file(
        &[
            (256, &[width]),
            (257, &[1]),
            (258, bits),
            (259, &[1]),
            (262, &[photometric]),
            (277, &[bits.len() as u32]),
            (278, &[1]),
            (339, &formats),
        ],
        data,
    )
}

fn samples(bytes: &[u8]) -> Result<(Vec<u8>, &'static str), String> {
    let pixels = decode(bytes, &Limits::default()).map_err(|error| error.message)?;
    match pixels.samples {
        Samples::Grey(v) | Samples::Rgb(v) | Samples::Rgba(v) | Samples::Cmyk(v) => {
            Ok((v, pixels.color_mode))
        }
        Samples::GreyAlpha(v) => Ok((v, pixels.color_mode)),
    }
}

#[test]
fn floats_within_one_are_scaled_and_others_named() {
    let f32s =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let grey = |values: &[f32]| samples(&row(values.len() as u32, &[32], 3, 1, &f32s(values)));
    assert_eq!(grey(&[0.0, 0.5, 1.0, 0.002]).unwrap(), (vec![0, 128, 255, 1], "F"));
    assert_eq!(grey(&[0.0, 0.0]).unwrap(), (vec![0, 0], "F"));
    let colour = row(1, &[32, 32, 32], 3, 2, &f32s(&[0.0, 0.25, 1.0]));
    assert_eq!(samples(&colour).unwrap(), (vec![0, 64, 255], "RGB"));
    let f64s: Vec<u8> = [0.0f64, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(samples(&row(2, &[64], 3, 1, &f64s)).unwrap(), (vec![0, 255], "F"));
    // Half floats: 1, 0.5; then 255.
    assert_eq!(samples(&row(2, &[16], 3, 1, &[0, 0x3C, 0, 0x38])).unwrap().0, [255, 128]);
    let message = samples(&row(2, &[16], 3, 1, &[0, 0x3C, 0xF8, 0x5B])).unwrap_err();
    assert!(message.starts_with("TIFF: half-float samples from 1 to 255 are not supported"));
    for (values, told) in [
        (
            &[0.0, 255.0][..],
            "float samples from 0 to 255 are not supported, only those within 0..1",
        ),
        (&[-0.5, 1.0], "float samples from -0.5 to 1 are"),
        (&[0.0, 1e38], "float samples from 0 to 1.00e38 are"),
        (&[0.0, f32::INFINITY], "float samples from 0 to infinity are"),
        (&[0.5, f32::NAN], "float samples of which some are no number (NaN) are"),
    ] {
        let message = grey(values).unwrap_err();
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn samples_without_a_plain_range_are_named() {
    let message = |bits: u32, format| samples(&row(1, &[bits], format, 1, &[1; 8])).unwrap_err();
    for (bits, format, name) in [
        (8, 2, "signed 8-bit"),
        (16, 2, "signed 16-bit"),
        (32, 2, "signed 32-bit"),
        (64, 2, "signed 64-bit"),
        (32, 1, "32-bit integer"),
        (64, 1, "64-bit integer"),
    ] {
        let message = message(bits, format);
        assert!(
            message.starts_with(&format!("TIFF: {name} samples are not supported")),
            "{message}"
        );
    }
    let colour = samples(&row(1, &[8, 8, 8], 2, 2, &[1; 3])).unwrap_err();
    assert!(colour.contains("signed 8-bit"), "{colour}");
    assert_eq!(samples(&row(2, &[8], 1, 1, &[1, 200])).unwrap(), (vec![1, 200], "L"));
    assert_eq!(samples(&row(2, &[16], 1, 1, &[0, 0, 0xFF, 0xFF])).unwrap(), (vec![0, 255], "I;16"));
}

/// A grey picture of `width` x `height` in one strip of this compression.
fn strip(width: u32, height: u32, compression: u32, data: &[u8]) -> Vec<u8> {
    let tags: [(u16, &[u32]); 7] = [
        (256, &[width]),
        (257, &[height]),
        (258, &[8]),
        (259, &[compression]),
        (262, &[1]),
        (277, &[1]),
        (278, &[height]),
    ];
    file(&tags, data)
}

#[test]
fn a_wrong_checksum_of_deflated_data_is_told() {
    let stream = crate::data::formats::png::tests::deflated(&[1, 2, 3, 4], 0);
    for compression in [8, 32946] {
        assert_eq!(samples(&strip(4, 1, compression, &stream)).unwrap().0, [1, 2, 3, 4]);
        for at in 7..stream.len() {
            let mut damaged = stream.clone();
            damaged[at] ^= 4;
            let message = samples(&strip(4, 1, compression, &damaged)).unwrap_err();
            assert!(message.contains("(Adler-32)"), "{message}");
        }
    }
    assert!(samples(&strip(5, 1, 8, &stream)).unwrap_err().contains("truncated"));
}

#[test]
fn compressions_that_are_not_decoded_are_named() {
    for (number, name) in [(6, "old-style JPEG"), (3, "CCITT Group 3"), (34925, "LZMA")] {
        let message = samples(&strip(4, 1, number, &[0; 4])).unwrap_err();
        let expected = format!("TIFF: {name} compression (number {number}) is not supported");
        assert!(message.starts_with(&expected), "{message}");
    }
    let ycc = samples(&row(1, &[8, 8, 8], 1, 6, &[1; 3])).unwrap_err();
    assert_eq!(ycc, "TIFF: YCbCr is not supported without JPEG compression; save it as RGB");
    let message = samples(&strip(4, 1, 12345, &[0; 4])).unwrap_err();
    assert!(message.contains("not supported") && !message.contains('{'), "{message}");
}

/// A JPEG of these pixels, subsampled by two both ways where it is colour.
fn jpeg(width: usize, height: usize, channels: usize) -> Vec<u8> {
    use mozjpeg::ColorSpace::{JCS_GRAYSCALE, JCS_RGB};
    let mut encoder = mozjpeg::Compress::new(if channels == 1 { JCS_GRAYSCALE } else { JCS_RGB });
    encoder.set_fastest_defaults();
    encoder.set_size(width, height);
    encoder.set_quality(80.0);
    let pixels: Vec<u8> = (0..width * height * channels).map(|i| (i * i / 7) as u8).collect();
    let mut encoder = encoder.start_compress(Vec::new()).unwrap();
    encoder.write_scanlines(&pixels).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn jpeg_inside_has_the_pixels_of_jpeg_alone() {
    for (channels, photometric) in [(1, 1u32), (3, 6)] {
        let alone = jpeg(37, 21, channels);
        let expected =
            match crate::data::formats::jpeg::decode(&alone, &Limits::default()).unwrap().samples {
                Samples::Grey(v) | Samples::Rgb(v) => v,
                _ => panic!("neither grey nor RGB"),
            };
        // The tables in a tag of their own: everything before the frame header.
        let start = alone.windows(2).position(|pair| matches!(pair, [0xFF, 0xC0 | 0xC2])).unwrap();
        let tables: Vec<u32> =
            [&alone[..start], &[0xFF, 0xD9]].concat().iter().map(|&b| b.into()).collect();
        let bits = vec![8; channels];
        let tags: [(u16, &[u32]); 7] = [
            (256, &[37]),
            (257, &[21]),
            (258, &bits),
            (259, &[7]),
            (262, &[photometric]),
            (277, &[channels as u32]),
            (278, &[21]),
        ];
        assert_eq!(samples(&file(&tags, &alone)).unwrap().0, expected);
        let mut tags = tags.to_vec();
        tags.push((347, &tables));
        let abbreviated = [&[0xFF, 0xD8], &alone[start..]].concat();
        assert_eq!(samples(&file(&tags, &abbreviated)).unwrap().0, expected);
        // Only the end marker may be missing.
        let cut = &abbreviated[..abbreviated.len() - 2];
        assert_eq!(samples(&file(&tags, cut)).unwrap().0, expected);
        let message = samples(&file(&tags, &cut[..cut.len() - 40])).unwrap_err();
        assert!(message.starts_with("TIFF: part 0: JPEG: "), "{message}");
        // White is zero.
        if channels == 1 {
            tags[4] = (262, &[0]);
            let inverted: Vec<u8> = expected.iter().map(|v| 255 - v).collect();
            assert_eq!(samples(&file(&tags, &abbreviated)).unwrap().0, inverted);
        }
        tags[0] = (256, &[40]);
        assert_eq!(
            samples(&file(&tags, &abbreviated)).unwrap_err(),
            "TIFF: part 0 is smaller than its place"
        );
    }
}

#[test]
fn a_second_grey_sample_is_alpha_only_where_it_is_said_to_be() {
    let two = |extra: u32| {
        let tags: [(u16, &[u32]); 9] = [
            (256, &[2]),
            (257, &[1]),
            (258, &[8, 8]),
            (259, &[1]),
            (262, &[1]),
            (277, &[2]),
            (278, &[1]),
            (338, &[extra]),
            (339, &[1, 1]),
        ];
        samples(&file(&tags, &[10, 0, 200, 255])).unwrap()
    };
    assert_eq!(two(0), (vec![10, 200], "L"));
    assert_eq!(two(2), (vec![10, 0, 200, 255], "LA"));
}
