//! Owns the engine over graphs: images in, codes out, and back.

use std::sync::Arc;

use rayon::prelude::*;

use super::graph::{Arena, BoundGraph, Graph, builder};
use super::quantize::{CpuQuantizer, LevelMut};
use super::schedule::{ScratchPool, each_image};
use super::vqvae2::Vqvae2;
use crate::engine::interface::{CodeGrid, Decoded, Encoded, Engine, PixelBatch, failed};
use crate::error::{Error, Result};
use crate::kernels::{Isa, thread_seconds};
use crate::model::config::{Architecture, ModelConfig};
use crate::model::opened::Opened;
use crate::model::topology::{self, Io};
use crate::model::{Model, finite};
use crate::weights::digests::{Digests, Pending};
use crate::weights::store::Weights;

/// A model on our own kernels.
pub struct CpuEngine {
    isa: Isa,
    config: ModelConfig,
    /// The float of every byte.
    table: [f32; 256],
    encoder: Option<Network>,
    decoder: Option<Network>,
    /// VQ-VAE-2, whose encoder and decoder are no single graphs.
    vqvae2: Option<Vqvae2>,
    /// Nothing that comes of the weights leaves the engine before these are there: the file is
    /// checked first.
    digests: Arc<Pending>,
    arenas: ScratchPool<Arena>,
}

/// A graph, the quantizer at its end or start, and the size it is bound to.
struct Network {
    graph: Graph,
    quantizer: Arc<CpuQuantizer>,
    bound: Option<((usize, usize), BoundGraph)>,
}

/// One step of one image, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// The layer.
    pub name: String,
    /// The kernel it ran through.
    pub algorithm: String,
    /// Multiplications and additions of its definition.
    pub operations: f64,
    /// Processor time of the one thread it ran on.
    pub seconds: f64,
}

impl CpuEngine {
    /// Of an opened model. The environment's `VQTOK_CPU` forces an instruction set.
    ///
    /// # Errors
    /// A network that the weights don't make; damaged weights, as far as that is known by now.
    pub fn open(opened: Opened) -> Result<CpuEngine> {
        let isa = Isa::detect()?;
        let Opened { config, weights, digests } = opened;
        let digests = Arc::new(digests);
        // A damaged file is named before whatever the damage did to its tensors.
        CpuEngine::with_digests(config, weights, Arc::clone(&digests), isa)
            .map_err(|e| digests.get().err().unwrap_or(e))
    }

    /// From weights under canonical names, on the CPU.
    ///
    /// # Errors
    /// A weight that is missing, left over, has another shape or can't be read as float32; a
    /// quantizer that the configuration can't have.
    pub fn new(config: ModelConfig, weights: impl Into<Weights>, isa: Isa) -> Result<CpuEngine> {
        let weights = weights.into();
        let digests = Arc::new(Pending::of(&weights));
        CpuEngine::with_digests(config, weights, digests, isa)
    }

    /// The same where the weights are being hashed already.
    pub(crate) fn with_digests(
        config: ModelConfig,
        weights: Weights,
        digests: Arc<Pending>,
        isa: Isa,
    ) -> Result<CpuEngine> {
        Model::check(&config, &weights)?;
        let (network, parts, io) = (&config.architecture, config.parts(), Io::from(&config));
        let sequence = topology::is_sequence(network);
        let encoder = || builder::encoder(isa, &weights, network, io);
        let encoder = (sequence && parts.encoder()).then(encoder).transpose()?;
        let decoder = || builder::decoder(isa, &weights, network, io);
        let decoder = (sequence && parts.decoder()).then(decoder).transpose()?;
        let own = encoder.is_some() || decoder.is_some();
        let quantizer =
            own.then(|| CpuQuantizer::new(isa, &config, &weights)).transpose()?.map(Arc::new);
        let network = |graph: Option<Graph>| {
            let quantizer = quantizer.clone()?;
            Some(Network { graph: graph?, quantizer, bound: None })
        };
        let vqvae2 = match &config.architecture {
            Architecture::Vqvae2(c) => Some(Vqvae2::new(isa, &weights, &config, c)?),
            _ => None,
        };
        Ok(CpuEngine {
            isa,
            vqvae2,
            table: config.pixels.input.table(),
            encoder: network(encoder),
            decoder: network(decoder),
            digests,
            arenas: ScratchPool::default(),
            config,
        })
    }

