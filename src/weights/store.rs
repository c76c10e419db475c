//! Owns a model's weights by their canonical names, and the bridge from them to candle's modules: a
//! `VarBuilder` that records which names the modules asked for, so that no weight of a checkpoint is
//! silently left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Storage, Tensor};
use candle_nn::var_builder::{SimpleBackend, VarBuilder};

use super::tensor::RawTensor;
use crate::error::{Error, Result};
use crate::util::text;
use crate::util::text::printable;

/// One weight.
#[derive(Debug, Clone)]
pub enum Weight {
    /// Held by candle.
    Held(Tensor),
    /// Where it lies in a checkpoint, mapped or read: whoever needs it takes it from there, so
    /// that nothing holds it twice.
    Stored(RawTensor),
}

impl Weight {
    /// Outermost dimension first.
    pub fn dims(&self) -> &[usize] {
        match self {
            Weight::Held(tensor) => tensor.dims(),
            Weight::Stored(raw) => raw.shape(),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As candle has it, in the type it is stored in, on the CPU where it is stored.
    ///
    /// # Errors
    /// Where it can't be read, or candle has no such values.
    pub fn tensor(&self) -> Result<Tensor> {
        match self {
            Weight::Held(tensor) => Ok(tensor.clone()),
            Weight::Stored(raw) => raw.to_candle(&Device::Cpu),
        }
    }

    /// Hands the values as float32, row-major, to `reader`; copies nothing where they lie so.
    ///
    /// # Errors
    /// Where they can't be read as float32.
    pub fn read<T>(&self, reader: impl FnOnce(&[f32]) -> T) -> Result<T> {
        let tensor = match self {
            Weight::Stored(raw) => return raw.read(reader),
            Weight::Held(tensor) => tensor,
        };
        let tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(values), Some((start, end))) => {
                Ok(reader(&values.as_slice::<f32>()?[start..end]))
            }
            _ => Err(Error::invalid("a tensor on the CPU, just made contiguous, is not")),
        }
    }

    /// A tensor of its shape that holds one zero: enough to ask a network whether it fits.
    fn hollow(&self, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::zeros((), dtype, device)?.broadcast_as(self.dims())
    }
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Weight {
        Weight::Held(tensor)
    }
}

impl From<RawTensor> for Weight {
    fn from(raw: RawTensor) -> Weight {
        Weight::Stored(raw)
    }
}

/// Weights under canonical names; cloning copies nothing.
#[derive(Debug, Clone)]
pub struct Weights {
    weights: Arc<BTreeMap<String, Weight>>,
    /// Names in the checkpoint, by ours, where they aren't the same.
    published: Arc<BTreeMap<String, String>>,
    /// The file or folder they were read from, as messages show it; empty where they weren't.
    place: Arc<str>,
}

impl Weights {
    /// The weight of that name.
    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.weights.get(name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Weight)> {
        self.weights.iter()
    }

    /// The same with the place they were read from, and the names they have there, by ours.
    pub fn read_from(self, place: &Path, names: BTreeMap<String, String>) -> Weights {
        Weights { published: Arc::new(names), place: text::path(place).into(), ..self }
    }

    /// What a message about them begins with: their place, or nothing.
    pub fn at(&self) -> String {
        if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) }
    }

    /// The name that whoever looks into the checkpoint finds, for messages; of a weight that is
    /// missing, the one it would have beside its neighbours there.
    pub fn published_name<'a>(&'a self, name: &'a str) -> Cow<'a, str> {
        if let Some(published) = self.published.get(name) {
            return published.into();
        }
        let neighbour = || {
            let (stem, leaf) = name.rsplit_once('.')?;
            let start = format!("{stem}.");
            let (other, _) = self.published.range(start.clone()..).next()?;
            let published = self.published[other.starts_with(&start).then_some(other)?].as_str();
            // Names without dots, as LitEma's are, say nothing of their neighbours'.
            let stem = published.strip_suffix(&other[stem.len()..])?;
            Some(format!("{stem}.{leaf}"))
        };
        match self.weights.contains_key(name) {
            true => name.into(),
            false => neighbour().map_or(name.into(), Cow::Owned),
        }
    }

    /// All of them as candle has them; see [`Weight::tensor`].
    ///
    /// # Errors
    /// The first that can't be read.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.iter().map(|(name, weight)| Ok((name.clone(), weight.tensor()?))).collect()
    }

    /// For modules to load from.
    pub fn reader(&self) -> Reader {
        Reader { weights: self.clone(), hollow: false, used: Arc::default() }
    }

    /// The same with zeros of the same shapes, which take no memory.
    pub fn shape_only_reader(&self) -> Reader {
        Reader { hollow: true, ..self.reader() }
    }
}

