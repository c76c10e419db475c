//! Owns running a bound graph: the memory that it takes, its steps one after another, and how the
//! parts of a step share the threads. Must not know: which images come when (`share`).
//!
//! A convolution's output is cut into parts by its shape alone, and the moments of the parts are
//! added up in their order: the bits are the same on one thread and on many.

use super::bind::{BoundGraph, BoundStep};
use super::steps::{Before, Graph, Slot, Step};
use crate::engine::cpu::feature_map::{
    MapShape, Modulation, affine, modulated_row, resample, shuffle,
};
use crate::engine::cpu::layer::Algorithm;
use crate::engine::cpu::schedule::{ScratchPool, Threads};
use crate::engine::memory;
use crate::error::{Error, Result};
use crate::kernels::{
    Activation, Attention, Buffer, GroupNorm, Input, KeysValues, Moments, Output, attention,
    channel_stride, scale_and_shift,
};
use crate::util::numbers;

/// Rows of a convolution's output that are one part. Each part computes the activations of a row
/// above and below it that its neighbours compute too.
const PART_ROWS: usize = 32;

/// Queries of an attention that are one part: the keys and values are read once for every 48.
const PART_QUERIES: usize = 192;

/// The memory that one image at a time is computed in. Grows to the largest size it has seen.
#[derive(Default)]
pub(crate) struct Arena {
    pub(super) slots: Vec<Buffer>,
    moments: Vec<Moments>,
    /// Of each part of a step's output.
    partial: Vec<Moments>,
    scale: Buffer,
    shift: Buffer,
    /// Whatever a step needs while it runs.
    scratch: Buffer,
    /// Whatever a kernel needs while it runs, one for each thread that is at it.
    parts: ScratchPool<Buffer>,
}

impl Arena {
    /// Makes room for a graph at a size.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for maps that are larger than the memory there is.
    pub(crate) fn fit(&mut self, bound: &BoundGraph) -> Result<()> {
        self.require(bound)?;
        let slots = self.slots.len().max(bound.lens.len());
        self.slots.resize_with(slots, Buffer::default);
        for (slot, &len) in self.slots.iter_mut().zip(&bound.lens) {
            slot.reserve(len);
        }
        let channels = channel_stride(bound.channels_max).max(self.scale.len());
        let parts = bound.steps.iter().map(|step| step.output.height.div_ceil(PART_ROWS)).max();
        let parts = parts.unwrap_or(0).max(self.partial.len());
        if self.moments.len() < slots || self.scale.len() < channels {
            self.moments = vec![Moments::new(channels); slots];
            self.partial.clear();
        }
        self.partial.resize_with(parts, || Moments::new(channels));
        self.scale.reserve(channels);
        self.shift.reserve(channels);
        Ok(())
    }

    fn require(&self, bound: &BoundGraph) -> Result<()> {
        if !bound.is_large() {
            return Ok(());
        }
        let MapShape { height, width, .. } = bound.steps[0].input;
        let held = self.slots.iter().map(|slot| slot.len()).chain(std::iter::repeat(0));
        let more = bound.lens.iter().zip(held).map(|(len, held)| len.saturating_sub(held));
        let needed = 4 * more.sum::<usize>() as u64;
        match memory::available() {
            Some(free) if free < needed => {
                let (needed, free) = (numbers::bytes(needed), numbers::bytes(free));
                Err(Error::out_of_memory(format!(
                    "the maps of one input of {width}x{height} take {needed}, {free} are free"
                )))
            }
            _ => Ok(()),
        }
    }

    /// `[H, W, channels]` without padding as the input of a graph.
    pub(crate) fn put(&mut self, graph: &Graph, bound: &BoundGraph, rows: &[f32]) {
        bound.input.spread(rows, &mut self.slots[graph.input.0]);
    }

    /// What the graph keeps beside its result, once it has run; empty where it keeps nothing.
    pub(crate) fn kept(&self, graph: &Graph, bound: &BoundGraph) -> &[f32] {
        graph.kept.map_or(&[], |slot| &self.slots[slot.0][..bound.kept.len()])
    }

    /// A step without weights from a slot to another, and the moments that are read of it.
    pub(super) fn rearranged(
        &mut self,
        from: Slot,
        to: Slot,
        shapes: &BoundStep,
        work: impl FnOnce(&[f32], &mut [f32]),
    ) {
        let mut output = std::mem::take(&mut self.slots[to.0]);
        work(&self.slots[from.0], &mut output);
        if shapes.moments {
            let map = &output[..shapes.output.len()];
            self.moments[to.0].take(map, shapes.output.stride);
        }
        self.slots[to.0] = output;
    }

