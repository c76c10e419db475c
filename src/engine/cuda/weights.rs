//! Owns weights in the form that the device wants: `[outputs, ky, kx, inputs]`, channels padded,
//! float32 or bfloat16. PackedConv when first asked for, kept for every size of image.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use half::bf16;

use super::books::PackedCodebook;
use super::program::Place;
use crate::engine::cpu::transposed;
use crate::engine::device::Precision;
use crate::error::{Error, Result};

/// Channels of maps are padded to a multiple of this: 16 bytes of bfloat16.
pub(crate) const CHANNELS: usize = 8;

/// Who computes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConvBackend {
    /// Our kernel: any element; its bias is float32.
    Custom,
    /// cuDNN: bfloat16 in and out; its bias is bfloat16.
    Cudnn,
}

/// A convolution's packed tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedConv {
    /// `[outputs, kernel, kernel, inputs]`
    pub weights: Place,
    /// `[outputs]`
    pub bias: Place,
    /// With padding.
    pub inputs: usize,
    /// Channels of the output; with padding where it is a map.
    pub outputs: usize,
    /// Rows and columns of the window.
    pub kernel: usize,
    /// Who computes it.
    pub backend: ConvBackend,
}

/// Packed weights.
pub(crate) struct DeviceWeights {
    pub(super) precision: Precision,
    weights: BTreeMap<String, Tensor>,
    blobs: Vec<Vec<u8>>,
    convs: BTreeMap<String, PackedConv>,
    floats: BTreeMap<String, Place>,
    pub(super) books: BTreeMap<String, PackedCodebook>,
}

impl DeviceWeights {
    /// Over weights under canonical names, on the CPU.
    pub(crate) fn new(weights: BTreeMap<String, Tensor>, precision: Precision) -> DeviceWeights {
        DeviceWeights {
            precision,
            weights,
            blobs: Vec::new(),
            convs: BTreeMap::new(),
            floats: BTreeMap::new(),
            books: BTreeMap::new(),
        }
    }

    /// Elements of maps and weights.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The bytes of every `Place::Weight`, in order; only ever grows.
    pub(crate) fn blobs(&self) -> &[Vec<u8>] {
        &self.blobs
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }

    /// The convolution `name`, whose weight and bias are called so.
    pub(crate) fn conv(&mut self, name: &str, parameters: [&str; 2]) -> Result<PackedConv> {
        self.packed(name, false, |all| Ok(vec![all.layer(name, parameters)?]))
    }

    /// The same with float32 output, which only our kernel gives.
    pub(crate) fn conv_to_floats(
        &mut self,
        name: &str,
        parameters: [&str; 2],
    ) -> Result<PackedConv> {
        self.packed(name, true, |all| Ok(vec![all.layer(name, parameters)?]))
    }

    /// Several convolutions of the same input as one, `key`: outputs side by side.
    pub(crate) fn side_by_side(&mut self, key: &str, names: &[&str]) -> Result<PackedConv> {
        let parameters = ["weight", "bias"];
        self.packed(key, false, |all| names.iter().map(|n| all.layer(n, parameters)).collect())
    }

    /// A transposed 4x4 convolution of stride 2 as a 3x3 one to the four pixels of each.
    pub(crate) fn transposed(&mut self, name: &str) -> Result<PackedConv> {
        self.packed(name, false, |all| {
            let weight = all.tensor(&format!("{name}.weight"))?;
            let bias = all.tensor(&format!("{name}.bias"))?;
            let (weight, bias) = transposed(&weight, &bias)?;
            Ok(vec![(weight, bias.to_vec1()?)])
        })
    }

    /// The convolution `name`, its outputs times `gain`.
    pub(crate) fn scaled(
        &mut self,
        name: &str,
        parameters: [&str; 2],
        gain: f64,
    ) -> Result<PackedConv> {
        self.packed(name, false, |all| {
            let (weight, mut bias) = all.layer(name, parameters)?;
            bias.iter_mut().for_each(|b| *b *= gain as f32);
            Ok(vec![((weight * gain)?, bias)])
        })
    }

