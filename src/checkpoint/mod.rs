//! Owns reading and writing of weights: containers, pickles, our own model folder, the maps from
//! published names. Must not know: engines, images.
//!
//! [`open`] gives a checkpoint as it was published, untouched: names as in the file, tensors as
//! data. What the names mean is decided behind it. Every file is untrusted: no code runs, sizes
//! are checked before memory is taken, and a file without tensors is an error that says what was
//! found instead.

pub mod container;
pub mod convert;
pub mod find;
pub mod folder;
pub mod model_card;
pub mod pickle;
pub mod recognise;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::checkpoint::find::weights::Weights;
pub(crate) use crate::checkpoint::find::weights::named_as_weights;
use crate::error::{Error, Result};
pub(crate) use crate::util::text::quoted;
pub use crate::weights::tensor;
pub use crate::weights::tensor::{Bytes, Dtype, RawTensor};

/// Raw contents of a checkpoint as published.
#[derive(Debug, Default)]
pub struct RawCheckpoint {
    /// By the name in the file; nested dictionaries joined by dots.
    pub tensors: BTreeMap<String, RawTensor>,
    /// Tensors of types that aren't read, with the word for the type.
    pub unread: BTreeMap<String, String>,
    /// Configurations found beside the weights (JSON, or YAML turned into JSON), by path.
    pub configs: Vec<(PathBuf, serde_json::Value)>,
    /// The files that hold the weights, in order of their names.
    pub files: Vec<(PathBuf, Bytes)>,
    /// What was tolerated or left out, one line each.
    pub notes: Vec<String>,
    /// Plain data found in a pickle beside its tensors (`hyper_parameters`, `args`, attributes of
    /// a pickled module), by the key it has there.
    pub hparams: Option<serde_json::Value>,
    /// The container: `safetensors`, `pickle (zip)`, `pickle (legacy)`, `pickle (plain)`, each
    /// `, sharded` where there is an index.
    pub container: String,
}

/// What one file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// By the name in the file.
    pub tensors: BTreeMap<String, RawTensor>,
    /// See [`RawCheckpoint::unread`].
    pub unread: BTreeMap<String, String>,
    /// See [`RawCheckpoint::notes`].
    pub notes: Vec<String>,
    /// See [`RawCheckpoint::hparams`].
    pub hparams: Option<serde_json::Value>,
    /// See [`RawCheckpoint::container`].
    pub container: String,
}

impl Contents {
    /// Errors where no tensor could be read: with the types of those that are there, else with
    /// `otherwise`.
    fn refuse_empty(&self, otherwise: impl Into<String>) -> Result<(), String> {
        if !self.tensors.is_empty() {
            return Ok(());
        }
        match self.unread.first_key_value() {
            None => Err(otherwise.into()),
            Some((name, kind)) => Err(format!(
                "all its tensors ({}) are of types that vqtok doesn't read: {} ({kind}), ...; save \
                 it in float32, float16 or bfloat16",
                self.unread.len(),
                quoted(name)
            )),
        }
    }
}

/// Reads a checkpoint: a weights file, or a folder that holds one (or shards with an index).
///
/// # Errors
/// Where nothing, or more than one thing, could be meant by `path`; where a file is broken,
/// hostile or without tensors; where a configuration that belongs to it can't be read.
pub fn open(path: &Path) -> Result<RawCheckpoint> {
    let halves = ["encoder", "decoder"].map(|side| (side, path.join(format!("{side}.pkl"))));
    if halves.iter().all(|(_, file)| file.is_file()) {
        return open_halves(halves);
    }
    let found = crate::checkpoint::find::weights::locate(path)?;
    let mut checkpoint = match &found.weights {
        Weights::File(file) => open_file(file)?,
        Weights::Sharded(index) => open_sharded(index)?,
    };
    checkpoint.notes.extend(found.notes);
    checkpoint.configs =
        crate::checkpoint::find::configs::read_all(&found.configs, &mut checkpoint.notes)?;
    folder::check_digest(&checkpoint)?;
    Ok(checkpoint)
}

