//! Owns reconstructing images: a contact sheet of what a model makes of them, with figures.

use std::path::{Path, PathBuf};

use super::events::{Event, Observer};
use super::inputs::Inputs;
use super::pairs::{Likeness, Made, likeness, reconstruct};
use super::places;
use super::tokenizer::Tokenizer;
use crate::audit::parquet_file::ParquetFile;
use crate::audit::sources;
use crate::data::source::library::Library;
use crate::data::{contact_sheet, subsample};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::overwrite::Foreign;
use crate::util::settings::{COUNT, OUT};
use crate::util::{overwrite, text};

/// Images on their way through a model and back, onto a contact sheet.
#[derive(Debug, Clone)]
pub struct Reconstruct {
    inputs: Inputs,
    out: PathBuf,
    count: usize,
    overwrite: bool,
}

/// What a contact sheet shows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReconstructSummary {
    /// In the order of the sheet.
    pub images: Vec<Likeness>,
    /// Mean over those that have one: equal pictures have no PSNR.
    pub psnr_db: Option<f64>,
    /// Mean over those that have one.
    pub ssim: Option<f64>,
    /// Images that couldn't be reconstructed.
    pub failed: usize,
}

impl Reconstruct {
    /// The images under `inputs` (folders and files) onto the PNG file `out`.
    pub fn new<P: Into<PathBuf>>(
        inputs: impl IntoIterator<Item = P>,
        out: impl Into<PathBuf>,
    ) -> Reconstruct {
        Reconstruct::of(Inputs::new(inputs), out.into())
    }

    pub(crate) fn of(inputs: Inputs, out: PathBuf) -> Reconstruct {
        Reconstruct { inputs, out, count: 16, overwrite: false }
    }

    /// The column of tables and lists, or the extension of tars' members, that is the image; found
    /// by type and name where it isn't given.
    pub fn image_column(mut self, name: impl Into<Option<String>>) -> Reconstruct {
        self.inputs.fields.image = name.into();
        self
    }

    /// Takes hidden and system files and folders too.
    pub fn hidden(mut self, hidden: bool) -> Reconstruct {
        self.inputs.hidden = hidden;
        self
    }

    /// Images on the sheet, taken evenly from the inputs; 16 by default.
    pub fn count(mut self, pictures: usize) -> Reconstruct {
        self.count = pictures;
        self
    }

    /// Replaces a file of that name that vqtok didn't write.
    pub fn overwrite(mut self, overwrite: bool) -> Reconstruct {
        self.overwrite = overwrite;
        self
    }

    /// Everything that can be refused before a model is opened.
    ///
    /// # Errors
    /// No picture asked for; a place that can't be written, or where other things lie; inputs that
    /// are tokens.
    pub fn check(&self) -> Result<()> {
        if self.count == 0 {
            return Err(Error::setting(COUNT, "0: the sheet shows at least one picture"));
        }
        places::check_png(OUT, &self.out, Foreign::overwritten(self.overwrite))?;
        refuse_tokens(&self.inputs.paths)?;
        storage::opening(|| self.inputs.check_picture(&self.out))
    }

    /// Runs the job.
    ///
    /// # Errors
    /// Those of [`Reconstruct::check`]; no image, or none that can be reconstructed; a model without
    /// decoder.
    pub fn run(
        &self,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<ReconstructSummary> {
        self.check()?;
        storage::resumable(|| self.run_now(tokenizer, observer))
    }

    fn run_now(
        &self,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<ReconstructSummary> {
        let preparation = tokenizer.bounded_preparation()?;
        let mut images = self.inputs.images(self.inputs.take(), false)?;
        let chosen = subsample::evenly(images.by_ref(), self.count)?;
        observer.event(&Event::Listed(&images.skipped()));
        let library = Library::default();
        if chosen.is_empty() {
            return Err(Error::invalid("no image under the inputs: nothing to reconstruct"));
        }
        let (mut pairs, mut likenesses, mut failed) = (Vec::new(), Vec::new(), 0);
        for some in chosen.chunks(tokenizer.images_together(&preparation)) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let made = reconstruct(some, &library, &preparation, tokenizer)?;
            for (found, outcome) in some.iter().zip(made.outcomes) {
                match outcome {
                    Ok(Made { pair, .. }) => {
                        likenesses.push(likeness(&found.key, &pair));
                        pairs.push(pair);
                    }
                    Err(reject) => {
                        let key = &found.key;
                        reject.refuse_outage(key)?;
                        failed += 1;
                        observer.event(&Event::Unreconstructed { key, reject: &reject });
                    }
                }
            }
        }
        if pairs.is_empty() {
            return Err(Error::invalid(format!(
                "{} couldn't be reconstructed; see above why",
                if failed == 1 { "the only image".into() } else { format!("all {failed} images") }
            )));
        }
        let sheet = contact_sheet::png(&contact_sheet::contact_sheet(&pairs)?)?;
        let foreign = Foreign::overwritten(self.overwrite);
        overwrite::write(&self.out, &overwrite::mark_png(&sheet), foreign)?;
        let psnr_db = mean(likenesses.iter().map(|image| image.psnr_db).filter(|p| p.is_finite()));
        let ssim = mean(likenesses.iter().filter_map(|image| image.ssim));
        Ok(ReconstructSummary { images: likenesses, psnr_db, ssim, failed })
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Tokens are no images: whoever gives an output of vqtok means decoding.
pub(super) fn refuse_tokens(inputs: &[PathBuf]) -> Result<()> {
    let parquet = |path: &Path| path.extension().is_some_and(|e| e == "parquet");
    let has_tokens = |path: &Path| {
        ParquetFile::open(path, Some(&[]))
            .is_ok_and(|file| file.schema().index_of("tokens").is_ok())
    };
    let parquet = |path: &Path| parquet(path) && path.is_file() && has_tokens(path);
    match inputs.iter().find(|path| parquet(path) || sources::output(path).is_some()) {
        Some(path) => Err(Error::invalid(format!(
            "{}: it holds tokens, and images are reconstructed: `vqtok decode` turns tokens into \
             pictures, and checks that the model is theirs",
            text::path(path)
        ))),
        None => Ok(()),
    }
}
