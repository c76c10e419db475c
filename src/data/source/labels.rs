//! Owns telling from the folders of the inputs where labels stand: splits (`train/`, `val/`) from
//! classes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::walk::Take;
use super::{hidden, own, uri};
use crate::storage;
pub use crate::util::label_level::LabelLevel;
use crate::util::label_level::is_split;

/// What the first folders of the inputs look like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelLayout {
    /// Those named like splits.
    pub splits: BTreeSet<String>,
    /// One that isn't.
    pub other: Option<String>,
    /// Whether a split has folders.
    pub classes: bool,
}

impl LabelLayout {
    /// Looks at the folders among `inputs`; what can't be listed counts as empty.
    pub(crate) fn of<'a>(inputs: impl IntoIterator<Item = &'a Path>, take: Take) -> LabelLayout {
        let mut layout = LabelLayout::default();
        for input in inputs.into_iter().filter(|input| is_folder(input)) {
            for name in subfolders(input, take) {
                let readable = uri::readable(name.as_bytes());
                if is_split(&readable) {
                    let split = input.join(&name);
                    layout.classes = layout.classes || !subfolders(&split, take).is_empty();
                    layout.splits.insert(readable);
                } else {
                    layout.other.get_or_insert(readable);
                }
            }
        }
        layout
    }

    /// Where labels stand: in the second folder where every first one is a split that has classes.
    pub fn level(&self) -> LabelLevel {
        let below = !self.splits.is_empty() && self.other.is_none() && self.classes;
        LabelLevel::Folder(below.into())
    }
}

fn is_folder(input: &Path) -> bool {
    storage::facts(input).is_ok_and(|facts| facts.is_folder)
}

/// The folders in one that a walk enters.
fn subfolders(folder: &Path, take: Take) -> Vec<OsString> {
    if storage::is_remote(folder) {
        // What vqtok wrote is not looked for here: that would be a request for each.
        let entries = storage::list(folder).unwrap_or_default().into_iter();
        let folders = entries.filter(|entry| entry.facts.is_some_and(|facts| facts.is_folder));
        let shown = |name: &OsString| take.hidden || hidden::whose(name.as_bytes()).is_none();
        return folders.map(|entry| entry.name).filter(shown).collect();
    }
    let is_folder = |entry: &fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        kind => kind.is_ok_and(|kind| kind.is_dir()),
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter(|entry| is_folder(entry)).map(|entry| entry.file_name());
    let taken = |name: &OsString| {
        (take.hidden || hidden::whose(name.as_bytes()).is_none())
            && (take.own || own::kind_of(&folder.join(name)).is_none())
    };
    let mut names: Vec<OsString> = names.filter(taken).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_below_splits_where_every_first_folder_is_one() {
        let cases: [(&[&str], u32); 9] = [
            (&["train/cat", "val/dog"], 1),
            (&["Train/cat", "TEST/dog", ".git/x", "@eaDir/x"], 1),
            (&["train/cat", "val"], 1),
            (&["train", "val"], 0),
            (&["train/cat", "val/cat", "extra/cat"], 0),
            (&["train/steam", "car/red"], 0),
            (&["cat", "dog"], 0),
            (&["train/.hidden", "val/@eaDir"], 0),
            (&[], 0),
        ];
        for (folders, level) in cases {
            let root = tempfile::tempdir().unwrap();
            for folder in folders {
                fs::create_dir_all(root.path().join(folder)).unwrap();
            }
            let layout = LabelLayout::of([root.path()], Take::default());
            assert_eq!(layout.level(), LabelLevel::Folder(level), "{folders:?} {layout:?}");
        }
    }
}
