//! Owns what the `dataset.json` of a finished output says of its shards and classes. Must not know:
//! rows.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use crate::audit::{TokenFile, sources};
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::{commit, dataset};
use crate::util::hex::{hex, sha256_hex};

/// Bytes of `dataset.json` at most.
const DATASET_BYTES_MAX: u64 = 1 << 32;

/// A part of the list of shards, found to be the one that `dataset.json` names.
fn part_of(dir: &Path, name: &str, sha256: Option<&str>) -> Result<Value> {
    let path = dir.join(name);
    let bytes = storage::read(&path, DATASET_BYTES_MAX).map_err(Error::of_output(&path))?;
    if sha256 != Some(&*sha256_hex(&bytes)) {
        return Err(Error::corrupt(
            &path,
            "its sha256 isn't the one in dataset.json; `vqtok verify` tells what is wrong",
        ));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(&path, format!("no JSON: {error}")))
}

/// What it says; nothing where there is none.
#[derive(Default)]
pub(super) struct Whole {
    pub bytes: Vec<u8>,
    /// Names of the classes in the order of their ids.
    pub classes: Vec<String>,
    /// sha256 of the shards, by their names.
    shards: BTreeMap<String, String>,
}

impl Whole {
    /// That of the output `dir`.
    ///
    /// # Errors
    /// One that can't be read, is damaged, or another output's.
    pub(super) fn read(dir: &Path) -> Result<Whole> {
        let path = dir.join("dataset.json");
        // One that was damaged would give other names to classes.
        if dataset::read(dir)?.is_none() {
            return Ok(Whole::default());
        }
        if let Some(shard) = sources::foreign_summary(dir) {
            let reason = format!("it is another output's: {shard} is of another plan");
            return Err(Error::damaged(&path, reason));
        }
        let bytes = storage::read(&path, DATASET_BYTES_MAX).map_err(Error::io(&path))?;
        let json: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::damaged(&path, format!("no JSON: {error}")))?;
        let text = |value: &Value| value.as_str().map(str::to_string);
        let list = |name: &str| json[name].as_array().cloned().unwrap_or_default();
        let classes = list("classes").iter().filter_map(text).collect();
        let shard = |shard: &Value| {
            let path = text(&shard["tokens"]["path"])?;
            Some((path.rsplit('/').next()?.to_string(), text(&shard["tokens"]["sha256"])?))
        };
        let mut shards: BTreeMap<String, String> =
            list("shards").iter().filter_map(shard).collect();
        for part in list("parts") {
            let name = text(&part["shards"]["path"]).unwrap_or_default();
            let listed = part_of(dir, &name, part["shards"]["sha256"].as_str())?;
            let listed = listed["shards"].as_array().cloned().unwrap_or_default();
            shards.extend(listed.iter().filter_map(shard));
        }
        Ok(Whole { bytes, classes, shards })
    }

    /// Refuses a source whose shards aren't those that it names: a bit that was lost is another token.
    ///
    /// # Errors
    /// The first such shard; one that can't be read.
    pub(super) fn check(&self, file: &TokenFile) -> Result<()> {
        let tables: Vec<_> = file.tables().map(|table| table.path.as_ref()).collect();
        tables.par_iter().try_for_each(|path: &&Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match self.shards.get(name) {
                Some(told) if hex(commit::digest_file(path)?.0) != *told => Err(Error::corrupt(
                    *path,
                    "its sha256 isn't the one in dataset.json; `vqtok verify` tells what is wrong, \
                     `vqtok repair` makes it again",
                )),
                _ => Ok(()),
            }
        })
    }
}
