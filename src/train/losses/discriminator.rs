//! Owns the PatchGAN discriminator (Isola et al. 2017) and its losses.

use candle_core::{Result as TensorResult, Tensor, Var};
use candle_nn::VarBuilder;

use crate::error::Result;
use crate::model::conv::{Padding, conv2d};
use crate::model::relu::leaky_relu;
use crate::train::network::autoencoder::LastLayer;
use crate::train::network::parameters::{Tensors, flat};
use crate::train::network::reductions::{mean_by_rows, sum_by_rows, sum_of_squares};
use crate::train::settings::adversarial::AdversarialLoss;

/// A convolution 4x4 with padding 1.
struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
}

impl Conv {
    fn new(
        sizes: (usize, usize),
        stride: usize,
        bias: bool,
        vb: VarBuilder<'_>,
    ) -> TensorResult<Conv> {
        let (input, output) = sizes;
        let weight = vb.get((output, input, 4, 4), "weight")?;
        let bias = bias.then(|| vb.get(output, "bias")).transpose()?;
        Ok(Conv { weight, bias, stride })
    }

    fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        conv2d(x, &self.weight, self.bias.as_ref(), self.stride, Padding::same(1))
    }

    fn frozen(&self) -> Conv {
        let bias = self.bias.as_ref().map(Tensor::detach);
        Conv { weight: self.weight.detach(), bias, stride: self.stride }
    }
}

/// BatchNorm in train mode: batch mean and biased variance, eps 1e-5. The running statistics are
/// kept as the published checkpoints have them; nothing here reads them.
struct BatchNorm {
    name: String,
    weight: Tensor,
    bias: Tensor,
}

impl BatchNorm {
    fn forward(&self, x: &Tensor, statistics: &mut Statistics) -> TensorResult<Tensor> {
        let channels = x.dim(1)?;
        // [B, C, H, W] -> [1, C, 1, 1]
        let mean = |t: &Tensor| t.mean_keepdim(3)?.mean_keepdim(2)?.mean_keepdim(0);
        let average = mean(x)?;
        let centred = x.broadcast_sub(&average)?;
        let variance = mean(&centred.sqr()?)?;
        statistics.update(&self.name, &average, &variance, x.elem_count() / channels)?;
        let normal = centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)?;
        let wide = |t: &Tensor| t.reshape((1, channels, 1, 1));
        normal.broadcast_mul(&wide(&self.weight)?)?.broadcast_add(&wide(&self.bias)?)
    }
}

/// Running mean and variance of each BatchNorm by name: part of the checkpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Statistics {
    /// `<norm>.running_mean` and `<norm>.running_var`, `[C]`. None is changed in place.
    pub values: Tensors,
}

impl Statistics {
    /// running <- 0.9 running + 0.1 batch; the variance unbiased.
    fn update(
        &mut self,
        name: &str,
        mean: &Tensor,
        variance: &Tensor,
        count: usize,
    ) -> TensorResult<()> {
        let unbiased = (variance * (count as f64 / (count.max(2) - 1) as f64))?;
        for (what, new, start) in
            [("running_mean", mean.clone(), 0.0), ("running_var", unbiased, 1.0)]
        {
            let (name, new) = (format!("{name}.{what}"), new.detach().flatten_all()?);
            let old = match self.values.remove(&name) {
                Some(old) => old,
                None => (new.zeros_like()? + start)?,
            };
            self.values.insert(name, ((old * 0.9)? + (new * 0.1)?)?);
        }
        Ok(())
    }
}

/// Patches of an image to logits: real or made. Names `main.0` .. as in pix2pix and taming.
pub(crate) struct Discriminator {
    first: Conv,
    middle: Vec<(Conv, BatchNorm)>,
    last: Conv,
}

impl Discriminator {
    /// `ndf` filters in the first layer, doubling up to eight times; `layers` stride-2 layers.
    pub(crate) fn new(
        channels: usize,
        ndf: usize,
        layers: usize,
        vb: VarBuilder<'_>,
    ) -> TensorResult<Discriminator> {
        let vb = vb.pp("main");
        let width = |n: usize| ndf * (1 << n.min(3));
        let first = Conv::new((channels, ndf), 2, true, vb.pp(0))?;
        let mut middle = Vec::new();
        for n in 1..=layers {
            // Strides of 2 up to the last layer, whose stride is 1.
            let stride = if n < layers { 2 } else { 1 };
            let at = 2 + 3 * (n - 1);
            let conv = Conv::new((width(n - 1), width(n)), stride, false, vb.pp(at))?;
            let norm = vb.pp(at + 1);
            middle.push((
                conv,
                BatchNorm {
                    name: format!("main.{}", at + 1),
                    weight: norm.get(width(n), "weight")?,
                    bias: norm.get(width(n), "bias")?,
                },
            ));
        }
        let last = Conv::new((width(layers), 1), 1, true, vb.pp(2 + 3 * layers))?;
        Ok(Discriminator { first, middle, last })
    }

    /// The same network without gradients for its weights, as the generator's loss sees it.
    pub(crate) fn frozen(&self) -> Discriminator {
        let norm = |n: &BatchNorm| BatchNorm {
            name: n.name.clone(),
            weight: n.weight.detach(),
            bias: n.bias.detach(),
        };
        Discriminator {
            first: self.first.frozen(),
            middle: self.middle.iter().map(|(c, n)| (c.frozen(), norm(n))).collect(),
            last: self.last.frozen(),
        }
    }

