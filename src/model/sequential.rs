//! Owns networks as sequences of candle's layers: the emitter behind the reference engine and
//! training.

use candle_core::{Device, Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::conv::{Padding, conv_transpose2d, conv2d};
use super::layers::{
    AdaptiveNorm, AffineResidual, AttentionProjection, AttnBlock, Bottleneck, Conv2d,
    ConvTranspose2d, InvertedBottleneck, LayerNorm, Linear, Mixture, Norm, PatchEmbedding,
    PatchPixels, PlainResidual, Positions, ResnetBlock, TokensAround, TransformerLayer,
    depth_to_space, double_nearest, even, mean_of_neighbours, nonlinear, pixels_as_channels,
    take_pixels,
};
use super::pool::max_pool2;
use super::relu::relu;
use super::topology::{
    BottleneckSpec, ConvGeometry, ConvSpec, Emit, InvertedSpec, Nonlinearity, NormSpec, Resample,
    ResnetSpec, TokenRow, TransformerSpec,
};
use crate::error::Result;

/// One differentiable piece of a network.
pub(crate) type Block<'a> = Box<dyn Fn(&Tensor) -> CandleResult<Tensor> + 'a>;

/// A layer with its weights.
#[derive(Debug, Clone)]
enum Layer {
    Conv(Conv2d),
    /// Of whose outputs the first so many are read.
    ConvHead(Conv2d, usize),
    Upsample(Conv2d),
    Transposed(ConvTranspose2d),
    NormSilu(Norm),
    Relu,
    Silu,
    Resnet(Box<ResnetBlock>),
    Attention(Box<AttnBlock>),
    PlainResidual(Box<PlainResidual>),
    AffineResidual(Box<AffineResidual>),
    /// What norms by codes read from here on is the map; the next layer takes the input.
    KeepCodes,
    Bottleneck(Box<Bottleneck>),
    Resample(Resample),
    /// Of patches of so many rows and columns.
    DepthToSpace([usize; 2]),
    AdaptiveNorm(AdaptiveNorm),
    Linear(Linear),
    PatchEmbedding(PatchEmbedding),
    PatchPixels(PatchPixels),
    Positions(Positions),
    LayerNorm(LayerNorm),
    Nonlinearity(Nonlinearity),
    Transformer(Box<TransformerLayer>),
    TokenRow(Box<TokensAround>),
    /// From that pixel on, so many rows and columns.
    TakePixels(usize, [usize; 2]),
    PixelsAsChannels,
    Mixture(Mixture),
    Inverted(Box<InvertedBottleneck>),
    Projection(Box<AttentionProjection>),
}

impl Layer {
    /// `codes` are what norms by codes read.
    fn forward(&self, x: &Tensor, codes: &Tensor) -> CandleResult<Tensor> {
        match self {
            Layer::Conv(conv) => conv.forward(x),
            Layer::ConvHead(conv, kept) => conv.forward(x)?.narrow(1, 0, *kept),
            Layer::Upsample(conv) => conv.forward(&double_nearest(x)?),
            Layer::Transposed(conv) => conv.forward(x),
            Layer::NormSilu(norm) => norm.forward_silu(x, codes),
            Layer::Relu => relu(x),
            Layer::Silu => x.silu(),
            Layer::Resnet(block) => block.forward(x, codes),
            Layer::Attention(block) => block.forward(x, codes),
            Layer::AffineResidual(block) => block.forward(x),
            // `forward` of all layers does it.
            Layer::KeepCodes => Ok(x.clone()),
            Layer::PlainResidual(block) => block.forward(x),
            Layer::Bottleneck(block) => block.forward(x),
            Layer::Resample(Resample::Mean) => x.avg_pool2d(2),
            Layer::Resample(Resample::Largest) => max_pool2(x),
            Layer::Resample(Resample::Double) => double_nearest(x),
            Layer::Resample(Resample::Even) => even(x),
            Layer::Resample(Resample::Neighbours) => mean_of_neighbours(x),
            Layer::DepthToSpace(patch) => depth_to_space(x, *patch),
            Layer::AdaptiveNorm(norm) => norm.forward(x, codes),
            layer => layer.of_transformer(x),
        }
    }

    /// The same of what only transformers have.
    fn of_transformer(&self, x: &Tensor) -> CandleResult<Tensor> {
        match self {
            Layer::Linear(linear) => linear.forward(x),
            Layer::PatchEmbedding(patches) => patches.forward(x),
            Layer::PatchPixels(pixels) => pixels.forward(x),
            Layer::Positions(positions) => positions.forward(x),
            Layer::LayerNorm(norm) => norm.forward(x),
            Layer::Nonlinearity(what) => nonlinear(x, *what),
            Layer::Transformer(layer) => layer.forward(x),
            Layer::TokenRow(around) => around.forward(x),
            Layer::TakePixels(first, size) => take_pixels(x, *first, *size),
            Layer::PixelsAsChannels => pixels_as_channels(x),
            Layer::Mixture(mixture) => mixture.forward(x),
            Layer::Inverted(block) => block.forward(x),
            Layer::Projection(projection) => projection.forward(x),
            _ => candle_core::bail!("a layer that no transformer has"),
        }
    }

    /// Whether it is large enough to be a piece of its own where activations are computed again.
    fn stands_alone(&self) -> bool {
        matches!(self, Layer::Resnet(_) | Layer::Attention(_) | Layer::Upsample(_))
    }
}

/// Layers that run one after another.
#[derive(Debug, Clone)]
pub(crate) struct Sequential {
    layers: Vec<Layer>,
    device: Device,
}

/// The layer that makes the image: training takes the adaptive weight at its weight.
#[derive(Clone, Copy)]
pub struct LastLayer<'a> {
    /// The weight.
    pub weight: &'a Tensor,
    /// The bias, `[C]`.
    pub bias: &'a Tensor,
    /// A transposed 4x4 convolution with stride 2 instead of a 3x3 convolution.
    pub transposed: bool,
}

