//! Owns what a decoder's errors are called in messages: words about the file, never the name of a
//! type or a field of the decoder.

use std::io::ErrorKind;

use super::raw_image::reject;
use crate::error::Reject;

/// What stands where a decoder says nothing that a person could use.
const DAMAGED: &str = "the data is damaged, or a variant that is not supported";

/// Of PNG and its deflate stream.
pub(crate) const ADLER: &str =
    "the checksum (Adler-32) of the pixels is wrong: the file is damaged";

/// An error of the `png` crate, whose reasons are private: its text, with the chunks' names for
/// their structures.
pub(crate) fn png(error: &png::DecodingError) -> String {
    match error {
        png::DecodingError::IoError(error) => io(error),
        png::DecodingError::LimitsExceeded => "decoding takes more memory than the limit".into(),
        png::DecodingError::Parameter(_) => DAMAGED.into(),
        png::DecodingError::Format(error) => {
            let text = error.to_string();
            if text.contains("WrongChecksum") {
                return "the checksum (Adler-32) of the pixels is wrong: the file is damaged"
                    .into();
            }
            if text.contains("InsufficientInput") || text.contains("does not have enough data") {
                return "the pixels end early: the file is truncated or damaged".into();
            }
            if text.starts_with("Corrupt deflate stream") {
                return "the compressed pixels are damaged".into();
            }
            plain(&named_chunks(&text))
        }
    }
}

/// `ChunkType { type: CgBI, ... }` becomes `CgBI`.
fn named_chunks(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("ChunkType {") {
        let Some((fields, after)) = behind.split_once('}') else { break };
        let name = fields.split_once("type:").map_or("", |(_, name)| name);
        out.push_str(before);
        out.push_str(name.split(',').next().unwrap_or("").trim());
        rest = after;
    }
    out + rest
}

/// The same as why an image is rejected.
pub(crate) fn tiff_reject(error: tiff::TiffError) -> Reject {
    reject(format!("TIFF: {}", tiff(&error)))
}

/// An error of the `tiff` crate.
pub(crate) fn tiff(error: &tiff::TiffError) -> String {
    use tiff::{TiffError as Error, TiffFormatError as Format};
    let tag = |tag: &tiff::tags::Tag| tag.to_u16();
    match error {
        Error::LimitsExceeded | Error::IntSizeError => "sizes beyond what is supported".into(),
        Error::IoError(error) => io(error),
        Error::UsageError(_) => DAMAGED.into(),
        Error::FormatError(error) => match error {
            Format::InvalidTagValueType(which) => {
                format!("the value of tag {} is of a wrong type", tag(which))
            }
            Format::RequiredTagNotFound(which) => {
                format!("tag {}, which is required, is missing", tag(which))
            }
            Format::InvalidCountForTag(which, count) => {
                format!("tag {} has {count} values, which is wrong", tag(which))
            }
            Format::InvalidDimensions(width, height) => {
                format!("the image is {width} x {height}: impossible")
            }
            Format::UnknownPredictor(number) => format!("predictor {number} is not supported"),
            Format::UnknownPlanarConfiguration(number) => {
                format!("planar configuration {number} is not supported")
            }
            Format::StripTileTagConflict => "it has neither strips nor tiles, or both".into(),
            Format::CompressedDataCorrupt(_) => "the compressed data is damaged".into(),
            other => plain(&other.to_string()),
        },
        Error::UnsupportedError(error) => {
            format!("this variant is not supported: {}", tiff_unsupported(error))
        }
    }
}

