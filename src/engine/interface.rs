//! Owns what every engine is: batches of pixels in, codes out, and back.

use std::borrow::Cow;
use std::ops::Range;

use super::device::Precision;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::weights::digests::Digests;

/// Images of one size, ready for the model: RGB (or grey) bytes, `[N, H, W, C]`, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelBatch {
    /// `count * height * width * channels` bytes.
    pub pixels: Vec<u8>,
    /// N.
    pub count: usize,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
}

impl PixelBatch {
    /// The bytes of one image, below `count`.
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.height * self.width * self.channels;
        &self.pixels[index * len..][..len]
    }

    /// The batch as the network takes it: of the same images in the middle of black ones, where the
    /// model pads to multiples of some pixels; what is odd of it is below and on the right.
    pub(crate) fn padded(&self, config: &ModelConfig) -> Cow<'_, PixelBatch> {
        let Some(pad) = config.pad() else { return Cow::Borrowed(self) };
        let PixelBatch { count, height, width, channels, .. } = *self;
        let [high, wide] = [height, width].map(|side| side.next_multiple_of(pad));
        if (high, wide) == (height, width) {
            return Cow::Borrowed(self);
        }
        let (top, left) = ((high - height) / 2, (wide - width) / 2);
        let mut pixels = vec![0; count * high * wide * channels];
        for (at, row) in self.pixels.chunks_exact(width * channels).enumerate() {
            let (image, y) = (at / height, at % height);
            let start = ((image * high + top + y) * wide + left) * channels;
            pixels[start..start + row.len()].copy_from_slice(row);
        }
        Cow::Owned(PixelBatch { pixels, count, height: high, width: wide, channels })
    }

    /// Its images.
    pub fn images(&self) -> Images<'_> {
        let PixelBatch { count, height, width, channels, .. } = *self;
        Images {
            each: (0..count).map(|index| self.image(index)).collect(),
            height,
            width,
            channels,
        }
    }

    /// Whether a model can take the batch; the grid (h, w) of each level that it gives.
    ///
    /// # Errors
    /// Other channels, another number of bytes than the sizes say, a size that doesn't suit.
    pub fn check(&self, config: &ModelConfig) -> Result<Vec<(usize, usize)>> {
        let image = self.height * self.width * self.channels;
        if self.pixels.len() != self.count * image {
            return Err(Error::invalid(MISFIT));
        }
        self.images().check(config)
    }
}

/// Why a batch is none.
const MISFIT: &str = "the batch's bytes don't match its sizes";

/// Images of one size by their bytes, `[H, W, C]` each: a batch that nobody has put together.
#[derive(Debug, Clone)]
pub struct Images<'a> {
    /// `height * width * channels` bytes each.
    pub each: Vec<&'a [u8]>,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
}

impl Images<'_> {
    /// Put together.
    pub fn together(&self) -> PixelBatch {
        let Images { height, width, channels, .. } = *self;
        PixelBatch { pixels: self.each.concat(), count: self.each.len(), height, width, channels }
    }

    /// Whether a model can take them; the grid (h, w) of each level that it gives.
    ///
    /// # Errors
    /// As for [`PixelBatch::check`].
    pub fn check(&self, config: &ModelConfig) -> Result<Vec<(usize, usize)>> {
        let Images { height, width, channels, .. } = *self;
        if channels != config.pixels.channels {
            return Err(Error::invalid(format!(
                "images of {channels} channels for a model of {}",
                config.pixels.channels
            )));
        }
        if self.each.iter().any(|image| image.len() != height * width * channels) {
            return Err(Error::invalid(MISFIT));
        }
        config.grid(height, width).map_err(Error::invalid)
    }

    /// Some of them.
    pub(crate) fn part(&self, range: Range<usize>) -> Images<'_> {
        Images { each: self.each[range].to_vec(), ..*self }
    }
}

/// The codes of one level of a batch, `[N, h, w]`, row-major; `[N, h, w, D]` bits where a token is a
/// list of them ([`QuantizerConfig::values`](crate::model::config::QuantizerConfig::values)).
#[derive(Debug, Clone, PartialEq)]
pub struct CodeGrid {
    /// Index into the codebook, below the model's code count.
    pub codes: Vec<u32>,
    /// Squared distance |z - e|^2 of each latent (after the first residual level: of what is left
    /// over of it) to its code, same order, float32; NaN where the family's quantizer has no
    /// distance (gumbel, dVAE, LFQ logits).
    pub distances: Vec<f32>,
    /// h, in tokens.
    pub height: usize,
    /// w, in tokens.
    pub width: usize,
}

impl CodeGrid {
    /// The codes, or lists of bits, of one of `count` images.
    pub(crate) fn codes_of(&self, index: usize, count: usize) -> &[u32] {
        let values = self.codes.len() / count.max(1);
        &self.codes[index * values..][..values]
    }

    /// The distances of one image.
    pub(crate) fn distances_of(&self, index: usize) -> &[f32] {
        let tokens = self.height * self.width;
        &self.distances[index * tokens..][..tokens]
    }
}

