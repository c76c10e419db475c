//! Owns telling image formats apart by their first bytes and by file extension.

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
    Qoi,
    Pnm,
}

impl Format {
    /// The name in `Decoded::format` and in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
            Format::Qoi => "QOI",
            Format::Pnm => "PNM",
        }
    }
}

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// A format that is decoded.
    Known(Format),
    /// Something with a name that isn't decoded: another image format, or no image at all.
    Named(&'static str),
    /// Nothing with a known signature.
    Unknown,
}

/// Extensions of the formats that are decoded, in lower case.
const DECODED: &[&str] = &[
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff", "qoi",
    "pnm", "pbm", "pgm", "ppm", "pam",
];

/// Extensions of image formats that aren't decoded, in lower case: such files are inputs all the
/// same and become a row in `failures`, so that none is lost silently.
const NOT_DECODED: &[&str] = &[
    "heic", "heif", "hif", "avif", "avifs", "jp2", "j2k", "jpf", "jpx", "jpm", "j2c", "jpc", "jxl",
    "jxr", "wdp", "hdp", "jls", "psd", "psb", "svg", "svgz", "ico", "cur", "icns", "tga", "vda",
    "icb", "vst", "dds", "exr", "hdr", "rgbe", "pfm", "pcx", "dcx", "sgi", "rgb", "rgba", "bw",
    "ras", "sun", "xpm", "xbm", "wbmp", "ff", "fits", "fit", "fts", "dcm", "xcf", "kra", "ora",
    "eps", "ai", "wmf", "emf", "djvu", "djv", "mng", "jng", "flif", "bpg", "blp", "ktx", "ktx2",
    "vtf", "mpo", "jps", "insp", "fli", "flc",
];

/// Extensions of cameras' raw files. Most are TIFF inside, and what a TIFF reader finds there is
/// a thumbnail: a wrong image. So these are refused by name, whatever their content.
const RAW: &[&str] = &[
    "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "raf", "pef",
    "srw", "x3f", "3fr", "fff", "iiq", "kdc", "dcr", "mrw", "mef", "mos", "erf", "rwl", "gpr",
];

/// Whether files with this extension (any case) are inputs.
pub(crate) fn is_image_extension(extension: &[u8]) -> bool {
    [DECODED, NOT_DECODED, RAW].iter().any(|list| contains(list, extension))
}

/// Whether the extension (any case) is that of a camera's raw format.
pub(crate) fn is_raw_extension(extension: &[u8]) -> bool {
    contains(RAW, extension)
}

fn contains(list: &[&str], extension: &[u8]) -> bool {
    list.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(extension))
}

/// How many bytes [`sniff`] looks at.
pub(crate) const HEAD_BYTES: usize = 512;

/// What `bytes` (a whole file, or at least its first [`HEAD_BYTES`]) are.
pub(crate) fn sniff(bytes: &[u8]) -> Sniffed {
    if let Some(format) = decoded_format(bytes) {
        return Sniffed::Known(format);
    }
    if let Some(brand) = brand(bytes) {
        return Sniffed::Named(brand);
    }
    for (signature, name) in SIGNATURES {
        if bytes.starts_with(signature) {
            return Sniffed::Named(name);
        }
    }
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let contains = |needle: &[u8]| head.windows(needle.len()).any(|part| part == needle);
    if bytes.starts_with(b"#") && contains(b"_width") && contains(b"#define") {
        return Sniffed::Named("XBM");
    }
    let first = head.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(b'<') || bytes.starts_with(b"\xEF\xBB\xBF<") {
        return Sniffed::Named(if contains(b"<svg") { "SVG" } else { "an HTML or XML page" });
    }
    if bytes.get(20..24) == Some(b"GIMP") {
        return Sniffed::Named("GIMP brush");
    }
    if looks_like_tga(bytes) { Sniffed::Named("TGA") } else { Sniffed::Unknown }
}

fn decoded_format(bytes: &[u8]) -> Option<Format> {
    let tiff = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
    Some(match bytes {
        [0xFF, 0xD8, 0xFF, ..] => Format::Jpeg,
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Format::Png,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Format::WebP,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Format::Gif,
        [b'B', b'M', ..] => Format::Bmp,
        // Canon's raw files are TIFF with their own mark after the header.
        [b'I', b'I', b'*', 0, _, _, _, _, b'C', b'R', ..] => return None,
        _ if tiff.iter().any(|magic| bytes.starts_with(*magic)) => Format::Tiff,
        [b'q', b'o', b'i', b'f', ..] => Format::Qoi,
        [b'P', b'1'..=b'6', next, ..] if next.is_ascii_whitespace() || *next == b'#' => Format::Pnm,
        [b'P', b'7', b'\n' | b'\r', ..] => Format::Pnm,
        _ => return None,
    })
}

/// ISO base media files say what they are in their `ftyp` box.
fn brand(bytes: &[u8]) -> Option<&'static str> {
    if bytes.get(4..8)? != b"ftyp" {
        return None;
    }
    Some(match bytes.get(8..12)? {
        b"avif" | b"avis" => "AVIF",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => "HEIC",
        b"mif1" | b"msf1" => {
            let head = &bytes[..bytes.len().min(64)];
            if head.windows(4).any(|part| part == b"avif") { "AVIF" } else { "HEIF" }
        }
        b"crx " => "camera raw (CR3)",
        _ => "an MP4 or QuickTime movie",
    })
}

