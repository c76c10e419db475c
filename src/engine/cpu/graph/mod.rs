//! Owns a network as a list of steps over a few reused maps: how it is built layer by layer, and
//! bound to an image size; `run` runs it. Must not know: which networks there are (`networks`).

pub(crate) mod builder;
mod run;

use std::sync::Arc;

use super::feature_map::{MapShape, Modulation, resampled};
use super::kernels::{Isa, Residual};
use super::layer::{Algorithm, ConvLayer, pack_ahead};
use crate::model::topology::Resample;

pub use run::Arena;

/// Bytes of an image's maps that are large: those of an f16 VQGAN for 1,000 x 1,000 pixels.
const LARGE: usize = 1 << 30;

/// A map that steps write and read: an index into the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// What stands in front of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// max(x, 0).
    Relu,
    /// The GroupNorm of that index.
    Norm(usize),
    /// The GroupNorm of that index, then SiLU.
    NormSilu(usize),
}

/// A GroupNorm's parameters.
pub struct Norm {
    /// Groups; divides the channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// By channel.
    pub weight: Vec<f32>,
    /// By channel.
    pub bias: Vec<f32>,
}

enum Step {
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
}

/// A network: steps over slots, with their weights.
pub struct Graph {
    isa: Isa,
    layers: Vec<Arc<ConvLayer>>,
    norms: Vec<Norm>,
    modulations: Vec<Modulation>,
    steps: Vec<Step>,
    slots: usize,
    free: Vec<Slot>,
    input: Slot,
    input_channels: usize,
    output: Slot,
    kept: Option<Slot>,
}

impl Graph {
    /// An empty network whose input has pixels of `channels` floats, [`MapShape::of_input`].
    pub fn new(isa: Isa, channels: usize) -> Graph {
        let input = Slot(0);
        Graph {
            isa,
            layers: Vec::new(),
            norms: Vec::new(),
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
    pub fn input(&self) -> Slot {
        self.input
    }

    /// Says which slot is the result.
    pub fn finish(mut self, output: Slot) -> Graph {
        self.output = output;
        self
    }

    /// Says which other slot is read when the graph has run; nothing may give it back.
    pub fn keep(mut self, slot: Slot) -> Graph {
        self.kept = Some(slot);
        self
    }

    /// A slot that holds nothing needed.
    pub fn acquire(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            Slot(self.slots - 1)
        })
    }

    /// Gives a slot back. Not the input's, which steps read until the end.
    pub fn release(&mut self, slot: Slot) {
        if slot != self.input {
            self.free.push(slot);
        }
    }

    /// Adds a GroupNorm; [`Before`] takes its index.
    pub fn norm(&mut self, norm: Norm) -> usize {
        self.norms.push(norm);
        self.norms.len() - 1
    }

