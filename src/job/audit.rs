//! Owns auditing what an output holds, as a job. Must not know: how anything is found.

use std::path::PathBuf;

use super::drawing::Drawing;
use super::events::{Observer, Relay};
use super::same_model;
use super::tokenizer::Tokenizer;
use crate::audit::TokenFile;
use crate::error::{Error, Result};
use crate::findings::{self, Draw, Findings, Settings};
use crate::util::settings::THRESHOLD;

/// A look at what an output holds: duplicates, leaks, images that show nothing or nothing like the
/// others, the use of its codebook.
///
/// ```no_run
/// use vqtok::{Audit, Tokenizer};
///
/// let mut tokenizer = Tokenizer::open("model/")?;
/// let findings = Audit::new("tokens/").run(Some(&mut tokenizer), &mut ())?;
/// for group in &findings.duplicates {
///     println!("{} of {} images are one: {}", group.members.len(), findings.images, group.keep);
/// }
/// # Ok::<(), vqtok::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Audit {
    settings: Settings,
    force: bool,
}

impl Audit {
    /// An output folder of vqtok, or any Parquet file with a column of tokens.
    pub fn new(input: impl Into<PathBuf>) -> Audit {
        Audit { settings: Settings { input: input.into(), ..Settings::default() }, force: false }
    }

    /// Another output of the same model, whose images shouldn't be in this one: a test set.
    pub fn against(mut self, other: impl Into<Option<PathBuf>>) -> Audit {
        self.settings.against = other.into();
        self
    }

    /// Similarity, from 0 to 1, from which two images count as one. By default estimated from the data.
    pub fn threshold(mut self, threshold: impl Into<Option<f64>>) -> Audit {
        self.settings.threshold = threshold.into();
        self
    }

    /// Beginnings of keys whose images are kept before others of their group, the first before the
    /// second. By default the largest image is kept, then the first.
    pub fn keep<K: Into<String>>(mut self, prefixes: impl IntoIterator<Item = K>) -> Audit {
        self.settings.keep = prefixes.into_iter().map(Into::into).collect();
        self
    }

    /// Takes a model that the tokens say they weren't made by.
    pub fn force(mut self, force: bool) -> Audit {
        self.force = force;
        self
    }

    /// Everything that can be refused before a model is opened.
    ///
    /// # Errors
    /// A threshold that is no similarity.
    pub fn check(&self) -> Result<()> {
        match self.settings.threshold {
            Some(threshold) if !(threshold > 0.0 && threshold <= 1.0) => Err(Error::setting(
                THRESHOLD,
                format!("{threshold}: a similarity is above 0 and at most 1"),
            )),
            _ => Ok(()),
        }
    }

    /// Runs the job. Without a model only what needs none is looked for, and the findings say so.
    ///
    /// # Errors
    /// Those of [`Audit::check`]; an output that can't be read; another model than made the tokens;
    /// [`Error::Interrupted`] where the observer says so.
    pub fn run(
        &self,
        tokenizer: Option<&mut Tokenizer>,
        observer: &mut dyn Observer,
    ) -> Result<Findings> {
        self.check()?;
        let Some(tokenizer) = tokenizer else {
            return findings::run(&self.settings, None, &mut Relay(observer));
        };
        for input in [Some(&self.settings.input), self.settings.against.as_ref()] {
            let Some(input) = input else { continue };
            same_model::require(&TokenFile::open(input)?, tokenizer, self.force, observer)?;
        }
        let mut drawing = tokenizer.has_decoder().then(|| Drawing { tokenizer });
        let draw = drawing.as_mut().map(|drawing| drawing as &mut dyn Draw);
        findings::run(&self.settings, draw, &mut Relay(observer))
    }
}
