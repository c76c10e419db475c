//! Owns looking at what tokenizing would plan, without a model or an output, and at what has changed
//! since an output was planned.

use std::path::{Path, PathBuf};

use super::events::Observer;
use super::inputs::Inputs;
use super::plan::{changes, no_image};
use crate::data::source::labels::LabelLevel;
use crate::data::source::stream::Found;
use crate::data::{Skipped, SourceImage};
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::changes::Group;
use crate::tokens::{Plan, PlanRow};
use crate::util::settings::ROWS;
use crate::util::text;

/// Images that are shown at most.
const ROWS_MAX: usize = 1 << 20;

/// A look at inputs: what [`Tokenize`](super::Tokenize) would plan.
#[derive(Debug, Clone)]
pub struct Survey {
    inputs: Inputs,
    rows: usize,
}

/// What tokenizing would plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SurveySummary {
    /// Images.
    pub images: u64,
    /// Those among them that can't be read, as their containers and lists say already.
    pub faulty: u64,
    /// Files that hold several images.
    pub containers: u64,
    /// Bytes of all files, containers as a whole.
    pub bytes: u64,
    /// What is passed over, and what is odd.
    pub skipped: Skipped,
    /// Which folder of a key is its label, where nothing else says one.
    pub label_level: LabelLevel,
    /// The first images.
    pub rows: Vec<SurveyedImage>,
}

/// An image that would be planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyedImage {
    /// Its name in the output.
    pub key: String,
    /// The file that holds it, as a URI.
    pub uri: String,
    /// Its name in that file, where that holds several.
    pub member: Option<String>,
    /// Its size, where its source says it.
    pub bytes: Option<u64>,
    /// Its class.
    pub label: Option<String>,
    /// Its text.
    pub caption: Option<String>,
    /// Anything else known of it, as a JSON object.
    pub meta_json: Option<String>,
    /// Why it can't be read.
    pub fault: Option<String>,
}

/// What has changed between the plan of an output and today's inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputChanges {
    /// Images of the plan.
    pub planned: u64,
    /// Images of today.
    pub found: u64,
    /// Keys that weren't planned.
    pub new: ChangedImages,
    /// Planned keys that aren't there.
    pub gone: ChangedImages,
    /// Images of another size, or with something else beside them.
    pub changed: ChangedImages,
    /// Images with captions, labels or metadata beside them, which an output that was begun without
    /// such doesn't take.
    pub unplanned_facts: u64,
    /// Whether the same images come in another order.
    pub reordered: bool,
    /// Whether the counts are estimates, as very many images differ.
    pub about: bool,
}

/// Images of one kind of change.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ChangedImages {
    /// How many.
    pub count: u64,
    /// The first of them, up to three: keys, or what has changed in words.
    pub examples: Vec<String>,
}

impl InputChanges {
    /// Whether tokenizing would go on with the output.
    pub fn is_none(&self) -> bool {
        self.new.count + self.gone.count + self.changed.count == 0 && !self.reordered
    }
}

impl Survey {
    /// Of these inputs.
    pub fn new<P: Into<PathBuf>>(inputs: impl IntoIterator<Item = P>) -> Survey {
        Survey::of(Inputs::new(inputs))
    }

    pub(crate) fn of(inputs: Inputs) -> Survey {
        Survey { inputs, rows: 10 }
    }

    pub(super) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Takes hidden and system files and folders too.
    pub fn hidden(mut self, hidden: bool) -> Survey {
        self.inputs.hidden = hidden;
        self
    }

    /// As [`Tokenize::image_column`](super::Tokenize::image_column).
    pub fn image_column(mut self, name: impl Into<Option<String>>) -> Survey {
        self.inputs.fields.image = name.into();
        self
    }

    /// As [`Tokenize::key_column`](super::Tokenize::key_column).
    pub fn key_column(mut self, name: impl Into<Option<String>>) -> Survey {
        self.inputs.fields.key = name.into();
        self
    }

    /// As [`Tokenize::label_column`](super::Tokenize::label_column).
    pub fn label_column(mut self, name: impl Into<Option<String>>) -> Survey {
        self.inputs.fields.label = name.into();
        self
    }

    /// As [`Tokenize::caption_column`](super::Tokenize::caption_column).
    pub fn caption_column(mut self, name: impl Into<Option<String>>) -> Survey {
        self.inputs.fields.caption = name.into();
        self
    }

    /// As [`Tokenize::pass`](super::Tokenize::pass).
    pub fn pass(mut self, names: impl IntoIterator<Item = String>) -> Survey {
        self.inputs.fields.pass = names.into_iter().collect();
        self
    }

