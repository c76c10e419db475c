//! Owns LPIPS (Zhang et al. 2018) on VGG16: the distance of two images as a network sees it.

use std::collections::BTreeMap;

use candle_core::{Device, Result as TensorResult, Tensor};

use crate::error::{Error, Result};
use crate::model::conv::{Padding, conv2d};
use crate::model::pool::max_pool2;
use crate::model::relu::relu;
use crate::train::network::checkpointing::tensor_bytes;
use crate::train::network::reductions::mean_by_rows;

/// torchvision's `features.N` of the 13 convolutions, by stage; a tap stands after each stage.
const STAGES: [&[usize]; 5] = [&[0, 2], &[5, 7], &[10, 12, 14], &[17, 19, 21], &[24, 26, 28]];
/// Channels of each stage.
const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];
/// Subtracted from each channel of images in [-1, 1].
pub(crate) const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
/// What each channel is then divided by.
pub(crate) const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
const EPSILON: f64 = 1e-10;

/// Where the epsilon of the unit normalisation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalisation {
    /// f / sqrt(|f|^2 + eps): finite gradients everywhere; for training.
    Inside,
    /// f / (|f| + eps), as lpips 0.1.4 has it: NaN gradients where all features are zero.
    Outside,
}

/// f of length one along the channels.
pub(crate) fn normalise(f: &Tensor, form: Normalisation) -> TensorResult<Tensor> {
    let squares = f.sqr()?.sum_keepdim(1)?;
    let length = match form {
        Normalisation::Inside => (squares + EPSILON)?.sqrt()?,
        Normalisation::Outside => (squares.sqrt()? + EPSILON)?,
    };
    f.broadcast_div(&length)
}

/// The frozen network and its heads.
pub struct Lpips {
    /// Weight and bias of each convolution, by stage.
    stages: Vec<Vec<(Tensor, Tensor)>>,
    /// `[1, C, 1, 1]`, one a tap.
    heads: Vec<Tensor>,
    shift: Tensor,
    scale: Tensor,
}

impl Lpips {
    /// On `device`, from weights by name: torchvision's `features.N.weight` and `.bias`, the lpips package's
    /// `linL.model.1.weight`; others (a classifier) are not looked at.
    ///
    /// # Errors
    /// Where one is missing or has another shape: heads that are silently not loaded are a classic
    /// way to a useless loss.
    pub fn new(weights: &BTreeMap<String, Tensor>, device: &Device) -> Result<Lpips> {
        let take = |name: String, shape: &[usize]| -> Result<Tensor> {
            match weights.get(&name) {
                Some(t) if t.dims() == shape => Ok(t.detach().to_device(device)?),
                Some(t) => Err(Error::invalid(format!(
                    "LPIPS weight {name} is {:?}, not {shape:?}",
                    t.dims()
                ))),
                None => Err(Error::invalid(format!(
                    "LPIPS weight {name} is missing: VGG16 features and the five lin heads are \
                     needed"
                ))),
            }
        };
        let mut stages = Vec::new();
        let mut input = 3;
        for (layers, width) in STAGES.iter().zip(WIDTHS) {
            let mut stage = Vec::new();
            for n in *layers {
                let weight = take(format!("features.{n}.weight"), &[width, input, 3, 3])?;
                stage.push((weight, take(format!("features.{n}.bias"), &[width])?));
                input = width;
            }
            stages.push(stage);
        }
        let heads = WIDTHS
            .iter()
            .enumerate()
            .map(|(l, width)| take(format!("lin{l}.model.1.weight"), &[1, *width, 1, 1]))
            .collect::<Result<_>>()?;
        let dtype = stages[0][0].0.dtype();
        let constant =
            |v: [f32; 3]| Tensor::new(&v, device)?.to_dtype(dtype)?.reshape((1, 3, 1, 1));
        Ok(Lpips { stages, heads, shift: constant(SHIFT)?, scale: constant(SCALE)? })
    }

