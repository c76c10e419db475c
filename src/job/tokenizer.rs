//! Owns the opened tokenizer: pictures to codes and back in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use super::codes::{Codes, problem};
use super::events::{Event, Observer};
use super::pixels::PixelSettings;
use super::tokenizer_options::TokenizerOptions;
use crate::data::BucketSizes;
use crate::data::prepare::{self, Pixels, Preparation};
use crate::engine::{self, Decoded, DeviceChoice, Engine, Images, PixelBatch, oom_split};
use crate::error::{Error, Reject, Result, Stage};
use crate::model::config::ModelConfig;
use crate::pipeline::tokens_max;
use crate::tokens::CODES_MAX;
use crate::util::settings::SIZE;
use crate::util::text;

/// A model on a device, with the preparation of its images.
///
/// The codes of an image depend on the image, the model and the settings alone: not on the other
/// images of a call, nor on the number of threads.
///
/// It is [`Send`] and not [`Sync`]: another thread may take it over, and one uses it at a time.
pub struct Tokenizer {
    pub(super) engine: Box<dyn Engine>,
    /// Where it was read from.
    pub(super) path: PathBuf,
    /// As it was named: another place where `path` is a copy.
    pub(super) model: PathBuf,
    pub(super) pixels: PixelSettings,
    /// What it was opened with.
    pub(super) options: TokenizerOptions,
    /// As many images go to the device at a time: fewer once it ran out of memory.
    pub(super) images_max: usize,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tokenizer");
        shown.field("path", &self.path).field("pixels", &self.pixels).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Opens a model folder or a checkpoint file with everything as the model says.
    ///
    /// # Errors
    /// Those of [`TokenizerOptions::open`].
    pub fn open(model: impl AsRef<Path>) -> Result<Tokenizer> {
        TokenizerOptions::new().open(model)
    }

    /// The family of the model, such as `vqgan`.
    pub fn family(&self) -> &str {
        &self.config().family
    }

    /// The number of codes of a level's codebook: every code is below it; 2 where a token is a
    /// [list of bits](Tokenizer::bits).
    pub fn codes(&self) -> usize {
        self.config().quantizer.codes
    }

    /// Bits of a token where it is a list of them, since a number of so many bits is beyond 32: codes of
    /// a grid are the bits of its first token, then those of the next. None where a token is a number.
    pub fn bits(&self) -> Option<usize> {
        Some(self.config().quantizer.values()).filter(|&values| values > 1)
    }

    /// Whether codes are too many to be counted, so that statistics are of their bits.
    pub(crate) fn counts_bits(&self) -> bool {
        self.codes() as u64 > CODES_MAX || self.bits().is_some()
    }

    /// The number of levels that an image's codes have.
    pub fn levels(&self) -> usize {
        self.config().levels()
    }

    /// Pixels (vertical, horizontal) that one token of the first level stands for.
    pub fn factor(&self) -> [usize; 2] {
        self.config().factor()
    }

    /// Side of the square that images are resized to, in pixels; None where they keep their sizes.
    ///
    /// # Errors
    /// A model that doesn't say its size where none was given.
    pub fn size(&self) -> Result<Option<u32>> {
        Ok(self.preparation()?.size)
    }

    /// Whether the model can turn codes into pictures.
    pub fn has_decoder(&self) -> bool {
        self.config().parts().decoder()
    }

    /// The codes of each picture, in order. Pictures of any size are resized and cropped as files
    /// are when they are tokenized.
    ///
    /// # Errors
    /// The first picture that can't be encoded; those of the engine.
    pub fn encode(&mut self, images: &[RgbImage]) -> Result<Vec<Codes>> {
        all("image", self.encode_each(images)?)
    }

