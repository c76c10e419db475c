//! Owns the group normalisation of training with a backward pass of its own, SiLU behind it or not: made of
//! candle's operations it is a dozen passes over memory each way. Must not know: names of weights.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::conv_fast::isa;
#[cfg(feature = "candle-cuda")]
use super::cuda::{compute, launches};
use super::storage::slice;
use super::topology::NormSpec;
use crate::kernels::{Group, normalise, normalise_gradient};
#[cfg(feature = "candle-cuda")]
use candle_core::CudaStorage;

/// GroupNorm of x `[B, C, H, W]`, weight and bias `[C]`, and SiLU of that where asked for. None for what
/// isn't float32.
///
/// # Errors
/// Shapes that don't go together.
pub(super) fn group_norm(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    spec: NormSpec,
    silu: bool,
) -> Result<Option<Tensor>> {
    if x.dtype() != DType::F32 {
        return Ok(None);
    }
    let op = GroupNormOp(Normalisation { spec, silu });
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op).map(Some)
}

/// What is computed, both ways.
#[derive(Clone, Copy)]
struct Normalisation {
    spec: NormSpec,
    silu: bool,
}

impl Normalisation {
    /// Channels of a group, and pixels.
    fn sizes(&self, x: &[usize], weight: &[usize]) -> Result<(usize, usize)> {
        let ([_, c, h, w], [channels]) = (x, weight) else {
            bail!("a normalisation of {x:?} by {weight:?}");
        };
        if c != channels || self.spec.groups == 0 || !c.is_multiple_of(self.spec.groups) {
            bail!("a normalisation of {x:?} by {weight:?} in {} groups", self.spec.groups);
        }
        Ok((c / self.spec.groups, h * w))
    }

    /// For the kernels of a GPU.
    #[cfg(feature = "candle-cuda")]
    fn on_device(&self, x: &[usize], weight: &[usize]) -> Result<launches::Groups> {
        let (channels, pixels) = self.sizes(x, weight)?;
        let (groups, epsilon) = (self.spec.groups, self.spec.eps);
        Ok(launches::Groups { images: x[0], groups, channels, pixels, epsilon, silu: self.silu })
    }

    /// Group `at` of all images' groups.
    fn group<'a>(
        &self,
        at: usize,
        channels: usize,
        x: &'a [f32],
        (weight, bias): (&'a [f32], &'a [f32]),
    ) -> Group<'a> {
        let first = at % self.spec.groups * channels;
        let (weight, bias) = (&weight[first..][..channels], &bias[first..][..channels]);
        Group { x, weight, bias, eps: self.spec.eps, silu: self.silu }
    }
}

/// x, weight and bias to y.
struct GroupNormOp(Normalisation);

