//! Owns binding a graph to an image size: the shapes of its maps and the algorithm of each step.

use std::sync::Arc;

use super::steps::{Around, Before, Graph, Slot, Step};
use crate::engine::cpu::feature_map::{MapShape, resampled};
use crate::engine::cpu::layer::{Algorithm, pack_ahead};
use crate::kernels::channel_stride;

/// Bytes of an image's maps that are large: those of an f16 VQGAN for 1,000 x 1,000 pixels.
const LARGE: usize = 1 << 30;

/// A graph for one image size: shapes and algorithms.
pub(crate) struct BoundGraph {
    pub(super) steps: Vec<BoundStep>,
    /// Floats of each slot.
    pub(super) lens: Vec<usize>,
    pub(super) channels_max: usize,
    /// MapShape of the input.
    pub input: MapShape,
    /// MapShape of the result.
    pub output: MapShape,
    pub(super) kept: MapShape,
}

#[derive(Clone, Copy)]
pub(super) struct BoundStep {
    pub(super) input: MapShape,
    pub(super) output: MapShape,
    /// Of what modulates a norm.
    pub(super) by: MapShape,
    pub(super) algorithm: Algorithm,
    /// Whether a GroupNorm reads the output before something else overwrites it.
    pub(super) moments: bool,
}

impl BoundGraph {
    /// Whether one image's maps are so large that several at once would take too much memory. All
    /// of them have rows for many threads then.
    pub(crate) fn is_large(&self) -> bool {
        4 * self.lens.iter().sum::<usize>() > LARGE
    }
}

impl Graph {
    /// Binds to inputs of `height` x `width` pixels, and begins to pack the weights that this size
    /// needs.
    pub(crate) fn bind(&self, height: usize, width: usize) -> BoundGraph {
        let mut shapes = vec![MapShape::default(); self.slots];
        let input = MapShape::of_input(height, width, self.input_channels);
        shapes[self.input.0] = input;
        let mut lens: Vec<usize> = shapes.iter().map(MapShape::len).collect();
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut channels_max = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let (from, to) = step.slots();
            let input = shapes[from.0];
            let by = match step {
                Step::Modulate { by, .. } => shapes[by.0],
                _ => MapShape::default(),
            };
            let (output, algorithm) = self.shape(step, input);
            shapes[to.0] = output;
            lens[to.0] = lens[to.0].max(output.len());
            channels_max = channels_max.max(output.channels).max(input.channels);
            let moments = self.normed(index, to);
            steps.push(BoundStep { input, output, by, algorithm, moments });
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
            Step::Attend { heads, channels, .. } => {
                let channels = match heads {
                    1 => channels,
                    heads => heads * channel_stride(channels),
                };
                (MapShape::padded(input.height, input.width, channels), Algorithm::Pointwise)
            }
            Step::Shuffle { channels, patch: [rows, columns], .. } => (
                MapShape::padded(rows * input.height, columns * input.width, channels),
                Algorithm::Pointwise,
            ),
            Step::Resample { how, .. } => {
                let (height, width) = resampled(how, input.height, input.width);
                (MapShape { height, width, ..input }, Algorithm::Pointwise)
            }
            Step::Modulate { .. } | Step::LayerNorm { .. } | Step::Reread { .. } => {
                (MapShape::padded(input.height, input.width, input.channels), Algorithm::Pointwise)
            }
            Step::Adapt { .. }
            | Step::Elementwise { .. }
            | Step::Softmax { .. }
            | Step::Add { .. } => (input, Algorithm::Pointwise),
            ref step => (self.shape_of_tokens(step, input), Algorithm::Pointwise),
        }
    }

    /// The shape that a step gives which only transformers have.
    fn shape_of_tokens(&self, step: &Step, input: MapShape) -> MapShape {
        let MapShape { height, width, channels, .. } = input;
        match *step {
            Step::Gather { patch: [rows, columns], .. } => {
                MapShape::padded(height / rows, width / columns, rows * columns * channels)
            }
            Step::Gate { channels, .. } => MapShape::padded(height, width, channels),
            Step::Depthwise { layer, .. } => {
                let stride = self.depthwise[layer].stride;
                MapShape::padded(height.div_ceil(stride), width.div_ceil(stride), channels)
            }
            Step::Surround { around, .. } => {
                let Around { before, after, .. } = &self.arounds[around];
                let more = (before.len() + after.len()) / channels.max(1);
                MapShape::padded(1, height * width + more, channels)
            }
            Step::Take { size: [height, width], .. } => MapShape::padded(height, width, channels),
            _ => input,
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
                    | Step::Modulate { .. }
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
