//! Owns what a training leaves to be looked at while it runs and afterwards: lines, TensorBoard's
//! events, pictures. Must not know: how training works, what the numbers mean.
//!
//! ```text
//! training.jsonl                              one line a report; a finished run's last is its summary
//! tensorboard/events.out.tfevents.vqtok       the same numbers, pictures, histograms of the codes
//! samples/step-000100.png                     held-out images above their reconstructions
//! ```
//!
//! A checkpoint knows how long the first two were; a resumed run cuts what lies after, and makes
//! it again. Nothing goes into them but what the run computes, wall times of events apart.

use std::io::Write;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Serialize;
use serde_json::{Value, json};

use super::tensorboard::{EventFile, Value as Shown};
use crate::data::contact_sheet::png;
use crate::error::{Error, Result};
use crate::metrics::{CodeCounts, LevelUse};
use crate::train::trainer::state::Lengths;
use crate::train::trainer::step_report::StepReport;
use crate::util::output_file::OutputFile;
use crate::util::regular_file::ANY_SIZE;
use crate::util::{atomic_file, fail_point, regular_file, text};

/// The file of lines in a model folder.
pub(crate) const LINES: &str = "training.jsonl";
/// The folder of events.
pub(crate) const EVENTS: &str = "tensorboard";
/// The folder of pictures.
pub(crate) const SAMPLES: &str = "samples";
const EVENT_FILE: &str = "events.out.tfevents.vqtok";

/// The record of one training, open for more.
pub(crate) struct Record {
    folder: PathBuf,
    lines: OutputFile,
    line_bytes: u64,
    events: EventFile,
}

impl Record {
    /// Opens or creates the record in `folder` and cuts what lies after `keep`.
    pub(crate) fn open(folder: &Path, keep: Lengths) -> Result<Record> {
        let path = folder.join(LINES);
        let (lines, line_bytes) =
            OutputFile::append(&path, keep.lines, whole_lines).map_err(Error::io(&path))?;
        let events = folder.join(EVENTS);
        create_folder(&events)?;
        let events = EventFile::open(&events.join(EVENT_FILE), keep.events)?;
        Ok(Record { folder: folder.to_path_buf(), lines, line_bytes, events })
    }

    /// What is missing of the `keep` that it was opened with, in words; None where it is all there.
    pub(crate) fn lost(&self, keep: Lengths) -> Option<String> {
        let now = self.lengths();
        let files = [(LINES, now.lines < keep.lines), (EVENTS, now.events < keep.events)];
        let lost: Vec<_> = files.iter().filter(|(_, lost)| *lost).map(|(name, _)| *name).collect();
        (!lost.is_empty()).then(|| {
            format!(
                "{}: a part of the training's record is gone ({}); the training goes on, and so \
                 does what is left of it",
                text::path(&self.folder),
                lost.join(", ")
            )
        })
    }

    /// Its lengths now.
    pub(crate) fn lengths(&self) -> Lengths {
        Lengths { lines: self.line_bytes, events: self.events.bytes() }
    }

    /// Adds the fields of `line` as a line, and its numbers to the events.
    pub(crate) fn line(&mut self, step: usize, line: &impl Serialize) -> Result<()> {
        let value = self.note(line)?;
        self.events.add(step, scalars(&value, ""))
    }

    /// Adds the uses of each code since the last call to the events.
    pub(crate) fn codes(&mut self, step: usize, uses: &[u64]) -> Result<()> {
        self.events
            .add(step, vec![Shown::codes("codes", uses), Shown::uses("uses of a code", uses)])
    }

    /// Adds a picture, `psnr` that of its reconstructions in dB.
    pub(crate) fn picture(&mut self, step: usize, picture: &RgbImage, psnr: f64) -> Result<()> {
        let name = format!("{SAMPLES}/step-{step:06}.png");
        let path = self.folder.join(&name);
        let folder = self.folder.join(SAMPLES);
        create_folder(&folder)?;
        let bytes = png(picture)?;
        atomic_file::write(&path, &bytes)?;
        let (width, height) = picture.dimensions();
        self.line(step, &json!({"step": step, "pictures_psnr": psnr, "picture": name}))?;
        self.events.add(step, vec![Shown::image("reconstructions", width, height, &bytes)])
    }

    /// Adds what the user was warned of.
    pub(crate) fn warning(&mut self, step: usize, text: &str) -> Result<()> {
        self.note(&json!({"step": step, "warning": text})).map(|_| ())
    }

    /// Adds the last line; its numbers are shown under `summary/`.
    pub(crate) fn summary(&mut self, step: usize, summary: &impl Serialize) -> Result<()> {
        let value = self.note(summary)?;
        self.events.add(step, scalars(&value, "summary/"))
    }

