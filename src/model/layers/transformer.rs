//! Owns the layers of transformers over the pixels of a map: linear maps, norms, attention by heads.

use candle_core::{D, Result, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::norm::finite_or_nan;
use crate::model::topology::{MlpSpec, Nonlinearity, TransformerSpec};

/// Epsilon of the norms of a projection by attention.
pub(crate) const PROJECTION_EPS: f64 = 1e-5;

/// Epsilon of the norm inside a gated block.
pub(crate) const GATED_EPS: f64 = 1e-6;

/// `[B, C, H, W]` to `[B, HW, C]`.
pub(super) fn tokens(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(2)?.transpose(1, 2)?.contiguous()
}

/// `[B, HW, C]` to a map of so many rows and columns.
pub(super) fn map(tokens: &Tensor, [height, width]: [usize; 2]) -> Result<Tensor> {
    let (b, _, c) = tokens.dims3()?;
    tokens.transpose(1, 2)?.reshape((b, c, height, width))
}

/// The same by a function of the tokens, whose number stays.
fn by_tokens(x: &Tensor, of: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    map(&of(&tokens(x)?)?, [height, width])
}

/// A function of every number.
pub(crate) fn nonlinear(x: &Tensor, what: Nonlinearity) -> Result<Tensor> {
    match what {
        Nonlinearity::Tanh => x.tanh(),
        Nonlinearity::Gelu => x.gelu_erf(),
    }
}

/// x W^T + b at every pixel.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// `[out, in]`
    weight: Tensor,
    /// `[out]`
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` and `bias`.
    pub(crate) fn load(vb: VarBuilder, [input, output]: [usize; 2]) -> Result<Linear> {
        let weight = vb.get((output, input), "weight")?;
        Ok(Linear { weight, bias: Some(vb.get(output, "bias")?) })
    }

    /// `[B, T, in]` to `[B, T, out]`.
    fn of_tokens(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, input) = x.dims3()?;
        let y = x.reshape((b * t, input))?.matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape((b, t, self.weight.dim(0)?))
    }

    /// `[B, in, H, W]` to `[B, out, H, W]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        by_tokens(x, |x| self.of_tokens(x))
    }
}

/// Over the channels of each pixel.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`.
    pub(crate) fn load(vb: VarBuilder, dim: usize, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm { weight: vb.get(dim, "weight")?, bias: vb.get(dim, "bias")?, eps })
    }

    /// `[B, T, C]` to the same shape.
    fn of_tokens(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let deviation = finite_or_nan(deviation)?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }

    /// `[B, C, H, W]` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        by_tokens(x, |x| self.of_tokens(x))
    }
}

/// Attention of every token to all, `[B, T, 3 * heads * d]` (queries, keys, values), each head on its own:
/// `[B, heads, T, d]`.
fn heads_of(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, all) = qkv.dims3()?;
    let head_dim = all / 3 / heads;
    // [B, T, 3, heads, head_dim] -> [3, B, heads, T, head_dim]
    let qkv = qkv.reshape((b, t, 3, heads, head_dim))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| qkv.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (head_dim as f64).powf(-0.5))?;
    candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)
}

/// Heads `[B, heads, T, d]` side by side: `[B, T, heads * d]`.
fn merged(heads: &Tensor) -> Result<Tensor> {
    let (b, count, t, head_dim) = heads.dims4()?;
    heads.transpose(1, 2)?.reshape((b, t, count * head_dim))
}

/// Attention and a feed-forward block, each behind a norm and added to its input.
#[derive(Debug, Clone)]
pub(crate) struct TransformerLayer {
    attention_norm: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    mlp_norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl TransformerLayer {
    /// Reads a layer of `dim` channels.
    pub(crate) fn load(
        vb: VarBuilder,
        dim: usize,
        spec: TransformerSpec,
    ) -> Result<TransformerLayer> {
        let inner = spec.inner();
        let (weight, bias) = spec.qkv;
        let bias = bias.map(|bias| vb.get(3 * inner, bias)).transpose()?;
        Ok(TransformerLayer {
            attention_norm: LayerNorm::load(vb.pp(spec.attention_norm), dim, spec.eps)?,
            qkv: Linear { weight: vb.get((3 * inner, dim), weight)?, bias },
            attention_out: Linear::load(vb.pp(spec.attention_out), [inner, dim])?,
            mlp_norm: LayerNorm::load(vb.pp(spec.mlp_norm), dim, spec.eps)?,
            mlp: Mlp::load(&vb, dim, spec)?,
            heads: spec.heads,
        })
    }

    /// `[B, C, H, W]` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        by_tokens(x, |x| {
            let qkv = self.qkv.of_tokens(&self.attention_norm.of_tokens(x)?)?;
            let mixed = merged(&heads_of(&qkv, self.heads)?)?;
            let x = (x + self.attention_out.of_tokens(&mixed)?)?;
            &x + self.mlp.of_tokens(&self.mlp_norm.of_tokens(&x)?)?
        })
    }
}