    /// The convolution `name` to its first `kept` outputs.
    pub(crate) fn head(
        &mut self,
        name: &str,
        parameters: [&str; 2],
        kept: usize,
    ) -> Result<PackedConv> {
        self.packed(name, false, |all| {
            let (weight, mut bias) = all.layer(name, parameters)?;
            bias.truncate(kept);
            Ok(vec![(weight.narrow(0, 0, kept)?.contiguous()?, bias)])
        })
    }

    fn layer(&self, name: &str, [weight, bias]: [&str; 2]) -> Result<(Tensor, Vec<f32>)> {
        let weight = self.tensor(&format!("{name}.{weight}"))?;
        let bias_name = format!("{name}.{bias}");
        let bias = match self.has(&bias_name) {
            true => self.tensor(&bias_name)?.to_vec1::<f32>()?,
            false => vec![0.0; weight.dim(0)?],
        };
        Ok((weight, bias))
    }

    /// What was packed as `key`, or is now.
    fn packed(
        &mut self,
        key: &str,
        to_floats: bool,
        parts: impl FnOnce(&DeviceWeights) -> Result<Vec<(Tensor, Vec<f32>)>>,
    ) -> Result<PackedConv> {
        if let Some(packed) = self.convs.get(key) {
            return Ok(*packed);
        }
        let parts = parts(self)?;
        self.pack(key, &parts, to_floats)
    }

    /// Weights and biases of the same inputs, outputs side by side.
    fn pack(
        &mut self,
        key: &str,
        parts: &[(Tensor, Vec<f32>)],
        to_floats: bool,
    ) -> Result<PackedConv> {
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        let (mut outputs, mut real_inputs, mut kernel) = (0, 0, 0);
        for (weight, biases) in parts {
            let (o, i, k, _) = weight.dims4()?;
            rows.extend(weight.flatten_all()?.to_vec1::<f32>()?);
            bias.extend(biases);
            (outputs, real_inputs, kernel) = (outputs + o, i, k);
        }
        let inputs = real_inputs.next_multiple_of(CHANNELS);
        if !to_floats {
            // Zero weights and biases: further channels of the map that hold zeros.
            outputs = outputs.next_multiple_of(CHANNELS);
            rows.resize(outputs * real_inputs * kernel * kernel, 0.0);
            bias.resize(outputs, 0.0);
        }
        let library = self.precision == Precision::Bf16 && !to_floats;
        let backend = if library { ConvBackend::Cudnn } else { ConvBackend::Custom };
        let bias = match backend {
            ConvBackend::Custom => self.push(encode(&bias, Precision::F32)),
            ConvBackend::Cudnn => self.push(encode(&bias, Precision::Bf16)),
        };
        let packed = krsc(&rows, [outputs, real_inputs, kernel], inputs);
        let weights = self.push(encode(&packed, self.precision));
        let packed = PackedConv { weights, bias, inputs, outputs, kernel, backend };
        self.convs.insert(key.to_owned(), packed);
        Ok(packed)
    }

    /// A tensor as float32, whatever the weights' elements are.
    pub(crate) fn floats(&mut self, name: &str) -> Result<Place> {
        if let Some(place) = self.floats.get(name) {
            return Ok(*place);
        }
        let values = self.tensor(name)?.flatten_all()?.to_vec1::<f32>()?;
        let place = self.push(encode(&values, Precision::F32));
        self.floats.insert(name.to_owned(), place);
        Ok(place)
    }

    /// Weights and biases of the layers `name` one beside the other for each channel, `[padded, 2]`, zeros behind.
    pub(crate) fn scales_and_shifts(&mut self, name: &str, padded: usize) -> Result<Place> {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let (weight, bias) = (self.tensor(&weight)?, self.tensor(&bias)?);
        let mut pairs = Tensor::stack(&[weight, bias], 1)?.flatten_all()?.to_vec1::<f32>()?;
        pairs.resize(2 * padded, 0.0);
        Ok(self.table(name, &pairs))
    }

