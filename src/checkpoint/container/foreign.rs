//! Owns the words for what lies where a checkpoint should: pages of web sites, pointers of Git LFS,
//! archives, files of other programs.

/// What the bytes are, with what to do; None where they could be anything.
pub(crate) fn describe(bytes: &[u8]) -> Option<String> {
    const LOOKED_AT: usize = 4 << 10;
    if bytes.is_empty() {
        return Some("an empty file: the download or the copy didn't finish".into());
    }
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    if start.iter().all(|&byte| byte == 0) {
        return Some("it begins with zeros only: the download or the copy didn't finish".into());
    }
    text(start).or_else(|| binary(start).map(str::to_owned))
}

/// Texts, after white space and a byte order mark.
fn text(start: &[u8]) -> Option<String> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let lower = start.to_ascii_lowercase();
    if start.starts_with(b"version https://git-lfs") || start.starts_with(b"version https://hawser")
    {
        let text = String::from_utf8_lossy(start);
        let size =
            text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
        let size = size.map_or(String::new(), |size| format!(" ({size} bytes)"));
        return Some(format!(
            "a Git LFS pointer to the file, not the file itself{size}; run `git lfs pull`, or \
             download it"
        ));
    }
    let page = [&b"<!doctype html"[..], b"<html", b"<head", b"<body"];
    if page.iter().any(|tag| lower.starts_with(tag)) {
        return Some(
            "a page of a web site, not a checkpoint; download the file itself (the site may ask \
             for a login first)"
                .into(),
        );
    }
    if lower.starts_with(b"<?xml") {
        return Some("an XML document, such as a server's error, not a checkpoint".into());
    }
    let json = matches!(start, [b'{' | b'[', ..]) && std::str::from_utf8(start).is_ok();
    json.then(|| "JSON, such as a configuration or a server's error, not weights".into())
}

fn binary(start: &[u8]) -> Option<&'static str> {
    const KINDS: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "compressed by gzip; unpack it first"),
        (b"\xfd7zXZ\0", "compressed by xz; unpack it first"),
        (b"BZh", "compressed by bzip2; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first"),
        (b"Rar!", "a RAR archive; unpack it first"),
        (b"\x89HDF\r\n", "an HDF5 file (Keras), not a PyTorch checkpoint"),
        (b"GGUF", "a GGUF file, not a PyTorch checkpoint"),
        (b"\x93NUMPY", "a NumPy array, not a checkpoint"),
        (b"\x89PNG", "a picture, not a checkpoint"),
        (b"\xff\xd8\xff", "a picture, not a checkpoint"),
        (b"PAR1", "a Parquet file, not a checkpoint"),
    ];
    if let Some((_, kind)) = KINDS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(kind);
    }
    match start {
        // A map of up to fifteen, its first key a string.
        [0x81..=0x8f, 0xa0..=0xbf | 0xd9, ..] => {
            Some("msgpack, as Flax writes it, not a PyTorch checkpoint")
        }
        [0x08, 0x01..=0x20, rest @ ..]
            if rest.windows(4).take(64).any(|word| word == b"onnx")
                || rest.windows(7).take(64).any(|word| word == b"pytorch") =>
        {
            Some("an ONNX model, not a PyTorch checkpoint")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_checkpoint_is_told_by_what_it_is() {
        let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 289000000\n";
        let cases: &[(&[u8], &str)] = &[
            (b"", "an empty file"),
            (&[0; 600], "zeros only"),
            (lfs, "Git LFS pointer to the file, not the file itself (289000000 bytes)"),
            (b"\n <!DOCTYPE html><html>", "a page of a web site"),
            (b"\xef\xbb\xbf<HTML>", "a page of a web site"),
            (b"<?xml version='1.0'?><Error>", "XML"),
            (b"{\"error\": \"Unauthorized\"}", "JSON"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
            (b"\x81\xa6params", "msgpack"),
            (b"\x08\x07\x12\x07pytorch", "ONNX"),
        ];
        for (bytes, expected) in cases {
            let text = describe(bytes).unwrap();
            assert!(text.contains(expected), "{text}");
        }
        for bytes in [&b"\x80\x02}."[..], b"PK\x03\x04", b"\x80\x8a", b"plain words"] {
            assert_eq!(describe(bytes), None);
        }
    }
}
