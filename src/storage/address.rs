//! Owns which addresses lie in stores, and their parts. Must not know: how stores are reached.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Schemes of object stores.
const STORES: [&str; 8] = ["s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss"];

/// Schemes of the web.
const WEB: [&str; 2] = ["https", "http"];

/// An address in a store: `s3://bucket/photos/a.jpg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// `s3`.
    pub(super) scheme: &'a str,
    /// `bucket`, or a host with its port.
    pub(super) authority: &'a str,
    /// `photos/a.jpg`; no `/` at its ends.
    pub(super) key: &'a str,
}

/// The parts of a remote address; None for a path of the system.
pub(super) fn parts(path: &Path) -> Option<Address<'_>> {
    let (scheme, rest) = path.to_str()?.split_once("://")?;
    if !STORES.iter().chain(&WEB).any(|known| *known == scheme) {
        return None;
    }
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    Some(Address { scheme, authority, key: key.trim_matches('/') })
}

/// Whether an address lies in a store or on the web.
pub(crate) fn is_remote(path: &Path) -> bool {
    parts(path).is_some()
}

/// The absolute path; an address in a store is one.
///
/// # Errors
/// Where the working folder is needed and can't be told.
pub(crate) fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    match is_remote(path) {
        true => Ok(path.to_path_buf()),
        false => std::path::absolute(path),
    }
}

/// The address in a store without its steps up (`..`), which no store takes; a path of the system as it
/// is. None where they lead out of the bucket.
pub(crate) fn without_steps_up(path: &Path) -> Option<Cow<'_, Path>> {
    let steps = |address: &Address<'_>| address.key.split('/').any(|part| part == "..");
    let Some(Address { scheme, authority, key }) = parts(path).filter(steps) else {
        return Some(Cow::Borrowed(path));
    };
    let mut taken = Vec::new();
    for part in key.split('/') {
        match part {
            ".." => drop(taken.pop()?),
            part => taken.push(part),
        }
    }
    Some(Cow::Owned(format!("{scheme}://{authority}/{}", taken.join("/")).into()))
}

/// Whether this vqtok can reach stores.
pub(crate) const REACHES_STORES: bool = cfg!(feature = "stores");

/// Whether it is one of the web, where nothing can be listed or written.
pub(crate) fn is_on_the_web(path: &Path) -> bool {
    parts(path).is_some_and(|address| WEB.contains(&address.scheme))
}

/// What stands before `://` where vqtok doesn't know it: `ftp`.
pub(crate) fn unknown_scheme(path: &Path) -> Option<&str> {
    let (scheme, _) = path.to_str()?.split_once("://")?;
    let word = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
    (word && scheme != "file" && !is_remote(path)).then_some(scheme)
}

/// Whether the remote address `inner` is `outer` or lies below it.
pub(crate) fn same_or_below(inner: &Path, outer: &Path) -> bool {
    let (Some(inner), Some(outer)) = (parts(inner), parts(outer)) else { return false };
    if (inner.scheme, inner.authority) != (outer.scheme, outer.authority) {
        return false;
    }
    let rest = inner.key.strip_prefix(outer.key);
    rest.is_some_and(|rest| rest.is_empty() || outer.key.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_parts_and_paths_have_none() {
        let of = |text: &'static str| {
            let Address { scheme, authority, key } = parts(Path::new(text))?;
            Some([scheme, authority, key])
        };
        assert_eq!(of("s3://b/x/y.jpg"), Some(["s3", "b", "x/y.jpg"]));
        assert_eq!(of("gs://b"), Some(["gs", "b", ""]));
        assert_eq!(of("az://c/x/"), Some(["az", "c", "x"]));
        assert_eq!(of("https://h:8/a?b=/c"), Some(["https", "h:8", "a?b=/c"]));
        for path in ["/x/s3://b", "s3:/b", "x.tar", "", "ftp://h/x", "S3://b/x"] {
            assert_eq!(of(path), None, "{path}");
        }
        // Joining works on them as on paths.
        let joined = Path::new("s3://b/out").join("tokens").join("part-00000.parquet");
        assert_eq!(joined.to_str(), Some("s3://b/out/tokens/part-00000.parquet"));
        assert_eq!(joined.parent().unwrap().to_str(), Some("s3://b/out/tokens"));
    }

    #[test]
    fn steps_up_are_taken_within_a_bucket() {
        for (path, expected) in [
            ("s3://b/l/../photos/x.png", Some("s3://b/photos/x.png")),
            ("s3://b/l/m/../../x..y/..z.png", Some("s3://b/x..y/..z.png")),
            ("https://h/a/../x.png", Some("https://h/x.png")),
            ("s3://b/l/../../x.png", None),
            ("s3://b/l/x.png", Some("s3://b/l/x.png")),
            ("/l/../x.png", Some("/l/../x.png")),
        ] {
            let found = without_steps_up(Path::new(path));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{path}");
        }
    }

    #[test]
    fn what_lies_below_is_told_by_whole_names() {
        let below = |a: &str, b: &str| same_or_below(Path::new(a), Path::new(b));
        assert!(below("s3://b/x/y", "s3://b/x") && below("s3://b/x", "s3://b/x/"));
        assert!(below("s3://b/x", "s3://b"));
        assert!(!below("s3://b/xy", "s3://b/x") && !below("s3://b/x", "s3://c/x"));
        assert!(!below("/x/y", "/x"));
    }

    #[test]
    fn schemes_that_nobody_reads_are_named() {
        assert_eq!(unknown_scheme(Path::new("ftp://h/x")), Some("ftp"));
        assert_eq!(unknown_scheme(Path::new("S3://b/x")), Some("S3"));
        for known in ["s3://b", "file:///x", "/a://b", "a b://c", "x"] {
            assert_eq!(unknown_scheme(Path::new(known)), None, "{known}");
        }
    }
}
