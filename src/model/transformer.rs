//! Owns what transformers of tokenizers have in common: linear layers, norms, attention by heads.

use candle_core::{D, Result, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::layers::finite_or_nan;

/// x W^T + b on the last axis.
pub(crate) struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight`, and `bias` where there is one.
    pub(crate) fn load(vb: VarBuilder, [input, output]: [usize; 2], bias: bool) -> Result<Linear> {
        let weight = vb.get((output, input), "weight")?;
        Ok(Linear { weight, bias: bias.then(|| vb.get(output, "bias")).transpose()? })
    }

    /// The same from a 1x1 convolution.
    pub(crate) fn of_point(vb: VarBuilder, [input, output]: [usize; 2]) -> Result<Linear> {
        let weight = vb.get((output, input, 1, 1), "weight")?.reshape((output, input))?;
        Ok(Linear { weight, bias: Some(vb.get(output, "bias")?) })
    }

    /// The same from a convolution over patches without overlap, `[out, C, p, p]`.
    pub(crate) fn of_patches(
        vb: VarBuilder,
        output: usize,
        [channels, height, width]: [usize; 3],
    ) -> Result<Linear> {
        let weight = vb.get((output, channels, height, width), "weight")?;
        let weight = weight.reshape((output, channels * height * width))?;
        Ok(Linear { weight, bias: Some(vb.get(output, "bias")?) })
    }

    /// `[B, T, in]` to `[B, T, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, input) = x.dims3()?;
        let y = x.reshape((b * t, input))?.matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape((b, t, self.weight.dim(0)?))
    }
}

/// Over the last axis.
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`; eps 1e-5.
    pub(crate) fn load(vb: VarBuilder, dim: usize) -> Result<LayerNorm> {
        LayerNorm::with_eps(vb, dim, 1e-5)
    }

    /// The same with another eps.
    pub(crate) fn with_eps(vb: VarBuilder, dim: usize, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm { weight: vb.get(dim, "weight")?, bias: vb.get(dim, "bias")?, eps })
    }

    /// Any shape of `dim` channels to the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let deviation = finite_or_nan(deviation)?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Attention of every token to all, `[B, T, 3 * heads * d]` (queries, keys, values) to
/// `[B, T, heads * d]`.
pub(crate) fn attend(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    merged(&heads_of(qkv, heads)?)
}

/// Heads `[B, heads, T, d]` side by side: `[B, T, heads * d]`.
pub(crate) fn merged(heads: &Tensor) -> Result<Tensor> {
    let (b, count, t, head_dim) = heads.dims4()?;
    heads.transpose(1, 2)?.reshape((b, t, count * head_dim))
}

/// The same as [`attend`] with each head on its own: `[B, heads, T, d]`.
pub(crate) fn heads_of(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, all) = qkv.dims3()?;
    let head_dim = all / 3 / heads;
    // [B, T, 3, heads, head_dim] -> [3, B, heads, T, head_dim]
    let qkv = qkv.reshape((b, t, 3, heads, head_dim))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| qkv.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (head_dim as f64).powf(-0.5))?;
    candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)
}

/// Patches `[B, T, C * ph * pw]` of images `[B, C, H, W]`, row-major, channels before pixels.
pub(crate) fn patches(x: &Tensor, [ph, pw]: [usize; 2]) -> Result<Tensor> {
    let (b, channels, height, width) = x.dims4()?;
    let [gh, gw] = [height / ph, width / pw];
    // [B, C, gh, ph, gw, pw] -> [B, gh, gw, C, ph, pw]
    let patches = x.reshape(&[b, channels, gh, ph, gw, pw])?.permute([0, 2, 4, 1, 3, 5])?;
    patches.reshape((b, gh * gw, channels * ph * pw))
}
