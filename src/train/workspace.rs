//! Owns a model folder while it is trained: the lock, the checkpoint, the record, and the rule
//! that `config.json` comes last. Must not know: how training works.
//!
//! ```text
//! model/
//!   training.jsonl            one line a report; the last one of a finished run is its summary
//!   model.safetensors         written at the end
//!   config.json               last: a folder without it is no model
//!   state/checkpoint.safetensors, state/lock    while training
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde::Serialize;

use super::TrainSummary;
use super::state::{State, write_atomic};
use crate::checkpoint::folder::{CONFIG_FILE, save};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;

const STATE: &str = "state";
const RECORD: &str = "training.jsonl";

/// Whether a folder holds a training that has no model yet.
pub fn unfinished(folder: &Path) -> bool {
    folder.join(RECORD).exists() && !folder.join(CONFIG_FILE).exists()
}

/// What a folder held when it was opened.
pub enum Found {
    /// Nothing of a training.
    Nothing,
    /// A checkpoint to go on from.
    Unfinished(Box<State>),
    /// A finished model.
    Finished(Box<TrainSummary>),
}

/// A model folder that this process holds.
pub struct Workspace {
    folder: PathBuf,
    record: File,
    record_bytes: u64,
    _lock: File,
}

impl Workspace {
    /// Creates or takes over `folder`.
    ///
    /// # Errors
    /// Where it holds something else, a model, an unfinished training without `resume`, or where
    /// another process is training in it.
    pub fn open(folder: &Path, resume: bool) -> Result<(Workspace, Found)> {
        let shown = folder.display();
        if folder.join(CONFIG_FILE).exists() && !resume {
            return Err(Error::Mismatch(format!(
                "{shown} already holds a model; give another path or remove it to train again"
            )));
        }
        refuse_strangers(folder)?;
        let state = folder.join(STATE);
        std::fs::create_dir_all(&state).map_err(Error::io(&state))?;
        let lock = lock(&state.join("lock"), folder)?;
        let path = checkpoint_path(folder);
        let found = if folder.join(CONFIG_FILE).exists() {
            Found::Finished(Box::new(last_summary(&folder.join(RECORD))?))
        } else if path.exists() {
            if !resume {
                return Err(Error::Mismatch(format!(
                    "{shown} holds an unfinished training; go on with --resume, or remove the \
                     folder to start again"
                )));
            }
            let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
            Found::Unfinished(Box::new(State::from_bytes(&bytes, &path)?))
        } else {
            Found::Nothing
        };
        let keep = match &found {
            Found::Unfinished(state) => state.counters.record_bytes,
            Found::Finished(_) => u64::MAX,
            Found::Nothing => 0,
        };
        let (record, record_bytes) = open_record(&folder.join(RECORD), keep)?;
        let folder = folder.to_path_buf();
        Ok((Workspace { folder, record, record_bytes, _lock: lock }, found))
    }

    /// Bytes of the record so far.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Appends one line to the record.
    pub fn note(&mut self, line: &impl Serialize) -> Result<()> {
        let path = self.folder.join(RECORD);
        let mut text = serde_json::to_string(line)
            .map_err(|e| Error::invalid(format!("a line of the training record: {e}")))?;
        text.push('\n');
        self.record.write_all(text.as_bytes()).map_err(Error::io(path))?;
        self.record_bytes += text.len() as u64;
        Ok(())
    }

    /// Replaces the checkpoint; the record is on the disk before it.
    pub fn checkpoint(&mut self, state: &State) -> Result<()> {
        self.record.sync_all().map_err(Error::io(self.folder.join(RECORD)))?;
        write_atomic(&checkpoint_path(&self.folder), &state.to_bytes()?)
    }

    /// Turns the folder into a model: summary, weights, then `config.json`; the state goes.
    pub fn finish(
        mut self,
        summary: &TrainSummary,
        config: &ModelConfig,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        self.note(summary)?;
        self.record.sync_all().map_err(Error::io(self.folder.join(RECORD)))?;
        save(&self.folder, config, weights)?;
        self.tidy()
    }

    /// Removes the state of a finished training.
    pub fn tidy(self) -> Result<()> {
        let state = self.folder.join(STATE);
        std::fs::remove_dir_all(&state).map_err(Error::io(&state))
    }
}

impl Drop for Workspace {
    /// A training that ended before its first checkpoint leaves nothing behind. What can't be
    /// removed stays and harms nobody: a folder without `config.json` is no model.
    fn drop(&mut self) {
        if self.folder.join(CONFIG_FILE).exists() || checkpoint_path(&self.folder).exists() {
            return;
        }
        let _ = std::fs::remove_dir_all(self.folder.join(STATE));
        let _ = std::fs::remove_file(self.folder.join(RECORD));
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join(STATE).join("checkpoint.safetensors")
}

/// A folder with anything but a training's own files is not ours to write into.
fn refuse_strangers(folder: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(folder)(e)),
    };
    if folder.join(CONFIG_FILE).exists() {
        return Ok(());
    }
    let mut strangers = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned();
        let ours = name == STATE || name == RECORD || name.contains("model.safetensors");
        if !ours && !name.contains(CONFIG_FILE) {
            strangers.push(name);
        }
    }
    strangers.sort();
    match strangers.first() {
        Some(name) => Err(Error::Mismatch(format!(
            "{} is no model folder: it holds {name:?}; give a path that doesn't exist yet",
            folder.display()
        ))),
        None => Ok(()),
    }
}

fn lock(path: &Path, folder: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy(format!(
            "{}: another process is training here; wait for it or give another path",
            folder.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Error::io(path)(e)),
    }
}

/// Opens the record and cuts what no checkpoint vouches for.
fn open_record(path: &Path, keep: u64) -> Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io(path))?;
    let cut = || -> std::io::Result<u64> {
        let bytes = file.metadata()?.len().min(keep);
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))
    };
    let mut cut = cut;
    let bytes = cut().map_err(Error::io(path))?;
    Ok((file, bytes))
}

/// The summary at the end of a finished run's record.
fn last_summary(path: &Path) -> Result<TrainSummary> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| {
        Error::corrupt(path, "has no summary at its end: the model was not trained here to its end")
    })
}
