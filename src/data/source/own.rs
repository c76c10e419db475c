//! Owns recognising what vqtok itself wrote, so that it never becomes an input: model folders (with
//! pictures in `samples/`), output folders, from their first file on, and pictures that it drew.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::checkpoint::folder;
use crate::data::formats::sniff;
use crate::data::source::file;
use crate::data::source::long_paths::reach;

/// The folder of pictures in a model folder.
const SAMPLES: &str = "samples";

/// What a folder with the entries `names` is, in words, where vqtok wrote it; None for others, and
/// where a user's own pictures or folders may lie in it as well.
pub(crate) fn kind(dir: &Path, names: &[OsString]) -> Option<&'static str> {
    let has = |name: &str| names.iter().any(|entry| entry == name);
    let written = written(dir, has)?;
    names.iter().all(|name| belongs(name)).then_some(written)
}

/// [`kind`] of a folder that hasn't been listed.
pub(crate) fn kind_of(dir: &Path) -> Option<&'static str> {
    written(dir, |name| exists(&dir.join(name)))?;
    let list = |dir: &Path| dir.read_dir()?.map(|entry| Ok(entry?.file_name())).collect();
    let names: Vec<OsString> = reach(dir, list).ok()?;
    kind(dir, &names)
}

fn exists(path: &Path) -> bool {
    reach(path, |path| path.symlink_metadata()).is_ok()
}

/// What vqtok wrote into a folder that has the entries that `has` says.
fn written(dir: &Path, has: impl Fn(&str) -> bool) -> Option<&'static str> {
    if has(folder::CONFIG_FILE) && folder::is_own(dir) {
        return Some("a model folder");
    }
    // A training that isn't finished: the record's lines with its events or its state beside them.
    if has("training.jsonl") {
        let parts = ["tensorboard/events.out.tfevents.vqtok", "state/lock"];
        if parts.iter().any(|part| exists(&dir.join(part))) {
            return Some("a model folder");
        }
    }
    let output = has("plan.parquet") && (has("tokens") || is_plan(&dir.join("plan.parquet")))
        || has("dataset.json") && begins_as_dataset(&dir.join("dataset.json"));
    output.then_some("an output folder")
}

/// Whether an entry of such a folder hides nothing of a user's: a folder of vqtok's, or a file that
/// is no picture by its name.
fn belongs(name: &OsStr) -> bool {
    const FOLDERS: [&str; 6] = ["tokens", "failures", "codebook", SAMPLES, "tensorboard", "state"];
    let file = Path::new(name).extension().is_some_and(|extension| {
        !extension.is_empty() && !sniff::is_image_extension(extension.as_bytes())
    });
    file || name.as_bytes().first() == Some(&b'.') || FOLDERS.iter().any(|folder| name == *folder)
}

/// Whether a place is the folder of pictures of a model folder or lies in it, links resolved.
pub(crate) fn is_sample(real: &Path) -> bool {
    let samples = real.ancestors().filter(|dir| dir.file_name() == Some(OsStr::new(SAMPLES)));
    let mut models = samples.filter_map(Path::parent);
    models.any(|dir| written(dir, |name| exists(&dir.join(name))).is_some())
}

/// Whether a PNG is one that vqtok drew (`decode`, `reconstruct`): those have a mark of their own
/// after the header.
pub(crate) fn is_drawn(path: &Path) -> bool {
    /// Signature, header chunk, and the length of the next one.
    const BEFORE: usize = 8 + 25 + 4;
    let mut head = Vec::new();
    let read = file::open(path).and_then(|file| file.take(64).read_to_end(&mut head));
    let chunk = head.get(BEFORE..).filter(|_| read.is_ok());
    head.starts_with(b"\x89PNG") && chunk.is_some_and(|c| c.starts_with(b"tEXtSoftware\0vqtok"))
}

/// The metadata at a plan's end says what it is.
fn is_plan(path: &Path) -> bool {
    let read = |path: &Path| {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(1 << 17)))?;
        let mut tail = Vec::new();
        file.take(1 << 17).read_to_end(&mut tail)?;
        Ok(tail)
    };
    reach(path, read).is_ok_and(|tail| contains(&tail, b"vqtok.plan_sha256"))
}

fn begins_as_dataset(path: &Path) -> bool {
    let read = |path: &Path| {
        let mut start = Vec::new();
        File::open(path)?.take(256).read_to_end(&mut start)?;
        Ok(start)
    };
    let words: [&[u8]; 2] = [b"\"dataset.v1\"", b"\"dataset.v2\""];
    reach(path, read).is_ok_and(|start| words.iter().any(|word| contains(&start, word)))
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}