    /// An image's bytes as the graph's input, each through the table. Its pixels are of fewer
    /// channels than a vector, so that they lie close together.
    pub(crate) fn fill(&mut self, graph: &Graph, bytes: &[u8], table: &[f32; 256]) {
        for (float, &byte) in self.slots[graph.input.0].iter_mut().zip(bytes) {
            *float = table[usize::from(byte)];
        }
    }

    /// The result and the scratch, once the graph has run.
    pub(crate) fn output(&mut self, graph: &Graph) -> (&[f32], &mut Buffer) {
        (&self.slots[graph.output.0], &mut self.scratch)
    }
}

/// Told after each step: the layer's name, its algorithm and its operations.
type Profiler<'a> = &'a mut dyn FnMut(&str, Algorithm, f64);

impl Graph {
    /// Computes the output from the input in the arena.
    ///
    /// # Errors
    /// Weights that can't be read.
    pub(crate) fn run(
        &self,
        bound: &BoundGraph,
        arena: &mut Arena,
        threads: Threads,
    ) -> Result<()> {
        self.run_steps(bound, arena, threads, &mut |_, _, _| {})
    }

    /// The same on one thread, telling after each step what it was.
    ///
    /// # Errors
    /// As [`Graph::run`].
    pub(crate) fn run_profiled(
        &self,
        bound: &BoundGraph,
        arena: &mut Arena,
        profiler: Profiler<'_>,
    ) -> Result<()> {
        self.run_steps(bound, arena, Threads::One, profiler)
    }

    fn run_steps(
        &self,
        bound: &BoundGraph,
        arena: &mut Arena,
        threads: Threads,
        profiler: Profiler<'_>,
    ) -> Result<()> {
        for (step, shapes) in self.steps.iter().zip(&bound.steps) {
            let pixels = shapes.input.height * shapes.input.width;
            match *step {
                Step::Convolve { layer, .. } => {
                    let layer = &self.layers[layer];
                    self.convolve_step(step, shapes, arena, threads)?;
                    let pixels = shapes.output.height * shapes.output.width;
                    profiler(&layer.name, shapes.algorithm, layer.operations(pixels));
                }
                Step::Attend { from, to, heads, channels } => {
                    self.attend_step((from, to), (pixels, heads, channels), arena, threads);
                    let operations = 4.0 * (pixels * pixels) as f64 * (heads * channels) as f64;
                    profiler("attention", shapes.algorithm, operations);
                }
                Step::Shuffle { from, to, channels, patch } => {
                    arena.rearranged(from, to, shapes, |from, to| {
                        shuffle(from, shapes.input, to, channels, patch);
                    });
                    profiler("shuffle", shapes.algorithm, 0.0);
                }
                Step::Resample { from, to, how } => {
                    arena.rearranged(from, to, shapes, |from, to| {
                        resample(how, from, shapes.input, to)
                    });
                    profiler("resample", shapes.algorithm, 0.0);
                }
                Step::Adapt { modulation, slot } => {
                    self.adapt_step(&self.modulations[modulation], slot, shapes, bound, arena);
                    profiler("adapt", shapes.algorithm, 0.0);
                }
                Step::Modulate { norm, from, by, to } => {
                    self.modulate_step(norm, (from, by, to), shapes, arena, threads);
                    profiler("modulate", shapes.algorithm, 0.0);
                }
                ref step => {
                    let name = self.token_step(step, shapes, arena, threads);
                    profiler(name, shapes.algorithm, 0.0);
                }
            }
        }
        Ok(())
    }

    fn adapt_step(
        &self,
        modulation: &Modulation,
        slot: Slot,
        shapes: &BoundStep,
        bound: &BoundGraph,
        arena: &mut Arena,
    ) {
        let codes = &arena.slots[self.input.0][..bound.input.len()];
        let (weight, bias) = modulation.of(codes, bound.input);
        let Modulation { groups, epsilon, .. } = *modulation;
        let norm = GroupNorm { groups, epsilon, weight: &weight, bias: &bias };
        let shape = shapes.input;
        let pixels = shape.height * shape.width;
        let Arena { slots, moments, scale, shift, .. } = arena;
        scale_and_shift(&moments[slot.0], pixels, norm, scale, shift);
        affine(&mut slots[slot.0], shape, scale, shift, &mut moments[slot.0]);
    }

    fn modulate_step(
        &self,
        norm: usize,
        (from, by, to): (Slot, Slot, Slot),
        shapes: &BoundStep,
        arena: &mut Arena,
        threads: Threads,
    ) {
        let shape = shapes.input;
        self.normalise(norm, from, shape, arena);
        let mut output = std::mem::take(&mut arena.slots[to.0]);
        let (scale, shift) = (&arena.scale[..], &arena.shift[..]);
        let (map, codes) = (&arena.slots[from.0][..], &arena.slots[by.0][..]);
        let row = (shapes.output.width * shapes.output.stride).max(1);
        let rows = output[..shapes.output.len()].chunks_mut(row);
        threads.each(rows.enumerate(), |(y, row)| {
            modulated_row((map, shape), y, (scale, shift), (codes, shapes.by), row);
        });
        if shapes.moments {
            arena.moments[to.0].take(&output[..shapes.output.len()], shapes.output.stride);
        }
        arena.slots[to.0] = output;
    }

