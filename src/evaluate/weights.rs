//! Owns the tensors of judging networks: read from local files, every one that is needed, of its shape,
//! finite. Must not know: what they are for.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use super::network::{Conv, Geometry};
use crate::error::{Error, Result};
use crate::util::text;

/// Tensors by name, of one network.
pub(super) struct Tensors<'a> {
    /// For messages.
    pub(super) path: &'a Path,
    /// What it is, for messages.
    pub(super) what: &'static str,
    pub(super) all: &'a BTreeMap<String, Tensor>,
}

impl Tensors<'_> {
    /// The numbers of a tensor of that shape.
    ///
    /// # Errors
    /// One that is missing or has another shape, by its name.
    pub(super) fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (path, what) = (text::path(self.path), self.what);
        match self.all.get(name) {
            None => {
                Err(Error::invalid(format!("{path}: `{name}` is missing: no weights of {what}")))
            }
            Some(tensor) if tensor.dims() != shape => Err(Error::invalid(format!(
                "{path}: `{name}` has shape {:?}, not {shape:?} as in {what}",
                tensor.dims()
            ))),
            // Floats that were cast to integers would be zeros, and pictures alike.
            Some(tensor) if !tensor.dtype().is_float() => Err(Error::invalid(format!(
                "{path}: `{name}` is of integers, not of floats as in {what}"
            ))),
            Some(tensor) => Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?),
        }
    }

    /// `{name}.weight` and `{name}.bias`.
    ///
    /// # Errors
    /// As [`Tensors::take`].
    pub(super) fn conv(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        geometry: Geometry,
    ) -> Result<Conv> {
        let [rows, columns] = geometry.window;
        let weight = self.take(&format!("{name}.weight"), &[outputs, inputs, rows, columns])?;
        let bias = self.take(&format!("{name}.bias"), &[outputs])?;
        Ok(Conv::new([outputs, inputs], geometry, weight, bias))
    }

    /// `{name}.conv` with the batch norm `{name}.bn` behind it, as one convolution.
    ///
    /// # Errors
    /// As [`Tensors::take`].
    pub(super) fn conv_norm(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        geometry: Geometry,
        epsilon: f64,
    ) -> Result<Conv> {
        let [rows, columns] = geometry.window;
        let shape = [outputs, inputs, rows, columns];
        let mut weight = self.take(&format!("{name}.conv.weight"), &shape)?;
        let of = |part: &str| self.take(&format!("{name}.bn.{part}"), &[outputs]);
        let (gain, shift) = (of("weight")?, of("bias")?);
        let (mean, variance) = (of("running_mean")?, of("running_var")?);
        let mut bias = Vec::with_capacity(outputs);
        // The root of what is negative would make every feature no number.
        if variance.iter().any(|variance| *variance < 0.0) {
            let path = text::path(self.path);
            return Err(Error::invalid(format!("{path}: `{name}.bn.running_var` is below 0")));
        }
        for (at, taps) in weight.chunks_exact_mut(inputs * rows * columns).enumerate() {
            let scale = f64::from(gain[at]) / (f64::from(variance[at]) + epsilon).sqrt();
            taps.iter_mut().for_each(|tap| *tap = (f64::from(*tap) * scale) as f32);
            bias.push((f64::from(shift[at]) - f64::from(mean[at]) * scale) as f32);
        }
        Ok(Conv::new([outputs, inputs], geometry, weight, bias))
    }
}