/// Reads the bytes of one file, whatever its container: by content, never by name.
///
/// # Errors
/// With the reason, in one line, where the file is broken, hostile or without tensors.
pub fn parse(bytes: &Bytes) -> Result<Contents, String> {
    match crate::checkpoint::container::safetensors::looks_like(bytes) {
        true => crate::checkpoint::container::safetensors::read(bytes),
        false => crate::checkpoint::container::torch::read(bytes),
    }
}

/// Reads arbitrary bytes, for fuzzing: a first byte of 0 means that a bare pickle follows, whose
/// storages all are the same 4 KiB (a fuzzer would never get past the sums of an archive); anything
/// else is the content of a file. What could be read is used. Whether anything could.
pub fn probe(data: &[u8]) -> bool {
    const STORAGE: [u8; 4096] = {
        let mut bytes = [0; 4096];
        let mut i = 0;
        while i < bytes.len() {
            bytes[i] = (i * 7) as u8;
            i += 1;
        }
        bytes
    };
    let contents = match data {
        [0, pickle @ ..] => crate::checkpoint::container::torch::read_pickle(
            &pickle.to_vec().into(),
            &STORAGE.to_vec().into(),
        ),
        _ => parse(&data.to_vec().into()),
    };
    contents.is_ok_and(|contents| {
        contents.tensors.values().all(|tensor| tensor.to_f32().len() == tensor.len())
    })
}

/// A checkpoint of one file.
fn open_file(path: &Path) -> Result<RawCheckpoint> {
    let bytes = Bytes::map(path)?;
    let contents = parse(&bytes).map_err(|reason| Error::corrupt(path, reason))?;
    Ok(RawCheckpoint {
        tensors: contents.tensors,
        unread: contents.unread,
        configs: Vec::new(),
        files: vec![(path.to_path_buf(), bytes)],
        notes: contents.notes,
        hparams: contents.hparams,
        container: contents.container,
    })
}

/// DALL-E's dVAE as published: a file for each half. Their names get the half's in front.
fn open_halves(halves: [(&str, PathBuf); 2]) -> Result<RawCheckpoint> {
    let mut checkpoint = RawCheckpoint::default();
    for (side, file) in halves {
        let mut half = open_file(&file)?;
        let renamed = half.tensors.into_iter().map(|(name, t)| (format!("{side}.{name}"), t));
        checkpoint.tensors.extend(renamed);
        let renamed = half.unread.into_iter().map(|(name, t)| (format!("{side}.{name}"), t));
        checkpoint.unread.extend(renamed);
        checkpoint.notes.append(&mut half.notes);
        checkpoint.hparams = checkpoint.hparams.or(half.hparams);
        checkpoint.files.append(&mut half.files);
        checkpoint.container = half.container;
    }
    Ok(checkpoint)
}

/// A checkpoint of several files, where an index says which tensor lies in which.
fn open_sharded(index: &Path) -> Result<RawCheckpoint> {
    let shards = crate::checkpoint::find::weights::read_index(index)?;
    let folder = index.parent().unwrap_or(Path::new("."));
    let missing: Vec<&String> = shards.keys().filter(|file| !folder.join(file).is_file()).collect();
    if let Some(first) = missing.first() {
        let (count, of) = (missing.len(), shards.len());
        let what = format!(
            "parts of it aren't there ({count} of {of}), such as {}; download them into its folder",
            quoted(first)
        );
        return Err(Error::corrupt(index, what));
    }
    let mut checkpoint = RawCheckpoint::default();
    for (file, names) in shards {
        let mut shard = open_file(&folder.join(&file))?;
        for name in names {
            if let Some(kind) = shard.unread.remove(&name) {
                checkpoint.unread.insert(name, kind);
                continue;
            }
            let tensor = shard.tensors.remove(&name).ok_or_else(|| {
                let name = quoted(&name);
                Error::corrupt(
                    index,
                    format!("tensor {name} is not in {file}; download both again"),
                )
            })?;
            checkpoint.tensors.insert(name, tensor);
        }
        if !shard.tensors.is_empty() {
            let count = shard.tensors.len();
            checkpoint.notes.push(format!("{count} tensors of {file} are not in the index"));
        }
        checkpoint.notes.append(&mut shard.notes);
        checkpoint.files.append(&mut shard.files);
        checkpoint.container = format!("{}, sharded", shard.container);
    }
    Ok(checkpoint)
}

/// The sha256 of `bytes` in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