    /// The instruction set it runs with.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Latents in front of the quantizer, `[h, w, D]` for each image; None for the two
    /// grids of VQ-VAE-2.
    ///
    /// # Errors
    /// A batch that the model can't take; a checkpoint without an encoder; [`Error::OutOfMemory`]
    /// for a size whose maps don't fit into memory.
    pub fn latents(&mut self, batch: &PixelBatch) -> Result<Option<Vec<Vec<f32>>>> {
        batch.check(&self.config)?;
        let batch = &*batch.padded(&self.config);
        self.config.require_encoder()?;
        let Some(network) = &mut self.encoder else { return Ok(None) };
        let (graph, bound) = network.bind(batch.height, batch.width);
        let (table, arenas) = (&self.table, &self.arenas);
        let images = (0..batch.count).collect();
        let latents = each_image(images, bound.is_large(), |i, threads| {
            arenas.with(|arena| {
                arena.fit(bound)?;
                arena.fill(graph, batch.image(i), table);
                graph.run(bound, arena, threads)?;
                Ok(bound.output.real(arena.output(graph).0))
            })
        });
        latents.map(Some)
    }

    /// The decoder's output before it becomes bytes, `[H, W, C]` for each image.
    ///
    /// # Errors
    /// A checkpoint without a decoder; levels or codes that the model doesn't have;
    /// [`Error::OutOfMemory`] for a grid whose maps don't fit into memory.
    pub fn decode_floats(&mut self, codes: &Encoded) -> Result<Vec<Vec<f32>>> {
        self.config.require_decoder()?;
        if let Some(network) = &mut self.vqvae2 {
            return network.decode(codes);
        }
        let network = self.decoder.as_mut().ok_or_else(no_graph)?;
        let grid = one_grid(codes, self.config.quantizer.values())?;
        self.config.picture(grid).map_err(Error::invalid)?;
        let quantizer = Arc::clone(&network.quantizer);
        let latents = self.config.quantizer.latents_of(grid).map_err(Error::invalid)?;
        let (graph, bound) = network.bind(latents.0, latents.1);
        let area = grid.0 * grid.1 * self.config.quantizer.values();
        let arenas = &self.arenas;
        each_image((0..codes.count).collect(), bound.is_large(), |i, threads| {
            let levels = codes.levels.iter().map(|level| &level.codes[i * area..][..area]);
            let vectors = quantizer.lookup(&levels.collect::<Vec<_>>(), grid)?;
            arenas.with(|arena| {
                arena.fit(bound)?;
                arena.put(graph, bound, &vectors);
                graph.run(bound, arena, threads)?;
                Ok(bound.output.real(arena.output(graph).0))
            })
        })
    }

    /// The vectors of the levels' codes, in grids of size `grid`, as the decoder takes them, `[T, D]`.
    #[cfg(feature = "cuda")]
    pub(in crate::engine) fn lookup(
        &self,
        levels: &[&[u32]],
        grid: (usize, usize),
    ) -> Result<Vec<f32>> {
        self.decoder.as_ref().ok_or_else(no_graph)?.quantizer.lookup(levels, grid)
    }

    /// Runs one image of zeros on this thread and measures every step of the encoder. Empty for
    /// VQ-VAE-2.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for a size whose maps don't fit into memory.
    pub fn profile(&mut self, height: usize, width: usize) -> Result<Vec<StepTime>> {
        let Some(network) = &mut self.encoder else { return Ok(Vec::new()) };
        let (graph, bound) = network.bind(height, width);
        let mut times = Vec::new();
        self.arenas.with(|arena| {
            arena.fit(bound)?;
            let mut last = thread_seconds();
            graph.run_profiled(bound, arena, &mut |name, algorithm, operations| {
                let seconds = thread_seconds() - last;
                let algorithm = format!("{algorithm:?}").to_lowercase();
                times.push(StepTime { name: name.to_owned(), algorithm, operations, seconds });
                last = thread_seconds();
            })
        })?;
        Ok(times)
    }
}

impl Network {
    /// Binds to a size, unless it is bound to it.
    fn bind(&mut self, height: usize, width: usize) -> (&Graph, &BoundGraph) {
        let bound = match self.bound.take() {
            Some((size, bound)) if size == (height, width) => bound,
            _ => self.graph.bind(height, width),
        };
        let (_, bound) = self.bound.insert(((height, width), bound));
        (&self.graph, bound)
    }
}

