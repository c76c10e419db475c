//! Owns which folder of an image's key is its label, by ImageFolder's convention. Must not know: where
//! images are found.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

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
    /// That which an identity records.
    ///
    /// # Errors
    /// A text that names none.
    pub(crate) fn recorded(text: Option<&str>) -> Result<LabelLevel> {
        Ok(text.map(str::parse).transpose()?.unwrap_or_default())
    }

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
pub(crate) fn is_split(name: &str) -> bool {
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
}
