//! Owns the images of an earlier evaluation as a set that others are held against. Must not know: where its
//! files lie.

use super::frechet::FeatureSums;
use super::rows::Part;
use super::tally::features;

/// What Inception sees in a set of images.
#[derive(Default)]
pub(crate) struct Reference {
    pub(super) images: FeatureSums,
}

impl Reference {
    /// Adds images behind those that are there.
    ///
    /// # Errors
    /// In a few words: features of several lengths.
    pub(crate) fn add(&mut self, part: &Part) -> Result<(), String> {
        let pairs = features(part)?;
        self.images.add(&pairs.iter().map(|[image, _]| image.as_slice()).collect::<Vec<_>>());
        Ok(())
    }

    /// Images whose features there are.
    pub(crate) fn count(&self) -> u64 {
        self.images.count()
    }
}
