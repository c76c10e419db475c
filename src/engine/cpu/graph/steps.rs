//! Owns a network as a list of steps over a few reused maps, built layer by layer.

use std::sync::Arc;

use crate::engine::cpu::feature_map::Modulation;
use crate::engine::cpu::layer::ConvLayer;
use crate::kernels::{Elementwise, Isa, Residual};
use crate::model::topology::Resample;

/// A map that steps write and read: an index into the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(super) usize);

/// What stands in front of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    Nothing,
    /// max(x, 0).
    Relu,
    /// tanh(x).
    Tanh,
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// The GroupNorm of that index.
    Norm(usize),
    /// The GroupNorm of that index, then SiLU.
    NormSilu(usize),
    /// The scale and shift of that index, then SiLU.
    AffineSilu(usize),
    /// SiLU.
    Silu,
}

/// A scale and a shift by channel, as long as the channel stride.
pub(crate) struct ChannelAffine {
    /// By channel, zero after the last.
    pub scale: Vec<f32>,
    /// Likewise.
    pub shift: Vec<f32>,
}

/// A GroupNorm's parameters.
pub(crate) struct Norm {
    /// Groups; divides the channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// By channel.
    pub weight: Vec<f32>,
    /// By channel.
    pub bias: Vec<f32>,
}

/// A LayerNorm's parameters, as long as the channel stride.
pub(crate) struct PixelNorm {
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// By channel, zero after the last.
    pub weight: Vec<f32>,
    /// Likewise.
    pub bias: Vec<f32>,
}

/// A 3x3 convolution of each channel by itself.
pub(crate) struct DepthwiseLayer {
    /// For profiles.
    pub name: String,
    /// `[3][3][channel stride]`.
    pub weight: Vec<f32>,
    /// By channel, zero after the last.
    pub bias: Vec<f32>,
    /// Pixels from a window to the next, both ways.
    pub stride: usize,
}

/// Tokens around those of a map, without padding: `[tokens, channels]` each.
pub(crate) struct Around {
    /// In front of the map's.
    pub before: Vec<f32>,
    /// Added to the map's.
    pub added: Vec<f32>,
    /// Behind them.
    pub after: Vec<f32>,
}

pub(super) enum Step {
    Convolve {
        layer: usize,
        from: Slot,
        to: Slot,
        before: Before,
        upsample: bool,
        residual: Residual,
    },
    /// By heads of `channels`.
    Attend { from: Slot, to: Slot, heads: usize, channels: usize },
    /// Groups of `channels` at each pixel become a patch of so many rows and columns.
    Shuffle { from: Slot, to: Slot, channels: usize, patch: [usize; 2] },
    /// The reverse: a patch's pixels stand side by side in one.
    Gather { from: Slot, to: Slot, patch: [usize; 2] },
    /// The LayerNorm of that index, of each pixel.
    LayerNorm { from: Slot, to: Slot, norm: usize },
    /// Adds the constant map of that index, in place.
    Add { constant: usize, slot: Slot },
    /// Another size without weights.
    Resample { from: Slot, to: Slot, how: Resample },
    /// A GroupNorm in place, modulated by the graph's input.
    Adapt { modulation: usize, slot: Slot },
    /// A GroupNorm, scaled and shifted at each pixel by the channels of `by`, scales in front, whose
    /// pixels are repeated to the size of the map.
    Modulate { norm: usize, from: Slot, by: Slot, to: Slot },
    /// A function of every number, in place.
    Elementwise { what: Elementwise, slot: Slot },
    /// gelu(a) * b of two halves of the channels, which stand side by side.
    Gate { from: Slot, to: Slot, channels: usize },
    /// Softmax over the channels, in place.
    Softmax { slot: Slot },
    /// The 3x3 convolution of each channel by itself of that index.
    Depthwise { layer: usize, from: Slot, to: Slot },
    /// One row of the tokens of that index around the map's.
    Surround { around: usize, from: Slot, to: Slot },
    /// Pixels from `first` on.
    Take { from: Slot, to: Slot, first: usize, size: [usize; 2] },
    /// The channels of T pixels as C rows of T, whose columns are the new pixels.
    Reread { from: Slot, to: Slot },
}

