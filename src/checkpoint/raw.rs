//! Owns what reading gives: the named tensors of a checkpoint as published, untouched, with all that
//! was found beside them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::util::text::quoted;
use crate::weights::tensor::{Bytes, RawTensor};

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
pub(crate) struct Contents {
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
    pub(super) fn refuse_empty(&self, otherwise: impl Into<String>) -> Result<(), String> {
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
