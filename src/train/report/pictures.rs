//! Owns the pictures of a training: which images they show, when they are due, how pixels of the
//! network become pictures.

use image::{Rgb, RgbImage};

use crate::data::contact_sheet::{SheetLayout, contact_sheet};
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::train::evaluate::Evaluator;
use crate::train::input::loader::Loader;
use crate::train::settings::TrainSettings;
use crate::train::settings::training::side;

/// Pictures a training where `picture_every` leaves it open.
const DEFAULT_COUNT: usize = 8;
/// Images that are tried for one place, where some can't be read.
const ATTEMPTS: usize = 16;

/// The images that a training is watched on: the same from its beginning to its end.
pub(crate) struct Pictures {
    /// `[N, H, W, C]`.
    bytes: Vec<u8>,
    originals: Vec<RgbImage>,
    every: usize,
    first: usize,
    last: usize,
}

impl Pictures {
    /// Takes `settings.pictures` held-out images (training images where none are held out) at
    /// even distances.
    ///
    /// # Errors
    /// A model without an image size.
    pub(crate) fn choose(
        settings: &TrainSettings,
        loader: &Loader<'_>,
        model: &ModelConfig,
    ) -> Result<Pictures> {
        let (split, channels, side) = (&loader.split, model.pixels.channels, side(model)?);
        let from = if split.held_out.is_empty() { &split.train } else { &split.held_out };
        let wanted = settings.pictures.min(from.len());
        let mut bytes = Vec::new();
        for i in 0..wanted {
            let (first, end) = (i * from.len() / wanted, (i + 1) * from.len() / wanted);
            let mut tried = from[first..end].iter().take(ATTEMPTS);
            bytes.extend(tried.find_map(|i| loader.plain(*i as usize).ok()).unwrap_or_default());
        }
        let size = side * side * channels;
        let originals =
            bytes.chunks_exact(size).map(|pixels| of_bytes(pixels, channels, side)).collect();
        let every = match settings.picture_every {
            0 => settings.steps.div_ceil(DEFAULT_COUNT),
            every => every,
        };
        let first = settings.codebook_starts_at() + 1;
        Ok(Pictures { bytes, originals, every, first, last: settings.steps })
    }

    /// Whether a picture belongs to the state behind `step`.
    pub(crate) fn due(&self, step: usize) -> bool {
        let round = step.is_multiple_of(self.every) || step == self.last;
        round && step >= self.first && !self.originals.is_empty()
    }

    /// The sheet of images above reconstructions, and the mean PSNR of these, dB.
    pub(crate) fn draw(
        &self,
        mut evaluator: Evaluator,
        channels: usize,
    ) -> Result<(RgbImage, f64)> {
        let reconstructions = evaluator.add(&self.bytes)?;
        let size = self.bytes.len() / self.originals.len().max(1);
        let side = (size / channels).isqrt();
        let pairs: Vec<_> = self
            .originals
            .iter()
            .zip(reconstructions.chunks_exact(size))
            .map(|(original, values)| (original.clone(), of_unit(values, channels, side)))
            .collect();
        Ok((contact_sheet(&pairs)?, evaluator.finish().psnr))
    }
}

/// The inputs (first) and the reconstructions of a sheet by [`Pictures::draw`] that shows `count`
/// pairs of `side` pixels; None where it is not such a sheet.
pub(crate) fn take_apart(
    sheet: &RgbImage,
    count: usize,
    side: usize,
) -> Option<(Vec<RgbImage>, Vec<RgbImage>)> {
    let side = u32::try_from(side).ok()?;
    let layout = SheetLayout::new(count, side, side);
    if layout.size() != sheet.dimensions() {
        return None;
    }
    let pictures = |row: usize| -> Option<Vec<RgbImage>> {
        (0..count).map(|i| layout.picture(sheet, layout.places(i)[row], (side, side))).collect()
    };
    Some((pictures(0)?, pictures(1)?))
}

/// `[H, W, C]` bytes as a picture, grey spread over three channels.
fn of_bytes(pixels: &[u8], channels: usize, side: usize) -> RgbImage {
    RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let at = (y as usize * side + x as usize) * channels;
        match channels {
            1 => Rgb([pixels[at]; 3]),
            _ => Rgb([pixels[at], pixels[at + 1], pixels[at + 2]]),
        }
    })
}

/// `[C, H, W]` floats from 0 to 1 as a picture, grey spread over three channels.
pub(crate) fn of_unit(values: &[f32], channels: usize, side: usize) -> RgbImage {
    let byte = |value: f32| (value * 255.0).round() as u8;
    RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let at = y as usize * side + x as usize;
        match channels {
            1 => Rgb([byte(values[at]); 3]),
            _ => Rgb([0, 1, 2].map(|c| byte(values[c * side * side + at]))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::fixtures::{Discs, small_model, small_settings};

    #[test]
    fn the_same_held_out_images_at_even_distances_all_along() {
        let data = Discs { count: 100, side: 16 };
        let (model, settings) = (small_model(), TrainSettings { pictures: 5, ..small_settings() });
        let loader = Loader::new(&data, &model, &settings).unwrap();
        let pictures = Pictures::choose(&settings, &loader, &model).unwrap();
        // 30 steps, so every fourth; the codebook starts after step 3.
        let due: Vec<usize> = (0..=30).filter(|step| pictures.due(*step)).collect();
        assert_eq!(due, [4, 8, 12, 16, 20, 24, 28, 30]);
        let trainer = crate::train::trainer::Trainer::new(&model, &settings, 1.0).unwrap();
        let weights = trainer.final_weights().unwrap();
        let evaluator = || Evaluator::new(&model, &weights, &candle_core::Device::Cpu).unwrap();
        let (sheet, psnr) = pictures.draw(evaluator(), 3).unwrap();
        assert!(psnr.is_finite() && psnr > 0.0);
        assert_eq!(pictures.draw(evaluator(), 3).unwrap(), (sheet.clone(), psnr));
        let (inputs, outputs) = take_apart(&sheet, 5, 16).unwrap();
        assert_eq!((&inputs, outputs.len()), (&pictures.originals, 5));
        let held_out = &loader.split.held_out;
        for (i, input) in inputs.iter().enumerate() {
            let expected = loader.plain(held_out[i * held_out.len() / 5] as usize).unwrap();
            assert_eq!(input.as_raw(), &expected);
        }
        assert!(take_apart(&sheet, 4, 16).is_none());

        let none = TrainSettings { pictures: 0, ..settings.clone() };
        assert!(!Pictures::choose(&none, &loader, &model).unwrap().due(30));
        let often = TrainSettings { picture_every: 10, ..settings };
        let pictures = Pictures::choose(&often, &loader, &model).unwrap();
        assert_eq!((0..=30).filter(|s| pictures.due(*s)).collect::<Vec<_>>(), [10, 20, 30]);
    }

    #[test]
    fn floats_become_pictures() {
        let grey = of_unit(&[0.0, 1.0, 0.5, 0.25], 1, 2);
        assert_eq!(grey.into_raw(), [0, 0, 0, 255, 255, 255, 128, 128, 128, 64, 64, 64]);
        assert_eq!(of_unit(&[1.0, 0.0, 0.2], 3, 1).into_raw(), [255, 0, 51]);
        assert_eq!(of_bytes(&[1, 2, 3], 3, 1).into_raw(), [1, 2, 3]);
    }
}
