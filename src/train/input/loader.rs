//! Owns the examples' way into a step: the order in which they come, and the thread that decodes
//! ahead. Must not know: where pixels come from, what is learned.
//!
//! Everything is a function of (seed, step): a resumed run needs no position but its step.

use crossbeam_channel::{Receiver, bounded};
use rayon::prelude::*;

use crate::error::{Error, Reject, Result};
use crate::model::config::ModelConfig;
use crate::train::input::split::Split;
use crate::train::input::train_data::TrainData;
use crate::train::input::unreadable::Unreadable;
use crate::train::network::checkpointing::Stop;
use crate::train::network::random::Draws;
use crate::train::settings::TrainSettings;
use crate::train::settings::training::side;
use crate::util::compute_pool::ComputePool;
use crate::util::panics;

/// The images of one step.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `[N, H, W, C]` bytes.
    pub pixels: Vec<u8>,
}

/// Makes the batch of any step.
pub(crate) struct Loader<'a> {
    /// The images.
    pub data: &'a dyn TrainData,
    /// Which of them are trained on.
    pub split: Split,
    /// Of the order.
    pub seed: u64,
    /// N.
    pub batch_size: usize,
    /// H W C.
    pub image_bytes: usize,
    /// Images that could not be read so far.
    pub unreadable: Unreadable,
}

/// The order of one epoch, kept while it lasts.
#[derive(Default)]
pub(crate) struct Order {
    epochs: Vec<(u64, Vec<u32>)>,
}

impl Order {
    /// The permutation of an epoch; the last two are kept, since a batch can lie across.
    fn prepare(&mut self, seed: u64, epoch: u64, n: usize) {
        if !self.epochs.iter().any(|(e, _)| *e == epoch) {
            let order = Draws::new(seed, "data order", epoch).permutation(n);
            self.epochs.push((epoch, order));
            if self.epochs.len() > 2 {
                self.epochs.remove(0);
            }
        }
    }

    fn get(&self, epoch: u64) -> Option<&Vec<u32>> {
        self.epochs.iter().find(|(e, _)| *e == epoch).map(|(_, order)| order)
    }
}

impl<'a> Loader<'a> {
    /// The loader of a training of `model` on `data`.
    ///
    /// # Errors
    /// No image to train on; a model without an image size.
    pub(crate) fn new(
        data: &'a dyn TrainData,
        model: &ModelConfig,
        settings: &TrainSettings,
    ) -> Result<Loader<'a>> {
        Ok(Loader {
            data,
            split: Split::new(data, settings.held_out_share)?,
            seed: settings.seed,
            batch_size: settings.batch_size,
            image_bytes: side(model)?.pow(2) * model.pixels.channels,
            unreadable: Unreadable::default(),
        })
    }

    /// The batch of a step. An image that can't be read is replaced by the next one of the epoch's
    /// order, the same in every run.
    ///
    /// # Errors
    /// Where no image can be read.
    pub(crate) fn batch(&self, step: usize, order: &mut Order) -> Result<Batch> {
        let n = self.split.train.len() as u64;
        let first = step as u64 * self.batch_size as u64;
        let places: Vec<u64> = (first..first + self.batch_size as u64).collect();
        for epoch in places[0] / n..=places[places.len() - 1] / n {
            // A batch larger than the data set spans more than two epochs.
            order.prepare(self.seed, epoch, self.split.train.len());
        }
        let order = &*order;
        let images: Vec<Vec<u8>> = places
            .into_par_iter()
            .map(|place| self.image(place / n, (place % n) as usize, order))
            .collect::<Result<_>>()?;
        Ok(Batch { pixels: images.concat() })
    }

    fn image(&self, epoch: u64, position: usize, order: &Order) -> Result<Vec<u8>> {
        let n = self.split.train.len();
        let own;
        let shuffled = match order.get(epoch) {
            Some(shuffled) => shuffled,
            None => {
                own = Draws::new(self.seed, "data order", epoch).permutation(n);
                &own
            }
        };
        for attempt in 0..n {
            let index = self.split.train[shuffled[(position + attempt) % n] as usize] as usize;
            // What couldn't be read once isn't tried again.
            if self.unreadable.has(index) {
                continue;
            }
            let _at = panics::at("read training images", Some(&self.data.key(index)));
            match self.sized(self.data.example(index, epoch)) {
                Ok(pixels) => return Ok(pixels),
                Err(reject) => {
                    let key = self.data.key(index);
                    reject.refuse_outage(&key)?;
                    self.unreadable.note(index, &key, &reject);
                }
            }
        }
        let all = if n == 1 { "the only image".into() } else { format!("all {n} images") };
        Err(Error::invalid(format!(
            "training gives up: {all} to train on can't be read: {}",
            self.unreadable.examples_in_words()
        )))
    }

    /// One image to judge by, not augmented, of the right size.
    pub(crate) fn plain(&self, index: usize) -> Result<Vec<u8>, Reject> {
        let pixels = self.sized(self.data.plain(index));
        pixels.inspect_err(|reject| self.unreadable.note(index, &self.data.key(index), reject))
    }

    /// The pixels of the first `count` of these images that can be read, `[N, H, W, C]` bytes.
    pub(crate) fn readable(&self, images: &[u32], count: usize) -> Vec<u8> {
        let read = images.iter().filter_map(|i| self.plain(*i as usize).ok());
        read.take(count).flatten().collect()
    }

    /// Variance of the pixels, in the units of the network by `table`, over the first images of the
    /// first epoch.
    ///
    /// # Errors
    /// Where no image can be read; [`Error::Interrupted`] where `stop` says so.
    pub(crate) fn variance(&self, table: &[f32; 256], stop: Stop<'_>) -> Result<f64> {
        const IMAGES: usize = 1024;
        let mut order = Order::default();
        let (mut n, mut sum, mut squares) = (0u64, 0f64, 0f64);
        for step in 0..IMAGES.min(self.split.train.len()).div_ceil(self.batch_size) {
            if stop() {
                return Err(Error::Interrupted);
            }
            for byte in self.batch(step, &mut order)?.pixels {
                let value = f64::from(table[byte as usize]);
                n += 1;
                sum += value;
                squares += value * value;
            }
        }
        let mean = sum / n as f64;
        // Images of one single colour have none; the loss must stay finite.
        Ok((squares / n as f64 - mean * mean).max(1e-6))
    }

    /// Bytes of the images of `steps` that will be in memory: those read ahead, and those that are
    /// kept once they were read.
    pub(crate) fn memory_bytes(&self, steps: usize) -> u64 {
        let batches = (AHEAD + 2).min(steps.max(1)) * self.batch_size;
        let read = self.split.train.len().min(steps.saturating_mul(self.batch_size));
        let read = read + self.split.held_out.len();
        (batches * self.image_bytes) as u64 + read as u64 * self.data.kept_bytes()
    }

    fn sized(&self, pixels: Result<Vec<u8>, Reject>) -> Result<Vec<u8>, Reject> {
        let pixels = pixels?;
        if pixels.len() != self.image_bytes {
            return Err(Reject::new(
                crate::error::Stage::Resize,
                format!("{} bytes of pixels where {} belong", pixels.len(), self.image_bytes),
            ));
        }
        Ok(pixels)
    }
}

