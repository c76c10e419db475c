//! Owns reading one file of weights: which container it is, by its content and never by its name.

use std::path::Path;

use super::{safetensors, torch};
use crate::checkpoint::raw::{Contents, RawCheckpoint};
use crate::error::{Error, Result};
use crate::weights::tensor::Bytes;

/// A checkpoint of one file.
///
/// # Errors
/// Where it can't be opened; else as [`parse`].
pub(crate) fn open(path: &Path) -> Result<RawCheckpoint> {
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

/// Reads the bytes of one file, whatever its container: by content, never by name.
///
/// # Errors
/// With the reason, in one line, where the file is broken, hostile or without tensors.
pub(crate) fn parse(bytes: &Bytes) -> Result<Contents, String> {
    match safetensors::looks_like(bytes) {
        true => safetensors::read(bytes),
        false => torch::read(bytes),
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
        [0, pickle @ ..] => torch::read_pickle(&pickle.to_vec().into(), &STORAGE.to_vec().into()),
        _ => parse(&data.to_vec().into()),
    };
    contents.is_ok_and(|contents| {
        contents.tensors.values().all(|tensor| tensor.to_f32().len() == tensor.len())
    })
}
