//! Owns telling from the folders of the inputs where labels stand: splits (`train/`, `val/`) from
//! classes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::container::tar;
use super::image::SourceImage;
use super::walk::Take;
use super::{hidden, own, uri};
use crate::error::Result;
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
    /// Whether some are shards of img2dataset, which are no classes.
    pub shards: bool,
}

/// Images of archives whose folders are looked at.
const PEEKED: usize = 1000;

impl LabelLayout {
    /// Looks at the folders among `inputs`; what can't be listed counts as empty.
    pub(crate) fn of<'a>(inputs: impl IntoIterator<Item = &'a Path>, take: Take) -> LabelLayout {
        let mut layout = LabelLayout::default();
        for input in inputs.into_iter().filter(|input| is_folder(input)) {
            for name in subfolders(input, take) {
                let readable = uri::readable(name.as_bytes());
                if is_shard(input, &readable) {
                    layout.shards = true;
                } else {
                    let inner = || !subfolders(&input.join(&name), take).is_empty();
                    layout.note(&readable, inner);
                }
            }
        }
        layout
    }

    /// Looks at the folders in archives that the first images lie in.
    pub(crate) fn within(images: impl Iterator<Item = Result<SourceImage>>) -> LabelLayout {
        let mut layout = LabelLayout::default();
        for image in images.take(PEEKED).map_while(Result::ok) {
            let own_label = image.facts.label.is_some();
            let Some(part) = image.part.filter(|_| !own_label) else { break };
            let mut folders = part.member.trim_start_matches("./").split('/');
            let (first, second, third) = (folders.next(), folders.next(), folders.next());
            // A file of no folder, or a column.
            let Some(folder) = first.filter(|_| second.is_some()) else { break };
            layout.note(folder, || third.is_some());
            if layout.other.is_some() {
                break;
            }
        }
        layout
    }

    /// Takes note of a first folder; `inner` says whether there are folders in it.
    fn note(&mut self, name: &str, inner: impl FnOnce() -> bool) {
        if is_split(name) {
            self.classes = self.classes || inner();
            self.splits.insert(name.to_string());
        } else {
            self.other.get_or_insert(name.to_string());
        }
    }

    /// Where labels stand: in the second folder where every first one is a split that has classes.
    pub fn level(&self) -> LabelLevel {
        let is_class = self.other.is_some();
        match (self.splits.is_empty(), self.shards) {
            (true, true) if !is_class => LabelLevel::None,
            (false, _) if !is_class && self.classes => LabelLevel::Folder(1),
            _ => LabelLevel::default(),
        }
    }
}

/// Whether an INPUT may hold splits, as far as its first bytes tell: they do in a tar that begins with a
/// member, which spares a store the reading of the next ones.
pub(crate) fn may_hold_splits(input: &Path) -> bool {
    let name = storage::read_head(input, 512).ok().and_then(|head| tar::first_name(&head));
    let Some(name) = name.map(|name| uri::readable(&name)) else { return true };
    let first = name.trim_start_matches("./").split('/').next().unwrap_or_default();
    first.is_empty() || is_split(first)
}

/// Whether a folder is a shard of img2dataset's format of files: a number, with its table beside it.
fn is_shard(input: &Path, name: &str) -> bool {
    let beside = |end: &str| storage::exists(&input.join(format!("{name}{end}"))).unwrap_or(false);
    name.bytes().all(|byte| byte.is_ascii_digit()) && (beside("_stats.json") || beside(".parquet"))
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
    use crate::data::source::image::Part;

    #[test]
    fn labels_stand_below_splits_where_every_first_folder_is_one() {
        let cases: [(&[&str], u32); 10] = [
            (&["train/cat", "val/dog"], 1),
            (&["Train/cat", "TEST/dog", ".git/x", "@eaDir/x"], 1),
            (&["train/cat", "val"], 1),
            (&["train", "val"], 0),
            (&["train/cat", "val/cat", "extra/cat"], 0),
            (&["train/steam", "car/red"], 0),
            (&["cat", "dog"], 0),
            (&["00000", "00001"], 0),
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

    #[test]
    fn shards_of_img2dataset_are_no_classes() {
        let root = tempfile::tempdir().unwrap();
        let level = || LabelLayout::of([root.path()], Take::default()).level();
        for shard in ["00000", "00001"] {
            fs::create_dir(root.path().join(shard)).unwrap();
            fs::write(root.path().join(format!("{shard}_stats.json")), "{}").unwrap();
        }
        assert_eq!(level(), LabelLevel::None);
        fs::create_dir(root.path().join("0")).unwrap();
        assert_eq!(level(), LabelLevel::Folder(0), "a class may be a number");
    }

    #[test]
    fn a_tars_first_member_tells_whether_there_may_be_splits() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        let may = |name: &str, flag: u8| {
            let mut block = [0; 512];
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[124] = b'0';
            block[156] = flag;
            let sum = block.iter().map(|&byte| u64::from(byte)).sum::<u64>() + 8 * 32;
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            fs::write(&path, block).unwrap();
            may_hold_splits(&path)
        };
        for (name, flag) in [("train/cat/1.png", b'0'), ("./val/", b'5'), ("./", b'5'), ("x", b'x')]
        {
            assert!(may(name, flag), "{name}");
        }
        for (name, flag) in [("cat/1.png", b'0'), ("0001.png", 0), ("./cat/", b'5')] {
            assert!(!may(name, flag), "{name}");
        }
        assert!(may_hold_splits(root.path()), "a folder of tars");
    }

    #[test]
    fn archives_tell_splits_by_their_members() {
        let image = |member: &&str| {
            let part = Some(Part { member: member.to_string(), offset: 0 });
            Ok(SourceImage { part, ..SourceImage::default() })
        };
        for (members, level) in [
            (&["train/cat/1.png", "val/dog/2.png"][..], 1),
            (&["./train/cat/1.png"], 1),
            (&["train/1.png", "val/2.png"], 0),
            (&["train/cat/1.png", "other/dog/2.png"], 0),
            (&["cat/1.png", "train/dog/2.png"], 0),
            (&["image"], 0),
            (&[], 0),
        ] {
            let layout = LabelLayout::within(members.iter().map(image));
            assert_eq!(layout.level(), LabelLevel::Folder(level), "{members:?}");
        }
    }
}
