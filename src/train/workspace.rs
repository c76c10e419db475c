//! Owns a model folder while it is trained: the lock, the checkpoint, where the record lies, and
//! the rule that `config.json` comes last. Must not know: how training works.
//!
//! ```text
//! model/
//!   recipe.toml               what is trained, every setting filled in
//!   training.jsonl, tensorboard/, samples/      the record, see `record`
//!   training.html             written at the end: the record as a page
//!   model.safetensors         written at the end
//!   config.json               last: a folder without it is no model
//!   state/checkpoint.safetensors, state/images.jsonl    to go on from, also beyond the end
//!   state/checkpoint.before.safetensors         the one before, where the newest is damaged
//!   state/failed              why a training stopped for good
//!   state/lock
//! ```
//!
//! A finished model may be trained further: it stays what it is until the longer training is
//! through. Without `state/` it is as good a model, and can't be trained further.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::checkpoint::folder::{CONFIG_FILE, load_config, save, sweep};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::checkpoints::{self, Checkpoints, Taken};
use crate::train::events::TrainSummary;
use crate::train::input::manifest::Manifest;
use crate::train::input::train_data::TrainData;
use crate::train::report::record;
use crate::train::report::record::{LINES, Record};
use crate::train::trainer::state::{Lengths, State};
use crate::train::training_lock;
use crate::util::portable_fs::LockedFile;
use crate::util::regular_file::{ANY_SIZE, TEXT_BYTES_MAX};
use crate::util::settings::{INIT_FROM, MODEL, RESUME, STEPS};
use crate::util::{atomic_file, regular_file, text};

const STATE: &str = "state";
const LOCK: &str = "lock";
/// The page at the end.
const PAGE: &str = "training.html";

/// The recipe in a model folder.
pub(crate) const RECIPE_FILE: &str = "recipe.toml";

/// The entry of a model's `provenance` with the steps that it was trained for.
pub(super) const STEPS_ENTRY: &str = "training_steps";

/// Whether a folder holds a training that has no model yet.
pub(crate) fn unfinished(folder: &Path) -> bool {
    folder.join(LINES).exists() && !folder.join(CONFIG_FILE).exists()
}

/// Whether a folder holds steps that a training could go on from.
pub(crate) fn begun(folder: &Path) -> bool {
    checkpoints::exist(&folder.join(STATE))
}

/// Steps of the model in a folder, where it was trained there to its end.
pub(crate) fn finished_steps(folder: &Path) -> Option<usize> {
    // A record alone may have been lost.
    if !folder.join(LINES).exists() && !begun(folder) {
        return None;
    }
    load_config(folder).ok()?.provenance.get(STEPS_ENTRY)?.parse().ok()
}

/// Why the training in a folder stopped for good, where it did.
pub(crate) fn failed(folder: &Path) -> Option<Error> {
    let reason = regular_file::read_to_string(&failed_path(folder), TEXT_BYTES_MAX).ok()?;
    let (shown, reason) = (text::path(folder), reason.trim().to_string());
    Some(Error::mismatch(match finished_steps(folder) {
        Some(steps) => format!(
            "{shown}: the training beyond {steps} steps stopped for good: {reason}; the model of \
             {steps} steps stays as it is"
        ),
        None => format!(
            "{shown}: this training stopped for good: {reason}; it left no model. Remove {shown} to \
             train again with other settings"
        ),
    }))
}

/// What a folder held when it was opened.
pub(super) enum WorkspaceState {
    /// Nothing of a training.
    Nothing,
    /// A checkpoint to go on from.
    Unfinished(Box<Taken>),
    /// A finished model.
    Finished,
}

/// A model folder that this process holds.
pub(super) struct Workspace {
    folder: PathBuf,
    /// None where the model is finished.
    record: Option<Record>,
    checkpoints: Checkpoints,
    /// None where the file system has no locks.
    _lock: Option<LockedFile>,
}