impl<W: Into<Weight>> From<BTreeMap<String, W>> for Weights {
    fn from(weights: BTreeMap<String, W>) -> Weights {
        let weights = weights.into_iter().map(|(name, w)| (name, w.into())).collect();
        Weights { weights: Arc::new(weights), published: Arc::default(), place: "".into() }
    }
}

/// Gives weights to modules, and records the names that were read.
#[derive(Clone)]
pub struct Reader {
    weights: Weights,
    hollow: bool,
    used: Arc<Mutex<BTreeSet<String>>>,
}

impl Reader {
    /// A builder of float32 modules on `device`.
    pub fn var_builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// Names that no module has read so far, sorted by ours, as their checkpoint has them.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = self.weights.iter().filter(|(name, _)| !used.contains(*name));
        unused.map(|(name, _)| self.weights.published_name(name).into_owned()).collect()
    }

    fn find(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let Some(weight) = self.weights.get(name) else {
            let name = self.weights.published_name(name);
            let text = format!("the checkpoint has no tensor `{}`", printable(&name));
            return Err(candle_core::Error::Msg(text));
        };
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        if self.hollow {
            return weight.hollow(dtype, device);
        }
        let tensor = weight.tensor().map_err(|e| match e {
            Error::Tensor(e) => e,
            other => candle_core::Error::Msg(other.to_string()),
        })?;
        tensor.to_device(device)?.to_dtype(dtype)
    }
}

impl SimpleBackend for Reader {
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
        let name = self.weights.published_name(name);
        let name = printable(&name);
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
        self.weights.get(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Weights {
        let tensor = |value: f32| Tensor::full(value, (2, 3), &Device::Cpu).unwrap();
        let named = [("a.weight".to_owned(), tensor(1.0)), ("b.weight".to_owned(), tensor(2.0))];
        BTreeMap::from(named).into()
    }

    #[test]
    fn names_that_were_read_are_recorded_and_wrong_shapes_refused() {
        for reader in [weights().reader(), weights().shape_only_reader()] {
            let vb = reader.var_builder(&Device::Cpu);
            let values = vb.pp("a").get((2, 3), "weight").unwrap().flatten_all().unwrap();
            assert_eq!(reader.unused(), ["b.weight"]);
            let expected = if reader.hollow { 0.0 } else { 1.0 };
            assert_eq!(values.to_vec1::<f32>().unwrap(), [expected; 6]);
            let wrong = vb.pp("b").get((3, 2), "weight").unwrap_err().to_string();
            assert!(
                wrong.contains("`b.weight` has shape [2, 3] where the model needs [3, 2]"),
                "{wrong}"
            );
            let missing = vb.get((1,), "c").unwrap_err().to_string();
            assert!(missing.contains("no tensor `c`"), "{missing}");
        }
    }

    #[test]
    fn messages_name_weights_as_their_checkpoint_does() {
        let names = [("a.weight".to_owned(), "block.0.weight".to_owned())];
        let weights = weights().read_from(Path::new("x.pt"), names.into());
        for (ours, theirs) in [
            ("a.weight", "block.0.weight"),
            ("a.bias", "block.0.bias"),
            ("b.weight", "b.weight"),
            ("c", "c"),
        ] {
            assert_eq!(weights.published_name(ours), theirs);
        }
        let vb = weights.reader().var_builder(&Device::Cpu);
        let missing = vb.pp("a").get(3, "bias").unwrap_err().to_string();
        assert!(missing.contains("no tensor `block.0.bias`"), "{missing}");
    }

    #[test]
    fn values_are_the_same_held_and_stored() {
        let values = [1.0f32, -2.5, 3.0, 0.5];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let stored = RawTensor::new(super::super::tensor::Dtype::F32, vec![2, 2], bytes.into());
        let held = Tensor::new(&[[1.0f32, 3.0], [-2.5, 0.5]], &Device::Cpu).unwrap().t().unwrap();
        for weight in [Weight::Stored(stored.unwrap()), Weight::from(held)] {
            assert_eq!((weight.dims(), weight.len()), (&[2, 2][..], 4));
            assert_eq!(weight.read(<[f32]>::to_vec).unwrap(), values);
            let tensor = weight.tensor().unwrap().flatten_all().unwrap();
            assert_eq!(tensor.to_vec1::<f32>().unwrap(), values);
        }
    }
}