impl CustomOp3 for GroupNormOp {
    fn name(&self) -> &'static str {
        "vqtok-group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (channels, pixels) = self.0.sizes(xl.dims(), wl.dims())?;
        let isa = isa()?;
        let (x, affine) = (slice::<f32>(x, xl)?, (slice(w, wl)?, slice(b, bl)?));
        let mut y = vec![0.0; x.len()];
        let each = (channels * pixels).max(1);
        let groups = y.par_chunks_mut(each).zip(x.par_chunks(each)).enumerate();
        groups.for_each(|(at, (y, x))| normalise(isa, self.0.group(at, channels, x, affine), y));
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
        b: &CudaStorage,
        bl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let plan = launches::group_norm(&self.0.on_device(xl.dims(), wl.dims())?);
        let shape = xl.shape().clone();
        let inputs = [(x, xl), (w, wl), (b, bl)];
        Ok((compute::<f32>(&plan, &inputs, shape.elem_count())?, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let affine = Tensor::cat(&[&w.detach(), &b.detach()], 0)?;
        let all = x.apply_op3_no_bwd(&affine, &dy.contiguous()?, &GroupNormGradient(self.0))?;
        let (count, channels) = (x.elem_count(), w.elem_count());
        let dx = all.narrow(0, 0, count)?.reshape(x.shape())?;
        let dw = all.narrow(0, count, channels)?;
        let db = all.narrow(0, count + channels, channels)?;
        Ok((Some(dx), Some(dw), Some(db)))
    }
}

/// x, weight and bias one behind the other, and the gradient of y, to the gradients of all three one behind
/// the other: one pass makes them.
struct GroupNormGradient(Normalisation);

impl CustomOp3 for GroupNormGradient {
    fn name(&self) -> &'static str {
        "vqtok-group-norm-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        affine: &CpuStorage,
        al: &Layout,
        dy: &CpuStorage,
        dyl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (xs, dys) = (slice::<f32>(x, xl)?, slice::<f32>(dy, dyl)?);
        let affine = slice::<f32>(affine, al)?;
        let (ws, bs) = affine.split_at(affine.len() / 2);
        let (channels, pixels) = self.0.sizes(xl.dims(), &[ws.len()])?;
        let isa = isa()?;
        let each = (channels * pixels).max(1);
        let mut all = vec![0.0; xs.len() + affine.len()];
        let (dx, sums) = all.split_at_mut(xs.len());
        // By image: the parts of the weight's gradient and of the bias's.
        let mut parts = vec![[0.0; 2]; xs.len() / pixels.max(1)];
        let groups = dx.par_chunks_mut(each).zip(parts.par_chunks_mut(channels));
        let groups = groups.zip(xs.par_chunks(each).zip(dys.par_chunks(each))).enumerate();
        groups.for_each(|(at, ((dx, parts), (x, dy)))| {
            let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
            let group = self.0.group(at, channels, x, (ws, bs));
            normalise_gradient(isa, group, dy, dx, (&mut dw, &mut db));
            for (part, sums) in parts.iter_mut().zip(dw.into_iter().zip(db)) {
                *part = sums.into();
            }
        });
        for (which, sums) in sums.chunks_mut(ws.len().max(1)).enumerate() {
            for (c, sum) in sums.iter_mut().enumerate() {
                let parts = parts.iter().skip(c).step_by(ws.len()).map(|part| part[which]);
                *sum = parts.sum::<f64>() as f32;
            }
        }
        let shape = Shape::from(all.len());
        Ok((CpuStorage::F32(all), shape))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        affine: &CudaStorage,
        al: &Layout,
        dy: &CudaStorage,
        dyl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let affine_len = al.shape().elem_count();
        let plan = launches::group_norm_gradient(&self.0.on_device(xl.dims(), &[affine_len / 2])?);
        let count = xl.shape().elem_count() + affine_len;
        let all = compute::<f32>(&plan, &[(x, xl), (affine, al), (dy, dyl)], count)?;
        Ok((all, Shape::from(count)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::util::random::SplitMix64;

    fn random(random: &mut SplitMix64, shape: &[usize], scale: f64) -> Tensor {
        let count = shape.iter().product::<usize>();
        let float = |_| scale * ((random.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0);
        let values: Vec<f64> = (0..count).map(float).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// The definition in float64, of candle's operations.
    fn definition(x: &Tensor, w: &Tensor, b: &Tensor, op: &Normalisation) -> Tensor {
        let (n, c, height, width) = x.dims4().unwrap();
        let grouped = x.reshape((n, op.spec.groups, ())).unwrap();
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2).unwrap()).unwrap();
        let variance = centred.sqr().unwrap().mean_keepdim(2).unwrap();
        let deviation = (variance + op.spec.eps).unwrap().sqrt().unwrap();
        let normal = centred.broadcast_div(&deviation).unwrap().reshape(x.shape()).unwrap();
        let per_channel = |t: &Tensor| t.reshape((1, c, 1, 1)).unwrap();
        assert_eq!(normal.dims(), [n, c, height, width]);
        let y = normal.broadcast_mul(&per_channel(w)).unwrap();
        let y = y.broadcast_add(&per_channel(b)).unwrap();
        if op.silu { y.silu().unwrap() } else { y }
    }

    fn values(t: &Tensor) -> Vec<f64> {
        t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn outputs_and_gradients_are_those_of_the_definition() {
        let mut r = SplitMix64(3);
        for case in 0..60 {
            let pick = |r: &mut SplitMix64, of: &[usize]| of[r.next() as usize % of.len()];
            let (groups, each) = (pick(&mut r, &[1, 2, 8]), pick(&mut r, &[1, 3, 4]));
            let shape = [
                pick(&mut r, &[1, 2, 3]),
                groups * each,
                pick(&mut r, &[1, 2, 5, 8, 31]),
                pick(&mut r, &[1, 3, 8, 16, 33]),
            ];
            let spec = NormSpec { groups, eps: 1e-6, by_codes: false };
            let op = Normalisation { spec, silu: case % 2 == 0 };
            let x = (random(&mut r, &shape, 2.0) + 0.7).unwrap();
            let [w, b] = [1.0, 0.5].map(|scale| random(&mut r, &shape[1..2], scale));
            let dy = random(&mut r, &shape, 1.0);
            let both = [DType::F64, DType::F32].map(|dtype| {
                let [x, w, b] =
                    [&x, &w, &b].map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap());
                let y = match dtype {
                    DType::F64 => definition(&x, &w, &b, &op),
                    _ => group_norm(&x, (&w, &b), spec, op.silu).unwrap().unwrap(),
                };
                let loss = (&y * dy.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
                let gradients = loss.backward().unwrap();
                let of = |v: &Var| values(gradients.get(v).unwrap());
                [values(&y), of(&x), of(&w), of(&b)]
            });
            let pixels = (shape[2] * shape[3] * each) as f64;
            for ((want, got), what) in both[0].iter().zip(&both[1]).zip(["y", "dx", "dw", "db"]) {
                // A group of one value has no spread: eps alone divides what rounding leaves of it.
                let spread: f64 = if pixels < 2.0 { 1e3 } else { 1.0 };
                let largest = want.iter().fold(spread, |a, b| a.max(b.abs()));
                for (want, got) in want.iter().zip(got) {
                    let error = (want - got).abs() / largest;
                    assert!(error < 3e-5, "{what} {shape:?} {groups}: {got} for {want}");
                }
            }
        }
    }

    #[test]
    fn what_overflows_is_no_number() {
        let spec = NormSpec { groups: 1, eps: 1e-6, by_codes: false };
        let x = Tensor::from_vec(vec![1e30f32, -1e30, 0.0, 1.0], (1, 1, 2, 2), &Device::Cpu);
        let [w, b] = [1f32, 0.0].map(|v| Tensor::from_vec(vec![v], 1, &Device::Cpu).unwrap());
        let y = group_norm(&x.unwrap(), (&w, &b), spec, false).unwrap().unwrap();
        assert!(values(&y).iter().all(|v| v.is_nan()));
    }
}