impl Workspace {
    /// Creates or takes over `folder` for a training of `steps`.
    ///
    /// # Errors
    /// Where it holds something else, a model, a training that stopped for good, an unfinished one
    /// without `resume`, or where another process is training in it.
    pub(super) fn open(
        folder: &Path,
        resume: bool,
        steps: usize,
    ) -> Result<(Workspace, WorkspaceState)> {
        let shown = text::path(folder);
        let has_model = folder.join(CONFIG_FILE).exists();
        if has_model && !resume {
            return Err(Error::mismatch(format!(
                "{shown} already holds a model; give another path or remove it to train again, or \
                 train it further with {RESUME} and more {STEPS}"
            )));
        }
        refuse_strangers(folder)?;
        if has_model {
            refuse_to_go_on(folder, steps)?;
        }
        let state = folder.join(STATE);
        let lock = training_lock::take(&state.join(LOCK), folder)?;
        if let Some(error) = failed(folder) {
            return Err(error);
        }
        sweep(folder);
        let mut checkpoints = Checkpoints::new(state);
        let found = if has_model && finished_steps(folder) == Some(steps) {
            WorkspaceState::Finished
        } else if begun(folder) {
            if !resume {
                return Err(Error::mismatch(format!(
                    "{shown} holds an unfinished training; go on with {RESUME}, or remove the \
                     folder to start again"
                )));
            }
            let advice = match has_model {
                true => format!(
                    "the finished model stays as it is; a new training begins with its weights by \
                     {INIT_FROM} {shown} and another {MODEL}"
                ),
                false => "remove the model folder and train again".to_owned(),
            };
            match checkpoints.take(&advice)? {
                Some(taken) => WorkspaceState::Unfinished(Box::new(taken)),
                None => WorkspaceState::Nothing,
            }
        } else {
            WorkspaceState::Nothing
        };
        let folder = folder.to_path_buf();
        Ok((Workspace { folder, record: None, checkpoints, _lock: lock }, found))
    }

    /// Opens the record of a training that goes on, or begins: of what was recorded, `keep` belongs
    /// to it. Its recipe is written beside it first. What of the record is lost is said.
    pub(super) fn begin(&mut self, keep: Lengths, recipe: Option<&str>) -> Result<Option<String>> {
        let path = self.folder.join(RECIPE_FILE);
        if let Some(recipe) = recipe
            && regular_file::read(&path, ANY_SIZE).ok().as_deref() != Some(recipe.as_bytes())
        {
            atomic_file::write(&path, recipe.as_bytes())?;
        }
        let record = Record::open(&self.folder, keep)?;
        let lost = record.lost(keep);
        self.record = Some(record);
        Ok(lost)
    }

    /// The images that the training in the folder was begun with, None where it doesn't say; and
    /// what their list's damage means. Their names are known to the checkpoint as well.
    pub(super) fn images(&self) -> Result<(Option<Manifest>, Option<String>)> {
        match Manifest::read(&images_path(&self.folder)) {
            Ok(images) => Ok((images, None)),
            Err(error @ Error::Corrupt { .. }) => Ok((None, Some(format!("{error}; {UNCHECKED}")))),
            Err(error) => Err(error),
        }
    }

    /// What it means that their list isn't there.
    pub(super) fn images_missing(&self) -> String {
        format!("{} is missing; {UNCHECKED}", text::path(images_path(&self.folder)))
    }

    /// The record of the training.
    ///
    /// # Errors
    /// Where the model is finished.
    pub(super) fn record(&mut self) -> Result<&mut Record> {
        self.record.as_mut().ok_or_else(|| Error::invalid("a finished training has no more to say"))
    }

    /// Replaces the checkpoint; the record, and the list of the images of `data`, are on the disk
    /// before it.
    pub(super) fn checkpoint(
        &mut self,
        state: &State,
        images: &mut Manifest,
        data: &dyn TrainData,
    ) -> Result<()> {
        self.record()?.sync()?;
        images.write(data, &images_path(&self.folder))?;
        self.checkpoints.add(state)
    }

    /// The training stopped for good: no model comes of it, and no resumed run tries again.
    pub(super) fn fail(&mut self, step: usize, reason: &str) -> Result<()> {
        let record = self.record()?;
        record.warning(step, &format!("stopped for good: {reason}"))?;
        record.sync()?;
        atomic_file::write(&failed_path(&self.folder), format!("{reason}\n").as_bytes())
    }

