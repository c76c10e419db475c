//! Owns running the steps that networks of convolutions don't have: those of transformers, which work on
//! pixels one by one, and those that put pixels elsewhere.

use super::bind::BoundStep;
use super::run::Arena;
use super::steps::{Graph, Slot, Step};
use crate::engine::cpu::feature_map::{gather, reread, surround};
use crate::engine::cpu::schedule::Threads;
use crate::kernels::{
    Depthwise, LayerNorm, channel_stride, depthwise_row, elementwise, gate, layer_norm,
    softmax_pixels,
};

/// Pixels that are one part.
const PART_PIXELS: usize = 64;

impl Graph {
    /// Runs a step; what it is called.
    pub(super) fn token_step(
        &self,
        step: &Step,
        shapes: &BoundStep,
        arena: &mut Arena,
        threads: Threads,
    ) -> &str {
        let (input, output) = (shapes.input, shapes.output);
        match *step {
            Step::Gather { from, to, patch } => {
                arena.rearranged(from, to, shapes, |from, to| gather(from, input, to, patch));
                "gather"
            }
            Step::Surround { around, from, to } => {
                let around = &self.arounds[around];
                let tokens = (&around.before[..], &around.added[..], &around.after[..]);
                arena.rearranged(from, to, shapes, |from, to| {
                    surround(tokens, from, input, &mut to[..output.len()]);
                });
                "surround"
            }
            Step::Take { from, to, first, .. } => {
                arena.rearranged(from, to, shapes, |from, to| {
                    let from = &from[first * input.stride..][..output.len()];
                    to[..output.len()].copy_from_slice(from);
                });
                "take"
            }
            Step::Reread { from, to } => {
                arena.rearranged(from, to, shapes, |from, to| reread(from, input, to));
                "reread"
            }
            Step::Add { constant, slot } => {
                input.add(&self.constants[constant], &mut arena.slots[slot.0]);
                "add"
            }
            Step::Depthwise { layer, from, to } => {
                self.depthwise_step(layer, (from, to), shapes, arena, threads)
            }
            ref step => self.pixel_step(step, shapes, arena, threads),
        }
    }

    /// Runs a step of which each pixel needs itself alone.
    fn pixel_step(
        &self,
        step: &Step,
        shapes: &BoundStep,
        arena: &mut Arena,
        threads: Threads,
    ) -> &'static str {
        let input = shapes.input;
        match *step {
            Step::LayerNorm { from, to, norm } => {
                let norm = &self.pixel_norms[norm];
                let (weight, bias) = (&norm.weight[..], &norm.bias[..]);
                let (channels, epsilon) = (norm.channels, norm.epsilon);
                let norm = LayerNorm { weight, bias, channels, epsilon };
                self.by_pixels((from, to), shapes, arena, threads, |from, to| {
                    layer_norm(self.isa, norm, from, to);
                });
                "layer norm"
            }
            Step::Gate { from, to, channels } => {
                let stride = channel_stride(channels);
                self.by_pixels((from, to), shapes, arena, threads, |from, to| {
                    gate(self.isa, stride, from, to);
                });
                "gate"
            }
            Step::Elementwise { what, slot } => {
                let map = &mut arena.slots[slot.0][..input.len()];
                let parts = map.chunks_mut(PART_PIXELS * input.stride);
                threads.each(parts, |part| elementwise(self.isa, what, part));
                "elementwise"
            }
            Step::Softmax { slot } => {
                let map = &mut arena.slots[slot.0][..input.len()];
                let parts = map.chunks_mut(PART_PIXELS * input.stride);
                threads.each(parts, |part| softmax_pixels(self.isa, input.channels, part));
                "softmax"
            }
            _ => "nothing",
        }
    }

    /// A step from a slot to another of which each pixel needs itself alone.
    fn by_pixels(
        &self,
        (from, to): (Slot, Slot),
        shapes: &BoundStep,
        arena: &mut Arena,
        threads: Threads,
        work: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        let (input, output) = (shapes.input, shapes.output);
        let mut slot = std::mem::take(&mut arena.slots[to.0]);
        let from = arena.slots[from.0][..input.len()].chunks(PART_PIXELS * input.stride);
        let parts = from.zip(slot[..output.len()].chunks_mut(PART_PIXELS * output.stride));
        threads.each(parts, |(from, to)| work(from, to));
        arena.slots[to.0] = slot;
    }

    fn depthwise_step(
        &self,
        layer: usize,
        (from, to): (Slot, Slot),
        shapes: &BoundStep,
        arena: &mut Arena,
        threads: Threads,
    ) -> &str {
        let (input, output) = (shapes.input, shapes.output);
        let layer = &self.depthwise[layer];
        let conv = Depthwise { weight: &layer.weight, bias: &layer.bias, stride: layer.stride };
        let mut slot = std::mem::take(&mut arena.slots[to.0]);
        let map = (&arena.slots[from.0][..], [input.height, input.width]);
        let row = (output.width * output.stride).max(1);
        let rows = slot[..output.len()].chunks_mut(row).enumerate();
        threads.each(rows, |(y, row)| depthwise_row(self.isa, conv, map, y, row));
        arena.slots[to.0] = slot;
        &layer.name
    }
}