/// A network: steps over slots, with their weights.
pub(crate) struct Graph {
    pub(super) isa: Isa,
    pub(super) layers: Vec<Arc<ConvLayer>>,
    pub(super) norms: Vec<Norm>,
    pub(super) pixel_norms: Vec<PixelNorm>,
    pub(super) depthwise: Vec<DepthwiseLayer>,
    pub(super) arounds: Vec<Around>,
    pub(super) affines: Vec<ChannelAffine>,
    pub(super) modulations: Vec<Modulation>,
    /// `[pixels, channels]` each, or `[1, channels]` for all pixels.
    pub(super) constants: Vec<Vec<f32>>,
    pub(super) steps: Vec<Step>,
    pub(super) slots: usize,
    pub(super) free: Vec<Slot>,
    pub(super) input: Slot,
    pub(super) input_channels: usize,
    pub(super) output: Slot,
    pub(super) kept: Option<Slot>,
}

impl Graph {
    /// An empty network whose input has pixels of `channels` floats, [`MapShape::of_input`].
    pub(crate) fn new(isa: Isa, channels: usize) -> Graph {
        let input = Slot(0);
        Graph {
            isa,
            layers: Vec::new(),
            norms: Vec::new(),
            pixel_norms: Vec::new(),
            depthwise: Vec::new(),
            arounds: Vec::new(),
            affines: Vec::new(),
            modulations: Vec::new(),
            constants: Vec::new(),
            steps: Vec::new(),
            slots: 1,
            free: Vec::new(),
            input,
            input_channels: channels,
            output: input,
            kept: None,
        }
    }

    /// Where the input goes.
    pub(crate) fn input(&self) -> Slot {
        self.input
    }

    /// Says which slot is the result.
    pub(crate) fn finish(mut self, output: Slot) -> Graph {
        self.output = output;
        self
    }

    /// Says which other slot is read when the graph has run; nothing may give it back.
    pub(crate) fn keep(mut self, slot: Slot) -> Graph {
        self.kept = Some(slot);
        self
    }

