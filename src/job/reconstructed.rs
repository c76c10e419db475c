//! Owns comparing what the decoder makes of stored tokens with the images that they were made of. Must
//! not know: how it is shown.

use image::RgbImage;

use super::codes::Codes;
use super::events::{Event, Observer};
use super::pairs::{common, likeness};
use super::sampled::{Sample, SampledRow, Unusable};
use super::tokenizer::{Tokenizer, to_rgb};
use crate::data::prepare::Pixels;
use crate::engine::PixelBatch;
use crate::error::{Error, Reject, Result};
use crate::findings::{Picture, Reconstruction, Reconstructions};

/// The stored tokens of a sample, decoded, beside its images.
///
/// # Errors
/// A model without decoder; those of the engine; an interrupt.
pub(super) fn reconstructions(
    sample: &Sample,
    tokenizer: &mut Tokenizer,
    observer: &mut dyn Observer,
) -> Result<Reconstructions> {
    let stage = "reconstruct";
    observer.event(&Event::Begin { stage, images: sample.rows.len() as u64 });
    let mut all = Reconstructions::default();
    let padded = tokenizer.config().pad().is_some();
    let (mut with_psnr, mut with_ssim) = (0, 0);
    for rows in sample.rows.chunks(tokenizer.images_together(&sample.preparation)) {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let codes: Vec<Codes> = rows.iter().map(|row| row.codes.clone()).collect();
        let decoded = tokenizer.decode_each(&codes)?;
        let pixels = sample.pixels(rows)?;
        for ((row, pixels), decoded) in rows.iter().zip(pixels).zip(decoded) {
            observer.event(&Event::Audited);
            match pair(pixels, decoded, sample.preparation.channels, padded) {
                Ok(pair) => {
                    let (one, psnr_db) = compared(row, pair);
                    with_psnr += u64::from(psnr_db.is_finite());
                    with_ssim += u64::from(one.ssim.is_some());
                    all.take(one, psnr_db);
                }
                Err(why) => all.pass_over(&row.key, why.in_words()),
            }
        }
    }
    all.finish(with_psnr, with_ssim);
    Ok(all)
}

impl Unusable {
    /// A few words.
    pub(super) fn in_words(&self) -> String {
        match self {
            Unusable::Missing => "not in the source".into(),
            Unusable::Changed => "changed".into(),
            Unusable::Failed(reject) => reject.to_string(),
        }
    }
}

fn pair(
    pixels: Result<Pixels, Unusable>,
    decoded: Result<RgbImage, Reject>,
    channels: usize,
    padded: bool,
) -> Result<(RgbImage, RgbImage), Unusable> {
    let Pixels { bytes: pixels, height, width } = pixels?;
    let decoded = decoded.map_err(Unusable::Failed)?;
    let batch = PixelBatch { pixels, count: 1, height, width, channels };
    Ok(common(to_rgb(&batch, 0), decoded, padded))
}

fn compared(row: &SampledRow, pair: (RgbImage, RgbImage)) -> (Reconstruction, f64) {
    let alike = likeness(&row.key, &pair);
    let picture = |image: RgbImage| {
        let (width, height) = (image.width() as usize, image.height() as usize);
        Picture { width, height, rgb: image.into_raw() }
    };
    let one = Reconstruction {
        key: row.key.clone(),
        view: row.view.filter(|&view| view != 0),
        psnr_db: None,
        ssim: alike.ssim,
        pictures: [picture(pair.0), picture(pair.1)],
    };
    (one, alike.psnr_db)
}