impl LastLayer<'_> {
    /// The last activation `[B, W, h, w]` to images `[B, C, H, W]`.
    pub fn forward(&self, activation: &Tensor) -> CandleResult<Tensor> {
        match self.transposed {
            true => conv_transpose2d(activation, self.weight, Some(self.bias), 2, 1),
            false => conv2d(activation, self.weight, Some(self.bias), 1, Padding::same(1)),
        }
    }
}

impl Sequential {
    /// `[B, C, H, W]` to what the last layer gives.
    pub(crate) fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        forward(&self.layers, x)
    }

    /// Where its weights are.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// [`Sequential::forward`] in pieces: large blocks on their own, what stands between them
    /// together. Not for networks with a layer that reads the network's input again.
    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        blocks(&self.layers)
    }

    /// The same without the last layer.
    pub(crate) fn blocks_before_last(&self) -> Vec<Block<'_>> {
        blocks(&self.layers[..self.layers.len().saturating_sub(1)])
    }

    /// The last layer, where it is a convolution with a bias.
    pub(crate) fn last_layer(&self) -> Option<LastLayer<'_>> {
        match self.layers.last()? {
            Layer::Conv(Conv2d { weight, bias: Some(bias), .. }) => {
                Some(LastLayer { weight, bias, transposed: false })
            }
            Layer::Transposed(ConvTranspose2d { weight, bias }) => {
                Some(LastLayer { weight, bias, transposed: true })
            }
            _ => None,
        }
    }
}

fn forward(layers: &[Layer], input: &Tensor) -> CandleResult<Tensor> {
    let (mut x, mut codes) = (input.clone(), input.clone());
    for layer in layers {
        match layer {
            Layer::KeepCodes => codes = std::mem::replace(&mut x, input.clone()),
            layer => x = layer.forward(&x, &codes)?,
        }
    }
    Ok(x)
}

fn blocks(layers: &[Layer]) -> Vec<Block<'_>> {
    let together = |a: &Layer, b: &Layer| !a.stands_alone() && !b.stands_alone();
    let piece = |layers| -> Block<'_> { Box::new(move |x| forward(layers, x)) };
    layers.chunk_by(together).map(piece).collect()
}