    /// The five taps (relu1_2, 2_2, 3_3, 4_3, 5_3) of images `[B, 3, H, W]` in [-1, 1].
    pub fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut h = x.broadcast_sub(&self.shift)?.broadcast_div(&self.scale)?;
        let mut taps = Vec::new();
        for (i, stage) in self.stages.iter().enumerate() {
            if i > 0 {
                h = max_pool2(&h)?;
            }
            for (weight, bias) in stage {
                h = relu(&conv2d(&h, weight, Some(bias), 1, Padding::same(1))?)?;
            }
            taps.push(h.clone());
        }
        Ok(taps)
    }

    /// Distances by tap, each `[B]`: mean over the positions of `lin[c]` (f0 - f1)^2 of the
    /// normalised features.
    pub fn by_tap(&self, a: &Tensor, b: &Tensor, form: Normalisation) -> Result<Vec<Tensor>> {
        let (a, b) = (self.features(a)?, self.features(b)?);
        let mut taps = Vec::new();
        for ((a, b), head) in a.iter().zip(&b).zip(&self.heads) {
            let squares = (normalise(a, form)? - normalise(b, form)?)?.sqr()?;
            let weighted = squares.broadcast_mul(head)?.sum(1)?; // [B, H, W]
            taps.push(weighted.mean(2)?.mean(1)?);
        }
        Ok(taps)
    }

    /// The distance of each pair, `[B]`: the sum over the taps.
    pub fn distance(&self, a: &Tensor, b: &Tensor, form: Normalisation) -> Result<Tensor> {
        let taps = self.by_tap(a, b, form)?;
        let mut sum = taps[0].clone();
        for tap in &taps[1..] {
            sum = (sum + tap)?;
        }
        Ok(sum)
    }
}

/// LPIPS as a loss of reconstructions in the network's own range.
pub struct PerceptualLoss {
    lpips: Lpips,
    weight: f64,
    /// Black and white of the network.
    limits: (f64, f64),
}

impl PerceptualLoss {
    /// `weight` times LPIPS; images are brought from `limits` to [-1, 1].
    pub fn new(lpips: Lpips, weight: f64, limits: (f64, f64)) -> PerceptualLoss {
        PerceptualLoss { lpips, weight, limits }
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        let lpips = &self.lpips;
        let pairs = lpips.stages.iter().flatten().flat_map(|(weight, bias)| [weight, bias]);
        pairs.chain(&lpips.heads).map(tensor_bytes).sum()
    }

