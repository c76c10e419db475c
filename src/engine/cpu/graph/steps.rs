//! Owns a network as a list of steps over a few reused maps, built layer by layer.

use std::sync::Arc;

use crate::engine::cpu::feature_map::Modulation;
use crate::engine::cpu::kernels::{Isa, Residual};
use crate::engine::cpu::layer::ConvLayer;
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

pub(super) enum Step {
    Convolve {
        layer: usize,
        from: Slot,
        to: Slot,
        before: Before,
        upsample: bool,
        residual: Residual,
    },
    Attend {
        from: Slot,
        to: Slot,
        channels: usize,
    },
    /// Four groups of `channels` at each pixel become a block of 2x2 pixels.
    Shuffle {
        from: Slot,
        to: Slot,
        channels: usize,
    },
    /// Another size without weights.
    Resample {
        from: Slot,
        to: Slot,
        how: Resample,
    },
    /// A GroupNorm in place, modulated by the graph's input.
    Adapt {
        modulation: usize,
        slot: Slot,
    },
    /// A GroupNorm, scaled and shifted at each pixel by the channels of `by`, scales in front, whose
    /// pixels are repeated to the size of the map.
    Modulate {
        norm: usize,
        from: Slot,
        by: Slot,
        to: Slot,
    },
    /// x / (1 + e^-x) in place.
    Silu {
        slot: Slot,
    },
}

/// A network: steps over slots, with their weights.
pub(crate) struct Graph {
    pub(super) isa: Isa,
    pub(super) layers: Vec<Arc<ConvLayer>>,
    pub(super) norms: Vec<Norm>,
    pub(super) affines: Vec<ChannelAffine>,
    pub(super) modulations: Vec<Modulation>,
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
            affines: Vec::new(),
            modulations: Vec::new(),
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

    /// Adds SiLU in place.
    pub(crate) fn silu(&mut self, slot: Slot) {
        self.steps.push(Step::Silu { slot });
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
    pub(crate) fn convolve_upsampled(&mut self, layer: ConvLayer, from: Slot, to: Slot) {
        self.convolve_from(layer, from, to, Before::Nothing, Residual::None, true);
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

    /// Adds attention over queries, keys and values that stand side by side in `from`.
    pub(crate) fn attend(&mut self, from: Slot, to: Slot, channels: usize) {
        self.steps.push(Step::Attend { from, to, channels });
    }

    /// Adds the step that makes 2x2 pixels of `channels` of each pixel's four groups.
    pub(crate) fn shuffle(&mut self, from: Slot, to: Slot, channels: usize) {
        self.steps.push(Step::Shuffle { from, to, channels });
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
            | Step::Modulate { from, to, .. }
            | Step::Resample { from, to, .. } => (from, to),
            Step::Adapt { slot, .. } | Step::Silu { slot } => (slot, slot),
        }
    }
}
