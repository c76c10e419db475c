//! Owns opening a checkpoint as it was published: which of its files, in which container, with
//! which configurations.

use std::path::{Path, PathBuf};

use super::container::{file, sharded};
use super::find::configs;
use super::find::weights::{self, WeightFiles};
use super::folder;
use super::raw::RawCheckpoint;
use crate::error::Result;

/// Reads a checkpoint: a weights file, or a folder that holds one (or shards with an index).
///
/// # Errors
/// Where nothing, or more than one thing, could be meant by `path`; where a file is broken,
/// hostile or without tensors; where a configuration that belongs to it can't be read.
pub fn open(path: &Path) -> Result<RawCheckpoint> {
    // DALL-E's dVAE and Cosmos' modules are published as a file for each half; the names of the
    // second say themselves which they are of.
    for (extension, renamed) in [("pkl", true), ("jit", false)] {
        let file = |side| (side, path.join(format!("{side}.{extension}")));
        let halves = ["encoder", "decoder"].map(file);
        if halves.iter().all(|(_, file)| file.is_file()) {
            return open_halves(halves, renamed);
        }
    }
    let found = weights::locate(path)?;
    let mut checkpoint = match &found.weights {
        WeightFiles::One(file) => file::open(file)?,
        WeightFiles::Sharded(index) => sharded::open(index)?,
    };
    checkpoint.notes.extend(found.notes);
    checkpoint.configs = configs::read_all(&found.configs, &mut checkpoint.notes)?;
    folder::check_digest(&checkpoint)?;
    Ok(checkpoint)
}

/// Both halves as one checkpoint; with the half in front of their names where they are `renamed`.
fn open_halves(halves: [(&str, PathBuf); 2], renamed: bool) -> Result<RawCheckpoint> {
    let mut checkpoint = RawCheckpoint::default();
    for (side, file) in halves {
        let mut half = file::open(&file)?;
        let own = |name: String| if renamed { format!("{side}.{name}") } else { name };
        checkpoint.tensors.extend(half.tensors.into_iter().map(|(name, t)| (own(name), t)));
        checkpoint.unread.extend(half.unread.into_iter().map(|(name, t)| (own(name), t)));
        checkpoint.notes.append(&mut half.notes);
        checkpoint.hparams = checkpoint.hparams.or(half.hparams);
        checkpoint.files.append(&mut half.files);
        checkpoint.container = half.container;
    }
    Ok(checkpoint)
}