    /// A table of the caller's as float32.
    pub(crate) fn table(&mut self, key: &str, values: &[f32]) -> Place {
        if let Some(place) = self.floats.get(key) {
            return *place;
        }
        let place = self.push(encode(values, Precision::F32));
        self.floats.insert(key.to_owned(), place);
        place
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::invalid(format!("the checkpoint has no tensor `{name}`"));
        let tensor = self.weights.get(name).ok_or_else(missing)?;
        Ok(tensor.to_dtype(DType::F32)?)
    }

    pub(super) fn push(&mut self, bytes: Vec<u8>) -> Place {
        self.blobs.push(bytes);
        Place::Weight(self.blobs.len() - 1)
    }
}

/// `[outputs, inputs, k, k]` to `[outputs, k, k, padded]`, zeros after the inputs.
fn krsc(rows: &[f32], [outputs, inputs, kernel]: [usize; 3], padded: usize) -> Vec<f32> {
    let window = kernel * kernel;
    let mut packed = vec![0.0; outputs * window * padded];
    for o in 0..outputs {
        for i in 0..inputs {
            for at in 0..window {
                packed[(o * window + at) * padded + i] = rows[(o * inputs + i) * window + at];
            }
        }
    }
    packed
}

/// Little-endian elements; bfloat16 rounded to even.
pub(crate) fn encode(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Precision::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use candle_core::Device;

    const NAMES: [&str; 2] = ["weight", "bias"];

    pub(in crate::engine::cuda) fn weights(precision: Precision) -> DeviceWeights {
        let tensor = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|i| i as f32 / 7.0).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let weights = BTreeMap::from([
            ("c.weight".to_owned(), tensor(&[2, 3, 3, 3])),
            ("c.bias".to_owned(), tensor(&[2])),
            ("d.weight".to_owned(), tensor(&[16, 8, 1, 1])),
            ("quantize.embedding.weight".to_owned(), tensor(&[5, 2])),
        ]);
        DeviceWeights::new(weights, precision)
    }

    pub(in crate::engine::cuda) fn floats(weights: &DeviceWeights, place: Place) -> Vec<f32> {
        let Place::Weight(index) = place else { panic!("not a weight") };
        let bytes = weights.blobs()[index].chunks_exact(4);
        bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn inputs_stand_innermost_and_channels_are_padded_with_zeros() {
        let mut weights = weights(Precision::F32);
        let packed = weights.conv("c", NAMES).unwrap();
        assert_eq!((packed.inputs, packed.outputs, packed.kernel), (8, 8, 3));
        let values = floats(&weights, packed.weights);
        assert_eq!(values.len(), 8 * 9 * 8);
        for o in 0..8 {
            for at in 0..9 {
                for i in 0..8 {
                    let real = o < 2 && i < 3;
                    let want = if real { ((o * 3 + i) * 9 + at) as f32 / 7.0 } else { 0.0 };
                    assert_eq!(values[(o * 9 + at) * 8 + i], want);
                }
            }
        }
        assert_eq!(floats(&weights, packed.bias), [0.0, 1.0 / 7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let count = weights.blobs().len();
        assert_eq!(weights.conv("c", NAMES).unwrap(), packed);
        assert_eq!(weights.blobs().len(), count, "packed once");
        assert!(
            weights
                .conv("none", NAMES)
                .unwrap_err()
                .to_string()
                .contains("no tensor `none.weight`")
        );
    }

    #[test]
    fn cudnn_gets_bf16_maps_and_our_kernel_the_rest() {
        let mut weights = weights(Precision::Bf16);
        let map = weights.conv("d", NAMES).unwrap();
        assert_eq!(map.backend, ConvBackend::Cudnn);
        let Place::Weight(index) = map.weights else { panic!() };
        assert_eq!(&weights.blobs()[index][2..4], bf16::from_f32(1.0 / 7.0).to_le_bytes());
        let latents = weights.conv_to_floats("c", NAMES).unwrap();
        assert_eq!((latents.backend, latents.outputs), (ConvBackend::Custom, 2));
        assert_eq!(floats(&weights, latents.bias), [0.0, 1.0 / 7.0]);
        assert_eq!(
            self::weights(Precision::F32).conv("d", NAMES).unwrap().backend,
            ConvBackend::Custom
        );
    }
}
