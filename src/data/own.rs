//! Owns recognising what vqtok itself wrote, so that it never becomes an input: model folders (with
//! pictures in `samples/`), output folders, from their first file on, and pictures that it drew.
//! Must not know: what is done with them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::long::reach;
use super::source;
use crate::checkpoint::folder;

/// The folder of pictures in a model folder.
const SAMPLES: &str = "samples";

/// What vqtok wrote into a folder that has the entries that `has` says, in words; None where it
/// wrote nothing.
pub(super) fn kind(dir: &Path, has: impl Fn(&str) -> bool) -> Option<&'static str> {
    const MODEL: &str = "a model folder";
    const OUTPUT: &str = "an output folder";
    if has(folder::CONFIG_FILE) && folder::is_own(dir) {
        return Some(MODEL);
    }
    // A training that isn't finished: the record's lines with its events or its state beside them.
    if has("training.jsonl") {
        let parts = ["tensorboard/events.out.tfevents.vqtok", "state/lock"];
        if parts.iter().any(|part| reach(&dir.join(part), |p| p.symlink_metadata()).is_ok()) {
            return Some(MODEL);
        }
    }
    let output = has("plan.parquet") && (has("tokens") || is_plan(&dir.join("plan.parquet")))
        || has("dataset.json") && begins_as_dataset(&dir.join("dataset.json"));
    output.then_some(OUTPUT)
}

/// [`kind`] of a folder that hasn't been listed.
pub(super) fn kind_of(dir: &Path) -> Option<&'static str> {
    kind(dir, |name| reach(&dir.join(name), |path| path.symlink_metadata()).is_ok())
}

/// Whether a file lies among the pictures of a model folder, links resolved.
pub(super) fn is_sample(real: &Path) -> bool {
    let samples = real.ancestors().filter(|dir| dir.file_name() == Some(OsStr::new(SAMPLES)));
    samples.filter_map(Path::parent).any(|dir| kind_of(dir).is_some())
}

/// Whether a PNG is one that vqtok drew (`decode`, `reconstruct`): those have a mark of their own
/// behind the header.
pub(super) fn is_drawn(path: &Path) -> bool {
    /// Signature, header chunk, and the length of the next one.
    const BEFORE: usize = 8 + 25 + 4;
    let mut head = Vec::new();
    let read = source::open(path).and_then(|file| file.take(64).read_to_end(&mut head));
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
    reach(path, read).is_ok_and(|start| contains(&start, b"\"dataset.v1\""))
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}
