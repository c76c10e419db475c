//! Owns how many images of some inputs each bucket would get, as tokenizing with a model would plan
//! them. Must not know: how a header is read.

use std::path::Path;

use super::bucketed::Bucketed;
use super::events::Observer;
use super::pixels::PixelSettings;
use super::plan::rows;
use super::survey::Survey;
use super::tokenizer_options::TokenizerOptions;
use crate::checkpoint::{model_card, onnx};
use crate::data::Buckets;
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::Today;

/// A bucket, and how many images go into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketCount {
    /// Of the size that images are brought to.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// Those whose aspect ratio is nearest to its own; in the squarest also those whose size can't be
    /// read.
    pub images: u64,
}

impl Survey {
    /// How many images each bucket gets where the inputs are tokenized with the model at `model`,
    /// in the order of the buckets. Reads the images' headers.
    ///
    /// # Errors
    /// A model that can't be read; buckets that don't suit it; inputs that can't be used;
    /// [`Error::Interrupted`] where the observer says so.
    pub fn bucket_counts(
        &self,
        buckets: &Buckets,
        model: impl AsRef<Path>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<BucketCount>> {
        let model = model.as_ref();
        let path = storage::opening(|| storage::local_copy(model).map_err(Error::io(model)))?;
        let config = match onnx::is_onnx(&path) {
            // The pixels that a token covers show when the network runs.
            true => TokenizerOptions::new().open(&path)?.config().clone(),
            false => {
                let options = TokenizerOptions::new();
                options.detect(|options| model_card::read(&path, options))?.config
            }
        };
        let preparation = PixelSettings::new().bucketed(&config, buckets)?;
        let Some(sizes) = &preparation.buckets else { return Ok(Vec::new()) };
        let count = |&(width, height): &(u32, u32)| BucketCount { width, height, images: 0 };
        let mut counts: Vec<_> = sizes.all().iter().map(count).collect();
        let found = rows(self.inputs().images(self.inputs().take(), true)?);
        let found = found.map(|row| row.map(Today::Image));
        let stopped = || observer.interrupted();
        for item in Bucketed::new(found, sizes, &preparation, stopped) {
            let Today::Image(row) = item? else { continue };
            let is_its = |c: &&mut BucketCount| Some((c.width, c.height)) == row.bucket_size();
            if let Some(bucket) = counts.iter_mut().find(is_its) {
                bucket.images += 1;
            }
        }
        Ok(counts)
    }
}