/// What of TIFF the `tiff` crate doesn't read.
fn tiff_unsupported(error: &tiff::TiffUnsupportedError) -> String {
    use tiff::TiffUnsupportedError as Unsupported;
    match error {
        Unsupported::FloatingPointPredictor(color) => {
            format!("predictor 3 for {}", tiff_color(*color))
        }
        Unsupported::HorizontalPredictor(color) => {
            format!("predictor 2 for {}", tiff_color(*color))
        }
        Unsupported::InconsistentBitsPerSample(bits) => {
            let bits: Vec<String> = bits.iter().map(u8::to_string).collect();
            format!("samples of {} bits", bits.join(", "))
        }
        Unsupported::InterpretationWithBits(photometric, bits) => format!(
            "{} with {} samples of {} bits",
            photometric_name(*photometric),
            bits.len(),
            bits.first().unwrap_or(&0)
        ),
        Unsupported::UnsupportedInterpretation(photometric) => {
            photometric_name(*photometric).into()
        }
        Unsupported::UnknownInterpretation => "its photometric interpretation".into(),
        Unsupported::UnsupportedCompressionMethod(method) => {
            format!("compression number {}", method.to_u16())
        }
        Unsupported::UnknownCompressionMethod => "its compression".into(),
        Unsupported::UnsupportedSampleDepth(depth) => format!("{depth} samples a pixel"),
        Unsupported::UnsupportedSampleFormat(_) => "its format of samples".into(),
        Unsupported::UnsupportedColorType(color) => tiff_color(*color),
        Unsupported::UnsupportedBitsPerChannel(bits) => format!("{bits}-bit samples"),
        Unsupported::UnsupportedPlanarConfig(_) => "its planar configuration".into(),
        Unsupported::ChromaSubsampling => "subsampled YCbCr without JPEG".into(),
        Unsupported::MisalignedTileBoundaries => "tiles that end inside a byte".into(),
        _ => "its kind of data".into(),
    }
}

/// The pixels of a TIFF file.
pub(crate) fn tiff_color(color: tiff::ColorType) -> String {
    use tiff::ColorType;
    let bits = color.bit_depth();
    match color {
        ColorType::Gray(_) => format!("{bits}-bit grey"),
        ColorType::GrayA(_) => format!("{bits}-bit grey with alpha"),
        ColorType::RGB(_) => format!("{bits}-bit RGB"),
        ColorType::RGBA(_) => format!("{bits}-bit RGB with alpha"),
        ColorType::CMYK(_) => format!("{bits}-bit CMYK"),
        ColorType::CMYKA(_) => format!("{bits}-bit CMYK with alpha"),
        ColorType::YCbCr(_) => format!("{bits}-bit YCbCr without JPEG"),
        ColorType::Lab(_) => format!("{bits}-bit Lab"),
        ColorType::Palette(_) => format!("{bits}-bit palette"),
        ColorType::Multiband { num_samples, .. } => format!("{num_samples} bands of {bits}-bit"),
        _ => format!("{bits}-bit"),
    }
}

fn photometric_name(photometric: tiff::tags::PhotometricInterpretation) -> &'static str {
    use tiff::tags::PhotometricInterpretation as Photometric;
    match photometric {
        Photometric::WhiteIsZero | Photometric::BlackIsZero => "grey",
        Photometric::RGB => "RGB",
        Photometric::RGBPalette => "a palette",
        Photometric::TransparencyMask => "a transparency mask",
        Photometric::CMYK => "CMYK",
        Photometric::YCbCr => "YCbCr",
        Photometric::CIELab | Photometric::IccLab | Photometric::ItuLab => "Lab",
        _ => "its photometric interpretation",
    }
}

/// An error of the `image-webp` crate.
pub(crate) fn webp(error: &image_webp::DecodingError) -> String {
    use image_webp::DecodingError as Error;
    let text = match error {
        Error::IoError(error) => return io(error),
        Error::RiffSignatureInvalid(_) | Error::WebpSignatureInvalid(_) => "its header is damaged",
        Error::ChunkMissing => "a part that the header announces is missing",
        Error::ChunkHeaderInvalid(_) => "a part is of an unknown kind or in a wrong place",
        Error::ImageTooLarge => "the image is too large",
        Error::FrameOutsideImage => "a frame leaves its canvas",
        Error::InconsistentImageSizes => "two parts state different sizes",
        Error::MemoryLimitExceeded => "decoding takes more memory than the limit",
        Error::UnsupportedFeature(_) | Error::VersionNumberInvalid(_) => {
            "a variant that is not supported"
        }
        _ => "the compressed pixels are damaged",
    };
    text.into()
}

