//! Owns a model folder while it is trained: the lock, the checkpoint, where the record lies, and
//! the rule that `config.json` comes last. Must not know: how training works.
//!
//! ```text
//! model/
//!   training.jsonl, tensorboard/, samples/      the record, see `record`
//!   training.html             written at the end: the record as a page
//!   model.safetensors         written at the end
//!   config.json               last: a folder without it is no model
//!   state/checkpoint.safetensors, state/lock    while training
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::TrainSummary;
use super::record::{self, LINES, Record};
use super::state::Lengths;
use super::state::{State, write_atomic};
use crate::checkpoint::folder::{CONFIG_FILE, save};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::text;

const STATE: &str = "state";
/// The page at the end.
const PAGE: &str = "training.html";

/// Whether a folder holds a training that has no model yet.
pub fn unfinished(folder: &Path) -> bool {
    folder.join(LINES).exists() && !folder.join(CONFIG_FILE).exists()
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
    /// None where the model is finished.
    record: Option<Record>,
    _lock: File,
}

impl Workspace {
    /// Creates or takes over `folder`.
    ///
    /// # Errors
    /// Where it holds something else, a model, an unfinished training without `resume`, or where
    /// another process is training in it.
    pub fn open(folder: &Path, resume: bool) -> Result<(Workspace, Found)> {
        let shown = text::path(&folder);
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
            Found::Finished(Box::new(last_summary(&folder.join(LINES))?))
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
        let record = match &found {
            Found::Finished(_) => None,
            Found::Unfinished(state) => Some(Record::open(folder, state.counters.record)?),
            Found::Nothing => Some(Record::open(folder, Lengths::default())?),
        };
        Ok((Workspace { folder: folder.to_path_buf(), record, _lock: lock }, found))
    }

    /// The record of the training.
    ///
    /// # Errors
    /// Where the model is finished.
    pub fn record(&mut self) -> Result<&mut Record> {
        self.record.as_mut().ok_or_else(|| Error::invalid("a finished training has no more to say"))
    }

    /// Replaces the checkpoint; the record is on the disk before it.
    pub fn checkpoint(&mut self, state: &State) -> Result<()> {
        self.record()?.sync()?;
        state.save(&checkpoint_path(&self.folder))
    }

    /// Turns the folder into a model: summary, page, weights, then `config.json`; the state goes.
    pub fn finish(
        mut self,
        summary: &TrainSummary,
        page: &str,
        config: &ModelConfig,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let record = self.record()?;
        record.summary(summary.steps, summary)?;
        record.sync()?;
        write_atomic(&self.folder.join(PAGE), page.as_bytes())?;
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
        record::remove(&self.folder);
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
    // Names that a folder of others may well have are ours only beside the record's lines.
    let begun = folder.join(LINES).exists();
    let mut strangers = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned();
        let named = [STATE, LINES].contains(&name.as_str())
            || ["model.safetensors", CONFIG_FILE].iter().any(|part| name.contains(part));
        let shown = begun && (record::is_part(&name) || name.starts_with(PAGE));
        if !named && !shown {
            strangers.push(name);
        }
    }
    strangers.sort();
    match strangers.first() {
        Some(name) => Err(Error::Mismatch(format!(
            "{} is no model folder: it holds {name:?}; give a path that doesn't exist yet",
            text::path(&folder)
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
            text::path(&folder)
        ))),
        Err(TryLockError::Error(e)) => Err(Error::io(path)(e)),
    }
}

/// The summary at the end of a finished run's record.
fn last_summary(path: &Path) -> Result<TrainSummary> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| {
        Error::corrupt(path, "has no summary at its end: the model was not trained here to its end")
    })
}
