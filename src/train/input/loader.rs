//! Owns the examples' way into a step: which are held out, in what order they come, and the thread
//! that decodes ahead. Must not know: where pixels come from, what is learned.
//!
//! Everything is a function of (seed, step): a resumed run needs no position but its step.

use crossbeam_channel::{Receiver, bounded};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::manifest::Stamp;
use super::unreadable::Unreadable;
use crate::error::{Error, Reject, Result};
use crate::train::network::random::{Draws, fnv1a64, splitmix64};
use crate::util::hex::hex;
use crate::util::panics;

/// A set of images of one size.
pub trait TrainData: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What an image is called, the same in every run: decides whether it is held out.
    fn key(&self, index: usize) -> String {
        index.to_string()
    }

    /// The pixels of an image in an epoch (augmentation may differ by it), `[H, W, C]` bytes.
    /// Called from many threads, several at a time.
    fn example(&self, index: usize, epoch: u64) -> Result<Vec<u8>, Reject>;

    /// The pixels of an image as it is judged: never augmented.
    fn plain(&self, index: usize) -> Result<Vec<u8>, Reject> {
        self.example(index, 0)
    }

    /// What a look at the outside of an image says of it; None where images can't change.
    fn stamp(&self, index: usize) -> Option<Stamp> {
        let _ = index;
        None
    }

    /// sha256 of the content that was read for an image; None as long as none was.
    fn read_digest(&self, index: usize) -> Option<[u8; 32]> {
        let _ = index;
        None
    }

    /// sha256 of the content that an image has now; None where it can't be read.
    fn content_digest(&self, index: usize) -> Option<[u8; 32]> {
        let _ = index;
        None
    }
}

/// Which images are trained on and which judge the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Indices, ascending.
    pub train: Vec<u32>,
    /// Indices, ascending.
    pub held_out: Vec<u32>,
    /// sha256 of all keys in order, in hex: what a resumed run must find again.
    pub digest: String,
}

impl Split {
    /// Splits by the hash of the key, so that an image keeps its side when others come and go.
    /// Images that would all be held out are all trained on.
    ///
    /// # Errors
    /// Where nothing is left to train on.
    pub fn new(data: &dyn TrainData, share: f64) -> Result<Split> {
        let count = u32::try_from(data.len())
            .map_err(|_| Error::invalid("more than 4,294,967,295 images to train on"))?;
        let (mut train, mut held_out) = (Vec::new(), Vec::new());
        let mut sha = Sha256::new();
        let limit = (share * (1u64 << 53) as f64) as u64;
        for index in 0..count {
            let key = data.key(index as usize);
            sha.update((key.len() as u64).to_le_bytes());
            sha.update(key.as_bytes());
            let hash = splitmix64(fnv1a64(&key), 0) >> 11;
            if hash < limit { held_out.push(index) } else { train.push(index) }
        }
        if train.is_empty() {
            std::mem::swap(&mut train, &mut held_out);
        }
        if train.is_empty() {
            return Err(Error::invalid("no image to train on"));
        }
        let digest = hex(sha.finalize());
        Ok(Split { train, held_out, digest })
    }
}

/// The images of one step.
#[derive(Debug)]
pub struct Batch {
    /// The step they belong to.
    pub step: usize,
    /// `[N, H, W, C]` bytes.
    pub pixels: Vec<u8>,
}

/// Makes the batch of any step.
pub struct Loader<'a> {
    /// The images.
    pub data: &'a dyn TrainData,
    /// Those that are trained on.
    pub train: &'a [u32],
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
pub struct Order {
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

impl Loader<'_> {
    /// The batch of a step. An image that can't be read is replaced by the next one of the epoch's
    /// order, the same in every run.
    ///
    /// # Errors
    /// Where no image can be read.
    pub fn batch(&self, step: usize, order: &mut Order) -> Result<Batch> {
        let n = self.train.len() as u64;
        let first = step as u64 * self.batch_size as u64;
        let places: Vec<u64> = (first..first + self.batch_size as u64).collect();
        for epoch in places[0] / n..=places[places.len() - 1] / n {
            // A batch larger than the data set spans more than two epochs.
            order.prepare(self.seed, epoch, self.train.len());
        }
        let order = &*order;
        let images: Vec<Vec<u8>> = places
            .into_par_iter()
            .map(|place| self.image(place / n, (place % n) as usize, order))
            .collect::<Result<_>>()?;
        Ok(Batch { step, pixels: images.concat() })
    }