/// A sequence under construction.
pub(crate) struct Builder<'a> {
    vb: VarBuilder<'a>,
    layers: Vec<Layer>,
    /// Of the network's input.
    input: usize,
    /// Of what norms by codes read.
    codes: usize,
    /// Of what the last layer gives.
    channels: usize,
}

impl<'a> Builder<'a> {
    /// Over inputs of so many channels, with weights from the root of `vb`.
    pub(crate) fn new(vb: VarBuilder<'a>, channels: usize) -> Builder<'a> {
        Builder { vb, layers: Vec::new(), input: channels, codes: channels, channels }
    }

    /// What was emitted.
    pub(crate) fn finish(self) -> Sequential {
        Sequential { layers: self.layers, device: self.vb.device().clone() }
    }

    /// A layer that keeps the channels.
    fn push(&mut self, layer: Layer) -> Result<()> {
        self.layers.push(layer);
        Ok(())
    }

    /// Takes the channels of the last layer and sets those of the next.
    fn widths(&mut self, outputs: usize) -> [usize; 2] {
        [std::mem::replace(&mut self.channels, outputs), outputs]
    }

    fn load_conv(&mut self, name: &str, outputs: usize, spec: ConvSpec) -> Result<Conv2d> {
        Ok(Conv2d::load(self.vb.pp(name), self.widths(outputs), spec)?)
    }
}

impl Emit for Builder<'_> {
    fn conv(&mut self, name: &str, outputs: usize, conv: impl Into<ConvSpec>) -> Result<()> {
        let conv = self.load_conv(name, outputs, conv.into())?;
        self.push(Layer::Conv(conv))
    }

    fn conv_head(
        &mut self,
        name: &str,
        [outputs, kept]: [usize; 2],
        conv: impl Into<ConvSpec>,
    ) -> Result<()> {
        let conv = self.load_conv(name, outputs, conv.into())?;
        self.channels = kept;
        self.push(Layer::ConvHead(conv, kept))
    }

    fn upsample(&mut self, name: &str) -> Result<()> {
        let conv = self.load_conv(name, self.channels, ConvGeometry::SAME_3.into())?;
        self.push(Layer::Upsample(conv))
    }

    fn transposed(&mut self, name: &str, outputs: usize) -> Result<()> {
        let conv = ConvTranspose2d::load(self.vb.pp(name), self.widths(outputs))?;
        self.push(Layer::Transposed(conv))
    }

    fn norm_silu(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let norm = Norm::load(self.vb.pp(name), self.channels, self.codes, norm)?;
        self.push(Layer::NormSilu(norm))
    }

    fn relu(&mut self) -> Result<()> {
        self.push(Layer::Relu)
    }

    fn resnet(&mut self, name: &str, outputs: usize, spec: ResnetSpec) -> Result<()> {
        let block = ResnetBlock::load(self.vb.pp(name), self.widths(outputs), self.codes, spec)?;
        self.push(Layer::Resnet(Box::new(block)))
    }

    fn attention(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let block = AttnBlock::load(self.vb.pp(name), self.channels, self.codes, norm)?;
        self.push(Layer::Attention(Box::new(block)))
    }

    fn plain_residual(&mut self, names: [&str; 2], hidden: usize) -> Result<()> {
        let vbs = names.map(|name| self.vb.pp(name));
        let block = PlainResidual::load(vbs, self.channels, hidden)?;
        self.push(Layer::PlainResidual(Box::new(block)))
    }

    fn bottleneck(&mut self, name: &str, outputs: usize, spec: BottleneckSpec) -> Result<()> {
        let block = Bottleneck::load(self.vb.pp(name), self.widths(outputs), spec)?;
        self.push(Layer::Bottleneck(Box::new(block)))
    }

    fn silu(&mut self) -> Result<()> {
        self.push(Layer::Silu)
    }

    fn affine_resnet(&mut self, name: &str) -> Result<()> {
        let block = AffineResidual::load(self.vb.pp(name), self.channels)?;
        self.push(Layer::AffineResidual(Box::new(block)))
    }