    /// The same where a picture that can't be encoded costs itself alone.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn encode_each(&mut self, images: &[RgbImage]) -> Result<Vec<Result<Codes, Reject>>> {
        let preparation = self.bounded_preparation()?;
        let together = self.images_together(&preparation);
        let mut outcomes = Vec::with_capacity(images.len());
        for some in images.chunks(together) {
            let prepared: Vec<_> =
                some.par_iter().map(|image| prepare::from_rgb(image, &preparation)).collect();
            outcomes.extend(self.encode_prepared(&prepared, preparation.channels)?);
        }
        Ok(outcomes)
    }

    /// The picture of each image's codes, in order; grey is spread over three channels.
    ///
    /// # Errors
    /// A model without decoder; the first codes that can't be decoded; those of the engine.
    pub fn decode(&mut self, codes: &[Codes]) -> Result<Vec<RgbImage>> {
        all("codes of image", self.decode_each(codes)?)
    }

    /// The same where codes that can't be decoded cost themselves alone.
    ///
    /// # Errors
    /// A model without decoder; those of the engine.
    pub fn decode_each(&mut self, codes: &[Codes]) -> Result<Vec<Result<RgbImage, Reject>>> {
        self.require_decoder()?;
        let fits = |codes: &Codes| match problem(codes, self.engine.as_ref()) {
            None => Ok(()),
            Some(reason) => Err(Reject::new(Stage::Decode, reason)),
        };
        let shapes: Vec<_> = codes.iter().map(|c| fits(c).map(|()| c.shape())).collect();
        let mut outcomes: Vec<_> = shapes.iter().map(|_| None).collect();
        for (_, indices) in groups(&shapes, &mut outcomes) {
            for indices in indices.chunks(engine::images_for_threads()) {
                let some: Vec<&Codes> = indices.iter().map(|&index| &codes[index]).collect();
                let decoded = self.decode_batch(&some)?;
                for (place, &index) in indices.iter().enumerate() {
                    outcomes[index] = Some(Ok(to_rgb(&decoded.pictures, place)));
                }
                for (place, reason) in decoded.failed {
                    outcomes[indices[place]] = Some(Err(Reject::new(Stage::Decode, reason)));
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    /// Says what was chosen where the choice was ours, and there was one.
    pub(super) fn say_device(&self, observer: &mut dyn Observer) {
        let device = self.options.chosen_device();
        let ours = cfg!(feature = "cuda") && device == DeviceChoice::Auto;
        if !ours && device != DeviceChoice::CudaAll {
            return;
        }
        let name = match (device, engine::cards()) {
            (DeviceChoice::CudaAll, cards @ 2..) => {
                format!("{cards} cards, the first of which is {}", self.engine.device_name())
            }
            (DeviceChoice::Auto, 0) => {
                format!("{}: no NVIDIA GPU is there", self.engine.device_name())
            }
            (DeviceChoice::Auto, _) => {
                let name = self.engine.device_name();
                let passed_over = engine::passed_over(self.config(), self.engine.precision());
                passed_over.map_or(name.clone(), |reason| format!("{name}: {reason}"))
            }
            _ => self.engine.device_name(),
        };
        observer.event(&Event::Device { name: &name });
    }

    /// Engines of the other cards, where all of the machine were asked for: not more in all than there
    /// are partitions to make.
    ///
    /// # Errors
    /// Those of [`TokenizerOptions::open`].
    pub(super) fn other_engines(&self, partitions: usize) -> Result<Vec<Box<dyn Engine>>> {
        if self.options.chosen_device() != DeviceChoice::CudaAll {
            return Ok(Vec::new());
        }
        let cards = 1..engine::cards().min(partitions);
        let open = |card| {
            let options = self.options.clone().device(DeviceChoice::Cuda(card));
            Ok(options.open(&self.path)?.engine)
        };
        cards.map(open).collect()
    }

    /// What images become before the model sees them.
    pub(crate) fn preparation(&self) -> Result<Preparation> {
        self.pixels.preparation(self.config())
    }

    /// The same, for work that no plan has bounded yet.
    ///
    /// # Errors
    /// A model without encoder; a size at which an image has more tokens than a row of a shard takes.
    pub(super) fn bounded_preparation(&self) -> Result<Preparation> {
        self.require_encoder()?;
        let preparation = self.preparation()?;
        let side = preparation.size.unwrap_or(0) as usize;
        let tokens = |&(h, w): &(usize, usize)| h.saturating_mul(w);
        match self.engine.grid(side, side).unwrap_or_default().iter().map(tokens).max() {
            Some(tokens) if tokens > tokens_max(self.config()) => Err(Error::setting(
                SIZE,
                format!(
                    "{side} gives {tokens} tokens an image, more than the {} of a row",
                    tokens_max(self.config())
                ),
            )),
            _ => Ok(preparation),
        }
    }

    /// Images that suit the device at a time.
    pub(super) fn images_together(&self, preparation: &Preparation) -> usize {
        let largest = |buckets: &BucketSizes| buckets.largest_side();
        let side = preparation.size.or_else(|| preparation.buckets.as_ref().map(largest));
        self.engine.batch_images(side.map(|side| side as usize)).max(1)
    }

    pub(super) fn require_encoder(&self) -> Result<()> {
        match self.config().parts().encoder() {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "{}: this checkpoint has no encoder: it can decode codes only",
                text::path(&self.path)
            ))),
        }
    }

    pub(super) fn require_decoder(&self) -> Result<()> {
        match self.has_decoder() {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "{}: this checkpoint has no decoder: it can encode images only",
                text::path(&self.path)
            ))),
        }
    }

    /// The pictures of codes of one shape that the model can decode.
    pub(super) fn decode_batch(&mut self, codes: &[&Codes]) -> Result<Decoded> {
        oom_split::decode(self.engine.as_mut(), &Codes::stack(codes), &mut self.images_max)
    }

    /// The codes of prepared images in their order; those of one size go through the engine
    /// together.
    pub(super) fn encode_prepared(
        &mut self,
        prepared: &[Result<Pixels, Reject>],
        channels: usize,
    ) -> Result<Vec<Result<Codes, Reject>>> {
        let fits = |pixels: &Pixels| match self.engine.grid(pixels.height, pixels.width) {
            Ok(_) => Ok((pixels.height, pixels.width)),
            Err(reason) => Err(Reject::new(Stage::Encode, reason)),
        };
        let sizes: Vec<_> =
            prepared.iter().map(|p| p.as_ref().map_err(Reject::clone).and_then(fits)).collect();
        let mut outcomes: Vec<_> = sizes.iter().map(|_| None).collect();
        for ((height, width), indices) in groups(&sizes, &mut outcomes) {
            let of_size = indices.iter().filter_map(|&index| prepared[index].as_ref().ok());
            let each = of_size.map(|p| &p.bytes[..]).collect();
            let images = Images { each, height, width, channels };
            let encoded = oom_split::encode(self.engine.as_mut(), &images, &mut self.images_max)?;
            for (place, &index) in indices.iter().enumerate() {
                outcomes[index] = Some(Ok(Codes::of(&encoded, place)));
            }
            for (place, reason) in encoded.failed {
                outcomes[indices[place]] = Some(Err(Reject::new(Stage::Encode, reason)));
            }
        }
        // Each image was refused or went into the batch of its size.
        Ok(outcomes.into_iter().flatten().collect())
    }
}

