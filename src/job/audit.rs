//! Owns auditing what an output holds, as a job. Must not know: how anything is found.

use std::path::{Path, PathBuf};

use super::drawing::Drawing;
use super::events::{Observer, Relay};
use super::inputs::Inputs;
#[cfg(feature = "cli")]
use super::key_lists;
use super::originals;
use super::places::{self, Written};
use super::precision::{self, EngineChoice};
use super::reconstructed::reconstructions;
use super::same_model;
use super::sampled::Sample;
use super::tokenizer::Tokenizer;
use crate::audit::TokenFile;
use crate::data::contact_sheet;
use crate::error::{Error, Result};
use crate::findings::{
    self, About, Draw, Findings, Remark, SEARCHED_FROM, Save, Settings, Side, Thumbnails,
    code_sheet, codes,
};
use crate::storage;
use crate::util::overwrite::{self, Foreign};
use crate::util::settings::{
    self, FORCE, KEEP, MODEL, PRECISION_AUDIT, SAMPLE, SAVE_INDEX, SOURCE, THRESHOLD,
};
use crate::util::text;

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
    source: Option<Inputs>,
    sample: usize,
    engines: Vec<EngineChoice>,
    code_pictures: usize,
    force: bool,
    save_index: Option<PathBuf>,
    foreign: Foreign,
}

impl Audit {
    /// An output folder of vqtok, or any Parquet file with a column of tokens.
    pub fn new(input: impl Into<PathBuf>) -> Audit {
        let settings = Settings { input: input.into(), ..Settings::default() };
        let (engines, code_pictures) = (Vec::new(), 0);
        Audit {
            settings,
            source: None,
            sample: 200,
            engines,
            code_pictures,
            force: false,
            save_index: None,
            foreign: Foreign::Keep,
        }
    }

    /// Another output of the same model, whose images shouldn't be in this one: a test set.
    pub fn against(mut self, other: impl Into<Option<PathBuf>>) -> Audit {
        self.settings.against = other.into();
        self
    }

    /// Similarity, from 0.6 to 1, from which two images count as one. By default estimated from the data.
    pub fn threshold(mut self, threshold: impl Into<Option<f64>>) -> Audit {
        self.settings.threshold = threshold.into();
        self
    }

    /// Saves what it takes to find the images again in a Parquet file, which [`Audit::against`] takes
    /// as it does an output. Needs a model with a decoder.
    pub fn save_index(mut self, file: impl Into<Option<PathBuf>>) -> Audit {
        self.save_index = file.into();
        self
    }

    /// Replaces a file of the index's name even where vqtok didn't write it.
    pub fn overwrite(mut self, overwrite: bool) -> Audit {
        self.foreign = Foreign::overwritten(overwrite);
        self
    }

    /// Beginnings of keys whose images are kept before others of their group, the first before the
    /// second. By default the largest image is kept, then the first.
    pub fn keep<K: Into<String>>(mut self, prefixes: impl IntoIterator<Item = K>) -> Audit {
        self.settings.keep = prefixes.into_iter().map(Into::into).collect();
        self
    }

    /// The images that the tokens were made of, as folders and files: the page shows them instead of
    /// pictures drawn from tokens, and with a model a sample of them is compared with what its decoder
    /// makes of their tokens.
    pub fn source<P: Into<PathBuf>>(mut self, inputs: impl IntoIterator<Item = P>) -> Audit {
        let inputs = Inputs::new(inputs);
        self.source = (!inputs.paths.is_empty()).then_some(inputs);
        self
    }

    /// Rows, evenly over the output, whose images of the source are looked at; 200 by default.
    pub fn sample(mut self, rows: usize) -> Audit {
        self.sample = rows;
        self
    }

    /// Encodes the sample again by these: which tokens change, and how near to that they were. Needs
    /// a source and a model with an encoder.
    pub fn precision_audit(mut self, engines: impl IntoIterator<Item = EngineChoice>) -> Audit {
        self.engines = engines.into_iter().collect();
        self
    }

