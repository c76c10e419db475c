//! Owns the pixels that training sees: files under the inputs, prepared as tokenizing prepares
//! them, and varied where the recipe asks for it.

use std::path::{Path, PathBuf};
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
use crate::train::input::crop_cache::CropCache;
use crate::train::input::train_data::{Stamp, TrainData};
use crate::train::settings::augment::{AugmentSettings, CropSettings};
use crate::util::numbers::{self, counted};

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
    /// Where they don't fit, and a place on the disk is given.
    crops: Option<CropCache>,
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
        let crops = None;
        Ok(Images { found, library, skipped, preparation, augment, seed: 0, cache, crops, digests })
    }

    /// What was passed over when they were listed.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// The same images, varied from epoch to epoch by draws under `seed`.
    pub fn augmented(self, augment: AugmentSettings, seed: u64) -> Images {
        Images { augment, seed, ..self }
    }

    /// Keeps pixels that don't fit into memory in a file of at most `bytes_max` in `folder`, and says
    /// in words what that does for these images.
    ///
    /// # Errors
    /// Where there can be no such file.
    pub(crate) fn cached_in(&mut self, folder: &Path, bytes_max: u64) -> Result<String> {
        let without = |why: &str| Ok(format!("no crops are kept on the disk: {why}"));
        if !self.cache.is_empty() && self.augment.crop.is_none() {
            return without("all of them fit into memory");
        }
        if self.augment.crop.is_some() {
            return without("the recipe cuts each image anew in every epoch (train.augment.crop)");
        }
        let side = self.preparation.size.unwrap_or(0) as usize;
        let each = side * side * self.preparation.channels;
        let cache = CropCache::create(folder, bytes_max, each, self.found.len())?;
        let (places, all) = (cache.places(), self.found.len());
        self.crops = Some(cache);
        Ok(format!(
            "the crops of {} of {} are kept on the disk, {} at most",
            numbers::count(places),
            counted(all, "image"),
            numbers::bytes(places as u64 * each as u64)
        ))
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

    fn kept_bytes(&self) -> u64 {
        let kept = !self.cache.is_empty() && self.augment.crop.is_none();
        let side = u64::from(self.preparation.size.unwrap_or(0));
        if kept { side * side * self.preparation.channels as u64 } else { 0 }
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
            None => {
                if let Some(pixels) = self.crops.as_ref().and_then(|crops| crops.get(index)) {
                    return Ok(pixels);
                }
                let pixels = self.load(index)?.into_vec();
                if let Some(crops) = &self.crops {
                    crops.put(index, &pixels);
                }
                Ok(pixels)
            }
        }
    }
}

#[cfg(test)]
mod tests;
