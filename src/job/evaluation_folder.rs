//! Owns the folder of an evaluation that can go on: what it was begun with, and a file for each model
//! and each stretch of images. Must not know: what is in a file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::evaluate::reference::Reference;
use crate::evaluate::rows::Part;
use crate::tokens::folder_lock::FolderLock;
use crate::util::json_diff::{self, Names};
use crate::util::settings::{INCEPTION, OUT, REFERENCE};
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
            Err(error) if error.kind() == ErrorKind::NotFound => {
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
        let models = (0..models).map(|model| made_with(model, settings)).collect();
        Ok(EvaluationFolder { dir: dir.to_path_buf(), models, _lock: lock })
    }

    fn path(&self, model: usize, part: usize) -> PathBuf {
        part_path(&self.dir, model, part)
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

fn part_path(dir: &Path, model: usize, part: usize) -> PathBuf {
    dir.join(name(model)).join(format!("part-{part:05}.parquet"))
}

/// What a model's files are made with.
fn made_with(model: usize, settings: &Value) -> String {
    format!("{model} {settings}")
}

/// The images of an evaluation whose features come from the weights of this sha256, as its first model took
/// them.
///
/// # Errors
/// A folder of anything else, or without features, or of other weights; a part that can't be read.
pub(super) fn reference(dir: &Path, inception: &str) -> Result<Reference> {
    let refused = |what: &str| {
        Error::setting(
            REFERENCE,
            format!("{}: {what}; give the {OUT} of an evaluation with it", text::path(dir)),
        )
    };
    let bytes = std::fs::read(dir.join(SETTINGS)).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            refused(&format!("no evaluation was kept there ({SETTINGS} is missing)"))
        }
        _ => Error::io(dir.join(SETTINGS))(error),
    })?;
    let settings: Value = unique_json::from_slice(&bytes).map_err(|error| {
        Error::corrupt(dir.join(SETTINGS), format!("no settings of an evaluation: {error}"))
    })?;
    match settings["inception"].as_str() {
        None => return Err(refused(&format!("it was made without {INCEPTION}"))),
        Some(other) if other != inception => {
            return Err(refused(&format!(
                "its features come from other weights than {INCEPTION}'s"
            )));
        }
        Some(_) => {}
    }
    let mut images = Reference::default();
    for part in 0.. {
        let path = part_path(dir, 0, part);
        if !path.exists() {
            break;
        }
        let rows = Part::read(&path, &made_with(0, &settings))?;
        images.add(&rows).map_err(|reason| Error::corrupt(&path, reason))?;
    }
    match images.count() {
        0 | 1 => Err(refused("it has fewer than two images")),
        _ => Ok(images),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::evaluate::rows::{Found, Row};

    /// Parts of so many images with features each, or without, in the folder of an evaluation.
    fn kept(dir: &Path, settings: &Value, parts: &[usize], features: bool) {
        let folder = EvaluationFolder::open(dir, settings, 1).unwrap();
        for (part, &images) in parts.iter().enumerate() {
            let row = |at: usize| Row {
                key: format!("{part}/{at}"),
                label: None,
                image: [8, 8],
                found: Ok(Found {
                    features: features.then(|| [vec![at as f32, 1.0], vec![0.5, 0.5]]),
                    ..Found::default()
                }),
            };
            let rows = Part { rows: (0..images).map(row).collect(), seconds: 1.0 };
            folder.write([0, part], &rows).unwrap();
        }
    }

    #[test]
    fn images_of_another_evaluation_are_read_whole_or_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = |name: &str| scratch.path().join(name);
        let of = |inception: Value| json!({"schema": "evaluation.v1", "inception": inception});
        kept(&dir("whole"), &of(json!("abc")), &[3, 2], true);
        assert_eq!(reference(&dir("whole"), "abc").unwrap().count(), 5);
        let refused = |name: &str| match reference(&dir(name), "abc") {
            Ok(_) => panic!("{name} was taken"),
            Err(error) => error.to_string(),
        };
        kept(&dir("others"), &of(json!("abd")), &[3], true);
        assert!(refused("others").contains("come from other weights than"));
        kept(&dir("without"), &of(Value::Null), &[3], false);
        assert!(refused("without").contains("it was made without"));
        kept(&dir("one"), &of(json!("abc")), &[1], true);
        assert!(refused("one").contains("fewer than two images"));
        std::fs::create_dir(dir("empty")).unwrap();
        for name in ["empty", "nowhere"] {
            assert!(refused(name).contains("no evaluation was kept there"), "{name}");
        }
        // A part that is another's, or damaged, is no part of the set.
        let first = part_path(&dir("whole"), 0, 0);
        std::fs::copy(part_path(&dir("others"), 0, 0), &first).unwrap();
        assert!(refused("whole").contains("part-00000.parquet"), "{}", refused("whole"));
    }
}
