//! Owns what a model's weights are called by: digests that don't depend on the container they came
//! in. Must not know: families.

use candle_core::{DType, Device, Storage, Tensor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::LazyLock;

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
    /// Begins hashing. Shares the tensors' memory.
    pub fn of(weights: &BTreeMap<String, Tensor>) -> Pending {
        let weights = weights.clone();
        let thread = std::thread::Builder::new()
            .name("vqtok-digests".into())
            .spawn(move || Digests::of(&weights).map_err(|e| e.to_string()));
        Pending(LazyLock::new(Box::new(move || {
            let thread = thread.map_err(|e| format!("no thread to hash the weights: {e}"))?;
            thread.join().unwrap_or_else(|_| Err("hashing the weights panicked".into()))
        })))
    }

    /// The digests, once they are there.
    ///
    /// # Errors
    /// A tensor that can't be read as float32.
    pub fn get(&self) -> Result<&Digests> {
        LazyLock::force(&self.0).as_ref().map_err(|reason| Error::invalid(reason.clone()))
    }
}

impl Digests {
    /// Of weights by canonical name; a checkpoint and its conversion have the same.
    ///
    /// # Errors
    /// A tensor that can't be read as float32.
    pub fn of(weights: &BTreeMap<String, Tensor>) -> Result<Digests> {
        let mut all = Sha256::new();
        let mut codebook = String::new();
        for (name, tensor) in weights {
            all.update(format!("{name} {:?}\n", tensor.dims()));
            hash(&mut all, tensor)?;
            if name == "quantize.embedding.weight" {
                let mut alone = Sha256::new();
                hash(&mut alone, tensor)?;
                codebook = hex(&alone.finalize());
            }
        }
        Ok(Digests { weights_sha256: hex(&all.finalize()), codebook_sha256: codebook })
    }
}

/// Takes in a tensor's float32 values, little-endian, without a copy of the whole: fresh pages for
/// hundreds of megabytes would take as long as the hash.
fn hash(digest: &mut Sha256, tensor: &Tensor) -> Result<()> {
    let tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        return Err(Error::invalid("a tensor on the CPU, just made contiguous, is not"));
    };
    let mut bytes = Vec::with_capacity(4 * CHUNK);
    for values in storage.as_slice::<f32>()?[start..end].chunks(CHUNK) {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        digest.update(&bytes);
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
