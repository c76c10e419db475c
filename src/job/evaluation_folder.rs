//! Owns the folder of an evaluation that can go on: what it was begun with, and a file for each model
//! and each stretch of images. Must not know: what is in a file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::evaluate::rows::Part;
use crate::tokens::folder_lock::FolderLock;
use crate::util::json_diff::{self, Names};
use crate::util::settings::OUT;
use crate::util::{atomic_file, overwrite, text, unique_json};

/// What the evaluation was begun with.
const SETTINGS: &str = "evaluation.json";

/// A folder for this run alone.
pub(super) struct EvaluationFolder {
    dir: PathBuf,
    /// What each model's files are made with.
    models: Vec<String>,
    _lock: FolderLock,
}

impl EvaluationFolder {
    /// A new one, or one that was begun with the same settings.
    ///
    /// # Errors
    /// A folder of anything else, or with other settings; another run at work on it.
    pub(super) fn open(dir: &Path, settings: &Value, models: usize) -> Result<EvaluationFolder> {
        overwrite::create_folder(dir)?;
        let lock = FolderLock::exclusive(dir)?;
        let path = dir.join(SETTINGS);
        match std::fs::read(&path) {
            Ok(bytes) => require_same(&path, &bytes, settings)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                require_empty(dir)?;
                let mut bytes = serde_json::to_vec_pretty(settings)
                    .map_err(|error| Error::internal(format!("settings are no JSON: {error}")))?;
                bytes.push(b'\n');
                atomic_file::write(&path, &bytes)?;
            }
            Err(error) => return Err(Error::io(&path)(error)),
        }
        for model in 0..models {
            overwrite::create_folder(&dir.join(name(model)))?;
        }
        let made_with = |model: usize| format!("{model} {settings}");
        let models = (0..models).map(made_with).collect();
        Ok(EvaluationFolder { dir: dir.to_path_buf(), models, _lock: lock })
    }

    fn path(&self, model: usize, part: usize) -> PathBuf {
        self.dir.join(name(model)).join(format!("part-{part:05}.parquet"))
    }

    /// What an earlier run found out about these images; None where none got so far.
    ///
    /// # Errors
    /// A file that can't be read; one of other images.
    pub(super) fn read<'a>(
        &self,
        [model, part]: [usize; 2],
        keys: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Option<Part>> {
        let path = self.path(model, part);
        if !path.exists() {
            return Ok(None);
        }
        let found = Part::read(&path, &self.models[model])?;
        let same = found.rows.len() == keys.len()
            && found.rows.iter().zip(keys).all(|(row, key)| row.key == key);
        match same {
            true => Ok(Some(found)),
            false => Err(Error::mismatch(format!(
                "{}: it is of other images than the inputs have now; give another {OUT}",
                text::path(&path)
            ))),
        }
    }

    /// # Errors
    /// What the system refuses.
    pub(super) fn write(&self, [model, part]: [usize; 2], rows: &Part) -> Result<()> {
        rows.write(&self.path(model, part), &self.models[model])
    }

    /// Where an earlier run's file lies, for messages.
    pub(super) fn damaged(&self, [model, part]: [usize; 2], reason: String) -> Error {
        Error::corrupt(self.path(model, part), reason)
    }
}

/// The name of a model's own folder.
pub(super) fn name(model: usize) -> String {
    format!("model-{model:02}")
}

fn require_same(path: &Path, bytes: &[u8], settings: &Value) -> Result<()> {
    let found: Value = unique_json::from_slice(bytes).map_err(|error| {
        Error::corrupt(path, format!("no settings of an evaluation: {error}; give another {OUT}"))
    })?;
    match json_diff::first(&found, settings, Names::Declared) {
        None => Ok(()),
        Some((name, was, now)) => {
            let word = |value: &Value| text::shorten(&value.to_string());
            let name = text::printable(&name).into_owned();
            Err(Error::mismatch(format!(
                "{}: that evaluation was begun with {name} {}, not {}; give another {OUT}",
                text::path(path),
                word(was),
                word(now)
            )))
        }
    }
}

fn require_empty(dir: &Path) -> Result<()> {
    let mut entries = std::fs::read_dir(dir).map_err(Error::io(dir))?;
    // A lock may lie there.
    match entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != ".lock")) {
        false => Ok(()),
        true => Err(Error::setting(
            OUT,
            format!("{}: it holds other things; give a folder of its own", text::path(dir)),
        )),
    }
}