/// Batches read ahead of the steps that need them.
const AHEAD: usize = 2;

/// Runs `body` with the batches `from..to` in order, read ahead by a thread of their own, which
/// ends when `body` does.
pub(crate) fn prefetched<R>(
    loader: &Loader<'_>,
    from: usize,
    to: usize,
    body: impl FnOnce(&Receiver<Result<Batch>>) -> Result<R>,
) -> Result<R> {
    let (sender, receiver) = bounded(AHEAD);
    let compute = &ComputePool::of_caller()?;
    std::thread::scope(|scope| {
        let reader =
            std::thread::Builder::new().name("train-data".into()).spawn_scoped(scope, move || {
                let mut order = Order::default();
                for step in from..to {
                    let batch = compute.run(|| loader.batch(step, &mut order));
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            });
        if let Err(e) = reader {
            return Err(Error::invalid(format!("can't start the thread that reads images: {e}")));
        }
        let result = body(&receiver);
        // Dropping the receiver ends the reader, which the scope then joins.
        drop(receiver);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stage;

    struct Numbers {
        count: usize,
        bad: usize,
    }

    impl TrainData for Numbers {
        fn len(&self) -> usize {
            self.count
        }

        fn example(&self, index: usize, _: u64) -> Result<Vec<u8>, Reject> {
            if index < self.bad {
                return Err(Reject::new(Stage::Decode, "broken"));
            }
            Ok(vec![index as u8])
        }
    }

    fn loader(data: &Numbers, batch_size: usize) -> Loader<'_> {
        let (split, unreadable) = (Split::new(data, 0.0).unwrap(), Unreadable::default());
        Loader { data, split, seed: 9, batch_size, image_bytes: 1, unreadable }
    }

    #[test]
    fn every_epoch_holds_every_image_once() {
        let data = Numbers { count: 10, bad: 0 };
        let loader = loader(&data, 4);
        let seen = prefetched(&loader, 0, 5, |batches| {
            let mut seen = vec![];
            for batch in batches {
                seen.extend(batch?.pixels);
            }
            Ok(seen)
        })
        .unwrap();
        assert_eq!(seen.len(), 20);
        for epoch in seen.chunks(10) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            assert_eq!(epoch, (0..10).collect::<Vec<u8>>());
        }
        assert_ne!(seen[..10], seen[10..]);
        // A later start gives the same batches.
        let later = prefetched(&loader, 3, 5, |batches| {
            let mut seen = vec![];
            for batch in batches {
                seen.extend(batch?.pixels);
            }
            Ok(seen)
        })
        .unwrap();
        assert_eq!(seen[12..], later);
    }

    #[test]
    fn a_batch_larger_than_the_set_and_bad_images() {
        let data = Numbers { count: 3, bad: 1 };
        let loader = loader(&data, 11);
        let batch = loader.batch(0, &mut Order::default()).unwrap();
        assert_eq!(batch.pixels.len(), 11);
        assert!(batch.pixels.iter().all(|p| *p > 0));
        assert_eq!(loader.unreadable.count(), 1);
        assert_eq!(loader.unreadable.examples_in_words(), "0 (decode: broken)");
        // However few can be read: one is enough.
        let nearly = Numbers { count: 200, bad: 199 };
        let nearly = self::loader(&nearly, 3);
        assert_eq!(nearly.batch(0, &mut Order::default()).unwrap().pixels, [199; 3]);
        let all_bad = Numbers { count: 3, bad: 3 };
        let error = self::loader(&all_bad, 2).batch(0, &mut Order::default()).unwrap_err();
        assert!(
            error.to_string().contains("all 3 images")
                && error.to_string().contains("decode: broken"),
            "{error}"
        );
    }
}
