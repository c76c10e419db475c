//! Owns the label of an image by ImageFolder's convention, and telling splits (`train/`, `val/`)
//! from classes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::{fmt, fs};

use super::walk::Take;
use super::{hidden, own, uri};
use crate::error::{Error, Result};
use crate::storage;

/// Which folder of a key is its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelLevel {
    /// So many folders lie above it: 0 is the first.
    Folder(u32),
    /// None: labels are null.
    None,
}

impl Default for LabelLevel {
    fn default() -> LabelLevel {
        LabelLevel::Folder(0)
    }
}

impl LabelLevel {
    /// The label of an image, if it has one.
    pub fn label(self, key: &str) -> Option<&str> {
        let LabelLevel::Folder(level) = self else { return None };
        folders(key)?.nth(level as usize)
    }

    /// The label of an image of which its source says `known`, empty for none at all: else the folder
    /// of its key. Ways up or nowhere in archives are no classes.
    pub(crate) fn label_beside<'a>(self, known: Option<&'a str>, key: &'a str) -> Option<&'a str> {
        let path = key.strip_prefix("./").unwrap_or(key);
        let label = known.or_else(|| self.label(path));
        label.filter(|label| !matches!(*label, "" | "." | ".."))
    }

    /// The split that an image is in: the first folder above its label's that is named like one.
    pub fn split(self, key: &str) -> Option<&str> {
        let LabelLevel::Folder(level) = self else { return None };
        folders(key)?.take(level as usize).find(|name| is_split(name))
    }
}

/// The folders of a key; None where it has none.
fn folders(key: &str) -> Option<std::str::Split<'_, char>> {
    key.rsplit_once('/').map(|(folders, _)| folders.split('/'))
}

impl FromStr for LabelLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<LabelLevel> {
        match (text, text.parse::<u8>()) {
            ("none", _) => Ok(LabelLevel::None),
            (_, Ok(level)) => Ok(LabelLevel::Folder(level.into())),
            _ => Err(Error::invalid(format!(
                "label level {text:?}: use 0 for the first folder, 1 for the second, ..., or none"
            ))),
        }
    }
}

impl fmt::Display for LabelLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LabelLevel::Folder(level) => level.fmt(f),
            LabelLevel::None => f.write_str("none"),
        }
    }
}

/// The names that data sets give to splits (those that Hugging Face's `imagefolder` knows).
fn is_split(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "train",
        "training",
        "validation",
        "valid",
        "val",
        "dev",
        "test",
        "testing",
        "eval",
        "evaluation",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

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
    fn labels_are_folders_and_splits_stand_above_them() {
        let level = |text: &str| text.parse::<LabelLevel>().unwrap();
        assert_eq!(level("0").label("x.txt"), None);
        assert_eq!(level("0").label("cat/sub/x.txt"), Some("cat"));
        assert_eq!(level("1").label("train/cat/x.txt"), Some("cat"));
        assert_eq!(level("1").label("train/x.txt"), None);
        assert_eq!(level("2").label("train/cat/x.txt"), None);
        assert_eq!(level("none").label("train/cat/x.txt"), None);
        assert_eq!(level("1").split("train/cat/x.txt"), Some("train"));
        assert_eq!(level("2").split("part1/Val/cat/x.txt"), Some("Val"));
        for (text, key) in [("0", "train/x.txt"), ("1", "cars/red/x"), ("none", "train/a/x")] {
            assert_eq!(level(text).split(key), None, "{text} {key}");
        }
        for text in ["", "-1", "first", "256", "0.5"] {
            assert!(text.parse::<LabelLevel>().is_err(), "{text}");
        }
        assert_eq!(level("none").to_string() + &level("3").to_string(), "none3");
    }

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