    /// Draws the so many most used codes, alone and in their commonest neighbourhoods, at most 16,384,
    /// where there is a model with a decoder, and codes are not too many to be counted. By default none.
    pub fn code_pictures(mut self, codes: usize) -> Audit {
        self.code_pictures = codes;
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
    /// A threshold below or above what is looked for; an empty sample; an empty prefix; an audit of precision without
    /// a source, or by an engine that isn't there; an index in the place of what is read.
    pub fn check(&self) -> Result<()> {
        if self.sample == 0 {
            return Err(Error::setting(SAMPLE, "0: a sample has at least one row"));
        }
        if !self.engines.is_empty() && self.source.is_none() {
            return Err(Error::setting(
                PRECISION_AUDIT,
                format!("encodes images again: say with {SOURCE} where they are"),
            ));
        }
        if self.settings.keep.iter().any(String::is_empty) {
            return Err(Error::setting(KEEP, "is empty: every key begins so; give a prefix"));
        }
        self.engines.iter().try_for_each(|engine| engine.require())?;
        self.refuse_inputs(&[], &[])?;
        match self.settings.threshold {
            Some(threshold) if !(threshold <= 1.0 && threshold as f32 >= SEARCHED_FROM) => {
                let reason = "pairs are looked for from a similarity of 0.6 on, up to 1";
                Err(Error::setting(THRESHOLD, format!("{threshold}: {reason}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses files that would be written in the place of each other, of the index or of what is read:
    /// `written` are further ones, `model` is the model with what is given beside it.
    pub(crate) fn refuse_inputs(&self, written: &[Written<'_>], model: &[&Path]) -> Result<()> {
        let index = self.save_index.as_deref();
        let index = index.map(|path| (SAVE_INDEX, path, overwrite::is_ours(path)));
        let written: Vec<_> = written.iter().copied().chain(index).collect();
        let against = self.settings.against.as_deref();
        let tokens = [self.settings.input.as_path()].into_iter().chain(against).collect();
        let source = self.source.as_ref();
        places::refuse_inputs(&written, &places::Inputs { tokens, model: model.to_vec(), source })
    }

    /// Whether a file is a list of keys of this output, as an earlier audit of it wrote.
    ///
    /// # Errors
    /// An output that can't be read.
    #[cfg(feature = "cli")]
    pub(crate) fn is_list_of_keys(&self, path: &Path) -> Result<bool> {
        key_lists::is_of_output(path, &self.settings.input)
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
            if !self.engines.is_empty() {
                let reason = format!("encodes images again: give the {MODEL} that made the tokens");
                return Err(Error::setting(PRECISION_AUDIT, reason));
            }
            if self.save_index.is_some() {
                return Err(no_pictures());
            }
            return findings::run(&self.settings, None, &mut Relay(observer));
        };
        for input in [Some(&self.settings.input), self.settings.against.as_ref()] {
            let Some(input) = input else { continue };
            match findings::model_of_index(input)? {
                Some(model) => self.require_index_by(input, &model, tokenizer)?,
                None => {
                    same_model::require(&TokenFile::open(input)?, tokenizer, self.force, observer)?
                }
            }
        }
        if !self.engines.is_empty() {
            tokenizer.require_encoder()?;
        }
        let save = self.save(tokenizer)?;
        let mut drawing = tokenizer.has_decoder().then_some(Drawing { tokenizer: &mut *tokenizer });
        let draw = drawing.as_mut().map(|drawing| drawing as &mut dyn Draw);
        let settings = Settings { save, ..self.settings.clone() };
        let mut findings = findings::run(&settings, draw, &mut Relay(observer))?;
        // Bits have no pictures.
        let wanted = self.code_pictures > 0 && findings.bits.is_empty();
        if let Some(drawing) = drawing.as_mut().filter(|_| wanted) {
            let (input, levels) = (&self.settings.input, &findings.report.levels);
            let (wanted, relay) = (self.code_pictures, &mut Relay(observer));
            let pictures = codes::code_pictures(input, levels, wanted, drawing, relay)?;
            findings.code_pictures = Some(pictures);
        }
        self.look_at_sample(tokenizer, &mut findings, observer)?;
        Ok(findings)
    }

    /// Where to save the index, and what of the model it says.
    fn save(&self, tokenizer: &Tokenizer) -> Result<Option<Save>> {
        let Some(path) = self.save_index.clone() else { return Ok(None) };
        if !tokenizer.has_decoder() {
            return Err(no_pictures());
        }
        let model = tokenizer.engine.digests()?.weights_sha256.clone();
        Ok(Some(Save { path, model, foreign: self.foreign }))
    }

    /// Refuses an index of another model's pictures.
    fn require_index_by(&self, index: &Path, model: &str, tokenizer: &Tokenizer) -> Result<()> {
        let ours = &tokenizer.engine.digests()?.weights_sha256;
        if model == ours || self.force {
            return Ok(());
        }
        Err(Error::mismatch(format!(
            "the index {} was saved with the model of weights {model}, and {} has {ours}: give the \
             {MODEL} that it was saved with, or pass {FORCE}",
            text::path(index),
            text::path(&tokenizer.path),
        )))
    }

    /// The pictures of codes that were asked for as a PNG file, from the most used to the least.
    ///
    /// # Errors
    /// Findings without any.
    pub fn code_sheet(findings: &Findings) -> Result<Vec<u8>> {
        let sheet = findings.code_pictures.as_ref().map(code_sheet::sheet).transpose()?;
        let none = || Error::invalid("the model can draw none of the codes");
        Ok(overwrite::mark_png(&contact_sheet::png(&sheet.flatten().ok_or_else(none)?)?))
    }

    /// Compares a sample of the source with what the model makes of its tokens, and of itself.
    fn look_at_sample(
        &self,
        tokenizer: &mut Tokenizer,
        findings: &mut Findings,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        storage::resumable(|| {
            let input = &self.settings.input;
            let sample = Sample::take(input, source, self.sample, tokenizer, observer)?;
            let remark = |what: &str| Remark {
                about: "sample",
                finding: false,
                text: format!("the output doesn't say how its images were prepared{what}"),
            };
            let Some(sample) = sample else {
                findings
                    .remarks
                    .push(remark(", nor does the model: no sample of them is compared"));
                return Ok(());
            };
            if !sample.told {
                findings.remarks.push(remark(": a sample is prepared as the model says"));
            }
            if tokenizer.has_decoder() {
                findings.reconstructions = Some(reconstructions(&sample, tokenizer, observer)?);
            }
            if !self.engines.is_empty() {
                let found = precision::audit(&sample, &self.engines, tokenizer, observer)?;
                findings.precision = Some(found);
            }
            Ok(())
        })
    }

    /// What [`Audit::run`] found as one HTML page, which needs nothing beside it. Its pictures are
    /// those of the source, else drawn by the model from the tokens; without either there are none.
    ///
    /// # Errors
    /// Those of [`Audit::run`]; a source that can't be listed.
    pub fn page(
        &self,
        findings: &Findings,
        tokenizer: Option<&mut Tokenizer>,
        observer: &mut dyn Observer,
    ) -> Result<String> {
        Ok(settings::plain(&self.marked_page(findings, tokenizer, observer)?))
    }

    /// The same with marks around the names of settings.
    pub(crate) fn marked_page(
        &self,
        findings: &Findings,
        tokenizer: Option<&mut Tokenizer>,
        observer: &mut dyn Observer,
    ) -> Result<String> {
        let wanted = findings::wanted(findings);
        let mut pictures = Thumbnails::default();
        if let Some(source) = &self.source {
            originals::take(source, &wanted.here, &mut pictures, observer)?;
        }
        if let Some(tokenizer) = tokenizer.filter(|tokenizer| tokenizer.has_decoder()) {
            let (mut draw, mut relay) = (Drawing { tokenizer }, Relay(observer));
            let sides = [
                (Some(&self.settings.input), Side::Here, &wanted.here),
                (self.settings.against.as_ref(), Side::There, &wanted.there),
            ];
            for (input, side, keys) in sides {
                let index = |input: &Path| matches!(findings::is_index(input), Ok(true));
                let Some(input) = input.filter(|input| !index(input)) else { continue };
                let drawn = &mut pictures;
                findings::draw_thumbnails(input, side, keys, &mut draw, drawn, &mut relay)?;
            }
        }
        let about = About {
            name: text::path(&self.settings.input),
            against: self.settings.against.as_ref().map(text::path),
            keep: &self.settings.keep,
        };
        Ok(findings::render(findings, &pictures, &about))
    }
}

fn no_pictures() -> Error {
    let reason =
        format!("holds pictures of tokens: give the {MODEL} that made them, with a decoder");
    Error::setting(SAVE_INDEX, reason)
}