    /// How many of the first images are shown; 10 by default.
    pub fn rows(mut self, rows: usize) -> Survey {
        self.rows = rows;
        self
    }

    /// Goes over the inputs. Memory holds the images that are shown.
    ///
    /// # Errors
    /// Inputs that can't be used, or without an image; [`Error::Interrupted`] where the observer says
    /// so.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<SurveySummary> {
        if self.rows > ROWS_MAX {
            let text = format!("is at most {ROWS_MAX}, not {}", self.rows);
            return Err(Error::setting(ROWS, text));
        }
        storage::opening(|| self.run_now(observer))
    }

    fn run_now(&self, observer: &mut dyn Observer) -> Result<SurveySummary> {
        let inputs = &self.inputs;
        let mut found = inputs.images(inputs.take(), true)?;
        let layout = inputs.label_layout();
        let mut summary = SurveySummary {
            images: 0,
            faulty: 0,
            containers: 0,
            bytes: 0,
            skipped: Skipped::default(),
            label_level: layout.level(),
            rows: Vec::new(),
        };
        while let Some(item) = found.find(&mut |_| false) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            match item? {
                Found::Image(image) => summary.add(image, self.rows),
                Found::Ended(_) => {}
                Found::Container(file) | Found::Unchanged(file) => {
                    summary.containers += 1;
                    summary.bytes += file.bytes;
                }
            }
        }
        summary.skipped = found.skipped();
        match summary.images {
            0 => Err(no_image(inputs, &summary.skipped)),
            _ => Ok(summary),
        }
    }

    /// What has changed between the plan of the output in `out` and the inputs. Memory stays bounded,
    /// whatever their sizes.
    ///
    /// # Errors
    /// No plan there, or one that can't be read; inputs that can't be used; [`Error::Interrupted`]
    /// where the observer says so.
    pub fn changes(
        &self,
        out: impl AsRef<Path>,
        observer: &mut dyn Observer,
    ) -> Result<InputChanges> {
        let (plan, changes) = storage::opening(|| {
            let plan = Plan::open(out.as_ref())?;
            let changes = changes(&self.inputs, &plan, &|| observer.interrupted())?;
            Ok((plan, changes))
        })?;
        let keys = |group: &Group| ChangedImages {
            count: group.count,
            examples: group.examples.iter().map(|row: &PlanRow| row.key.clone()).collect(),
        };
        Ok(InputChanges {
            planned: changes.planned,
            found: changes.found,
            new: keys(&changes.new),
            gone: keys(&changes.gone),
            changed: ChangedImages { count: changes.changed.count, examples: changes.examples() },
            unplanned_facts: changes.unplanned_facts,
            // What was appended comes behind, wherever it lies among the inputs.
            reordered: changes.reordered && plan.files().len() == 1,
            about: changes.about,
        })
    }
}

impl SurveySummary {
    fn add(&mut self, image: SourceImage, rows: usize) {
        let SourceImage { key, uri, bytes, part, facts, fault, .. } = image;
        self.images += 1;
        self.faulty += u64::from(fault.is_some());
        if part.is_none() {
            self.bytes += bytes;
        }
        if self.rows.len() >= rows {
            return;
        }
        let label = self.label_level.label_beside(facts.label.as_deref(), &key);
        self.rows.push(SurveyedImage {
            label: label.map(str::to_string),
            caption: facts.caption,
            meta_json: facts.meta_json,
            bytes: (bytes > 0).then_some(bytes),
            member: part.map(|part| part.member),
            key,
            uri,
            fault,
        });
    }
}

impl std::fmt::Display for SurveyedImage {
    /// One line: `key: 12 KiB in file:///a.tar, label 'cat', caption 'a cat'`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::util::numbers;
        write!(f, "{}: ", text::printable(&self.key))?;
        if let Some(bytes) = self.bytes {
            write!(f, "{} ", numbers::bytes(bytes))?;
        }
        match &self.member {
            Some(member) => {
                write!(f, "in {}: {}", text::printable(&self.uri), text::printable(member))?;
            }
            None => write!(f, "at {}", text::printable(&self.uri))?,
        }
        let facts = [("label", &self.label), ("caption", &self.caption), ("and", &self.meta_json)];
        for (what, fact) in facts {
            if let Some(fact) = fact {
                write!(f, ", {what} '{}'", text::shorten(fact))?;
            }
        }
        match &self.fault {
            Some(fault) => write!(f, "; can't be read: {}", text::printable(fault)),
            None => Ok(()),
        }
    }
}
