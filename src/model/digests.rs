//! Owns what a model's weights are called by: digests that don't depend on the container they came
//! in. Must not know: families.

use candle_core::{DType, Tensor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use crate::error::Result;

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
            let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            all.update(format!("{name} {:?}\n", tensor.dims()));
            all.update(&bytes);
            if name == "quantize.embedding.weight" {
                codebook = hex(&Sha256::digest(&bytes));
            }
        }
        Ok(Digests { weights_sha256: hex(&all.finalize()), codebook_sha256: codebook })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
