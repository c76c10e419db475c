//! Owns the names of decoded pictures. Keys come from files that others wrote: no name leaves the
//! output folder, and no two are one file, on whatever file system.

use std::collections::HashSet;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::audit::GridRow;
use crate::util::hex::hex;

/// Gives every row a file name of its own.
pub(super) struct Names {
    taken: HashSet<u64>,
    /// Digits of the name of a row without a key.
    digits: usize,
}

impl Names {
    /// For `rows` rows in all.
    pub(super) fn new(rows: u64) -> Names {
        Names { taken: HashSet::new(), digits: rows.saturating_sub(1).to_string().len().max(5) }
    }

    /// Keeps a relative name without its extension free of pictures.
    pub(super) fn reserve(&mut self, stem: &str) {
        self.taken.insert(hash(stem));
    }

    /// The next name of a row, relative, with its extension.
    pub(super) fn name(&mut self, row: &GridRow) -> PathBuf {
        let mut stem = match row.keyed {
            true => stem(&row.key),
            // Of equal width, so that their order by name is that of the rows.
            false => format!("{:0>width$}", row.key, width = self.digits),
        };
        if let Some(view @ 1..) = row.view {
            stem.push_str(&format!("-{view}"));
        }
        let mut name = stem.clone();
        let mut number = 1;
        // Two inputs may give the same key, or `a.png` and `a.jpg` the same stem.
        while !self.taken.insert(hash(&name)) {
            number += 1;
            name = format!("{stem}~{number}");
        }
        PathBuf::from(name + ".png")
    }
}

/// 8 bytes a name instead of the name: 100 million rows stay under 2 GB. Names that differ in case
/// alone are one file on some systems.
fn hash(name: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    name.to_lowercase().hash(&mut hasher);
    hasher.finish()
}

/// The key without its extension, safe as a relative path.
fn stem(key: &str) -> String {
    let mut parts: Vec<String> = key
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| match part {
            ".." => "%2E%2E".to_string(),
            part => part.replace('\0', "%00").replace('\\', "%5C"),
        })
        .collect();
    if let Some(last) = parts.last_mut()
        && let Some(dot) = last.rfind('.').filter(|&dot| dot > 0)
    {
        last.truncate(dot);
    }
    parts.iter_mut().for_each(|part| shorten(part, PART_BYTES_MAX));
    if let Some((_, folders)) = parts.split_last_mut() {
        // A folder of that name could be another row's picture.
        let pictures = folders.iter_mut().filter(|part| part.to_lowercase().ends_with(".png"));
        pictures.for_each(|part| part.push('~'));
    }
    let mut stem = parts.join("/");
    shorten(&mut stem, STEM_BYTES_MAX);
    if stem.is_empty() { "row".to_string() } else { stem }
}

/// With room for `-<view>`, `~<number>` and `.png` below the 255 bytes that file systems take.
const PART_BYTES_MAX: usize = 200;
/// Far below the 4096 bytes that Linux takes for a path.
const STEM_BYTES_MAX: usize = 2048;

/// Cuts a name that no file system takes, and marks it with the whole name's digest.
fn shorten(name: &mut String, bytes_max: usize) {
    if name.len() > bytes_max {
        let mark = hex(&Sha256::digest(&*name)[..8]);
        let mut end = bytes_max - mark.len() - 1;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push('~');
        name.push_str(&mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Beside;

    #[test]
    fn names_stay_in_the_output_folder() {
        assert_eq!(stem("cat/1.jpg"), "cat/1");
        assert_eq!(stem("cat/a.b.JPEG"), "cat/a.b");
        assert_eq!(stem("cat/.hidden"), "cat/.hidden");
        assert_eq!(stem("/etc/passwd"), "etc/passwd");
        assert_eq!(stem("../../x.png"), "%2E%2E/%2E%2E/x");
        assert_eq!(stem("a/./b//c.png"), "a/b/c");
        assert_eq!(stem(""), "row");
        assert_eq!(stem("a\0b.png"), "a%00b");
        let cut = stem(&format!("{}.png", "\u{e9}".repeat(300)));
        assert_eq!((cut.len(), &cut[182..]), (199, "~7250b66610f8b7db"));
        assert!(stem(&"d/".repeat(3000)).len() <= 2048);
    }

    fn row(key: &str, keyed: bool) -> GridRow {
        let (view, levels, guessed) = (None, Vec::new(), false);
        let file = std::path::Path::new("t.parquet").into();
        GridRow {
            key: key.into(),
            keyed,
            view,
            levels,
            guessed,
            file,
            row: 0,
            beside: Beside::default(),
        }
    }

    #[test]
    fn no_two_names_are_one_file_anywhere() {
        let mut names = Names::new(9);
        names.reserve("sheet");
        let keys = ["a.png", "A.jpg", "a.gif", "a.png/b", "Sheet.png", "\u{c9}", "\u{e9}"];
        let found = keys.map(|key| names.name(&row(key, true)).to_string_lossy().into_owned());
        let expected = [
            "a.png",
            "A~2.png",
            "a~3.png",
            "a.png~/b.png",
            "Sheet~2.png",
            "\u{c9}.png",
            "\u{e9}~2.png",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_without_keys_are_named_in_their_order() {
        let name = |rows, key| Names::new(rows).name(&row(key, false));
        assert_eq!(name(12, "7"), PathBuf::from("00007.png"));
        assert_eq!(name(100_000, "7"), PathBuf::from("00007.png"));
        assert_eq!(name(100_001, "7"), PathBuf::from("000007.png"));
        assert_eq!(name(100_001, "100000"), PathBuf::from("100000.png"));
    }
}
