//! Owns the bridge from named tensors to modules: a `VarBuilder` over a sorted map that records
//! which names the modules asked for, so that no weight of a checkpoint is silently left out.
//! Must not know: files, families.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::{SimpleBackend, VarBuilder};

/// Weights under canonical names, and a record of the names that were read.
#[derive(Clone)]
pub struct Weights {
    tensors: Arc<BTreeMap<String, Tensor>>,
    used: Arc<Mutex<BTreeSet<String>>>,
}

impl Weights {
    /// Wraps `tensors`; nothing counts as used yet.
    pub fn new(tensors: BTreeMap<String, Tensor>) -> Weights {
        Weights { tensors: Arc::new(tensors), used: Arc::default() }
    }

    /// A builder of float32 modules on `device` over these weights.
    pub fn var_builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// Names that no module has read so far, sorted.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.tensors.keys().filter(|name| !used.contains(*name)).cloned().collect()
    }

    fn find(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(candle_core::Error::Msg(format!("the checkpoint has no tensor `{name}`")));
        };
        self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.to_owned());
        tensor.to_device(device)?.to_dtype(dtype)
    }
}

impl SimpleBackend for Weights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.find(name, dtype, device)?;
        if tensor.shape() == &shape {
            return Ok(tensor);
        }
        Err(candle_core::Error::Msg(format!(
            "tensor `{name}` has shape {:?} where the model needs {:?}",
            tensor.dims(),
            shape.dims()
        )))
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.find(name, dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_read_are_recorded_and_wrong_shapes_refused() {
        let tensor = || Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let weights = Weights::new(BTreeMap::from([
            ("a.weight".to_owned(), tensor()),
            ("b.weight".to_owned(), tensor()),
        ]));
        let vb = weights.var_builder(&Device::Cpu);
        vb.pp("a").get((2, 3), "weight").unwrap();
        assert_eq!(weights.unused(), ["b.weight"]);
        let wrong = vb.pp("b").get((3, 2), "weight").unwrap_err().to_string();
        assert!(
            wrong.contains("`b.weight` has shape [2, 3] where the model needs [3, 2]"),
            "{wrong}"
        );
        let missing = vb.get((1,), "c").unwrap_err().to_string();
        assert!(missing.contains("no tensor `c`"), "{missing}");
    }
}
