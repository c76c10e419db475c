//! Owns VQ-VAE-2 on our own kernels: four graphs and the two quantizers between them. Must not know:
//! how a layer is computed, threads.
//!
//! The bottom's 1x1 over the decoded top beside the encoder's map is a sum of two, so the trunk
//! ends with the encoder's part and the way back from the top's codes adds the other.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::graph::builder::Builder;
use super::graph::{Arena, BoundGraph, Graph};
use super::layer::ConvLayer;
use super::quantize::{CpuQuantizer, LevelMut};
use super::schedule::{ScratchPool, Threads, each_image};
use crate::engine::interface::{CodeGrid, Encoded, PixelBatch, failed};
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::model::config::{ModelConfig, Vqvae2Config};
use crate::model::topology::{ConvGeometry, Io, vqvae2 as topology};
use crate::weights::store::Weights;

/// The network with its two codebooks.
pub(super) struct Vqvae2 {
    /// Image to the top's latents, keeping the encoder's part of the bottom's.
    trunk: Graph,
    /// The top's code vectors to the other part of the bottom's latents.
    back: Graph,
    /// The top's code vectors to the bottom's size.
    up: Graph,
    /// Both, side by side, to pixels.
    decoder: Graph,
    top: CpuQuantizer,
    bottom: CpuQuantizer,
    dim: usize,
    /// `trunk` and `back`, to an image's size.
    encoding: BoundPair,
    /// `up` and `decoder`, to the top's grid.
    decoding: BoundPair,
    /// Memory that images are computed in, one at a time each.
    arenas: ScratchPool<Arena>,
}

/// Graphs bound to a size, which is kept beside them.
type BoundPair = Option<((usize, usize), [BoundGraph; 2])>;

impl Vqvae2 {
    /// From weights under canonical names.
    pub(super) fn new(
        isa: Isa,
        weights: &Weights,
        model: &ModelConfig,
        config: &Vqvae2Config,
    ) -> Result<Vqvae2> {
        let io = Io::from(model);
        Ok(Vqvae2 {
            trunk: trunk(isa, weights, config, io)?,
            back: back(isa, weights, config, io)?,
            up: up(isa, weights, io)?,
            decoder: decoder(isa, weights, config, io)?,
            top: quantizer(isa, weights, model, "quantize_t")?,
            bottom: quantizer(isa, weights, model, "quantize_b")?,
            dim: io.dim,
            encoding: None,
            decoding: None,
            arenas: ScratchPool::default(),
        })
    }

    /// Images to the codes of both levels, bottom first; `grids` are the levels' heights and
    /// widths, `table` the float of every byte.
    pub(super) fn encode(
        &mut self,
        batch: &PixelBatch,
        grids: &[(usize, usize)],
        table: &[f32; 256],
    ) -> Result<Encoded> {
        let size = (batch.height, batch.width);
        let bound = match self.encoding.take() {
            Some((at, bound)) if at == size => bound,
            _ => {
                let trunk = self.trunk.bind(size.0, size.1);
                let back = self.back.bind(trunk.output.height, trunk.output.width);
                [trunk, back]
            }
        };
        let found = [bound[1].output, bound[0].output].map(|shape| (shape.height, shape.width));
        if grids != found {
            return Err(Error::internal(format!(
                "the network gives grids {found:?} where {grids:?} were announced"
            )));
        }
        let mut levels = found.map(|(height, width)| CodeGrid {
            codes: vec![0; batch.count * height * width],
            distances: vec![0.0; batch.count * height * width],
            height,
            width,
        });
        let [bottom, top] = &mut levels;
        let images = per_image(bottom).zip(per_image(top)).enumerate().collect();
        let reasons = each_image(images, bound[0].is_large(), |(i, (bottom, top)), threads| {
            self.arenas.with(|arena| {
                arena.fit(&bound[0])?;
                arena.fill(&self.trunk, batch.image(i), table);
                self.encode_image(&bound, arena, threads, bottom, top)
            })
        })?;
        self.encoding = Some((size, bound));
        Ok(Encoded { count: batch.count, levels: levels.into(), failed: failed(reasons) })
    }

    /// Of the image that the arena holds. Why its codes mean nothing where something isn't finite.
    fn encode_image(
        &self,
        [trunk, back]: &[BoundGraph; 2],
        arena: &mut Arena,
        threads: Threads,
        bottom: LevelMut<'_>,
        top: LevelMut<'_>,
    ) -> Result<Option<String>> {
        self.trunk.run(trunk, arena, threads)?;
        let kept = arena.kept(&self.trunk, trunk).to_vec();
        let (latents, scratch) = arena.output(&self.trunk);
        let mut top = [top];
        if let Some(reason) = self.top.quantize(latents, trunk.output, &mut top, scratch)? {
            return Ok(Some(reason));
        }
        let grid = (trunk.output.height, trunk.output.width);
        let vectors = self.top.lookup(&[&*top[0].0], grid)?;
        arena.fit(back)?;
        arena.put(&self.back, back, &vectors);
        self.back.run(back, arena, threads)?;
        let (latents, scratch) = arena.output(&self.back);
        let sums: Vec<f32> = latents.iter().zip(&kept).map(|(a, b)| a + b).collect();
        self.bottom.quantize(&sums, back.output, &mut [bottom], scratch)
    }

