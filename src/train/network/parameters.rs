//! Owns the trainable weights: names to variables, their initial values, their averages on the way
//! in and out. Must not know: what the network looks like.
//!
//! A network is built on [`Parameters::builder`]; each weight that it asks for becomes a variable.
//! [`Parameters::initialize`] then fills all of them, each from (seed, name) alone, so that the
//! order in which a network asks has no influence.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::random::{fnv1a64, splitmix64, unit};
use crate::error::{Error, Result};

type Store = Arc<Mutex<BTreeMap<String, Var>>>;

/// Weights, moments or averages by name on the host, flat, names sorted: for checkpoints, models and reports.
pub(crate) type Named = BTreeMap<String, Vec<f32>>;

/// Gradients, moments or averages by name where the training computes, names sorted. float32.
pub type Tensors = BTreeMap<String, Tensor>;

/// The name of the codebook among a model's weights, `[K, D]` for each residual level, concatenated
/// by level.
pub(crate) const CODEBOOK_NAME: &str = "quantize.embedding.weight";

/// What the names of a quantizer's trained weights begin with.
pub(crate) const QUANTIZER_PREFIX: &str = "quantize.";

/// Values of a trained weight that were set and not learned: whoever remembers older ones (moments,
/// averages) has to forget them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The weight.
    pub name: &'static str,
    /// Which of its elements.
    pub range: Range<usize>,
}

/// All trainable weights by name, sorted, on one device. float32.
#[derive(Clone)]
pub struct Parameters {
    store: Store,
    device: Device,
}

/// Creates a variable of zeros for each name that is asked for.
struct Builder {
    store: Store,
}

impl SimpleBackend for Builder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut store = match self.store.lock() {
            Ok(store) => store,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(var) = store.get(name) {
            if var.shape() != &shape {
                candle_core::bail!("{name}: asked for as {:?} and as {shape:?}", var.shape());
            }
            return Ok(var.as_tensor().clone());
        }
        // Networks that read bfloat16 have their weights in float32 as well.
        let dtype = if dtype == DType::BF16 { DType::F32 } else { dtype };
        let var = Var::zeros(shape, dtype, device)?;
        let tensor = var.as_tensor().clone();
        store.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name}: a trainable weight needs a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

impl Parameters {
    /// No weights yet; all will be on `device`.
    pub fn new(device: &Device) -> Parameters {
        Parameters { store: Store::default(), device: device.clone() }
    }