    fn attend_step(
        &self,
        (from, to): (Slot, Slot),
        (pixels, heads, channels): (usize, usize, usize),
        arena: &mut Arena,
        threads: Threads,
    ) {
        let mut output = std::mem::take(&mut arena.slots[to.0]);
        let scale = (1.0 / (channels as f64).sqrt()) as f32;
        let row = heads * channel_stride(channels);
        for head in 0..heads {
            let data = &arena.slots[from.0][..];
            let from = Attention { data, pixels, heads, head, channels, scale };
            let all = KeysValues::pack(self.isa, from, &mut arena.scratch);
            let parts = output[..pixels * row].chunks_mut(PART_QUERIES * row);
            threads.each(parts.enumerate(), |(index, part)| {
                arena.parts.with(|scratch| attention(&all, index * PART_QUERIES, part, scratch));
            });
        }
        arena.slots[to.0] = output;
    }

    /// Scale and shift of the norm in front of a step.
    fn normalise(&self, norm: usize, from: Slot, shape: MapShape, arena: &mut Arena) {
        let norm = &self.norms[norm];
        let norm = GroupNorm {
            groups: norm.groups,
            epsilon: norm.epsilon,
            weight: &norm.weight,
            bias: &norm.bias,
        };
        let moments = &arena.moments[from.0];
        let pixels = shape.height * shape.width;
        scale_and_shift(moments, pixels, norm, &mut arena.scale, &mut arena.shift);
    }

    /// Scale and shift of what stands in front of a convolution.
    fn scale_ahead(&self, before: Before, from: Slot, shape: MapShape, arena: &mut Arena) {
        match before {
            Before::Norm(norm) | Before::NormSilu(norm) => {
                self.normalise(norm, from, shape, arena);
            }
            Before::Silu => {
                arena.scale[..shape.stride].fill(1.0);
                arena.shift[..shape.stride].fill(0.0);
            }
            Before::AffineSilu(affine) => {
                let affine = &self.affines[affine];
                arena.scale[..shape.stride].copy_from_slice(&affine.scale);
                arena.shift[..shape.stride].copy_from_slice(&affine.shift);
            }
            Before::Nothing | Before::Relu | Before::Tanh | Before::Gelu => {}
        }
    }

    fn convolve_step(
        &self,
        step: &Step,
        shapes: &BoundStep,
        arena: &mut Arena,
        threads: Threads,
    ) -> Result<()> {
        let Step::Convolve { layer, from, to, before, upsample, residual } = *step else {
            return Ok(());
        };
        let layer = &self.layers[layer];
        let BoundStep { input: shape, output: size, algorithm, moments: wanted, .. } = *shapes;
        let packed = layer.packed(self.isa, algorithm)?;
        self.scale_ahead(before, from, shape, arena);
        let mut output = std::mem::take(&mut arena.slots[to.0]);
        let mut partial = std::mem::take(&mut arena.partial);
        let (scale, shift) = (&arena.scale[..], &arena.shift[..]);
        let activation = match before {
            Before::Nothing => Activation::Identity,
            Before::Relu => Activation::Relu,
            Before::Tanh => Activation::Tanh,
            Before::Gelu => Activation::Gelu,
            Before::Norm(_) => Activation::Affine { scale, shift },
            Before::NormSilu(_) | Before::AffineSilu(_) | Before::Silu => {
                Activation::AffineSilu { scale, shift }
            }
        };
        let MapShape { height, width, channels, stride } = shape;
        let data = &arena.slots[from.0][..];
        let input = Input { data, height, width, channels, stride, activation, upsample };
        let row = (size.width * size.stride).max(1);
        let parts = output[..size.len()].chunks_mut(PART_ROWS * row).zip(&mut partial);
        threads.each(parts.enumerate(), |(index, (data, moments))| {
            moments.clear();
            let (rows, first_row) = (data.len() / row, index * PART_ROWS);
            let moments = wanted.then_some(moments);
            let into = Output { data, first_row, bias: layer.bias(), residual, moments };
            arena.parts.with(|scratch| {
                packed.run(input, into, (rows, size.width), scratch);
            });
        });
        let moments = &mut arena.moments[to.0];
        moments.clear();
        let parts = size.height.div_ceil(PART_ROWS);
        partial[..parts].iter().for_each(|part| moments.add(part));
        arena.slots[to.0] = output;
        arena.partial = partial;
        Ok(())
    }
}
