//! Owns how bytes of file names become keys and URIs, and back.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::storage;

/// `name` as text: UTF-8 stays as it is, every byte that belongs to no UTF-8 sequence becomes
/// `%XX`. A literal `%` stays, so this is for reading and for keys, not for getting the name back.
pub(crate) fn readable(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `file://` and the absolute path, percent-encoded as RFC 3986 asks of a path; reversible. An address
/// in a store is one already.
pub(crate) fn of_path(path: &Path) -> String {
    if storage::is_remote(path) {
        return path.to_string_lossy().into_owned();
    }
    let bytes = path.as_os_str().as_bytes();
    let mut out = String::with_capacity(bytes.len() + 7);
    out.push_str("file://");
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' => out.push(byte as char),
            // The other characters of RFC 3986's `pchar`.
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
            | b',' | b';' | b'=' | b':' | b'@' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The path behind a `file://` URI, or the address in a store; None where it is neither or is encoded
/// wrongly.
pub(crate) fn to_path(uri: &str) -> Option<PathBuf> {
    if storage::is_remote(Path::new(uri)) {
        return Some(uri.into());
    }
    let rest = uri.strip_prefix("file://")?.as_bytes();
    if rest.first() != Some(&b'/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(rest.len());
    let mut at = 0;
    while at < rest.len() {
        if rest[at] == b'%' {
            let digit = |i: usize| rest.get(i).and_then(|&b| (b as char).to_digit(16));
            bytes.push((digit(at + 1)? * 16 + digit(at + 2)?) as u8);
            at += 3;
        } else {
            bytes.push(rest[at]);
            at += 1;
        }
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// The last part of a path, without what follows a `?` in a web address.
pub(crate) fn name(path: &Path) -> &[u8] {
    let name = path.file_name().unwrap_or(path.as_os_str()).as_bytes();
    match name.iter().position(|&byte| byte == b'?').filter(|_| storage::is_on_the_web(path)) {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}

/// The path behind a `file://` URI for messages; any other URI as it is.
pub(crate) fn place(uri: &str) -> PathBuf {
    to_path(uri).unwrap_or_else(|| PathBuf::from(uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let mut name = vec![b'/'];
        name.extend(1..=255u8);
        let path = PathBuf::from(OsString::from_vec(name));
        let uri = of_path(&path);
        assert!(uri.is_ascii());
        assert_eq!(to_path(&uri), Some(path));
    }

    #[test]
    fn addresses_in_stores_stay_as_they_are() {
        for address in ["s3://b/a%20b c.jpg", "https://h/x?y=%2F"] {
            assert_eq!(to_path(address).unwrap().to_str(), Some(address));
            assert_eq!(of_path(Path::new(address)), address);
        }
    }

    #[test]
    fn only_what_is_not_utf8_is_escaped_in_keys() {
        assert_eq!(readable(b"bad\xFF\xFE.jpg"), "bad%FF%FE.jpg");
        assert_eq!(readable("caf\u{e9} %00.jpg".as_bytes()), "caf\u{e9} %00.jpg");
        assert_eq!(readable(b"cut \xE6\x97.png"), "cut %E6%97.png");
    }

    #[test]
    fn what_is_no_file_uri_is_refused() {
        for uri in ["ftp://x/y", "file://host/x", "file:///a%2", "file:///a%zz", "/plain"] {
            assert_eq!(to_path(uri), None, "{uri}");
        }
    }
}