    /// Where they are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What a network is built on.
    pub fn builder(&self, dtype: DType) -> VarBuilder<'static> {
        let backend = Builder { store: self.store.clone() };
        VarBuilder::from_backend(Box::new(backend), dtype, self.device.clone())
    }

    /// Adds a variable of zeros, to be initialized with the others; the one that is there where
    /// the name is known.
    ///
    /// # Errors
    /// Where the name is known with another shape.
    pub fn variable(&self, shape: impl Into<Shape>, name: &str, dtype: DType) -> Result<Var> {
        self.builder(dtype).get(shape, name)?;
        let known = self.vars().remove(name);
        known.ok_or_else(|| Error::invalid(format!("weight {name} was not created")))
    }

    /// The variables, names sorted.
    pub fn vars(&self) -> BTreeMap<String, Var> {
        match self.store.lock() {
            Ok(store) => store.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// Number of scalars.
    pub fn count(&self) -> usize {
        self.vars().values().map(|v| v.elem_count()).sum()
    }

    /// PyTorch's initial values: weights of convolutions and linear layers and their biases
    /// uniform in +-1/sqrt(fan_in) (`kaiming_uniform_` with a = sqrt 5), norms one and zero. For
    /// transposed convolutions fan_in is, as there, that of the stored `[in, out, k, k]`.
    ///
    /// # Errors
    /// Variables of a type that float32 can't be turned into.
    pub fn initialize(&self, seed: u64) -> Result<()> {
        let vars = self.vars();
        for (name, var) in &vars {
            let fan_in = |dims: &[usize]| dims[1..].iter().product::<usize>().max(1) as f64;
            let bound = match (var.dims(), name.strip_suffix(".bias")) {
                ([_], Some(stem)) => match vars.get(&format!("{stem}.weight")) {
                    Some(weight) if weight.dims().len() > 1 => 1.0 / fan_in(weight.dims()).sqrt(),
                    _ => 0.0,
                },
                ([_], None) => {
                    var.set(&Tensor::ones(var.shape(), var.dtype(), var.device())?)?;
                    continue;
                }
                (dims, _) if dims.len() > 1 => 1.0 / fan_in(dims).sqrt(),
                _ => 0.0,
            };
            let key = splitmix64(seed, fnv1a64(name));
            let values: Vec<f32> =
                (0..var.elem_count()).map(|i| unit(key, i as u64) * bound as f32).collect();
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }

    /// All values, flat.
    ///
    /// # Errors
    /// A value that can't be read as float32.
    pub fn values(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        to_host(self.vars().iter().map(|(name, var)| (name, var.as_tensor())))
    }

    /// Sets all values.
    ///
    /// # Errors
    /// Where a name is missing, is too much, or has another size.
    pub fn set_values(&self, values: &BTreeMap<String, Vec<f32>>) -> Result<()> {
        let vars = self.vars();
        if let Some(extra) = values.keys().find(|name| !vars.contains_key(*name)) {
            return Err(Error::invalid(format!("weight {extra} belongs to another network")));
        }
        for (name, var) in &vars {
            let value = values
                .get(name)
                .filter(|v| v.len() == var.elem_count())
                .ok_or_else(|| Error::invalid(format!("weight {name} is missing or misshapen")))?;
            set_flat(var, value.clone())?;
        }
        Ok(())
    }
}

/// Tensors' elements on the host.
///
/// # Errors
/// Numbers that can't be read as float32.
pub(crate) fn to_host<'a>(
    tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>,
) -> Result<Named> {
    tensors.into_iter().map(|(name, tensor)| Ok((name.clone(), flat(tensor)?))).collect()
}

/// The same values on `device`, flat.
///
/// # Errors
/// A device without room for them.
pub(crate) fn to_device(values: Named, device: &Device) -> Result<Tensors> {
    let tensor = |(name, values): (String, Vec<f32>)| {
        let count = values.len();
        Ok((name, Tensor::from_vec(values, count, device)?))
    };
    values.into_iter().map(tensor).collect()
}

/// The elements of a tensor in row-major order, as float32.
///
/// # Errors
/// Numbers that can't be read as float32.
pub fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

/// Replaces a variable's values.
///
/// # Errors
/// Another number of values than the variable has.
pub fn set_flat(var: &Var, values: Vec<f32>) -> Result<()> {
    Ok(var.set(&Tensor::from_vec(values, var.shape(), var.device())?.to_dtype(var.dtype())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_values_depend_on_name_and_seed_only() -> Result<()> {
        let build = |names: &[&str]| -> Result<Parameters> {
            let p = Parameters::new(&Device::Cpu);
            let vb = p.builder(DType::F32);
            for name in names {
                if *name == "norm" {
                    vb.get(6, "norm.bias")?;
                    vb.get(6, "norm.weight")?;
                } else {
                    vb.get(5, &format!("{name}.bias"))?;
                    vb.get((5, 4, 3, 3), &format!("{name}.weight"))?;
                }
            }
            Ok(p)
        };
        let (a, b) = (build(&["x", "y", "norm"])?, build(&["norm", "y", "x"])?);
        a.initialize(1)?;
        b.initialize(1)?;
        assert_eq!(a.values()?, b.values()?);
        b.initialize(2)?;
        assert_ne!(a.values()?, b.values()?);
        let values = a.values()?;
        assert_ne!(values["x.weight"], values["y.weight"]);
        assert!(values["norm.weight"].iter().all(|v| *v == 1.0));
        assert!(values["norm.bias"].iter().all(|v| *v == 0.0));
        for name in ["x.weight", "x.bias"] {
            let largest = values[name].iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest <= 1.0 / 6.0 && largest > 0.0, "{name}: {largest}");
        }
        Ok(())
    }
}