/// The images of each kind, by their places; the outcome of one that has no kind is why.
fn groups<K: Ord + Clone, T>(
    kinds: &[Result<K, Reject>],
    outcomes: &mut [Option<Result<T, Reject>>],
) -> BTreeMap<K, Vec<usize>> {
    let mut groups = BTreeMap::<K, Vec<usize>>::new();
    for (index, kind) in kinds.iter().enumerate() {
        match kind {
            Ok(kind) => groups.entry(kind.clone()).or_default().push(index),
            Err(reject) => outcomes[index] = Some(Err(reject.clone())),
        }
    }
    groups
}

/// All outcomes, or the first failure.
fn all<T>(what: &str, outcomes: Vec<Result<T, Reject>>) -> Result<Vec<T>> {
    let numbered = outcomes.into_iter().enumerate();
    numbered
        .map(|(index, outcome)| {
            outcome.map_err(|reject| Error::invalid(format!("{what} {index}: {reject}")))
        })
        .collect()
}

/// An image of a batch, grey spread over three channels.
pub(super) fn to_rgb(batch: &PixelBatch, index: usize) -> RgbImage {
    let pixels = batch.image(index);
    RgbImage::from_fn(batch.width as u32, batch.height as u32, |x, y| {
        let at = (y as usize * batch.width + x as usize) * batch.channels;
        match batch.channels {
            1 => image::Rgb([pixels[at]; 3]),
            _ => image::Rgb([pixels[at], pixels[at + 1], pixels[at + 2]]),
        }
    })
}
