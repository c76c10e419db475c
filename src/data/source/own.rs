//! Owns recognising what vqtok itself wrote, so that it never becomes an input: model folders (with
//! pictures in `samples/`), output folders, from their first file on, and pictures that it drew.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::checkpoint::folder;
use crate::data::formats::sniff;
use crate::data::source::peek::list;
use crate::storage::{self, reach};

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
    kind(dir, &list(dir).ok()?.names)
}

fn exists(path: &Path) -> bool {
    match storage::is_remote(path) {
        // One request for a file, and of no folder a list, which may be long.
        true => storage::read_head(path, 1).is_ok(),
        false => reach(path, |path| path.symlink_metadata()).is_ok(),
    }
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
    const FOLDERS: [&str; 9] = [
        "tokens",
        "failures",
        "codebook",
        "plan",
        "dataset",
        "listed",
        SAMPLES,
        "tensorboard",
        "state",
    ];
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
    let head = storage::read_head(path, 64).unwrap_or_default();
    let chunk = head.get(BEFORE..);
    head.starts_with(b"\x89PNG") && chunk.is_some_and(|c| c.starts_with(b"tEXtSoftware\0vqtok"))
}

/// The metadata at a plan's end says what it is.
fn is_plan(path: &Path) -> bool {
    const TAIL_BYTES: u64 = 1 << 17;
    let read = || {
        let file = storage::open(path)?;
        let start = file.size().saturating_sub(TAIL_BYTES);
        let mut tail = vec![0; (file.size() - start) as usize];
        let filled = file.fill_at(start, &mut tail)?;
        tail.truncate(filled);
        std::io::Result::Ok(tail)
    };
    read().is_ok_and(|tail| contains(&tail, b"vqtok.plan_sha256"))
}

fn begins_as_dataset(path: &Path) -> bool {
    let words: [&[u8]; 3] = [b"\"dataset.v1\"", b"\"dataset.v2\"", b"\"dataset.v3\""];
    storage::read_head(path, 256).is_ok_and(|start| words.iter().any(|word| contains(&start, word)))
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}