    /// Adds a convolution into a slot.
    pub fn convolve(
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
    pub fn convolve_upsampled(&mut self, layer: ConvLayer, from: Slot, to: Slot) {
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
    pub fn attend(&mut self, from: Slot, to: Slot, channels: usize) {
        self.steps.push(Step::Attend { from, to, channels });
    }

    /// Adds the step that makes 2x2 pixels of `channels` of each pixel's four groups.
    pub fn shuffle(&mut self, from: Slot, to: Slot, channels: usize) {
        self.steps.push(Step::Shuffle { from, to, channels });
    }

    /// Adds a pooling or doubling.
    pub fn resample(&mut self, from: Slot, to: Slot, how: Resample) {
        self.steps.push(Step::Resample { from, to, how });
    }

    /// Adds a GroupNorm of `slot`, in place, whose scale and shift the graph's input gives.
    pub fn adapt(&mut self, modulation: Modulation, slot: Slot) {
        self.modulations.push(modulation);
        self.steps.push(Step::Adapt { modulation: self.modulations.len() - 1, slot });
    }
}

/// A graph for one image size: shapes and algorithms.
pub struct BoundGraph {
    steps: Vec<BoundStep>,
    /// Floats of each slot.
    lens: Vec<usize>,
    channels_max: usize,
    /// MapShape of the input.
    pub input: MapShape,
    /// MapShape of the result.
    pub output: MapShape,
    kept: MapShape,
}

#[derive(Clone, Copy)]
struct BoundStep {
    input: MapShape,
    output: MapShape,
    algorithm: Algorithm,
    /// Whether a GroupNorm reads the output before something else overwrites it.
    moments: bool,
}

impl BoundGraph {
    /// Whether one image's maps are so large that several at once would take too much memory. All
    /// of them have rows for many threads then.
    pub fn is_large(&self) -> bool {
        4 * self.lens.iter().sum::<usize>() > LARGE
    }
}

impl Graph {
    /// Binds to inputs of `height` x `width` pixels, and begins to pack the weights that this size
    /// needs.
    pub fn bind(&self, height: usize, width: usize) -> BoundGraph {
        let mut shapes = vec![MapShape::default(); self.slots];
        let input = MapShape::of_input(height, width, self.input_channels);
        shapes[self.input.0] = input;
        let mut lens: Vec<usize> = shapes.iter().map(MapShape::len).collect();
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut channels_max = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let (from, to) = step.slots();
            let input = shapes[from.0];
            let (output, algorithm) = self.shape(step, input);
            shapes[to.0] = output;
            lens[to.0] = lens[to.0].max(output.len());
            channels_max = channels_max.max(output.channels).max(input.channels);
            steps.push(BoundStep { input, output, algorithm, moments: self.normed(index, to) });
        }
        let needed = self.steps.iter().zip(&steps).filter_map(|(step, bound)| match step {
            Step::Convolve { layer, .. } => {
                Some((Arc::clone(&self.layers[*layer]), bound.algorithm))
            }
            _ => None,
        });
        pack_ahead(self.isa, needed);
        let kept = self.kept.map_or(MapShape::default(), |slot| shapes[slot.0]);
        BoundGraph { steps, lens, channels_max, input, output: shapes[self.output.0], kept }
    }

    fn shape(&self, step: &Step, input: MapShape) -> (MapShape, Algorithm) {
        match *step {
            Step::Convolve { layer, upsample, .. } => {
                let layer = &self.layers[layer];
                let factor = if upsample { 2 } else { 1 };
                let height = layer.geometry.output(input.height * factor);
                let width = layer.geometry.output(input.width * factor);
                (MapShape::padded(height, width, layer.outputs), layer.algorithm(height, width))
            }
            Step::Attend { channels, .. } => {
                (MapShape::padded(input.height, input.width, channels), Algorithm::Pointwise)
            }
            Step::Shuffle { channels, .. } => (
                MapShape::padded(2 * input.height, 2 * input.width, channels),
                Algorithm::Pointwise,
            ),
            Step::Resample { how, .. } => {
                let (height, width) = resampled(how, input.height, input.width);
                (MapShape { height, width, ..input }, Algorithm::Pointwise)
            }
            Step::Adapt { .. } => (input, Algorithm::Pointwise),
        }
    }

    /// Whether a norm reads `slot` after step `index` and before the slot's next change.
    fn normed(&self, index: usize, slot: Slot) -> bool {
        for step in &self.steps[index + 1..] {
            let (from, to) = step.slots();
            let reads = matches!(
                step,
                Step::Convolve { before: Before::Norm(_) | Before::NormSilu(_), .. }
                    | Step::Adapt { .. }
            );
            if reads && from == slot {
                return true;
            }
            if to == slot {
                return false;
            }
        }
        false
    }
}

impl Step {
    fn slots(&self) -> (Slot, Slot) {
        match *self {
            Step::Convolve { from, to, .. }
            | Step::Attend { from, to, .. }
            | Step::Shuffle { from, to, .. }
            | Step::Resample { from, to, .. } => (from, to),
            Step::Adapt { slot, .. } => (slot, slot),
        }
    }
}