    /// `[B, C, H, W]` to logits `[B, 1, h, w]`; updates the running statistics.
    pub(crate) fn forward(&self, x: &Tensor, statistics: &mut Statistics) -> TensorResult<Tensor> {
        let mut h = leaky_relu(&self.first.forward(x)?, 0.2)?;
        for (conv, norm) in &self.middle {
            h = leaky_relu(&norm.forward(&conv.forward(&h)?, statistics)?, 0.2)?;
        }
        self.last.forward(&h)
    }
}

/// log(1 + exp(x)) without overflow: max(x, 0) + log(1 + exp(-|x|)).
fn softplus(x: &Tensor) -> TensorResult<Tensor> {
    let small = (x.abs()?.neg()?.exp()? + 1.0)?.log()?;
    leaky_relu(x, 0.0)? + small
}

fn mean_softplus(x: &Tensor) -> TensorResult<Tensor> {
    mean_by_rows(&softplus(x)?)
}

impl AdversarialLoss {
    /// What the discriminator minimises.
    ///
    /// # Errors
    /// Numbers that are neither float32 nor float64.
    pub fn discriminator(self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        let relu = |t: Tensor| mean_by_rows(&leaky_relu(&t, 0.0)?);
        Ok(match self {
            AdversarialLoss::Hinge => ((relu((1.0 - real)?)? + relu((fake + 1.0)?)?)? * 0.5)?,
            AdversarialLoss::Vanilla => {
                ((mean_softplus(&real.neg()?)? + mean_softplus(fake)?)? * 0.5)?
            }
            AdversarialLoss::NonSaturating => {
                (mean_softplus(&real.neg()?)? + mean_softplus(fake)?)?
            }
        })
    }

    /// What the generator minimises.
    ///
    /// # Errors
    /// Numbers that are neither float32 nor float64.
    pub fn generator(self, fake: &Tensor) -> Result<Tensor> {
        Ok(match self {
            AdversarialLoss::Hinge | AdversarialLoss::Vanilla => mean_by_rows(fake)?.neg()?,
            AdversarialLoss::NonSaturating => mean_softplus(&fake.neg()?)?,
        })
    }
}

/// LeCAM's anchors (Tseng et al. 2021): the moving means of the logits.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Lecam {
    /// Mean logit of real images.
    pub real: f64,
    /// Mean logit of made images.
    pub fake: f64,
    /// Decay of both.
    pub decay: f64,
}

impl Lecam {
    /// Takes the logits into the means, then
    /// mean relu(D(x) - ema_fake)^2 + mean relu(ema_real - D(x'))^2.
    pub(crate) fn penalty(&mut self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        let mean = |t: &Tensor| -> Result<f64> {
            let values = flat(t)?;
            let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
            Ok(sum / values.len().max(1) as f64)
        };
        self.real = self.decay * self.real + (1.0 - self.decay) * mean(real)?;
        self.fake = self.decay * self.fake + (1.0 - self.decay) * mean(fake)?;
        let above = mean_by_rows(&leaky_relu(&(real - self.fake)?, 0.0)?.sqr()?)?;
        let below = mean_by_rows(&leaky_relu(&(self.real - fake)?, 0.0)?.sqr()?)?;
        Ok((above + below)?)
    }
}

/// The weight of the adversarial loss (Esser et al. 2021) and the gradient that the generator's
/// backward pass starts from, without a second pass through the decoder.
pub(crate) struct AdaptiveWeight {
    /// scale * clamp(|d nll| / (|d g| + 1e-4), 0, 1e4), at most `cap`; norms at the weight of the
    /// decoder's last convolution.
    pub lambda: f64,
    /// |d nll| at that weight.
    #[cfg_attr(not(test), expect(dead_code, reason = "held against the reference"))]
    pub norm_nll: f64,
    /// |d g| at that weight.
    #[cfg_attr(not(test), expect(dead_code, reason = "held against the reference"))]
    pub norm_g: f64,
    /// d (nll + lambda g) / d x', detached.
    pub gradient: Tensor,
}

/// From the decoder's last activation and last layer, and from the gradients of the two losses,
/// (nll, g), with respect to the reconstruction. The caller's one backward pass is that of
/// sum(x' * gradient).
pub(crate) fn adaptive_weight(
    activation: &Tensor,
    last: LastLayer<'_>,
    (nll, g): (&Tensor, &Tensor),
    scale: f64,
    cap: f64,
) -> Result<AdaptiveWeight> {
    let weight = Var::from_tensor(&last.weight.detach())?;
    let bias = last.bias.detach();
    let own = LastLayer { weight: &weight, bias: &bias, ..last };
    let image = own.forward(&activation.detach())?;
    let norm = |gradient: &Tensor| -> Result<f64> {
        let store = sum_by_rows(&(&image * gradient)?)?.backward()?;
        Ok(store.get(&weight).map_or(Ok(0.0), sum_of_squares)?.sqrt())
    };
    let (norm_nll, norm_g) = (norm(nll)?, norm(g)?);
    let lambda = (scale * (norm_nll / (norm_g + 1e-4)).clamp(0.0, 1e4)).min(cap);
    let gradient = (nll + (g * lambda)?)?.detach();
    Ok(AdaptiveWeight { lambda, norm_nll, norm_g, gradient })
}

/// The value of a loss of the reconstruction, and its gradient with respect to it, detached.
pub(crate) fn at_image(
    image: &Tensor,
    loss: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<(f64, Tensor)> {
    let leaf = Var::from_tensor(&image.detach())?;
    let loss = loss(&leaf)?;
    let mut store = loss.backward()?;
    let gradient = match store.remove(&leaf) {
        Some(gradient) => gradient.detach(),
        None => leaf.zeros_like()?,
    };
    Ok((f64::from(loss.to_scalar::<f32>()?), gradient))
}

#[cfg(test)]
mod tests;