fn no_graph() -> Error {
    Error::internal("an architecture that isn't this engine's")
}

/// The size of the grids of all levels, of so many values a token.
pub(in crate::engine) fn one_grid(codes: &Encoded, values: usize) -> Result<(usize, usize)> {
    let first = codes.levels.first().ok_or_else(|| Error::invalid("no level of codes"))?;
    let size = (first.height, first.width);
    let fits = |level: &CodeGrid| {
        let all = codes.count * size.0 * size.1 * values;
        (level.height, level.width) == size && level.codes.len() == all
    };
    if !codes.levels.iter().all(fits) {
        return Err(Error::invalid("the codes don't match the sizes of their grid"));
    }
    Ok(size)
}

/// The places of the levels of each of `count` images, of `area` tokens each and `values` a token.
fn per_image(
    levels: &mut [CodeGrid],
    count: usize,
    (area, values): (usize, usize),
) -> Vec<Vec<LevelMut<'_>>> {
    let mut images: Vec<Vec<LevelMut>> = (0..count).map(|_| Vec::new()).collect();
    for level in levels {
        let places = level.codes.chunks_mut(area * values).zip(level.distances.chunks_mut(area));
        images.iter_mut().zip(places).for_each(|(image, place)| image.push(place));
    }
    images
}

impl Engine for CpuEngine {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn digests(&self) -> Result<&Digests> {
        self.digests.get()
    }

    fn device_kind(&self) -> &'static str {
        "cpu"
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.config.grid(height, width)
    }

    fn prepare(&mut self, height: usize, width: usize) {
        if let (Some(network), Ok(_)) = (&mut self.encoder, self.config.grid(height, width)) {
            let pad = self.config.pad().unwrap_or(1);
            network.bind(height.next_multiple_of(pad), width.next_multiple_of(pad));
        }
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        let grids = batch.check(&self.config)?;
        self.digests.get()?;
        if let Some(network) = &mut self.vqvae2 {
            return network.encode(batch, &grids, &self.table);
        }
        self.config.require_encoder()?;
        let network = self.encoder.as_mut().ok_or_else(no_graph)?;
        let quantizer = Arc::clone(&network.quantizer);
        let batch = &*batch.padded(&self.config);
        let (graph, bound) = network.bind(batch.height, batch.width);
        let latents = (bound.output.height, bound.output.width);
        let grid = self.config.quantizer.grid_of(latents).map_err(Error::internal)?;
        if grids.iter().any(|announced| *announced != grid) {
            return Err(Error::internal(format!(
                "the network gives latents of {latents:?} where {grids:?} was announced"
            )));
        }
        let (height, width) = grid;
        let (area, values) = (height * width, self.config.quantizer.values());
        let level = || CodeGrid {
            codes: vec![0; batch.count * area * values],
            distances: vec![0.0; batch.count * area],
            height,
            width,
        };
        let mut levels: Vec<CodeGrid> = grids.iter().map(|_| level()).collect();
        let (table, arenas) = (&self.table, &self.arenas);
        let images =
            per_image(&mut levels, batch.count, (area, values)).into_iter().enumerate().collect();
        let reasons = each_image(images, bound.is_large(), |(i, mut levels), threads| {
            arenas.with(|arena| {
                arena.fit(bound)?;
                arena.fill(graph, batch.image(i), table);
                graph.run(bound, arena, threads)?;
                let (latents, scratch) = arena.output(graph);
                quantizer.quantize(latents, bound.output, &mut levels, scratch)
            })
        })?;
        Ok(Encoded { count: batch.count, levels, failed: failed(reasons) })
    }

    fn decode(&mut self, codes: &Encoded) -> Result<Decoded> {
        let channels = self.config.pixels.channels;
        self.digests.get()?;
        let images = self.decode_floats(codes)?;
        let rule = self.config.pixels.output;
        let pixels =
            images.par_iter().flat_map_iter(|image| image.iter().map(|&x| rule.to_byte(x)));
        let pixels = pixels.collect();
        let grid = codes.grid();
        let (height, width) = self.config.picture(grid).map_err(Error::invalid)?;
        let reasons = images.par_iter().map(|image| finite::pixels(&self.config, grid, image));
        let failed = failed(reasons.collect::<Vec<_>>());
        let pictures = PixelBatch { pixels, count: codes.count, height, width, channels };
        Ok(Decoded { pictures, failed })
    }
}
