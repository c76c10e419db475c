//! Owns making steps of a transformer's layers. Linear maps are convolutions with windows of one pixel;
//! the two that cut a map into patches are so behind a step that puts a patch's pixels side by side.

use candle_core::{Device, Tensor};

use super::Builder;
use crate::engine::cpu::graph::steps::{Around, Before, PixelNorm, Slot};
use crate::engine::cpu::layer::ConvLayer;
use crate::engine::cpu::rearrange::{by_heads, of_heads, side_by_side};
use crate::error::Result;
use crate::kernels::{Residual, channel_stride};
use crate::model::layers::{GATED_EPS, PROJECTION_EPS, TokensAround};
use crate::model::topology::{ConvGeometry, MlpSpec, Nonlinearity, TokenRow, TransformerSpec};

impl From<Nonlinearity> for Before {
    fn from(what: Nonlinearity) -> Before {
        match what {
            Nonlinearity::Tanh => Before::Tanh,
            Nonlinearity::Gelu => Before::Gelu,
        }
    }
}

impl Builder<'_> {
    /// What the last layer gave.
    pub(super) fn map(&self) -> Slot {
        self.x
    }

    /// Gives the map back for another of so many channels.
    pub(super) fn replace(&mut self, map: Slot, channels: usize) {
        self.graph.release(std::mem::replace(&mut self.x, map));
        self.channels = channels;
    }

    /// A bias, where there is one.
    fn bias(&self, name: &str) -> Result<Option<Tensor>> {
        self.has(name).then(|| self.tensor(name)).transpose()
    }

    /// A linear map, `[outputs, inputs]`, with a bias where there is one.
    pub(super) fn linear_layer(&self, name: &str) -> Result<ConvLayer> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        ConvLayer::linear(name, weight, self.bias(&format!("{name}.bias"))?.as_ref())
    }

    /// `[outputs, C, ph, pw]` over patches whose pixels stand side by side, `[ph][pw][C]`.
    pub(super) fn embed_patches(&mut self, name: &str, patch: [usize; 2]) -> Result<()> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let weight = weight.permute((0, 2, 3, 1))?.flatten_from(1)?.contiguous()?;
        let bias = self.bias(&format!("{name}.bias"))?;
        let (from, to) = (self.map(), self.graph.acquire());
        self.graph.gather(from, to, patch);
        self.replace(to, weight.dim(1)?);
        self.convolve(ConvLayer::linear(name, weight, bias.as_ref())?);
        Ok(())
    }

    /// `[inputs, C, ph, pw]` to patches whose pixels stand side by side, which are then spread.
    pub(super) fn spread_patches(
        &mut self,
        name: &str,
        outputs: usize,
        patch: [usize; 2],
    ) -> Result<()> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let inputs = weight.dim(0)?;
        let weight = weight.permute((2, 3, 1, 0))?.reshape(((), inputs))?.contiguous()?;
        let bias = self.tensor(&format!("{name}.bias"))?.to_vec1::<f32>()?;
        let bias = Tensor::new(bias.repeat(patch[0] * patch[1]), &Device::Cpu)?;
        self.convolve(ConvLayer::linear(name, weight, Some(&bias))?);
        let (from, to) = (self.map(), self.graph.acquire());
        self.graph.shuffle(from, to, outputs, patch);
        self.replace(to, outputs);
        Ok(())
    }

    /// LayerNorm of a map into a new slot; the map stays.
    pub(super) fn layer_normed(&mut self, name: &str, eps: f64, from: Slot) -> Result<Slot> {
        let mut weight = self.tensor(&format!("{name}.weight"))?.to_vec1::<f32>()?;
        let mut bias = self.tensor(&format!("{name}.bias"))?.to_vec1::<f32>()?;
        let channels = weight.len();
        weight.resize(channel_stride(channels), 0.0);
        bias.resize(channel_stride(channels), 0.0);
        let to = self.graph.acquire();
        self.graph.layer_norm(PixelNorm { channels, epsilon: eps, weight, bias }, from, to);
        Ok(to)
    }

    /// A convolution of a map into a new slot; the map is given back.
    pub(super) fn through(&mut self, layer: ConvLayer, from: Slot, before: Before) -> Slot {
        let to = self.graph.acquire();
        self.graph.convolve(layer, from, to, before, Residual::None);
        self.graph.release(from);
        to
    }

    /// Attention over the pixels of a map, which is given back, by `heads` of `head_dim`: its weights are
    /// `weight` and `bias` of queries, keys and values.
    fn attended(
        &mut self,
        name: &str,
        (weight, bias): (Tensor, Option<Tensor>),
        [heads, head_dim]: [usize; 2],
        from: Slot,
    ) -> Result<Slot> {
        let weight = by_heads(&weight, [heads, head_dim])?;
        let bias = bias.map(|bias| -> Result<Tensor> {
            Ok(by_heads(&bias.unsqueeze(1)?, [heads, head_dim])?.flatten_all()?)
        });
        let layer = ConvLayer::linear(name, weight, bias.transpose()?.as_ref())?;
        let projected = self.through(layer, from, Before::Nothing);
        let mixed = self.graph.acquire();
        self.graph.attend(projected, mixed, heads, head_dim);
        self.graph.release(projected);
        Ok(mixed)
    }

    /// A linear map of what heads give, `[outputs, heads * head_dim]`.
    fn heads_layer(&self, name: &str, heads: [usize; 2]) -> Result<ConvLayer> {
        let weight = of_heads(&self.tensor(&format!("{name}.weight"))?, heads)?;
        ConvLayer::linear(name, weight, self.bias(&format!("{name}.bias"))?.as_ref())
    }

    /// In the input's slot.
    pub(super) fn transform(&mut self, name: &str, spec: TransformerSpec) -> Result<()> {
        let part = |part: &str| format!("{name}.{part}");
        let heads = [spec.heads, spec.head_dim];
        let normed = self.layer_normed(&part(spec.attention_norm), spec.eps, self.map())?;
        let (weight, bias) = spec.qkv;
        let bias = bias.map(|bias| self.tensor(&part(bias))).transpose()?;
        let qkv = (self.tensor(&part(weight))?, bias);
        let mixed = self.attended(&part(weight), qkv, heads, normed)?;
        let layer = self.heads_layer(&part(spec.attention_out), heads)?;
        self.add_into(layer, mixed, self.map(), Before::Nothing);
        let normed = self.layer_normed(&part(spec.mlp_norm), spec.eps, self.map())?;
        match spec.mlp {
            MlpSpec::Plain { first, between, last } => {
                let inner = self.through(self.linear_layer(&part(first))?, normed, Before::Nothing);
                let layer = self.linear_layer(&part(last))?;
                self.add_into(layer, inner, self.map(), between.into());
            }
            MlpSpec::Gated(mlp) => self.add_gated(&part(mlp), normed)?,
        }
        Ok(())
    }

    /// Adds the gated block of a map, which is given back, to the map of the layers to come.
    fn add_gated(&mut self, name: &str, from: Slot) -> Result<()> {
        let normed = self.layer_normed(&format!("{name}.norm"), GATED_EPS, from)?;
        self.graph.release(from);
        let part = |part: &str| -> Result<(Tensor, Tensor)> {
            let name = format!("{name}.{part}");
            Ok((self.tensor(&format!("{name}.weight"))?, self.tensor(&format!("{name}.bias"))?))
        };
        let (w0, w1) = (part("w0")?, part("w1")?);
        let hidden = w0.0.dim(0)?;
        let (weight, bias) = side_by_side(&[w0, w1])?;
        let layer = ConvLayer::new(name, weight, Some(&bias), ConvGeometry::POINT)?;
        let both = self.through(layer, normed, Before::Nothing);
        let gated = self.graph.acquire();
        self.graph.gate(both, gated, hidden);
        self.graph.release(both);
        let layer = self.linear_layer(&format!("{name}.w2"))?;
        self.add_into(layer, gated, self.map(), Before::Nothing);
        Ok(())
    }

    /// Between the map's width and another; see `Emit::attention_projection`.
    pub(super) fn project(&mut self, name: &str, outputs: usize) -> Result<()> {
        let part = |part: &str| format!("{name}.{part}");
        if self.map() == self.graph.input() {
            // Norms read whole vectors, in which narrow inputs don't lie.
            self.copy_input()?;
        }
        let (inputs, x) = (self.channels, self.map());
        let (width, head_dim) = (inputs.max(outputs), inputs.min(outputs));
        let heads = [width / head_dim, head_dim];
        let normed = self.layer_normed(&part("norm1"), PROJECTION_EPS, x)?;
        let biases = ["q_bias", "zero_k_bias", "v_bias"];
        let [q, k, v] = biases.map(|bias| self.tensor(&part(&format!("attn.{bias}"))));
        let bias = Tensor::cat(&[q?, k?, v?], 0)?;
        let qkv = (self.tensor(&part("attn.qkv.weight"))?, Some(bias));
        let mixed = self.attended(&part("attn.qkv"), qkv, heads, normed)?;
        let normed = self.layer_normed(&part("norm3"), PROJECTION_EPS, x)?;
        let projected = self.through(self.linear_layer(&part("proj"))?, normed, Before::Nothing);
        self.replace(projected, outputs);
        let out = part("attn.proj");
        let layer = if inputs > outputs {
            // The mean of the heads, of which each then has its share.
            let weight = self.tensor(&format!("{out}.weight"))?;
            let weight = (weight / heads[0] as f64)?.repeat((1, heads[0]))?;
            let bias = self.bias(&format!("{out}.bias"))?;
            ConvLayer::linear(&out, of_heads(&weight, heads)?, bias.as_ref())?
        } else {
            self.heads_layer(&out, heads)?
        };
        self.add_into(layer, mixed, self.map(), Before::Nothing);
        let normed = self.layer_normed(&part("norm2"), PROJECTION_EPS, self.map())?;
        self.add_gated(&part("mlp"), normed)
    }

    /// One row of the class, patches and latents.
    pub(super) fn surround_tokens(&mut self, row: TokenRow) -> Result<()> {
        let around = TokensAround::load(row, self.channels, |name, _| self.tensor(name))?;
        let floats = |rows: &Tensor| -> Result<Vec<f32>> { Ok(rows.flatten_all()?.to_vec1()?) };
        let around = Around {
            before: floats(&around.before)?,
            added: floats(&around.added)?,
            after: floats(&around.after)?,
        };
        let (from, to) = (self.map(), self.graph.acquire());
        self.graph.surround(around, from, to);
        self.replace(to, self.channels);
        Ok(())
    }
}
