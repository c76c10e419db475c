//! Owns the emitter that makes a graph of a network's layers and a checkpoint's weights; where an
//! activation can be computed with the convolution after it, it is.

use candle_core::{DType, Tensor};

use super::steps::{Before, Graph, Slot};
use crate::engine::cpu::feature_map::Modulation;
use crate::engine::cpu::layer::ConvLayer;
use crate::engine::cpu::rearrange::{side_by_side, transposed};
use crate::error::{Error, Result};
use crate::kernels::{Elementwise, Isa, Residual};
use crate::model::config::Architecture;
use crate::model::topology::{
    self, BottleneckSpec, ConvGeometry, ConvSpec, Emit, InvertedSpec, Io, Nonlinearity, NormSpec,
    Resample, ResnetSpec, Shortcut, TokenRow, TransformerSpec,
};
use crate::weights::store::{Weight, Weights};

mod blocks;
mod inverted;
mod norms;
mod tokens;

/// A graph under construction.
pub(crate) struct Builder<'a> {
    weights: &'a Weights,
    graph: Graph,
    /// What the last layer gave.
    x: Slot,
    /// Its channels.
    channels: usize,
    /// What norms by codes read.
    codes: Slot,
    /// What stands in front of the next convolution.
    before: Before,
    /// What the names of weights begin with.
    prefix: String,
}

/// Pixels in the input range, `[H, W, C]`, to latents in front of the quantizer.
///
/// # Errors
/// Here and below: a weight that is missing or has another shape; an architecture that isn't a
/// sequence of layers.
pub(crate) fn encoder(
    isa: Isa,
    weights: &Weights,
    network: &Architecture,
    io: Io,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, io.channels);
    topology::encoder(&mut b, network, io)?;
    Ok(b.finish(None))
}

/// Looked-up codes, `[h, w, D]`, to pixels in the output range.
pub(crate) fn decoder(
    isa: Isa,
    weights: &Weights,
    network: &Architecture,
    io: Io,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, topology::decoder_input(network, io));
    topology::decoder(&mut b, network, io)?;
    Ok(b.finish(None))
}

impl<'a> Builder<'a> {
    /// Over inputs whose pixels have so many channels.
    pub(crate) fn new(isa: Isa, weights: &'a Weights, channels: usize) -> Self {
        let graph = Graph::new(isa, channels);
        let input = graph.input();
        Builder {
            weights,
            x: input,
            codes: input,
            graph,
            channels,
            before: Before::Nothing,
            prefix: String::new(),
        }
    }

    /// What was emitted; `kept` is read beside its result.
    pub(crate) fn finish(self, kept: Option<Slot>) -> Graph {
        debug_assert!(self.before == Before::Nothing, "an activation without a convolution");
        let graph = self.graph.finish(self.x);
        kept.into_iter().fold(graph, Graph::keep)
    }

    /// Convolves into a new slot, which becomes the map of the layers to come.
    pub(crate) fn convolve(&mut self, layer: ConvLayer) {
        let (from, outputs) = (self.x, layer.outputs);
        self.x = self.branch(layer);
        self.before = Before::Nothing;
        self.graph.release(from);
        self.channels = outputs;
    }

    /// Convolves into a slot beside the map of the layers to come, behind the same activation.
    pub(crate) fn branch(&mut self, layer: ConvLayer) -> Slot {
        let to = self.graph.acquire();
        self.graph.convolve(layer, self.x, to, self.before, Residual::None);
        to
    }

