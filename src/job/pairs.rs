//! Owns images beside what a model makes of them, in memory. Must not know: which images, what becomes
//! of them.

use std::time::Instant;

use image::RgbImage;
use rayon::prelude::*;

use super::codes::Codes;
use super::tokenizer::{Tokenizer, to_rgb};
use crate::data::SourceImage;
use crate::data::prepare::{self, Pixels, Preparation};
use crate::data::source::library::Library;
use crate::engine::PixelBatch;
use crate::error::{Reject, Result};
use crate::evaluate::compare::planes;
use crate::metrics;

/// An image and what the model makes of it.
pub(super) type Pair = (RgbImage, RgbImage);

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

/// What became of an image.
pub(super) struct Made {
    pub(super) pair: Pair,
    pub(super) codes: Codes,
    /// Width and height of the source, in pixels.
    pub(super) image: [u32; 2],
}

/// What became of some images.
pub(super) struct MadeTogether {
    /// In their order.
    pub(super) outcomes: Vec<Result<Made, Reject>>,
    /// What encoding and decoding took.
    pub(super) seconds: f64,
}

/// Some images in their order.
pub(super) fn reconstruct(
    some: &[SourceImage],
    library: &Library,
    preparation: &Preparation,
    tokenizer: &mut Tokenizer,
) -> Result<MadeTogether> {
    let channels = preparation.channels;
    let padded = tokenizer.config().pad().is_some();
    let prepare = |image: &SourceImage| {
        let bytes = library.read(image, &preparation.limits)?;
        let prepare::Prepared { pixels: bytes, width, height, image_width, image_height, .. } =
            prepare::from_bytes(&bytes, preparation)?;
        Ok((Pixels { bytes, width, height }, [image_width, image_height]))
    };
    let prepared: Vec<Result<(Pixels, [u32; 2]), Reject>> = some.par_iter().map(prepare).collect();
    let (pixels, sizes): (Vec<_>, Vec<_>) = prepared
        .into_iter()
        .map(|outcome| match outcome {
            Ok((pixels, size)) => (Ok(pixels), size),
            Err(reject) => (Err(reject), [0; 2]),
        })
        .unzip();
    let begun = Instant::now();
    let encoded = tokenizer.encode_prepared(&pixels, channels)?;
    let codes: Vec<_> = encoded.iter().filter_map(|codes| codes.as_ref().ok().cloned()).collect();
    let mut decoded = tokenizer.decode_each(&codes)?.into_iter();
    let seconds = begun.elapsed().as_secs_f64();
    let outcomes = pixels.into_iter().zip(sizes).zip(encoded).map(|((pixels, image), codes)| {
        let codes = codes?;
        let Pixels { bytes: pixels, width, height } = pixels?;
        let output = decoded.next().unwrap_or_else(|| Ok(RgbImage::new(0, 0)))?;
        let batch = PixelBatch { pixels, count: 1, height, width, channels };
        Ok(Made { pair: common(to_rgb(&batch, 0), output, padded), codes, image })
    });
    Ok(MadeTogether { outcomes: outcomes.collect(), seconds })
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
    let (x, y) = (planes(a), planes(b));
    let (width, height) = (a.width() as usize, a.height() as usize);
    let ssim = metrics::ssim(&x, &y, 3, height, width, 255.0).ok();
    Likeness { key: key.to_string(), psnr_db: metrics::psnr(&x, &y, 255.0), ssim }
}
