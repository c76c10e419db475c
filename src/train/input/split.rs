//! Owns the split of the images into those that are trained on and those that are held out. Must
//! not know: what either is used for.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::train::input::train_data::TrainData;
use crate::train::network::random::{fnv1a64, splitmix64};
use crate::util::hex::hex;

/// Which images are trained on and which judge the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
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
    pub(crate) fn new(data: &dyn TrainData, share: f64) -> Result<Split> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reject;

    struct Numbered(usize);

    impl TrainData for Numbered {
        fn len(&self) -> usize {
            self.0
        }

        fn example(&self, index: usize, _: u64) -> Result<Vec<u8>, Reject> {
            Ok(vec![index as u8])
        }
    }

    #[test]
    fn an_image_keeps_its_side_of_the_split() {
        let split = Split::new(&Numbered(4000), 0.1).unwrap();
        let larger = Split::new(&Numbered(5000), 0.1).unwrap();
        assert!(split.held_out.len() > 330 && split.held_out.len() < 470);
        assert_eq!(split.held_out, larger.held_out[..split.held_out.len()]);
        assert_ne!(split.digest, larger.digest);
        assert!(Split::new(&Numbered(0), 0.1).is_err());
        // Nothing is held out of so few that all would be.
        for count in 1..4 {
            let split = Split::new(&Numbered(count), 1.0).unwrap();
            assert_eq!((split.train.len(), split.held_out.len()), (count, 0));
        }
    }
}