    /// A tensor of the checkpoint, float32.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.weight(name)?.tensor()?.to_dtype(DType::F32)?)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.weights.get(&format!("{}{name}", self.prefix)).is_some()
    }

    /// The same where it lies.
    fn weight(&self, name: &str) -> Result<&Weight> {
        let name = format!("{}{name}", self.prefix);
        let missing = || Error::invalid(format!("the checkpoint has no tensor `{name}`"));
        self.weights.get(&name).ok_or_else(missing)
    }

    fn layer(&self, name: &str, conv: impl Into<ConvSpec>) -> Result<ConvLayer> {
        let ConvSpec { geometry, parameters: [weight, bias], .. } = conv.into();
        let weight = self.weight(&format!("{name}.{weight}"))?.clone();
        let bias = format!("{name}.{bias}");
        let bias = self.has(&bias).then(|| self.tensor(&bias)).transpose()?;
        ConvLayer::new(name, weight, bias.as_ref(), geometry)
    }

    /// Convolves the map into a slot, adding to what stands there.
    pub(super) fn add_into(&mut self, layer: ConvLayer, from: Slot, to: Slot, before: Before) {
        self.graph.convolve(layer, from, to, before, Residual::Output);
        self.graph.release(from);
        self.x = to;
    }
}

impl Emit for Builder<'_> {
    fn conv(&mut self, name: &str, _: usize, conv: impl Into<ConvSpec>) -> Result<()> {
        let layer = self.layer(name, conv)?;
        self.convolve(layer);
        Ok(())
    }

    fn conv_head(
        &mut self,
        name: &str,
        [_, kept]: [usize; 2],
        conv: impl Into<ConvSpec>,
    ) -> Result<()> {
        let ConvSpec { geometry, parameters, .. } = conv.into();
        let head = |part: &str| -> Result<Tensor> {
            Ok(self.tensor(&format!("{name}.{part}"))?.narrow(0, 0, kept)?.contiguous()?)
        };
        let [weight, bias] = parameters.map(head);
        let (weight, bias) = (weight?, bias?);
        self.convolve(ConvLayer::new(name, weight, Some(&bias), geometry)?);
        Ok(())
    }

    fn upsample(&mut self, name: &str) -> Result<()> {
        let layer = self.layer(name, ConvGeometry::SAME_3)?;
        let to = self.graph.acquire();
        self.graph.convolve_upsampled(layer, self.x, to, Before::Nothing);
        self.graph.release(self.x);
        self.x = to;
        Ok(())
    }

    fn transposed(&mut self, name: &str, outputs: usize) -> Result<()> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let (weight, bias) = transposed(&weight, &self.tensor(&format!("{name}.bias"))?)?;
        self.convolve(ConvLayer::new(name, weight, Some(&bias), ConvGeometry::SAME_3)?);
        debug_assert_eq!(self.channels, 4 * outputs);
        self.depth_to_space([2, 2])
    }

    fn norm_silu(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let (normed, before) = self.normed(name, self.x, norm)?;
        if normed != self.x {
            self.graph.release(self.x);
            self.x = normed;
        }
        self.before = before;
        Ok(())
    }

    fn relu(&mut self) -> Result<()> {
        self.before = Before::Relu;
        Ok(())
    }

    /// In the input's slot, or in the shortcut's where the width changes.
    fn resnet(&mut self, name: &str, _: usize, spec: ResnetSpec) -> Result<()> {
        let shortcut = format!("{name}.nin_shortcut");
        let widens = self.has(&format!("{shortcut}.weight"));
        if widens && spec.shortcut == Shortcut::Output {
            return self.resnet_post_shortcut(name, spec.norm);
        }
        let inner = self.half_block(name, 1, spec.norm)?;
        let (normed, norm2) = self.normed(&format!("{name}.norm2"), inner, spec.norm)?;
        self.release_normed(inner, normed);
        if widens {
            self.conv(&shortcut, 0, ConvGeometry::POINT)?;
        }
        let layer = self.layer(&format!("{name}.conv2"), ConvGeometry::SAME_3)?;
        self.add_into(layer, normed, self.x, norm2);
        Ok(())
    }

    fn attention(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let (normed, before) = match self.normed(&format!("{name}.norm"), self.x, norm)? {
            (same, Before::NormSilu(norm)) => (same, Before::Norm(norm)),
            (normed, _) => (normed, Before::Nothing),
        };
        let part = |part: &str| -> Result<(Tensor, Tensor)> {
            let name = format!("{name}.{part}");
            Ok((self.tensor(&format!("{name}.weight"))?, self.tensor(&format!("{name}.bias"))?))
        };
        let (weight, bias) = side_by_side(&[part("q")?, part("k")?, part("v")?])?;
        let name_qkv = format!("{name}.qkv");
        let layer = ConvLayer::new(&name_qkv, weight, Some(&bias), ConvGeometry::POINT)?;
        let (projected, mixed) = (self.graph.acquire(), self.graph.acquire());
        self.graph.convolve(layer, normed, projected, before, Residual::None);
        self.release_normed(normed, self.x);
        self.graph.attend(projected, mixed, 1, self.channels);
        self.graph.release(projected);
        let layer = self.layer(&format!("{name}.proj_out"), ConvGeometry::POINT)?;
        self.add_into(layer, mixed, self.x, Before::Nothing);
        Ok(())
    }

    fn silu(&mut self) -> Result<()> {
        self.graph.elementwise(Elementwise::Silu, self.x);
        Ok(())
    }

    /// In the input's slot.
    fn affine_resnet(&mut self, name: &str) -> Result<()> {
        if self.x == self.graph.input() {
            self.copy_input()?;
        }
        let norm1 = Before::AffineSilu(self.affine(&format!("{name}.norm1"))?);
        let layer = self.layer(&format!("{name}.conv1"), ConvGeometry::SAME_3)?;
        let inner = self.graph.acquire();
        self.graph.convolve(layer, self.x, inner, norm1, Residual::None);
        let norm2 = Before::AffineSilu(self.affine(&format!("{name}.norm2"))?);
        let layer = self.layer(&format!("{name}.conv2"), ConvGeometry::SAME_3)?;
        self.add_into(layer, inner, self.x, norm2);
        Ok(())
    }

    fn keep_codes(&mut self) -> Result<()> {
        (self.codes, self.x) = (self.x, self.graph.input());
        self.channels = self.graph.input_channels;
        Ok(())
    }

    /// In the input's slot.
    fn plain_residual(&mut self, [conv1, conv2]: [&str; 2], _: usize) -> Result<()> {
        let layer = self.layer(conv1, ConvGeometry::SAME_3)?;
        let inner = self.graph.acquire();
        self.graph.convolve(layer, self.x, inner, Before::Relu, Residual::None);
        let layer = self.layer(conv2, ConvGeometry::POINT)?;
        self.add_into(layer, inner, self.x, Before::Relu);
        Ok(())
    }

    /// The gain goes into the last convolution's weights.
    fn bottleneck(&mut self, name: &str, _: usize, spec: BottleneckSpec) -> Result<()> {
        let BottleneckSpec { kernels, gain, parameters } = spec;
        if self.x == self.graph.input() {
            self.copy_input()?;
        }
        let conv = |at: usize| ConvGeometry::same(kernels[at - 1]).named(parameters);
        let mut from = self.x;
        for at in 1..=3 {
            let layer = self.layer(&format!("{name}.res_path.conv_{at}"), conv(at))?;
            let to = self.graph.acquire();
            self.graph.convolve(layer, from, to, Before::Relu, Residual::None);
            if from != self.x {
                self.graph.release(from);
            }
            from = to;
        }
        let id_path = format!("{name}.id_path");
        if self.has(&format!("{id_path}.{}", parameters[0])) {
            self.conv(&id_path, 0, ConvGeometry::POINT.named(parameters))?;
        }
        let last = format!("{name}.res_path.conv_4");
        let scaled =
            |part| -> Result<Tensor> { Ok((self.tensor(&format!("{last}.{part}"))? * gain)?) };
        let [weight, bias] = parameters.map(scaled);
        let layer = ConvLayer::new(&last, weight?, Some(&bias?), conv(4).geometry)?;
        self.add_into(layer, from, self.x, Before::Relu);
        Ok(())
    }

    fn resample(&mut self, how: Resample) -> Result<()> {
        let to = self.graph.acquire();
        self.graph.resample(self.x, to, how);
        self.replace(to, self.channels);
        Ok(())
    }

    fn depth_to_space(&mut self, patch: [usize; 2]) -> Result<()> {
        let channels = self.channels / (patch[0] * patch[1]);
        let to = self.graph.acquire();
        self.graph.shuffle(self.x, to, channels, patch);
        self.replace(to, channels);
        Ok(())
    }

    /// In place.
    fn adaptive_norm(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let linear = |part: &str| -> Result<(Vec<f32>, Vec<f32>)> {
            let weight = self.tensor(&format!("{name}.{part}.weight"))?;
            let bias = self.tensor(&format!("{name}.{part}.bias"))?;
            Ok((weight.flatten_all()?.to_vec1()?, bias.to_vec1()?))
        };
        let modulation = Modulation {
            groups: norm.groups,
            epsilon: norm.eps,
            gamma: linear("gamma")?,
            beta: linear("beta")?,
        };
        self.graph.adapt(modulation, self.x);
        Ok(())
    }

    fn linear(&mut self, name: &str, _: usize) -> Result<()> {
        let layer = self.linear_layer(name)?;
        self.convolve(layer);
        Ok(())
    }

    fn patch_embedding(&mut self, name: &str, _: usize, patch: [usize; 2]) -> Result<()> {
        self.embed_patches(name, patch)
    }

    fn patch_pixels(&mut self, name: &str, outputs: usize, patch: [usize; 2]) -> Result<()> {
        self.spread_patches(name, outputs, patch)
    }

    fn positions(&mut self, name: &str, _: Option<[usize; 2]>) -> Result<()> {
        let positions = self.tensor(name)?.flatten_all()?.to_vec1()?;
        self.graph.add(positions, self.x);
        Ok(())
    }

    fn layer_norm(&mut self, name: &str, eps: f64) -> Result<()> {
        let normed = self.layer_normed(name, eps, self.x)?;
        self.replace(normed, self.channels);
        Ok(())
    }

    fn nonlinearity(&mut self, what: Nonlinearity) -> Result<()> {
        self.before = what.into();
        Ok(())
    }

    fn transformer_layer(&mut self, name: &str, spec: TransformerSpec) -> Result<()> {
        self.transform(name, spec)
    }

    fn token_row(&mut self, row: TokenRow) -> Result<()> {
        self.surround_tokens(row)
    }

    fn take_pixels(&mut self, first: usize, size: [usize; 2]) -> Result<()> {
        let to = self.graph.acquire();
        self.graph.take(self.x, to, first, size);
        self.replace(to, self.channels);
        Ok(())
    }

    fn pixels_as_channels(&mut self) -> Result<()> {
        let to = self.graph.acquire();
        self.graph.reread(self.x, to);
        self.replace(to, self.channels);
        Ok(())
    }

    fn mixture(&mut self, name: &str, _: [usize; 2]) -> Result<()> {
        self.graph.softmax(self.x);
        let codes = self.tensor(&format!("{name}.weight"))?;
        self.convolve(ConvLayer::linear(name, codes.t()?.contiguous()?, None)?);
        Ok(())
    }

    fn inverted_bottleneck(
        &mut self,
        name: &str,
        outputs: usize,
        spec: InvertedSpec,
    ) -> Result<()> {
        self.invert(name, outputs, spec)
    }

    fn attention_projection(&mut self, name: &str, outputs: usize, _: usize) -> Result<()> {
        self.project(name, outputs)
    }

    fn enter(&mut self, part: &'static str) -> Result<()> {
        self.prefix = format!("{}{part}.", self.prefix);
        Ok(())
    }
}
