//! Owns reconstructing images: a contact sheet of what a model makes of them, with figures.

use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use super::events::{Event, Observer};
use super::inputs::Inputs;
use super::places;
use super::tokenizer::{Tokenizer, to_rgb};
use crate::audit::parquet_file::ParquetFile;
use crate::audit::sources;
use crate::data::prepare::{self, Pixels, Preparation};
use crate::data::source::library::Library;
use crate::data::{SourceImage, contact_sheet, subsample};
use crate::engine::PixelBatch;
use crate::error::{Error, Reject, Result};
use crate::metrics;
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

/// How one reconstruction is like its image.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Likeness {
    /// The image's key.
    pub key: String,
    /// Peak signal-to-noise ratio, in dB; infinite where both are the same.
    pub psnr_db: f64,
    /// Structural similarity; None under 11 pixels a side.
    pub ssim: Option<f64>,
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

/// An image and what the model makes of it.
pub(super) type Pair = (RgbImage, RgbImage);

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
            for (found, outcome) in
                some.iter().zip(reconstruct(some, &library, &preparation, tokenizer)?)
            {
                match outcome {
                    Ok(pair) => {
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
fn refuse_tokens(inputs: &[PathBuf]) -> Result<()> {
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

/// Some images in their order.
fn reconstruct(
    some: &[SourceImage],
    library: &Library,
    preparation: &Preparation,
    tokenizer: &mut Tokenizer,
) -> Result<Vec<Result<Pair, Reject>>> {
    let channels = preparation.channels;
    let padded = tokenizer.config().pad().is_some();
    let prepare = |image: &SourceImage| {
        let bytes = library.read(image, &preparation.limits)?;
        let prepare::Prepared { pixels: bytes, width, height, .. } =
            prepare::from_bytes(&bytes, preparation)?;
        Ok(Pixels { bytes, width, height })
    };
    let prepared: Vec<Result<Pixels, Reject>> = some.par_iter().map(prepare).collect();
    let encoded = tokenizer.encode_prepared(&prepared, channels)?;
    let codes: Vec<_> = encoded.iter().filter_map(|codes| codes.as_ref().ok().cloned()).collect();
    let mut decoded = tokenizer.decode_each(&codes)?.into_iter();
    let pairs = prepared.into_iter().zip(encoded).map(|(pixels, codes)| {
        codes?;
        let Pixels { bytes: pixels, width, height } = pixels?;
        let output = decoded.next().unwrap_or_else(|| Ok(RgbImage::new(0, 0)))?;
        let batch = PixelBatch { pixels, count: 1, height, width, channels };
        Ok(common(to_rgb(&batch, 0), output, padded))
    });
    Ok(pairs.collect())
}

/// Both cut to the area they share, from the top left: where a size isn't whole tokens, a model
/// covers fewer pixels than there are, or more. From the middle, as [`PixelBatch::padded`] puts
/// them, where the model has padded what it took.
pub(super) fn common(input: RgbImage, output: RgbImage, padded: bool) -> Pair {
    let width = input.width().min(output.width());
    let height = input.height().min(output.height());
    let (left, top) = match padded {
        true => ((output.width() - width) / 2, (output.height() - height) / 2),
        false => (0, 0),
    };
    let cut = |image: RgbImage, left, top| {
        image::imageops::crop_imm(&image, left, top, width, height).to_image()
    };
    (cut(input, 0, 0), cut(output, left, top))
}

/// Of two pictures of one size.
pub(super) fn likeness(key: &str, (a, b): &Pair) -> Likeness {
    let planes = |image: &RgbImage| -> Vec<f32> {
        (0..3).flat_map(|c| image.pixels().map(move |pixel| f32::from(pixel[c]))).collect()
    };
    let (x, y) = (planes(a), planes(b));
    let (width, height) = (a.width() as usize, a.height() as usize);
    let ssim = metrics::ssim(&x, &y, 3, height, width, 255.0).ok();
    Likeness { key: key.to_string(), psnr_db: metrics::psnr(&x, &y, 255.0), ssim }
}
