//! Owns what the jobs report while they run, and who can stop them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::audit::sources::Sources;
use crate::audit::{BadRows, VerifyReport};
use crate::config::Recipe;
use crate::data::Skipped;
use crate::data::source::labels::{LabelLayout, LabelLevel};
use crate::error::Reject;
use crate::export;
use crate::findings;
use crate::pipeline;
use crate::train::{self, Evaluation, TrainSummary};
use crate::util::numbers::counted;
use crate::util::text;

/// What happens while a job runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The inputs were listed for training or reconstructing.
    Listed(&'a Skipped),
    /// Where no device was asked for, or all cards: what images are encoded on.
    Device {
        /// In words.
        name: &'a str,
    },
    /// The inputs are planned, or found to be those of the plan that is there.
    Planned(&'a Planned<'a>),
    /// Work of a known length begins.
    Begin {
        /// `tokenize`, `decode`, `index`, `export`, `audit` or `diff`.
        stage: &'static str,
        /// Images of it.
        images: u64,
    },
    /// Tokenizing goes on.
    Tokenizing(&'a pipeline::Event<'a>),
    /// One pass over images has ended.
    Tokenized(&'a Pass),
    /// What [`Repair`](super::Repair) found and is going to do.
    Damage(&'a DamageReport),
    /// There is nothing to resume: a new training by this recipe begins.
    NothingToResume {
        /// The model's folder.
        model: &'a Path,
        /// What it is trained by.
        recipe: &'a Recipe,
    },
    /// The training asked for was finished before.
    AlreadyTrained {
        /// The model's folder.
        model: &'a Path,
        /// Steps that it was trained for.
        steps: usize,
        /// Its figures.
        evaluation: &'a Evaluation,
    },
    /// A training is about to begin or to go on.
    BeginTraining {
        /// The model's folder.
        model: &'a Path,
        /// What it is trained by.
        recipe: &'a Recipe,
    },
    /// Training goes on.
    Training(&'a train::Event<'a>),
    /// A training has ended, and there is a model.
    Trained {
        /// The model's folder.
        model: &'a Path,
        /// What it was trained by.
        recipe: &'a Recipe,
        /// Its figures.
        summary: &'a TrainSummary,
    },
    /// The files that tokens are read from, with what is missing or foreign among them.
    Sources(&'a Sources),
    /// Tokens of another model are decoded, as was asked for.
    OtherModel(&'a OtherModel),
    /// Rows that don't say their grid are read as another one than the model's own.
    OtherGrid(&'a OtherGrid<'a>),
    /// A row was decoded, or passed over on the way to those on a sheet.
    Decoded,
    /// A row was looked at or exported.
    Exported,
    /// A row was audited or compared.
    Audited,
    /// Rows that can't be decoded or exported.
    BadRows(&'a BadRows),
    /// An image that can't be reconstructed.
    Unreconstructed {
        /// Its key.
        key: &'a str,
        /// Why.
        reject: &'a Reject,
    },
}

/// Who is told, and who can stop a job. `()` hears nothing and stops nothing.
pub trait Observer {
    /// Called from the calling thread.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// Asked again and again: true ends the job with
    /// [`Error::Interrupted`](crate::Error::Interrupted). What is committed stays, and the same job
    /// goes on from there.
    fn interrupted(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// Passes on what the rooms below report.
pub(super) struct Relay<'a>(pub(super) &'a mut dyn Observer);

impl pipeline::Observer for Relay<'_> {
    fn event(&mut self, event: &pipeline::Event<'_>) {
        self.0.event(&Event::Tokenizing(event));
    }

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

impl findings::Observer for Relay<'_> {
    fn event(&mut self, event: &findings::Event<'_>) {
        match *event {
            findings::Event::Sources(sources) => self.0.event(&Event::Sources(sources)),
            findings::Event::Begin { stage, rows: images } => {
                self.0.event(&Event::Begin { stage, images });
            }
            findings::Event::Row => self.0.event(&Event::Audited),
            findings::Event::BadRows(bad) => self.0.event(&Event::BadRows(bad)),
        }
    }

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

impl export::Observer for Relay<'_> {
    fn event(&mut self, event: &export::Event<'_>) {
        match *event {
            export::Event::Sources(sources) => self.0.event(&Event::Sources(sources)),
            export::Event::Begin { stage, rows: images } => {
                self.0.event(&Event::Begin { stage, images });
            }
            export::Event::Row => self.0.event(&Event::Exported),
            export::Event::BadRows(bad) => self.0.event(&Event::BadRows(bad)),
        }
    }

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

impl train::Observer for Relay<'_> {
    fn event(&mut self, event: &train::Event<'_>) {
        self.0.event(&Event::Training(event));
    }

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

/// What a job is about to do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Planned<'a> {
    /// Images of the plan.
    pub images: u64,
    /// Partitions of the plan, a shard each.
    pub partitions: usize,
    /// What was passed over.
    pub skipped: &'a Skipped,
    /// Files that have another size than was planned, and may.
    pub resized: u64,
    /// Containers that look as they did when they were planned, and weren't listed again.
    pub unchanged: u64,
    /// The folders that a moved input was in and is in now, as URIs.
    pub moved: Option<(&'a str, &'a str)>,
    /// Whether what vqtok wrote itself is among the images, as an earlier version planned it.
    pub own: bool,
    /// Images with labels, captions or metadata beside them that the output was begun without.
    pub unplanned_facts: u64,
    /// Which folder of a key is its label.
    pub label_level: LabelLevel,
    /// How many classes have ids; None where none has: there are too many, or the output was begun
    /// without.
    pub classes: Option<usize>,
    /// Whether there are too many classes for ids.
    pub too_many_classes: bool,
    /// What the first folders of the inputs look like, where that was looked at.
    pub layout: Option<&'a LabelLayout>,
    /// Which folder would be the label of today's inputs alone, where that is another one than the
    /// output was begun with and images are appended.
    pub other_level: Option<LabelLevel>,
    /// How today's images stand to the plans', where images were appended or are to be.
    pub appended: Option<Appended>,
    /// The first of the images that have changed since, in words.
    pub changed: &'a [String],
}

/// How today's images stand to those of an output that images are appended to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// Images that no plan had: they have one of their own now.
    pub new: u64,
    /// Images that were planned before.
    pub known: u64,
    /// How many of these have changed since; their rows stay.
    pub changed: u64,
    /// Planned images that aren't among today's inputs, whose rows stay; 0 where none of the planned
    /// ones is.
    pub gone: u64,
}

/// One pass over images that were to do.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Pass {
    /// Images of it.
    pub images: u64,
    /// What became of them.
    pub summary: pipeline::Summary,
}

/// What is wrong with an output before it is repaired.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DamageReport {
    /// The output's folder.
    pub dir: PathBuf,
    /// What [`verify`](crate::verify()) finds.
    pub report: VerifyReport,
    /// Partitions that are there and have to be rebuilt.
    pub partitions: usize,
}

/// Rows that don't say their grid and are read as another one than the model's own; told once for
/// each number of tokens, up to ten.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct OtherGrid<'a> {
    /// Tokens of such a row.
    pub tokens: usize,
    /// The file of the first one.
    pub file: &'a Path,
    /// Its number there, from 0.
    pub row: u64,
    /// (height, width) that it is read as, in tokens.
    pub grid: (usize, usize),
    /// (height, width) that the model was made for.
    pub model_grid: (usize, usize),
}

/// Tokens that were made by another model than the one that decodes them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OtherModel {
    /// The first file of such tokens.
    pub file: PathBuf,
    /// How many files have such tokens.
    pub files: usize,
    /// What they were made by.
    pub made_by: ModelIdentity,
    /// Where the model lies that decodes them.
    pub model: PathBuf,
    /// What it is.
    pub decoder: ModelIdentity,
}

/// What identifies a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelIdentity {
    /// Its family.
    pub family: String,
    /// Hex sha256 of all its weights.
    pub weights_sha256: String,
    /// Hex sha256 of its codebook; empty where it has none.
    pub codebook_sha256: String,
}

impl fmt::Display for ModelIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = |digest: &str| {
            text::printable(&digest.chars().take(12).collect::<String>()).into_owned()
        };
        let codebook = match &*self.codebook_sha256 {
            "" => "no codebook".to_string(),
            digest => format!("codebook {}", start(digest)),
        };
        let (family, weights) = (text::shorten(&self.family), start(&self.weights_sha256));
        write!(f, "{family} with weights {weights} and {codebook}")
    }
}

impl fmt::Display for OtherModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = match self.files {
            1 => String::new(),
            count => format!(" (and those of {} more)", counted(count - 1, "file")),
        };
        write!(
            f,
            "the tokens of {}{more} are of another model, {}, than {}, {}",
            text::path(&self.file),
            self.made_by,
            text::path(&self.model),
            self.decoder,
        )
    }
}