    /// A slot that holds nothing needed.
    pub(crate) fn acquire(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            Slot(self.slots - 1)
        })
    }

    /// Gives a slot back. Not the input's, which steps read until the end.
    pub(crate) fn release(&mut self, slot: Slot) {
        if slot != self.input {
            self.free.push(slot);
        }
    }

    /// Adds a GroupNorm; [`Before`] takes its index.
    pub(crate) fn norm(&mut self, norm: Norm) -> usize {
        self.norms.push(norm);
        self.norms.len() - 1
    }

    /// Adds a scale and a shift by channel; [`Before`] takes its index.
    pub(crate) fn affine(&mut self, affine: ChannelAffine) -> usize {
        self.affines.push(affine);
        self.affines.len() - 1
    }

    /// Adds a GroupNorm into a slot, modulated by the scales and shifts that stand in `by`.
    pub(crate) fn modulate(&mut self, norm: usize, from: Slot, by: Slot, to: Slot) {
        self.steps.push(Step::Modulate { norm, from, by, to });
    }

    /// Adds a function of every number, in place.
    pub(crate) fn elementwise(&mut self, what: Elementwise, slot: Slot) {
        self.steps.push(Step::Elementwise { what, slot });
    }

    /// Adds gelu(a) * b of two halves of `channels` each.
    pub(crate) fn gate(&mut self, from: Slot, to: Slot, channels: usize) {
        self.steps.push(Step::Gate { from, to, channels });
    }

    /// Adds softmax over the channels, in place.
    pub(crate) fn softmax(&mut self, slot: Slot) {
        self.steps.push(Step::Softmax { slot });
    }

    /// Adds a convolution of each channel by itself.
    pub(crate) fn convolve_depthwise(&mut self, layer: DepthwiseLayer, from: Slot, to: Slot) {
        self.depthwise.push(layer);
        self.steps.push(Step::Depthwise { layer: self.depthwise.len() - 1, from, to });
    }

    /// Adds tokens around those of a map, in one row.
    pub(crate) fn surround(&mut self, around: Around, from: Slot, to: Slot) {
        self.arounds.push(around);
        self.steps.push(Step::Surround { around: self.arounds.len() - 1, from, to });
    }

    /// Adds the pixels from `first` on as a map.
    pub(crate) fn take(&mut self, from: Slot, to: Slot, first: usize, size: [usize; 2]) {
        self.steps.push(Step::Take { from, to, first, size });
    }

    /// Adds the channels of pixels read as rows.
    pub(crate) fn reread(&mut self, from: Slot, to: Slot) {
        self.steps.push(Step::Reread { from, to });
    }

    /// Adds a convolution into a slot.
    pub(crate) fn convolve(
        &mut self,
        layer: ConvLayer,
        from: Slot,
        to: Slot,
        before: Before,
        residual: Residual,
    ) {
        self.convolve_from(layer, from, to, before, residual, false);
    }

    /// The same, reading every pixel twice along both sides.
    pub(crate) fn convolve_upsampled(
        &mut self,
        layer: ConvLayer,
        from: Slot,
        to: Slot,
        before: Before,
    ) {
        self.convolve_from(layer, from, to, before, Residual::None, true);
    }

    fn convolve_from(
        &mut self,
        layer: ConvLayer,
        from: Slot,
        to: Slot,
        before: Before,
        residual: Residual,
        upsample: bool,
    ) {
        self.layers.push(Arc::new(layer));
        let layer = self.layers.len() - 1;
        self.steps.push(Step::Convolve { layer, from, to, before, upsample, residual });
    }

    /// Adds attention over queries, keys and values that stand side by side in `from`, by heads of
    /// `channels`.
    pub(crate) fn attend(&mut self, from: Slot, to: Slot, heads: usize, channels: usize) {
        self.steps.push(Step::Attend { from, to, heads, channels });
    }

    /// Adds the step that makes a patch of pixels of `channels` of each pixel's groups.
    pub(crate) fn shuffle(&mut self, from: Slot, to: Slot, channels: usize, patch: [usize; 2]) {
        self.steps.push(Step::Shuffle { from, to, channels, patch });
    }

    /// Adds the step that makes a pixel of each patch.
    pub(crate) fn gather(&mut self, from: Slot, to: Slot, patch: [usize; 2]) {
        self.steps.push(Step::Gather { from, to, patch });
    }

    /// Adds a LayerNorm.
    pub(crate) fn layer_norm(&mut self, norm: PixelNorm, from: Slot, to: Slot) {
        self.pixel_norms.push(norm);
        self.steps.push(Step::LayerNorm { from, to, norm: self.pixel_norms.len() - 1 });
    }

    /// Adds a map, `[pixels, channels]`, or a pixel, in place.
    pub(crate) fn add(&mut self, constant: Vec<f32>, slot: Slot) {
        self.constants.push(constant);
        self.steps.push(Step::Add { constant: self.constants.len() - 1, slot });
    }

    /// Adds a pooling or doubling.
    pub(crate) fn resample(&mut self, from: Slot, to: Slot, how: Resample) {
        self.steps.push(Step::Resample { from, to, how });
    }

    /// Adds a GroupNorm of `slot`, in place, whose scale and shift the graph's input gives.
    pub(crate) fn adapt(&mut self, modulation: Modulation, slot: Slot) {
        self.modulations.push(modulation);
        self.steps.push(Step::Adapt { modulation: self.modulations.len() - 1, slot });
    }
}

impl Step {
    pub(super) fn slots(&self) -> (Slot, Slot) {
        match *self {
            Step::Convolve { from, to, .. }
            | Step::Attend { from, to, .. }
            | Step::Shuffle { from, to, .. }
            | Step::Gather { from, to, .. }
            | Step::LayerNorm { from, to, .. }
            | Step::Modulate { from, to, .. }
            | Step::Resample { from, to, .. } => (from, to),
            Step::Gate { from, to, .. }
            | Step::Depthwise { from, to, .. }
            | Step::Surround { from, to, .. }
            | Step::Take { from, to, .. }
            | Step::Reread { from, to } => (from, to),
            Step::Adapt { slot, .. }
            | Step::Elementwise { slot, .. }
            | Step::Softmax { slot }
            | Step::Add { slot, .. } => (slot, slot),
        }
    }
}