/// What an engine returns for a batch. `levels[0]` is what goes into `tokens`; hierarchical
/// models (VQ-VAE-2) add their coarser grids after it, residual ones a grid of the same size for
/// each further level.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// N.
    pub count: usize,
    /// At least one; every level holds `count * height * width` codes, or lists of bits.
    pub levels: Vec<CodeGrid>,
    /// Images whose codes mean nothing.
    pub failed: Failed,
}

impl Encoded {
    /// The size (h, w) of the first level's grids, in tokens.
    pub fn grid(&self) -> (usize, usize) {
        self.levels.first().map_or((0, 0), |level| (level.height, level.width))
    }
}

/// A batch that an engine has taken; [`Engine::collect`] gives its codes.
#[derive(Debug)]
pub enum Submitted {
    /// They are there.
    Encoded(Encoded),
    /// They are being computed, under this number of the engine's.
    Queued(u64),
}

/// What an engine makes of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// A picture for each image of the codes.
    pub pictures: PixelBatch,
    /// Pictures that are none.
    pub failed: Failed,
}

/// Images of a batch that came to nothing, ascending, and why, in one line that depends on the
/// model and the image alone.
pub(crate) type Failed = Vec<(usize, String)>;

/// The images that have a reason, by their places.
pub(crate) fn failed(reasons: impl IntoIterator<Item = Option<String>>) -> Failed {
    let numbered = reasons.into_iter().enumerate();
    numbered.filter_map(|(index, reason)| Some((index, reason?))).collect()
}

/// Images a batch where each thread takes one at a time: two for every thread, so that the last
/// ones of a batch leave few of them idle.
pub fn images_for_threads() -> usize {
    (2 * rayon::current_num_threads()).max(16)
}

/// A loaded tokenizer on a device. One thread owns it.
///
/// The codes of an image must not depend on the batch it comes in, nor on the number of threads.
pub trait Engine: Send {
    /// What the model is.
    fn config(&self) -> &ModelConfig;

    /// What its weights are called by.
    ///
    /// # Errors
    /// A weight that can't be read as float32.
    fn digests(&self) -> Result<&Digests>;

    /// The device's kind as written to shards (`cpu`, `cuda`).
    fn device_kind(&self) -> &'static str;

    /// What it computes on, for people.
    fn device_name(&self) -> String {
        "the CPU".to_owned()
    }

    /// What maps and weights are held in while encoding, as written to shards.
    fn precision(&self) -> Precision {
        Precision::F32
    }

    /// The word that shards say for it: of a model in files that compute in what they say, theirs.
    fn precision_word(&self) -> &'static str {
        self.precision().as_str()
    }

    /// Images a batch that suit the device, for square images of that side in pixels; None where
    /// sizes vary.
    fn batch_images(&self, side: Option<usize>) -> usize {
        let _ = side;
        images_for_threads()
    }

    /// The grid (h, w), in tokens, of each level for images of `height` x `width` pixels; or, in
    /// one line, why the model can't take this size.
    ///
    /// # Errors
    /// A size that is smaller than a token, or another one than the model is made for.
    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String>;

    /// Begins what the first batch of images of `height` x `width` pixels would wait for, such as
    /// packing weights. Never needed: a size that isn't announced is made ready when it comes.
    fn prepare(&mut self, height: usize, width: usize) {
        let _ = (height, width);
    }

    /// Pixels to codes; an image whose latents aren't finite is a failure of its own.
    ///
    /// # Errors
    /// A batch or a model that doesn't suit. A batch that the device can't hold is
    /// [`crate::Error::OutOfMemory`], after which the engine still works: callers come through
    /// `oom_split`, which halves the batch.
    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded>;

    /// Batches that are worth submitting before the first of them is collected: more than one where
    /// the device computes while this thread does something else.
    fn batches_in_flight(&self) -> usize {
        1
    }

    /// Takes a batch, which [`Engine::collect`] gives the codes of; the images' bytes are not read
    /// after this returns. Batches are collected in the order in which they were submitted; one that
    /// isn't before a later one is given up. Encoding a batch is submitting and collecting it.
    ///
    /// # Errors
    /// As for [`Engine::encode`]. What was submitted before stays.
    fn submit(&mut self, images: &Images<'_>) -> Result<Submitted> {
        self.encode(&images.together()).map(Submitted::Encoded)
    }

    /// The codes of a batch that was submitted.
    ///
    /// # Errors
    /// A device that failed since; never a lack of memory.
    fn collect(&mut self, submitted: Submitted) -> Result<Encoded> {
        match submitted {
            Submitted::Encoded(encoded) => Ok(encoded),
            Submitted::Queued(_) => Err(Error::internal("a batch that this engine never took")),
        }
    }

    /// Codes to pixels, by the family's own rule from floats to bytes; a picture that isn't finite
    /// is a failure of its own. `count` and sizes of `codes` give the shape; distances are not read.
    ///
    /// # Errors
    /// A model without a decoder; levels or codes that the model doesn't have.
    fn decode(&mut self, codes: &Encoded) -> Result<Decoded>;
}
