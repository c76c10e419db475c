//! Owns what a model's weights are called by: digests that don't depend on the container they came
//! in.

use candle_core::{DType, Tensor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::error::{Error, Result};
use crate::util::hex::hex;
use crate::util::panics;
use crate::util::text::printable;
use crate::weights::store::{Weight, Weights};

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
        Pending::computing(move || {
            let digests = Digests::of(&weights)?;
            check(&digests)?;
            Ok(digests)
        })
    }

    /// Those that `work` gives.
    pub(crate) fn computing(work: impl FnOnce() -> Result<Digests> + Send + 'static) -> Pending {
        let work = move || {
            let _at = panics::at("hash weights", None);
            work().map_err(|e| e.to_string())
        };
        let thread = std::thread::Builder::new().name("vqtok-digests".into()).spawn(work);
        Pending(LazyLock::new(Box::new(move || {
            let thread = thread.map_err(|e| format!("no thread to hash the weights: {e}"))?;
            thread.join().unwrap_or_else(|_| Err("hashing the weights has panicked".into()))
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
    /// A tensor that can't be read as float32, or holds values that aren't finite: with one such
    /// weight every token is the same, and nothing after it notices.
    pub fn of(weights: &Weights) -> Result<Digests> {
        let mut all = Sha256::new();
        let mut codebook = String::new();
        let mut not_finite = Vec::new();
        for (name, weight) in weights.iter() {
            all.update(format!("{name} {:?}\n", weight.dims()));
            if let Some(found) = hash(&mut all, weight)? {
                not_finite.push(found.in_words(&weights.published_name(name), weight.dims()));
            }
            if name == "quantize.embedding.weight" {
                let mut alone = Sha256::new();
                hash(&mut alone, weight)?;
                codebook = hex(alone.finalize());
            }
        }
        if let Some(first) = not_finite.first() {
            let more = match not_finite.len() - 1 {
                0 => String::new(),
                1 => ", and so does another tensor".to_owned(),
                more => format!(", and so do {more} other tensors"),
            };
            return Err(Error::invalid(format!(
                "{}{first}{more}; the file is damaged or its training failed: take another",
                weights.at()
            )));
        }
        Ok(Digests { weights_sha256: hex(all.finalize()), codebook_sha256: codebook })
    }
}

/// Values of one tensor that are NaN or infinite.
#[derive(Debug, PartialEq)]
pub(crate) struct NotFinite {
    count: usize,
    /// Row-major index and value of the first.
    first: (usize, f32),
}

impl NotFinite {
    /// Those among `values`, if there are any.
    pub(crate) fn among(values: &[f32]) -> Option<NotFinite> {
        // Without a branch, so that values are compared as wide as the core does.
        if values.iter().fold(true, |finite, value| finite & value.is_finite()) {
            return None;
        }
        let at = values.iter().position(|value| !value.is_finite())?;
        let count = values.iter().filter(|value| !value.is_finite()).count();
        Some(NotFinite { count, first: (at, values[at]) })
    }

    /// `before` values further on; together with those found there.
    fn join(self, earlier: Option<NotFinite>, before: usize) -> NotFinite {
        match earlier {
            None => NotFinite { first: (before + self.first.0, self.first.1), ..self },
            Some(earlier) => NotFinite { count: earlier.count + self.count, ..earlier },
        }
    }

    /// For a tensor of that name and shape: how many there are, and which is the first.
    pub(crate) fn in_words(&self, name: &str, shape: &[usize]) -> String {
        let (mut at, value) = self.first;
        let mut index: Vec<usize> = shape
            .iter()
            .rev()
            .map(|&n| {
                let digit = at % n.max(1);
                at /= n.max(1);
                digit
            })
            .collect();
        index.reverse();
        let value = if value.is_nan() { "NaN" } else { "infinite in float32" };
        format!(
            "tensor `{}` holds {} of {} values that aren't finite (the first, at {index:?}, is {value})",
            printable(name),
            self.count,
            shape.iter().product::<usize>()
        )
    }
}

/// Takes in a weight's float32 values, little-endian, without a copy of the whole: fresh pages for
/// hundreds of megabytes would take as long as the hash. What of them isn't finite.
fn hash(digest: &mut Sha256, weight: &Weight) -> Result<Option<NotFinite>> {
    weight.read(|values| {
        let mut bytes = Vec::with_capacity(4 * CHUNK);
        let mut not_finite: Option<NotFinite> = None;
        for (i, values) in values.chunks(CHUNK).enumerate() {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            digest.update(&bytes);
            if let Some(found) = NotFinite::among(values) {
                not_finite = Some(found.join(not_finite.take(), i * CHUNK));
            }
        }
        not_finite
    })
}

/// Hex sha256 of tensors: each one's name, then its numbers as float32.
///
/// # Errors
/// One that can't be read as float32.
pub(crate) fn of_tensors(tensors: &BTreeMap<String, Tensor>) -> Result<String> {
    let mut sha = Sha256::new();
    for (name, tensor) in tensors {
        sha.update(name.as_bytes());
        let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        sha.update(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    }
    Ok(hex(sha.finalize()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{Device, Tensor};

    use super::*;
    use crate::weights::tensor::{Dtype, RawTensor};

    fn said(weights: Weights) -> String {
        Digests::of(&weights).unwrap_err().to_string()
    }

    #[test]
    fn values_that_are_not_finite_are_counted_and_the_first_is_named() {
        let mut values = vec![0.5f32; 3 * CHUNK];
        Digests::of(&one(&values)).unwrap();
        values[CHUNK + 2] = f32::NAN;
        values[2 * CHUNK] = f32::NEG_INFINITY;
        let text = said(one(&values));
        let at = [CHUNK.div_ceil(3), (CHUNK + 2) % 3];
        let expected = format!(
            "tensor `a` holds 2 of {} values that aren't finite (the first, at {at:?}, is NaN)",
            3 * CHUNK
        );
        assert!(text.starts_with(&expected), "{text}");
        let names = [("a".into(), "encoder.a.weight".into())].into();
        let named = one(&values).read_from(std::path::Path::new("x.ckpt"), names);
        assert!(said(named).starts_with("x.ckpt: tensor `encoder.a.weight` holds 2"));
    }

    fn one(values: &[f32]) -> Weights {
        let tensor = Tensor::from_slice(values, (values.len() / 3, 3), &Device::Cpu).unwrap();
        BTreeMap::from([("a".to_owned(), tensor)]).into()
    }

    #[test]
    fn every_type_of_float_is_checked_and_more_tensors_are_counted() {
        let raw =
            |dtype, bytes: &[u8]| RawTensor::new(dtype, vec![1], bytes.to_vec().into()).unwrap();
        let cases = [
            (Dtype::F16, half::f16::NAN.to_le_bytes().to_vec(), "NaN"),
            (Dtype::BF16, half::bf16::INFINITY.to_le_bytes().to_vec(), "infinite"),
            (Dtype::F32, f32::INFINITY.to_le_bytes().to_vec(), "infinite"),
            (Dtype::F64, f64::NAN.to_le_bytes().to_vec(), "NaN"),
            // Finite, but not in float32, in which everything is computed.
            (Dtype::F64, 1e39f64.to_le_bytes().to_vec(), "infinite in float32"),
        ];
        for (dtype, bytes, word) in cases {
            let tensor = raw(dtype, &bytes);
            let weights = ["a", "b", "c"].map(|name| (name.to_owned(), tensor.clone()));
            let text = said(BTreeMap::from(weights).into());
            assert!(text.contains(word) && text.contains("so do 2 other tensors"), "{text}");
        }
        let sound = raw(Dtype::F64, &1e38f64.to_le_bytes());
        Digests::of(&BTreeMap::from([("a".to_owned(), sound)]).into()).unwrap();
    }
}