/// A feed-forward block.
#[derive(Debug, Clone)]
enum Mlp {
    Plain { first: Linear, between: Nonlinearity, last: Linear },
    Gated(Gated),
}

impl Mlp {
    fn load(vb: &VarBuilder, dim: usize, spec: TransformerSpec) -> Result<Mlp> {
        let hidden = spec.mlp_dim;
        Ok(match spec.mlp {
            MlpSpec::Plain { first, between, last } => Mlp::Plain {
                first: Linear::load(vb.pp(first), [dim, hidden])?,
                between,
                last: Linear::load(vb.pp(last), [hidden, dim])?,
            },
            MlpSpec::Gated(name) => Mlp::Gated(Gated::load(vb.pp(name), dim, hidden)?),
        })
    }

    fn of_tokens(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Mlp::Plain { first, between, last } => {
                last.of_tokens(&nonlinear(&first.of_tokens(x)?, *between)?)
            }
            Mlp::Gated(gated) => gated.of_tokens(x),
        }
    }
}

/// w2(gelu(w0(n)) * w1(n)) of the normed input.
#[derive(Debug, Clone)]
struct Gated {
    norm: LayerNorm,
    w0: Linear,
    w1: Linear,
    w2: Linear,
}

impl Gated {
    fn load(vb: VarBuilder, dim: usize, hidden: usize) -> Result<Gated> {
        Ok(Gated {
            norm: LayerNorm::load(vb.pp("norm"), dim, GATED_EPS)?,
            w0: Linear::load(vb.pp("w0"), [dim, hidden])?,
            w1: Linear::load(vb.pp("w1"), [dim, hidden])?,
            w2: Linear::load(vb.pp("w2"), [hidden, dim])?,
        })
    }

    fn of_tokens(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.norm.of_tokens(x)?;
        // candle's `gelu` is the approximation by tanh.
        self.w2.of_tokens(&(self.w0.of_tokens(&x)?.gelu()? * self.w1.of_tokens(&x)?)?)
    }
}

/// A projection to another width by attention.
#[derive(Debug, Clone)]
pub(crate) struct AttentionProjection {
    norm1: LayerNorm,
    qkv: Linear,
    attn_proj: Linear,
    proj: Linear,
    norm3: LayerNorm,
    norm2: LayerNorm,
    mlp: Gated,
    heads: usize,
    narrows: bool,
}

impl AttentionProjection {
    /// Reads one between widths of which the larger is a multiple of the smaller.
    pub(crate) fn load(
        vb: VarBuilder,
        [input, output]: [usize; 2],
        hidden: usize,
    ) -> Result<AttentionProjection> {
        let (attn, width) = (vb.pp("attn"), input.max(output));
        // Keys have a bias of zeros, which the file holds.
        let [q, k, v] = ["q_bias", "zero_k_bias", "v_bias"].map(|name| attn.get(width, name));
        let bias = Tensor::cat(&[q?, k?, v?], 0)?;
        let weight = attn.pp("qkv").get((3 * width, input), "weight")?;
        Ok(AttentionProjection {
            norm1: LayerNorm::load(vb.pp("norm1"), input, PROJECTION_EPS)?,
            qkv: Linear { weight, bias: Some(bias) },
            attn_proj: Linear::load(attn.pp("proj"), [output, output])?,
            proj: Linear::load(vb.pp("proj"), [input, output])?,
            norm3: LayerNorm::load(vb.pp("norm3"), input, PROJECTION_EPS)?,
            norm2: LayerNorm::load(vb.pp("norm2"), output, PROJECTION_EPS)?,
            mlp: Gated::load(vb.pp("mlp"), output, hidden)?,
            heads: width / input.min(output),
            narrows: input > output,
        })
    }

    /// `[B, input, H, W]` to `[B, output, H, W]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        by_tokens(x, |x| {
            let qkv = self.qkv.of_tokens(&self.norm1.of_tokens(x)?)?;
            let heads = heads_of(&qkv, self.heads)?;
            let mixed = if self.narrows { heads.mean(1)? } else { merged(&heads)? };
            let projected = self.proj.of_tokens(&self.norm3.of_tokens(x)?)?;
            let x = (projected + self.attn_proj.of_tokens(&mixed)?)?;
            &x + self.mlp.of_tokens(&self.norm2.of_tokens(&x)?)?
        })
    }
}