    fn image(&self, epoch: u64, position: usize, order: &Order) -> Result<Vec<u8>> {
        let n = self.train.len();
        let own;
        let shuffled = match order.get(epoch) {
            Some(shuffled) => shuffled,
            None => {
                own = Draws::new(self.seed, "data order", epoch).permutation(n);
                &own
            }
        };
        for attempt in 0..n {
            let index = self.train[shuffled[(position + attempt) % n] as usize] as usize;
            // What couldn't be read once isn't tried again.
            if self.unreadable.has(index) {
                continue;
            }
            let _at = panics::at("read training images", Some(&self.data.key(index)));
            match self.sized(self.data.example(index, epoch)) {
                Ok(pixels) => return Ok(pixels),
                Err(reject) => self.unreadable.note(index, &self.data.key(index), &reject),
            }
        }
        let all = if n == 1 { "the only image".into() } else { format!("all {n} images") };
        Err(Error::invalid(format!(
            "training gives up: {all} to train on can't be read: {}",
            self.unreadable.examples_in_words()
        )))
    }

    /// One image to judge by, not augmented, of the right size.
    pub fn plain(&self, index: usize) -> Result<Vec<u8>, Reject> {
        let pixels = self.sized(self.data.plain(index));
        pixels.inspect_err(|reject| self.unreadable.note(index, &self.data.key(index), reject))
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
pub fn prefetched<R>(
    loader: &Loader<'_>,
    from: usize,
    to: usize,
    body: impl FnOnce(&Receiver<Result<Batch>>) -> Result<R>,
) -> Result<R> {
    let (sender, receiver) = bounded(AHEAD);
    std::thread::scope(|scope| {
        let reader =
            std::thread::Builder::new().name("train-data".into()).spawn_scoped(scope, move || {
                let mut order = Order::default();
                for step in from..to {
                    let batch = loader.batch(step, &mut order);
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

    fn loader<'a>(data: &'a Numbers, train: &'a [u32], batch_size: usize) -> Loader<'a> {
        let unreadable = Unreadable::default();
        Loader { data, train, seed: 9, batch_size, image_bytes: 1, unreadable }
    }

    #[test]
    fn every_epoch_holds_every_image_once() {
        let data = Numbers { count: 10, bad: 0 };
        let train: Vec<u32> = (0..10).collect();
        let loader = loader(&data, &train, 4);
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
        let train: Vec<u32> = (0..3).collect();
        let loader = loader(&data, &train, 11);
        let batch = loader.batch(0, &mut Order::default()).unwrap();
        assert_eq!(batch.pixels.len(), 11);
        assert!(batch.pixels.iter().all(|p| *p > 0));
        assert_eq!(loader.unreadable.count(), 1);
        assert_eq!(loader.unreadable.examples_in_words(), "0 (decode: broken)");
        // However few can be read: one is enough.
        let nearly = Numbers { count: 200, bad: 199 };
        let all: Vec<u32> = (0..200).collect();
        let nearly = self::loader(&nearly, &all, 3);
        assert_eq!(nearly.batch(0, &mut Order::default()).unwrap().pixels, [199; 3]);
        let all_bad = Numbers { count: 3, bad: 3 };
        let error = self::loader(&all_bad, &train, 2).batch(0, &mut Order::default()).unwrap_err();
        assert!(
            error.to_string().contains("all 3 images")
                && error.to_string().contains("decode: broken"),
            "{error}"
        );
    }

    #[test]
    fn an_image_keeps_its_side_of_the_split() {
        let split = Split::new(&Numbers { count: 4000, bad: 0 }, 0.1).unwrap();
        let larger = Split::new(&Numbers { count: 5000, bad: 0 }, 0.1).unwrap();
        assert!(split.held_out.len() > 330 && split.held_out.len() < 470);
        assert_eq!(split.held_out, larger.held_out[..split.held_out.len()]);
        assert_ne!(split.digest, larger.digest);
        assert!(Split::new(&Numbers { count: 0, bad: 0 }, 0.1).is_err());
        // Nothing is held out of so few that all would be.
        for count in 1..4 {
            let split = Split::new(&Numbers { count, bad: 0 }, 1.0).unwrap();
            assert_eq!((split.train.len(), split.held_out.len()), (count, 0));
        }
    }
}
