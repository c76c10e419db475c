//! Owns what a file of an INPUT is by its name: an image, a container of images, a list of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::container::open;
use super::lists;
use super::uri;
use crate::data::formats::sniff;

/// What a file is taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileKind {
    /// The bytes of one image.
    #[default]
    Image,
    /// A tar, a Parquet file or a zip.
    Container,
    /// A table or text that names images.
    List,
}

/// Ends of names of containers, in lower case.
const CONTAINERS: [&str; 12] = [
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz2",
    ".tar.xz",
    ".txz",
    ".tar.zst",
    ".tzst",
    ".parquet",
    ".zip",
    ".tar.zstd",
];

/// Ends of names of archives that aren't read, in lower case.
const CLOSED: [&str; 11] = [
    ".7z",
    ".rar",
    ".tar.lz4",
    ".tar.z",
    ".tar.lz",
    ".tar.lzma",
    ".tar.lzo",
    ".tar.br",
    ".tlz",
    ".cpio",
    ".ace",
];

/// Whether a name is that of an archive of a format that isn't read.
pub(super) fn is_closed_archive(path: &Path) -> bool {
    ends_with(path.file_name().unwrap_or_default(), &CLOSED).is_some()
}

/// Whether a name is that of an archive, which may hold images.
pub(super) fn is_archive(name: &[u8]) -> bool {
    let archives = CONTAINERS.iter().filter(|end| **end != ".parquet").chain(&CLOSED);
    archives.into_iter().any(|end| ends_with(OsStr::from_bytes(name), &[end]).is_some())
}

/// Whether a file is named as a container is.
pub(super) fn is_container(path: &Path) -> bool {
    ends_with(path.file_name().unwrap_or_default(), &CONTAINERS).is_some()
}

/// What an INPUT that is a file is: as its name says, else as its content does.
pub(super) fn of_input(path: &Path) -> FileKind {
    let name = OsStr::from_bytes(uri::name(path));
    if ends_with(name, &CONTAINERS).is_some() {
        return FileKind::Container;
    }
    if lists::is_list(path) {
        return FileKind::List;
    }
    let extension = Path::new(name).extension().unwrap_or_default();
    match sniff::is_image_extension(extension.as_bytes()) {
        true => FileKind::Image,
        false if open::is_container(path) => FileKind::Container,
        false => FileKind::Image,
    }
}

/// Whether a Parquet file says something of what lies beside it, as img2dataset writes them: the
/// rows of a tar of the same name, or of a folder with its statistics. `has` knows the names there.
pub(super) fn describes_another(name: &OsStr, has: impl Fn(&OsStr) -> bool) -> bool {
    if ends_with(name, &[".parquet"]).is_none() {
        return false;
    }
    let stem = &name.as_bytes()[..name.len() - ".parquet".len()];
    let other = |end: &str| OsString::from_vec([stem, end.as_bytes()].concat());
    let tars = CONTAINERS.iter().filter(|end| **end != ".parquet" && **end != ".zip");
    tars.into_iter().any(|end| has(&other(end))) || has(&other("_stats.json")) && has(&other(""))
}

/// The end of a name in any case, where it is one of `ends` and more stands before it.
fn ends_with(name: &OsStr, ends: &[&'static str]) -> Option<&'static str> {
    let name = name.as_bytes();
    ends.iter().copied().find(|end| {
        let start = name.len().checked_sub(end.len()).filter(|&start| start > 0);
        start.is_some_and(|start| name[start..].eq_ignore_ascii_case(end.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_what_their_names_say() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind) in [
            ("a.tar", FileKind::Container),
            ("a.TAR.GZ", FileKind::Container),
            ("a.b.parquet", FileKind::Container),
            ("a.zip", FileKind::Container),
            ("a.jsonl", FileKind::List),
            ("a.TSV", FileKind::List),
            ("a.jpg", FileKind::Image),
            ("a", FileKind::Image),
            (".tar", FileKind::Image),
        ] {
            assert_eq!(of_input(&dir.path().join(name)), kind, "{name}");
        }
    }

    #[test]
    fn a_table_beside_its_tar_describes_it() {
        let beside = |names: &'static [&str]| {
            describes_another(OsStr::new("00000.parquet"), move |n| names.iter().any(|o| n == *o))
        };
        assert!(beside(&["00000.tar", "00000.parquet"]) && beside(&["00000.tar.gz"]));
        assert!(beside(&["00000", "00000_stats.json"]));
        assert!(!beside(&["00000_stats.json"]) && !beside(&["00001.tar"]) && !beside(&[]));
        assert!(!describes_another(OsStr::new("00000.tar"), |_| true));
    }
}