    fn keep_codes(&mut self) -> Result<()> {
        self.codes = std::mem::replace(&mut self.channels, self.input);
        self.push(Layer::KeepCodes)
    }

    fn resample(&mut self, how: Resample) -> Result<()> {
        self.push(Layer::Resample(how))
    }

    fn depth_to_space(&mut self, [rows, columns]: [usize; 2]) -> Result<()> {
        self.channels /= rows * columns;
        self.push(Layer::DepthToSpace([rows, columns]))
    }

    fn adaptive_norm(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let norm = AdaptiveNorm::load(self.vb.pp(name), self.input, self.channels, norm)?;
        self.push(Layer::AdaptiveNorm(norm))
    }

    fn linear(&mut self, name: &str, outputs: usize) -> Result<()> {
        let linear = Linear::load(self.vb.pp(name), self.widths(outputs))?;
        self.push(Layer::Linear(linear))
    }

    fn patch_embedding(&mut self, name: &str, outputs: usize, patch: [usize; 2]) -> Result<()> {
        let patches = PatchEmbedding::load(self.vb.pp(name), self.widths(outputs), patch)?;
        self.push(Layer::PatchEmbedding(patches))
    }

    fn patch_pixels(&mut self, name: &str, outputs: usize, patch: [usize; 2]) -> Result<()> {
        let pixels = PatchPixels::load(self.vb.pp(name), self.widths(outputs), patch)?;
        self.push(Layer::PatchPixels(pixels))
    }

    fn positions(&mut self, name: &str, grid: Option<[usize; 2]>) -> Result<()> {
        let positions = Positions::load(&self.vb, name, self.channels, grid)?;
        self.push(Layer::Positions(positions))
    }

    fn layer_norm(&mut self, name: &str, eps: f64) -> Result<()> {
        let norm = LayerNorm::load(self.vb.pp(name), self.channels, eps)?;
        self.push(Layer::LayerNorm(norm))
    }

    fn transformer_layer(&mut self, name: &str, spec: TransformerSpec) -> Result<()> {
        let layer = TransformerLayer::load(self.vb.pp(name), self.channels, spec)?;
        self.push(Layer::Transformer(Box::new(layer)))
    }

    fn nonlinearity(&mut self, what: Nonlinearity) -> Result<()> {
        self.push(Layer::Nonlinearity(what))
    }

    fn token_row(&mut self, row: TokenRow) -> Result<()> {
        let get = |name: &str, shape: &[usize]| self.vb.get(shape, name);
        let around: CandleResult<_> = TokensAround::load(row, self.channels, get);
        let around = around?;
        self.push(Layer::TokenRow(Box::new(around)))
    }

    fn take_pixels(&mut self, first: usize, size: [usize; 2]) -> Result<()> {
        self.push(Layer::TakePixels(first, size))
    }

    fn pixels_as_channels(&mut self) -> Result<()> {
        self.push(Layer::PixelsAsChannels)
    }

    fn mixture(&mut self, name: &str, [codes, dim]: [usize; 2]) -> Result<()> {
        let mixture = Mixture::load(self.vb.pp(name), [codes, dim])?;
        self.channels = dim;
        self.push(Layer::Mixture(mixture))
    }

    fn inverted_bottleneck(
        &mut self,
        name: &str,
        outputs: usize,
        spec: InvertedSpec,
    ) -> Result<()> {
        let block = InvertedBottleneck::load(self.vb.pp(name), self.widths(outputs), spec)?;
        self.push(Layer::Inverted(Box::new(block)))
    }

    fn attention_projection(&mut self, name: &str, outputs: usize, hidden: usize) -> Result<()> {
        let widths = self.widths(outputs);
        let projection = AttentionProjection::load(self.vb.pp(name), widths, hidden)?;
        self.push(Layer::Projection(Box::new(projection)))
    }

    fn enter(&mut self, part: &'static str) -> Result<()> {
        self.vb = self.vb.pp(part);
        Ok(())
    }
}
