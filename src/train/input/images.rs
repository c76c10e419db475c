//! Owns the pixels that training sees: files under the inputs, prepared as tokenizing prepares
//! them, and varied where the recipe asks for it.

use std::path::PathBuf;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::data::prepare::{Preparation, from_bytes, part_from_bytes};
use crate::data::source::container::fields::Fields;
use crate::data::source::file;
use crate::data::source::library::Library;
use crate::data::source::stream::{self, SourceStream};
use crate::data::views::mirror;
use crate::data::{Skipped, SourceImage, Take, subsample};
use crate::error::{Error, Reject, Result};
use crate::train::input::augment;
use crate::train::input::train_data::{Stamp, TrainData};
use crate::train::settings::augment::{AugmentSettings, CropSettings};

/// Images a training draws from at most: more are sampled evenly, so that the list stays small
/// whatever the data set's size.
const IMAGES_MAX: usize = 200_000;
/// Prepared pixels that are kept in memory instead of being decoded again.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// Training data from image files.
pub struct Images {
    found: Vec<SourceImage>,
    library: Library,
    skipped: Skipped,
    preparation: Preparation,
    augment: AugmentSettings,
    seed: u64,
    /// One slot an image where all fit, none otherwise; a failure is kept as well.
    cache: Vec<OnceLock<Result<Box<[u8]>, Reject>>>,
    /// sha256 of the content of each image, once it was read.
    digests: Vec<OnceLock<[u8; 32]>>,
}

impl Images {
    /// Lists the images of `inputs`.
    ///
    /// # Errors
    /// An input that can't be walked; no image at all.
    pub fn list(inputs: &[PathBuf], take: Take, preparation: Preparation) -> Result<Images> {
        Images::of(stream::images(inputs, take, false, &Fields::default())?, preparation)
    }

    /// Lists the images of a stream.
    ///
    /// # Errors
    /// The stream's first; no image at all.
    pub(crate) fn of(mut stream: SourceStream, preparation: Preparation) -> Result<Images> {
        let found = subsample::evenly(stream.by_ref(), IMAGES_MAX)?;
        if found.is_empty() {
            return Err(Error::invalid(format!(
                "nothing to train on: no image under the inputs ({})",
                stream.skipped().message()
            )));
        }
        let size = u64::from(preparation.size.unwrap_or(0));
        let bytes = size * size * preparation.channels as u64 * found.len() as u64;
        let slots = if bytes <= CACHE_BYTES_MAX { found.len() } else { 0 };
        let cache = (0..slots).map(|_| OnceLock::new()).collect();
        let augment = AugmentSettings::default();
        let digests = (0..found.len()).map(|_| OnceLock::new()).collect();
        let (skipped, library) = (stream.skipped(), Library::default());
        Ok(Images { found, library, skipped, preparation, augment, seed: 0, cache, digests })
    }

    /// What was passed over when they were listed.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// The same images, varied from epoch to epoch by draws under `seed`.
    pub fn augmented(self, augment: AugmentSettings, seed: u64) -> Images {
        Images { augment, seed, ..self }
    }

    fn load(&self, index: usize) -> Result<Box<[u8]>, Reject> {
        let bytes = self.library.read(&self.found[index], &self.preparation.limits)?;
        let prepared = from_bytes(&bytes, &self.preparation)?;
        self.digests[index].get_or_init(|| prepared.content_sha256);
        Ok(prepared.pixels.into_boxed_slice())
    }

    /// The part of an image that an epoch sees; decoded again each time.
    fn part(&self, index: usize, epoch: u64, crop: &CropSettings) -> Result<Vec<u8>, Reject> {
        let image = &self.found[index];
        let bytes = self.library.read(image, &self.preparation.limits)?;
        self.digests[index].get_or_init(|| Sha256::digest(&bytes).into());
        part_from_bytes(&bytes, &self.preparation, |size| {
            augment::crop(crop, self.seed, &image.key, epoch, size)
        })
    }
}

impl TrainData for Images {
    fn len(&self) -> usize {
        self.found.len()
    }

    fn key(&self, index: usize) -> String {
        self.found[index].key.clone()
    }

    fn example(&self, index: usize, epoch: u64) -> Result<Vec<u8>, Reject> {
        let mut pixels = match &self.augment.crop {
            Some(crop) => self.part(index, epoch, crop)?,
            None => self.plain(index)?,
        };
        if augment::flips(self.augment.flip, self.seed, &self.found[index].key, epoch)
            && let Some(width) = self.preparation.size
        {
            mirror(&mut pixels, width as usize, self.preparation.channels);
        }
        Ok(pixels)
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        let SourceImage { uri, bytes, .. } = &self.found[index];
        Some(Stamp { bytes: *bytes, modified: file::modified(uri) })
    }

    fn read_digest(&self, index: usize) -> Option<[u8; 32]> {
        self.digests[index].get().copied()
    }

    fn content_digest(&self, index: usize) -> Option<[u8; 32]> {
        self.library.digest(&self.found[index])
    }

    fn plain(&self, index: usize) -> Result<Vec<u8>, Reject> {
        match self.cache.get(index) {
            Some(slot) => slot
                .get_or_init(|| self.load(index))
                .as_ref()
                .map(|p| p.to_vec())
                .map_err(Clone::clone),
            None => self.load(index).map(|pixels| pixels.into_vec()),
        }
    }
}

#[cfg(test)]
mod tests;
