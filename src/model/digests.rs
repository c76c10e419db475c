//! Owns what a model's weights are called by: digests that don't depend on the container they came
//! in. Must not know: families.

use sha2::{Digest, Sha256};
use std::sync::LazyLock;

use super::weights::{Weight, Weights};
use crate::error::{Error, Result};

/// Values that are hashed at a time: they stay near the core.
const CHUNK: usize = 1 << 14;

/// Hex sha256 of a model's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Over every tensor by canonical name: name, shape, float32 values.
    pub weights_sha256: String,
    /// Over the codebook alone; empty where the quantizer has none (LFQ).
    pub codebook_sha256: String,
}

/// Digests that a thread of its own computes, since hashing hundreds of megabytes and packing them
/// for the device take equally long.
pub struct Pending(LazyLock<Result<Digests, String>, Join>);

type Join = Box<dyn FnOnce() -> Result<Digests, String> + Send>;

impl Pending {
    /// Begins hashing, where the weights lie.
    pub fn of(weights: &Weights) -> Pending {
        Pending::checked(weights, |_| Ok(()))
    }

    /// The same with a check of the digests; where it fails there are none.
    pub fn checked(
        weights: &Weights,
        check: impl FnOnce(&Digests) -> Result<()> + Send + 'static,
    ) -> Pending {
        let weights = weights.clone();
        let work = move || {
            let digests = Digests::of(&weights).map_err(|e| e.to_string())?;
            check(&digests).map_err(|e| e.to_string())?;
            Ok(digests)
        };
        let thread = std::thread::Builder::new().name("vqtok-digests".into()).spawn(work);
        Pending(LazyLock::new(Box::new(move || {
            let thread = thread.map_err(|e| format!("no thread to hash the weights: {e}"))?;
            thread.join().unwrap_or_else(|_| Err("hashing the weights panicked".into()))
        })))
    }

    /// The digests, once they are there.
    ///
    /// # Errors
    /// A check that failed, a tensor that can't be read as float32.
    pub fn get(&self) -> Result<&Digests> {
        LazyLock::force(&self.0).as_ref().map_err(|reason| Error::invalid(reason.clone()))
    }
}

impl Digests {
    /// Of weights by canonical name; a checkpoint and its conversion have the same.
    ///
    /// # Errors
    /// A tensor that can't be read as float32.
    pub fn of(weights: &Weights) -> Result<Digests> {
        let mut all = Sha256::new();
        let mut codebook = String::new();
        for (name, weight) in weights.iter() {
            all.update(format!("{name} {:?}\n", weight.dims()));
            hash(&mut all, weight)?;
            if name == "quantize.embedding.weight" {
                let mut alone = Sha256::new();
                hash(&mut alone, weight)?;
                codebook = hex(&alone.finalize());
            }
        }
        Ok(Digests { weights_sha256: hex(&all.finalize()), codebook_sha256: codebook })
    }
}

/// Takes in a weight's float32 values, little-endian, without a copy of the whole: fresh pages for
/// hundreds of megabytes would take as long as the hash.
fn hash(digest: &mut Sha256, weight: &Weight) -> Result<()> {
    weight.read(|values| {
        let mut bytes = Vec::with_capacity(4 * CHUNK);
        for values in values.chunks(CHUNK) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            digest.update(&bytes);
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