/// An error of the `gif` crate.
pub(crate) fn gif(error: &gif::DecodingError) -> String {
    use gif::DecodingError as Error;
    match error {
        Error::OutOfMemory | Error::MemoryLimit => {
            "decoding takes more memory than the limit".into()
        }
        Error::UnexpectedEof => "the file ends early: truncated".into(),
        Error::EndCodeNotFound | Error::LzwError(_) => "the compressed pixels are damaged".into(),
        Error::Io(error) => io(error),
        other => plain(&other.to_string()),
    }
}

/// An error of the `image` crate (BMP, QOI, PNM): the reason without what the crate puts before it.
pub(crate) fn image(error: &image::ImageError) -> String {
    use image::ImageError as Error;
    match error {
        Error::IoError(error) => io(error),
        Error::Limits(_) => "decoding takes more memory than the limit".into(),
        Error::Unsupported(error) => {
            let text = error.to_string();
            let reason = text.split_once("features ").map_or("", |(_, reason)| reason);
            match plain(reason) {
                reason if reason == DAMAGED => "this variant is not supported".into(),
                reason => format!("this variant is not supported: {reason}"),
            }
        }
        other => {
            let source = std::error::Error::source(other);
            let text = source.map_or(String::new(), |source| source.to_string());
            match text.as_str() {
                _ if text.contains("unexpected input buffer end") => {
                    "the file ends early: truncated".into()
                }
                _ if text.contains("failed to fill whole buffer") => {
                    "the file ends early: truncated".into()
                }
                _ if text.starts_with("invalid utf-8") => "the header is no text: damaged".into(),
                _ if text.starts_with("Not enough data") => "the file ends early: truncated".into(),
                _ if text.starts_with("Missing header line") => {
                    "a line of the header is missing".into()
                }
                _ => plain(&text),
            }
        }
    }
}

/// A number as people write it: short, without a hundred zeros.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    match value.is_finite() {
        false if value > 0.0 => "infinity".into(),
        false => "-infinity".into(),
        true if size != 0.0 && !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        true => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').into()
        }
    }
}

/// An error of reading, which here only a file that is too short causes.
pub(crate) fn io(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the file ends early: truncated".into(),
        // The facsimile reader of TIFF.
        _ if error.to_string() == "decode Error" => "the compressed data is damaged".into(),
        _ => plain(&error.to_string()),
    }
}

/// A decoder's own text if it is one for people: without braces, bracketed bytes, names of types
/// and of their variants; else only that the data can't be used.
pub(crate) fn plain(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let camel = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_uppercase());
        first && !matches!(word, "WebP" | "BigTIFF" | "YCbCr") && {
            let rest = chars.as_str();
            rest.contains(|c: char| c.is_ascii_lowercase())
                && rest.contains(|c: char| c.is_ascii_uppercase())
        }
    };
    let call = text.as_bytes().windows(2).any(|pair| pair[1] == b'(' && pair[0] != b' ');
    let debug = text.contains(['{', '}', '[', ']', '`']) || text.contains("::") || call;
    if text.is_empty() || debug || text.split(|c: char| !c.is_alphanumeric()).any(camel) {
        return DAMAGED.into();
    }
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    let second = chars.as_str().chars().next();
    // An abbreviation (`IDAT`, `CRC`) keeps its capitals.
    match second.is_some_and(|c| c.is_uppercase()) {
        true => text.to_string(),
        false => first + chars.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_called_by_their_names() {
        let text = "Chunk ChunkType { type: tRNS, critical: false, private: false } is invalid";
        assert_eq!(plain(&named_chunks(text)), "chunk tRNS is invalid");
    }

    #[test]
    fn structures_of_decoders_are_not_shown() {
        for text in
            ["x Some(3)", "tag BitsPerSample", "got [0x50, 0x39]", "Error { a: 1 }", "a::b", ""]
        {
            assert_eq!(plain(text), DAMAGED, "{text}");
        }
        assert_eq!(plain("Not enough data."), "not enough data");
        assert_eq!(plain("IDAT chunk is missing (twice)"), "IDAT chunk is missing (twice)");
    }
}
