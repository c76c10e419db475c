//! Owns what members' names say: the key and the field of a sample, whose they are. Must not know:
//! what a field means.

use crate::data::source::hidden::{self, Whose};
use crate::data::source::uri::readable;

/// A member's name: of which sample it is which field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Unique for a sample's own bytes, as it stands in the tar.
    pub(super) key: Vec<u8>,
    /// In lower case.
    pub(super) field: String,
}

/// The place of a member; None where it has none, or is metadata.
pub(super) fn place(name: &[u8]) -> Option<Place> {
    if is_metadata(name) {
        return None;
    }
    let (key, field) = split(name)?;
    Some(Place { key: key.to_vec(), field: readable(field).to_lowercase() })
}

/// Key and field, by `^((?:.*/|)[^.]+)[.]([^/]*)$`: before and after the first dot of the last part.
/// Where that part begins with the dot, its folder is the key, unless there is none or it has a dot.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let last = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let dot = last + name[last..].iter().position(|&byte| byte == b'.')?;
    if dot == last {
        let folder = name[..last].strip_suffix(b"/")?;
        if folder.rsplit(|&byte| byte == b'/').next().is_some_and(|part| part.contains(&b'.')) {
            return None;
        }
    }
    Some((&name[..dot], &name[dot + 1..]))
}

/// `__meta__`, or what is in a folder of such a name.
fn is_metadata(name: &[u8]) -> bool {
    let first = name.split(|&byte| byte == b'/').next().unwrap_or_default();
    first.len() >= 4 && first.starts_with(b"__") && first.ends_with(b"__")
}

/// What lies in a hidden folder, what a system put there, and the twins that macOS writes beside every
/// file. Another hidden file is what webdataset takes it for.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    let parts = || name.split(|&byte| byte == b'/');
    let (folders, last) = (parts().count() - 1, parts().next_back().unwrap_or_default());
    // `.` and `..` are steps on the way and no hidden folders.
    let in_hidden =
        |part: &[u8]| !matches!(part, b"." | b"..") && hidden::whose(part) == Some(Whose::Hidden);
    last.starts_with(b"._")
        || parts().any(|part| hidden::whose(part) == Some(Whose::System))
        || parts().take(folders).any(in_hidden)
}