    /// Codes of both levels, bottom first, to floats, `[H, W, C]` for each image.
    pub(super) fn decode(&mut self, codes: &Encoded) -> Result<Vec<Vec<f32>>> {
        two_grids(codes)?;
        let [bottom, top] = &codes.levels[..] else { return Err(Error::internal("two levels")) };
        let size = (top.height, top.width);
        let area = size.0 * size.1;
        let bound = match self.decoding.take() {
            Some((at, bound)) if at == size => bound,
            _ => [self.up.bind(size.0, size.1), self.decoder.bind(2 * size.0, 2 * size.1)],
        };
        let pairs = bottom.codes.chunks((4 * area).max(1)).zip(top.codes.chunks(area.max(1)));
        let images = each_image(pairs.collect(), bound[1].is_large(), |(bottom, top), threads| {
            self.arenas.with(|arena| self.decode_image(&bound, bottom, top, arena, threads))
        })?;
        self.decoding = Some((size, bound));
        Ok(images)
    }

    fn decode_image(
        &self,
        [up, decoder]: &[BoundGraph; 2],
        bottom: &[u32],
        top: &[u32],
        arena: &mut Arena,
        threads: Threads,
    ) -> Result<Vec<f32>> {
        let of_bottom = (decoder.input.height, decoder.input.width);
        let bottom = self.bottom.lookup(&[bottom], of_bottom)?;
        let top = self.top.lookup(&[top], (up.input.height, up.input.width))?;
        arena.fit(up)?;
        arena.put(&self.up, up, &top);
        self.up.run(up, arena, threads)?;
        let mut joined = Vec::with_capacity(2 * bottom.len());
        let upsampled = arena.output(&self.up).0.chunks_exact(up.output.stride);
        for (upsampled, own) in upsampled.zip(bottom.chunks_exact(self.dim)) {
            joined.extend_from_slice(&upsampled[..self.dim]);
            joined.extend_from_slice(own);
        }
        arena.fit(decoder)?;
        arena.put(&self.decoder, decoder, &joined);
        self.decoder.run(decoder, arena, threads)?;
        Ok(decoder.output.real(arena.output(&self.decoder).0))
    }
}

/// The size of the bottom's grids, of codes of both levels, bottom first.
pub(in crate::engine) fn two_grids(codes: &Encoded) -> Result<(usize, usize)> {
    let [bottom, top] = &codes.levels[..] else {
        return Err(Error::invalid("a VQ-VAE-2 decodes two levels of codes: bottom and top"));
    };
    let size = (top.height, top.width);
    if (bottom.height, bottom.width) != (2 * size.0, 2 * size.1) {
        return Err(Error::invalid(format!(
            "a bottom grid of {}x{} tokens over a top grid of {}x{}; it must be twice as large",
            bottom.height, bottom.width, top.height, top.width
        )));
    }
    let area = size.0 * size.1;
    if [bottom, top].map(|level| level.codes.len()) != [4, 1].map(|n| n * codes.count * area) {
        return Err(Error::invalid("the codes don't match the sizes of their grid"));
    }
    Ok((bottom.height, bottom.width))
}

fn per_image(level: &mut CodeGrid) -> impl Iterator<Item = LevelMut<'_>> {
    let area = (level.height * level.width).max(1);
    level.codes.chunks_mut(area).zip(level.distances.chunks_mut(area))
}

/// The quantizer of a level, whose codebook is stored transposed, `[D, K]`.
fn quantizer(isa: Isa, weights: &Weights, model: &ModelConfig, name: &str) -> Result<CpuQuantizer> {
    let missing = || Error::invalid(format!("the checkpoint has no tensor `{name}.embed`"));
    let embed = weights.get(&format!("{name}.embed")).ok_or_else(missing)?;
    let rows: Tensor = embed.tensor()?.t()?.contiguous()?;
    let rows = BTreeMap::from([("quantize.embedding.weight".to_owned(), rows)]);
    CpuQuantizer::new(isa, model, &rows.into())
}

/// Images to the top's latents; keeps the encoder's part of the bottom's, a 1x1 of the features
/// that both see.
fn trunk(isa: Isa, weights: &Weights, config: &Vqvae2Config, io: Io) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, io.channels);
    topology::bottom_features(&mut b, config)?;
    let (weight, bias) = (b.tensor("quantize_conv_b.weight")?, b.tensor("quantize_conv_b.bias")?);
    let own = weight.narrow(1, io.dim, config.channels)?.contiguous()?;
    let own = ConvLayer::new("quantize_conv_b", own, Some(&bias), ConvGeometry::POINT)?;
    let kept = b.branch(own);
    topology::top_latents(&mut b, config, io)?;
    Ok(b.finish(Some(kept)))
}

/// The top's code vectors to the other part of the bottom's latents.
fn back(isa: Isa, weights: &Weights, config: &Vqvae2Config, io: Io) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, io.dim);
    topology::decoded_top(&mut b, config, io)?;
    let weight = b.tensor("quantize_conv_b.weight")?.narrow(1, 0, io.dim)?.contiguous()?;
    b.convolve(ConvLayer::new("quantize_conv_b", weight, None, ConvGeometry::POINT)?);
    Ok(b.finish(None))
}

fn up(isa: Isa, weights: &Weights, io: Io) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, io.dim);
    topology::upsampled_top(&mut b, io)?;
    Ok(b.finish(None))
}

fn decoder(isa: Isa, weights: &Weights, config: &Vqvae2Config, io: Io) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, 2 * io.dim);
    topology::decoder(&mut b, config, io)?;
    Ok(b.finish(None))
}