    /// `weight` times the mean distance of images `[B, C, H, W]`, C 1 or 3; differentiable in `y`.
    pub fn distance(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (low, high) = self.limits;
        let scale = 2.0 / (high - low);
        let rgb = |t: &Tensor| -> TensorResult<Tensor> {
            let t = t.affine(scale, -1.0 - low * scale)?;
            if t.dim(1)? == 3 { Ok(t) } else { Tensor::cat(&[&t, &t, &t], 1) }
        };
        let distance = self.lpips.distance(&rgb(x)?, &rgb(y)?, Normalisation::Inside)?;
        Ok((mean_by_rows(&distance)? * self.weight)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::train::golden::Case;
    use crate::train::network::parameters::flat;
    use crate::train::network::random::{fnv1a64, unit};

    /// The reference's weights, by its recipe.
    fn generated(case: &Case) -> BTreeMap<String, Tensor> {
        let mut weights = BTreeMap::new();
        for (name, entry) in case.json["generated"].as_object().unwrap() {
            let shape: Vec<usize> =
                entry[0].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
            let head = name.starts_with("lin");
            let scale = match shape.len() {
                4 if !head => (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt(),
                4 => 0.1,
                _ => 0.05,
            };
            let key = fnv1a64(name);
            let values: Vec<f32> = (0..shape.iter().product::<usize>())
                .map(|i| unit(key, i as u64) * scale as f32)
                .map(|v| if head { v.abs() } else { v })
                .collect();
            assert_eq!(values[0], entry[1].as_f64().unwrap() as f32, "{name}");
            let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
            assert!((sum - entry[3].as_f64().unwrap()).abs() < 1e-9, "{name}");
            weights.insert(name.clone(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
        }
        weights
    }

    fn f64s(t: &Tensor) -> Vec<f64> {
        flat(t).unwrap().iter().map(|v| f64::from(*v)).collect()
    }

    /// Features, distances and, in float64, the gradients. Those of float32 hang on the processor:
    /// where two values of a pool are equal but for rounding, the order of sums says which one the
    /// gradient goes to. The reference is made in float64.
    fn check_lpips(case: &Case, weights: &BTreeMap<String, Tensor>, dtype: DType) -> Lpips {
        let cast = |t: Tensor| t.to_dtype(dtype).unwrap();
        let weights = weights.iter().map(|(name, t)| (name.clone(), cast(t.clone()))).collect();
        let lpips = Lpips::new(&weights, &Device::Cpu).unwrap();
        let a = cast(case.tensor("image0"));
        let b = Var::from_tensor(&cast(case.tensor("image1"))).unwrap();
        for (l, tap) in lpips.features(&b).unwrap().iter().enumerate() {
            let first = tap.narrow(1, 0, 8).unwrap().narrow(2, 0, tap.dim(2).unwrap().min(8));
            let first = first.unwrap().narrow(3, 0, tap.dim(3).unwrap().min(8)).unwrap();
            case.check_tensor(&format!("feature{l}_image1_first8"), &first);
            let norm = f64s(tap).iter().map(|v| v * v).sum::<f64>().sqrt();
            case.check_scalar(&format!("feature{l}_image1_norm"), norm);
        }
        for (prefix, form) in [("", Normalisation::Outside), ("eps_inside_", Normalisation::Inside)]
        {
            let taps = lpips.by_tap(&a, &b, form).unwrap();
            for pair in 0..2 {
                let mine: Vec<f64> = taps.iter().map(|t| f64s(t)[pair]).collect();
                case.check_scalars(&format!("{prefix}layers_pair{pair}"), &mine);
            }
            let distance = lpips.distance(&a, &b, form).unwrap();
            case.check_scalars(&format!("{prefix}value_per_pair"), &f64s(&distance));
            let mean = distance.mean_all().unwrap();
            case.check_scalar(&format!("{prefix}mean"), f64s(&mean)[0]);
            if dtype == DType::F64 {
                let store = mean.backward().unwrap();
                case.check_tensor(&format!("{prefix}grad_image1"), store.get(&b).unwrap());
            }
        }
        lpips
    }

    #[test]
    fn golden_lpips() {
        let Some(case) = Case::open("lpips_vgg16") else { return };
        let mut weights = generated(&case);
        check_lpips(&case, &weights, DType::F64);
        let lpips = check_lpips(&case, &weights, DType::F32);
        let (a, b) = (case.tensor("image0"), case.tensor("image1"));
        // The loss in another range of pixels is the same distance.
        let halved = |t: &Tensor| (t * 0.5).unwrap();
        let distance = f64s(&lpips.distance(&a, &b, Normalisation::Inside).unwrap());
        let loss = PerceptualLoss::new(lpips, 3.0, (-0.5, 0.5));
        let loss = f64s(&loss.distance(&halved(&a), &halved(&b)).unwrap())[0];
        let mean = distance.iter().sum::<f64>() / distance.len() as f64;
        assert!((loss - 3.0 * mean).abs() <= 1e-5 * loss, "{loss} {mean}");
        // A head that is missing is an error that names it.
        weights.remove("lin3.model.1.weight");
        let error = Lpips::new(&weights, &Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("lin3.model.1.weight"), "{error}");
    }

    #[test]
    fn golden_unit_normalisation_at_zero() {
        let Some(case) = Case::open("lpips_vgg16") else { return };
        let f = Var::from_tensor(&case.tensor("unit.f")).unwrap();
        for (tag, form) in
            [("eps_inside", Normalisation::Inside), ("eps_outside", Normalisation::Outside)]
        {
            let unit = normalise(&f, form).unwrap();
            case.check_tensor(&format!("unit.{tag}"), &unit);
            let loss = (unit * case.tensor("unit.upstream")).unwrap().sum_all().unwrap();
            let store = loss.backward().unwrap();
            let gradient = store.get(&f).unwrap();
            if form == Normalisation::Inside {
                case.check_tensor("unit.grad_eps_inside", gradient);
            } else {
                assert!(flat(gradient).unwrap().iter().any(|v| v.is_nan()));
            }
        }
    }
}