    /// Turns the folder into a model: summary, page, weights, then `config.json`.
    pub(super) fn finish(
        mut self,
        summary: &TrainSummary,
        page: &str,
        config: &ModelConfig,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let record = self.record()?;
        record.summary(summary.steps, summary)?;
        record.sync()?;
        atomic_file::write(&self.folder.join(PAGE), page.as_bytes())?;
        save(&self.folder, config, weights)
    }
}

impl Drop for Workspace {
    /// A training that ended before its first checkpoint leaves nothing behind. What can't be
    /// removed stays and harms nobody: a folder without `config.json` is no model.
    fn drop(&mut self) {
        let kept = [&self.folder.join(CONFIG_FILE), &failed_path(&self.folder)];
        if begun(&self.folder) || kept.iter().any(|path| path.exists()) {
            return;
        }
        self.record = None;
        record::remove(&self.folder);
        let _ = std::fs::remove_file(self.folder.join(RECIPE_FILE));
        // The lock last, and held until then: the next training may begin from there on.
        let state = self.folder.join(STATE);
        for entry in std::fs::read_dir(&state).into_iter().flatten().flatten() {
            if entry.file_name() != LOCK {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_file(state.join(LOCK));
        let _ = std::fs::remove_dir(&state);
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// What can't be done without the list of images.
const UNCHECKED: &str = "whether the images' contents are those that the training was begun with can't \
                         be checked, only their names";

fn images_path(folder: &Path) -> PathBuf {
    folder.join(STATE).join("images.jsonl")
}

fn failed_path(folder: &Path) -> PathBuf {
    folder.join(STATE).join("failed")
}

/// A model that stands goes on to be trained only where that was begun here, for fewer steps than
/// `steps`, and its state is still there. Equally many are no work at all.
fn refuse_to_go_on(folder: &Path, steps: usize) -> Result<()> {
    let shown = text::path(folder);
    let refuse = |text: String| Err(Error::mismatch(text));
    match finished_steps(folder) {
        None => refuse(format!(
            "{shown} holds a model that was not trained there to its end by vqtok: there is nothing \
             to go on with. A new training begins with its weights by {INIT_FROM} {shown} and \
             another {MODEL}"
        )),
        Some(done) if done > steps => refuse(format!(
            "{shown} was trained for {done} steps; a training can be made longer than that, not \
             shorter ({STEPS} {steps})"
        )),
        Some(done) if done < steps && !begun(folder) => refuse(format!(
            "{shown} is a finished model of {done} steps, and the state of its training ({STATE}/) \
             is gone, so that it can't go on to {steps}. A new training begins with its weights by \
             {INIT_FROM} {shown} and another {MODEL}"
        )),
        Some(_) => Ok(()),
    }
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
    let begun = folder.join(LINES).exists() || folder.join(STATE).join(LOCK).exists();
    let mut strangers = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned();
        let named = [STATE, LINES].contains(&name.as_str())
            || ["model.safetensors", CONFIG_FILE].iter().any(|part| name.contains(part));
        let shown = begun
            && (record::is_part(&name) || name.starts_with(PAGE) || name.starts_with(RECIPE_FILE));
        if !named && !shown {
            strangers.push(name);
        }
    }
    strangers.sort();
    match strangers.first() {
        Some(name) => Err(Error::mismatch(format!(
            "{} is no model folder: it holds {name:?}; give a path that doesn't exist yet",
            text::path(folder)
        ))),
        None => Ok(()),
    }
}

/// The summary at the end of a finished run's record.
///
/// # Errors
/// Where there is none.
pub(crate) fn last_summary(folder: &Path) -> Result<TrainSummary> {
    let path = &folder.join(LINES);
    let bytes = regular_file::read(path, ANY_SIZE).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::corrupt(
            path,
            "it is gone, and with it what is known of how the training went; the model stands",
        ),
        _ => Error::io(path)(error),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| {
        Error::corrupt(path, "has no summary at its end: the model was not trained here to its end")
    })
}