    /// All of it is on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.lines.sync().map_err(Error::io(self.folder.join(LINES)))?;
        self.events.sync()
    }

    /// The lines so far, those that are JSON.
    pub(crate) fn read_lines(&self) -> Result<Vec<Value>> {
        let path = self.folder.join(LINES);
        let bytes = regular_file::read(&path, ANY_SIZE).map_err(Error::io(&path))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The pictures that `lines` name, with their steps; those that can't be read are left out.
    pub(crate) fn read_pictures(&self, lines: &[Value]) -> Vec<(usize, RgbImage)> {
        let picture = |line: &Value| {
            let bytes =
                regular_file::read(&self.folder.join(line["picture"].as_str()?), ANY_SIZE).ok()?;
            let image =
                image::load_from_memory_with_format(&bytes, image::ImageFormat::Png).ok()?;
            Some((line["step"].as_u64()? as usize, image.into_rgb8()))
        };
        lines.iter().filter_map(picture).collect()
    }

    fn note(&mut self, line: &impl Serialize) -> Result<Value> {
        let value = serde_json::to_value(line)
            .map_err(|e| Error::invalid(format!("a line of the training record: {e}")))?;
        let text = format!("{value}\n");
        self.lines.write_all(text.as_bytes()).map_err(Error::io(self.folder.join(LINES)))?;
        self.line_bytes += text.len() as u64;
        Ok(value)
    }
}

/// Bytes of the whole lines of a file.
fn whole_lines(path: &Path) -> std::io::Result<u64> {
    let bytes = regular_file::read(path, ANY_SIZE)?;
    Ok(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last as u64 + 1))
}

/// A folder of the record's.
fn create_folder(folder: &Path) -> Result<()> {
    fail_point::pass("folder", folder)
        .and_then(|()| std::fs::create_dir_all(folder))
        .map_err(Error::io(folder))
}

/// Whether `name` is one that a record has in a model folder besides its lines.
pub(crate) fn is_part(name: &str) -> bool {
    [EVENTS, SAMPLES].contains(&name)
}

/// Removes a record that no checkpoint vouches for. What can't be removed stays and harms nobody;
/// files of others are left alone, and so are the folders that hold them.
pub(crate) fn remove(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(LINES));
    let _ = std::fs::remove_file(folder.join(EVENTS).join(EVENT_FILE));
    let _ = std::fs::remove_dir(folder.join(EVENTS));
    for entry in std::fs::read_dir(folder.join(SAMPLES)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.starts_with("step-") && n.ends_with(".png")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder.join(SAMPLES));
}

/// The finite numbers of a line by name (`a/b` for those inside others), as TensorBoard takes them;
/// yes and no as 1 and 0.
fn scalars(value: &Value, prefix: &str) -> Vec<Shown> {
    let Value::Object(fields) = value else { return Vec::new() };
    let mut shown = Vec::new();
    for (name, value) in fields {
        let tag = format!("{prefix}{name}");
        match value {
            Value::Object(_) => shown.extend(scalars(value, &format!("{tag}/"))),
            Value::Bool(yes) => shown.push(Shown::scalar(&tag, f64::from(u8::from(*yes)))),
            Value::Number(number) if tag != "step" => {
                shown.extend(number.as_f64().map(|v| Shown::scalar(&tag, v)));
            }
            _ => {}
        }
    }
    shown
}

/// A line of the training record.
#[derive(Serialize)]
pub(crate) struct LogLine<'a> {
    #[serde(flatten)]
    report: &'a StepReport,
    /// Over all steps since the last line that has them; None before the codebook starts, and
    /// where these steps are too few to speak for the data set.
    usage: Option<f64>,
    perplexity: Option<f64>,
    /// Both for each residual level, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    levels: Vec<LevelUse>,
    /// Root mean square length of the codes; none for rules without codebook.
    #[serde(skip_serializing_if = "Option::is_none")]
    codebook_norm: Option<f64>,
}

impl<'a> LogLine<'a> {
    /// Of the step `report`; `window` counts the codes since the last line that has them.
    pub(crate) fn new(
        report: &'a StepReport,
        window: Option<&CodeCounts>,
        codebook_norm: Option<f64>,
    ) -> LogLine<'a> {
        LogLine {
            report,
            usage: window.map(CodeCounts::usage),
            perplexity: window.map(CodeCounts::perplexity),
            levels: window.map(CodeCounts::by_level).unwrap_or_default(),
            codebook_norm,
        }
    }
}

#[cfg(test)]
mod tests;