const SIGNATURES: &[(&[u8], &str)] = &[
    (b"\0\0\0\x0CjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xFF\x4F\xFF\x51", "JPEG 2000"),
    (b"\0\0\0\x0CJXL \r\n\x87\n", "JPEG XL"),
    (b"\xFF\x0A", "JPEG XL"),
    (b"II\xBC", "JPEG XR"),
    (b"II*\0", "camera raw (CR2)"),
    (b"IIRO", "camera raw (ORF)"),
    (b"IIRS", "camera raw (ORF)"),
    (b"IIU\0", "camera raw (RW2)"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"\0\0\x01\0", "ICO"),
    (b"\0\0\x02\0\x01\0", "CUR"),
    (b"icns", "ICNS"),
    (b"DDS ", "DDS"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"PyP", "PNM variant of Pillow"),
    (b"P7 332", "XV thumbnail"),
    (b"\x01\xDA", "SGI"),
    (b"\x59\xA6\x6A\x95", "Sun raster"),
    (b"/* XPM */", "XPM"),
    (b"farbfeld", "farbfeld"),
    (b"SIMPLE  =", "FITS"),
    (b"gimp xcf", "GIMP XCF"),
    (b"AT&TFORM", "DjVu"),
    (b"\x8AMNG\r\n\x1A\n", "MNG"),
    (b"\x8BJNG\r\n\x1A\n", "JNG"),
    (b"FLIF", "FLIF"),
    (b"BPG\xFB", "BPG"),
    (b"BLP1", "BLP"),
    (b"BLP2", "BLP"),
    (b"FTEX", "FTEX"),
    (b"FTC\0", "FTEX"),
    (b"\xABKTX", "KTX"),
    (b"VTF\0", "VTF"),
    (b"DanM", "MSP"),
    (b"LinS", "MSP"),
    (b"\x80\xE8\0\0", "PIXAR"),
    (b"Image type:", "IM"),
    (b"%!PS", "PostScript"),
    (b"\xC5\xD0\xD3\xC6", "EPS"),
    (b"%PDF", "PDF"),
    (b"\xD7\xCD\xC6\x9A", "WMF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1F\x8B", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xFD7zXZ\0", "xz"),
    (b"\x28\xB5\x2F\xFD", "zstd"),
    (b"Rar!", "RAR"),
    (b"7z\xBC\xAF\x27\x1C", "7z"),
    (b"\x1A\x45\xDF\xA3", "a WebM or Matroska movie"),
    (b"\x0A\x00\x01", "PCX"),
    (b"\x0A\x02\x01", "PCX"),
    (b"\x0A\x03\x01", "PCX"),
    (b"\x0A\x04\x01", "PCX"),
    (b"\x0A\x05\x01", "PCX"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
];

/// TGA has no signature at its start; a header whose every field is plausible is as much as can
/// be said, which is enough to name it in a rejection.
fn looks_like_tga(bytes: &[u8]) -> bool {
    let Some(head) = bytes.get(..18) else { return false };
    let (map, kind, depth) = (head[1], head[2], head[16]);
    let size = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let mapped =
        map == 1 && matches!(kind, 1 | 9) && depth == 8 && matches!(head[7], 15 | 16 | 24 | 32);
    let plain = map <= 1 && matches!((kind, depth), (2 | 10, 15 | 16 | 24 | 32) | (3 | 11, 8 | 16));
    (mapped || plain) && size(12) > 0 && size(14) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_decoded_formats_win() {
        assert_eq!(sniff(b"\xFF\xD8\xFF\xE0"), Sniffed::Known(Format::Jpeg));
        assert_eq!(sniff(b"P6\n1 1 255\n"), Sniffed::Known(Format::Pnm));
        assert_eq!(sniff(b"MM\0*\0\0\0\x08"), Sniffed::Known(Format::Tiff));
        assert_eq!(sniff(b"II*\0\x10\0\0\0CR\x02\0"), Sniffed::Named("camera raw (CR2)"));
        assert_eq!(sniff(b"\0\0\0\x1Cftypheic"), Sniffed::Named("HEIC"));
        assert_eq!(sniff(b"\0\0\0\x1Cftypmif1\0\0\0\0mif1avif"), Sniffed::Named("AVIF"));
        assert_eq!(sniff(b"<?xml version='1.0'?><svg/>"), Sniffed::Named("SVG"));
        assert_eq!(sniff(b""), Sniffed::Unknown);
        assert_eq!(sniff(b"hello, world, this is text"), Sniffed::Unknown);
    }

    #[test]
    fn extensions_count_in_any_case() {
        assert!(is_image_extension(b"JPG") && is_image_extension(b"HeIc"));
        assert!(!is_image_extension(b"txt") && !is_image_extension(b""));
        assert!(is_raw_extension(b"NEF") && !is_raw_extension(b"tiff"));
    }
}
