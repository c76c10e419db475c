//! Owns what a model's weights are called by: digests that don't depend on the container they came
//! in. Must not know: families.

use candle_core::{DType, Device, Storage, Tensor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

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
