//! Owns the engine trait on a GPU: batches cut into runs of programs, which programs stay loaded.
//! What the GPU can't decode the CPU engine does.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Device as Candle;
use rayon::prelude::*;

use super::device::{Device, Loaded, Mark};
use super::flight::{Flights, RUNS, Rule};
use super::program::Work;
use super::weights::DeviceWeights;
use super::{decoder, encoder, libraries};
use crate::engine::cpu::{CpuEngine, one_grid, two_grids};
use crate::engine::device::Precision;
use crate::engine::interface::{Decoded, Encoded, Engine, Images, PixelBatch, Submitted, failed};
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::model::config::{Architecture, ModelConfig};
use crate::model::opened::Opened;
use crate::model::residual::ResidualQuantizer;
use crate::model::vqvae2::codebook;
use crate::model::{finite, load_quantizer};
use crate::nvidia::errors;
use crate::util::panics;
use crate::util::settings::DEVICE;
use crate::weights::digests::Digests;
use crate::weights::store::Weights;

/// A model on a GPU.
pub struct CudaEngine {
    config: ModelConfig,
    weights: DeviceWeights,
    /// By size and images, the last used one last. Given back before the device is.
    loaded: Vec<(Key, Loaded)>,
    /// Given back before the device is, too.
    flights: Flights,
    device: Device,
    /// Of a run; lowered where the device ran out of memory.
    pixels_max: usize,
    /// For rules that the program leaves to the host.
    quantizer: ResidualQuantizer,
    /// Whether the GPU decodes.
    decodes: bool,
    /// Decodes where it doesn't.
    cpu: CpuEngine,
}

/// Programs that stay loaded: sizes that come in turns aren't loaded again and again.
const LOADED_MAX: usize = 3;

/// What a program was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    what: What,
    images: usize,
}

/// One half of the network for images of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Of pictures of this height and width.
    Encode([usize; 2]),
    /// Of maps of vectors of this height and width.
    Decode([usize; 2]),
}

/// How making room for a program ended.
enum Room {
    Loaded(Loaded),
    /// The device has no memory for it, and nothing else is loaded.
    None(Error),
    /// cuDNN can't compute so few images as it computes the usual number.
    Unsuited,
}

impl Drop for CudaEngine {
    fn drop(&mut self) {
        // The driver takes memory back for a thread's own GPU only, and nothing may be in work with it.
        // A failure is that of a device that lost its memory anyway.
        let _ = self.device.bind().and_then(|()| self.device.wait());
    }
}

/// One command of a run, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTime {
    /// The layer.
    pub layer: String,
    /// The kernel, or the library.
    pub backend: &'static str,
    /// Of its definition; 0 for what moves memory.
    pub operations: f64,
    /// On the device, for all images of the run.
    pub seconds: f64,
}

impl CudaEngine {
    /// Of an opened model, on GPU `number`.
    ///
    /// # Errors
    /// Missing libraries, no such GPU, a model that doesn't run on one.
    pub fn open(opened: Opened, number: usize, precision: Precision) -> Result<CudaEngine> {
        libraries::require(precision, libraries::Library::find)?;
        opened.digests.get()?;
        let Opened { config, weights, digests } = opened;
        CudaEngine::supports(&config)?;
        let decodes = decoder::supported(&config).is_ok();
        let quantizer = quantizer(&config, &weights)?;
        let tensors = weights.tensors()?;
        let cpu =
            CpuEngine::with_digests(config.clone(), weights, Arc::new(digests), Isa::detect()?)?;
        let device = caught(|| Device::open(number, precision))?;
        let weights = DeviceWeights::new(tensors, precision);
        Ok(CudaEngine {
            config,
            weights,
            loaded: Vec::new(),
            flights: Flights::default(),
            device,
            pixels_max: usize::MAX,
            quantizer,
            decodes,
            cpu,
        })
    }

    /// Whether models of that kind run on a GPU.
    ///
    /// # Errors
    /// Why they don't, in one line.
    pub fn supports(config: &ModelConfig) -> Result<()> {
        match config.parts().encoder() {
            true => encoder::supported(config),
            false => decoder::supported(config),
        }
    }

    /// In lines: the libraries' versions, and how each kind of convolution runs that was met.
    pub fn report(&self) -> Vec<String> {
        self.device.report()
    }

    /// Runs one batch of noise, which keeps the card as busy as pictures do, and measures every
    /// command on the device, and the whole run.
    ///
    /// # Errors
    /// A size that the network can't take or the GPU has no room for; what driver and libraries
    /// refuse.
    pub fn profile(&mut self, height: usize, width: usize) -> Result<(Vec<StageTime>, f64)> {
        let size = self.padded(height, width);
        let index = self.load(What::Encode(size), encoder::images(size[0], size[1]))?;
        let (device, loaded) = (&self.device, &self.loaded[index].1);
        let bytes = loaded.program.images * loaded.program.image_bytes;
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            // xorshift32
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        });
        let pixels: Vec<u8> = noise.take(bytes).collect();
        let mut marks: Vec<Mark> = Vec::new();
        let mut slot = device.slot([bytes, 0])?;
        device.upload(loaded, &mut slot, &[&pixels])?;
        device.run(loaded, &mut |_| {
            marks.push(device.mark()?);
            Ok(())
        })?;
        device.wait()?;
        let mut times = Vec::new();
        for (command, pair) in loaded.program.commands.iter().zip(marks.windows(2)) {
            let (backend, operations) = match &command.work {
                Work::Launch(launch) => (launch.kernel, 0.0),
                Work::Convolve(convolve) => ("cuDNN", convolve.shape.operations()),
                Work::Gemm(gemm) => {
                    let size = gemm.rows * gemm.columns * gemm.inner * gemm.batch;
                    ("cuBLAS", 2.0 * size as f64)
                }
            };
            let seconds = pair[0].seconds_to(&pair[1])?;
            times.push(StageTime { layer: command.layer.clone(), backend, operations, seconds });
        }
        let whole = match (marks.first(), marks.last()) {
            (Some(first), Some(last)) => first.seconds_to(last)?,
            _ => 0.0,
        };
        Ok((times, whole))
    }

    /// The size of the pictures of a half.
    fn picture(&self, what: What) -> [usize; 2] {
        match what {
            What::Encode(size) => size,
            What::Decode([height, width]) => {
                let [down, across] = self.config.factor();
                [height * down, width * across]
            }
        }
    }

    /// Images of the largest run of a size.
    fn most(&self, what: What) -> usize {
        let [height, width] = self.picture(what);
        let fitting = self.pixels_max / (height * width).max(1);
        encoder::images(height, width).min(encoder::at_most(fitting))
    }

    /// Loads a program for that size and about so many images: fewer where memory lacks, more where
    /// cuDNN can't do with so few. The place in `loaded`.
    fn load(&mut self, what: What, images: usize) -> Result<usize> {
        let [height, width] = self.picture(what);
        let usual = encoder::images(height, width);
        let mut images = images.min(self.most(what));
        let mut lacked = None;
        loop {
            let key = Key { what, images };
            if let Some(index) = self.loaded.iter().position(|(loaded, _)| *loaded == key) {
                self.loaded[index..].rotate_left(1);
                return Ok(self.loaded.len() - 1);
            }
            match (self.make_room(key)?, lacked.take()) {
                (Room::Loaded(loaded), _) => {
                    self.loaded.push((key, loaded));
                    return Ok(self.loaded.len() - 1);
                }
                (Room::None(error), _) if images == 1 => return Err(error),
                (Room::None(error), _) => {
                    images /= 4;
                    self.pixels_max = images * height * width;
                    lacked = Some(error);
                }
                (Room::Unsuited, None) if images < usual => {
                    images *= 4;
                }
                (Room::Unsuited, Some(error)) => return Err(error),
                (Room::Unsuited, None) => {
                    let what = format!("{images} images of {width}x{height} pixels");
                    return Err(errors::failed("cuDNN", "no configuration for", &what));
                }
            }
        }
    }

    /// Loads one program; those that weren't used for longest make room.
    fn make_room(&mut self, key: Key) -> Result<Room> {
        // What is dropped is given back by this thread.
        self.device.bind()?;
        self.loaded.drain(..(self.loaded.len() + 1).saturating_sub(LOADED_MAX));
        loop {
            let (weights, config) = (&mut self.weights, &self.config);
            let program = match key.what {
                What::Encode(size) => encoder::program(weights, config, key.images, size)?,
                What::Decode(size) => decoder::program(weights, config, key.images, size)?,
            };
            let rule = Rule { quantizer: &self.quantizer, rule: self.config.quantizer.rule };
            let reserved = self.flights.reserve(&self.device, &program, &rule);
            match reserved.and_then(|()| self.device.load(&self.weights, program)) {
                Ok(Some(loaded)) => return Ok(Room::Loaded(loaded)),
                Ok(None) => return Ok(Room::Unsuited),
                Err(Error::OutOfMemory(_)) if !self.loaded.is_empty() => {
                    self.loaded.remove(0);
                }
                Err(error @ Error::OutOfMemory(_)) => return Ok(Room::None(error)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Queues all runs of a batch; its number.
    fn queue(&mut self, images: &Images<'_>, grids: Vec<(usize, usize)>) -> Result<u64> {
        let padded = self.padded(images.height, images.width);
        if padded != [images.height, images.width] {
            let padded = images.together().padded(&self.config).into_owned();
            return self.queue_padded(&padded.images(), grids);
        }
        self.queue_padded(images, grids)
    }

    /// The size of pictures as the network takes them.
    fn padded(&self, height: usize, width: usize) -> [usize; 2] {
        let pad = self.config.pad().unwrap_or(1);
        [height, width].map(|side| side.next_multiple_of(pad))
    }

    fn queue_padded(&mut self, images: &Images<'_>, grids: Vec<(usize, usize)>) -> Result<u64> {
        let what = What::Encode([images.height, images.width]);
        let announced = grids[0];
        let number = self.flights.begin(images.each.len(), grids);
        let mut rest = &images.each[..];
        while !rest.is_empty() {
            let index = self.load(what, encoder::next_run(rest.len(), self.most(what)))?;
            let loaded = &self.loaded[index].1;
            let latents = loaded.program.grid;
            if self.config.quantizer.grid_of(latents).map_err(Error::internal)? != announced {
                return Err(Error::internal(format!(
                    "the network gives latents of {latents:?} where {announced:?} was announced"
                )));
            }
            let (some, behind) = rest.split_at(loaded.program.images.min(rest.len()));
            let rule = Rule { quantizer: &self.quantizer, rule: self.config.quantizer.rule };
            self.flights.queue(&self.device, loaded, some, &rule)?;
            rest = behind;
        }
        Ok(number)
    }

    /// What a run's program takes of so many images from one on: vectors, or VQ-VAE-2's codes.
    fn inputs(
        &self,
        codes: &Encoded,
        grid: (usize, usize),
        range: Range<usize>,
    ) -> Result<Vec<Vec<u8>>> {
        let of = |image: usize| codes.levels.iter().map(move |l| l.codes_of(image, codes.count));
        let two_levels = matches!(self.config.architecture, Architecture::Vqvae2(_));
        let cpu = &self.cpu;
        let image = |image: usize| {
            if two_levels {
                // The top's first.
                let codes = of(image).rev().flatten();
                return Ok(codes.flat_map(|code| code.to_le_bytes()).collect());
            }
            let vectors = cpu.lookup(&of(image).collect::<Vec<_>>(), grid)?;
            Ok(vectors.into_iter().flat_map(f32::to_le_bytes).collect())
        };
        range.into_par_iter().map(image).collect()
    }

    /// The pictures of codes, run by run.
    fn decode_parts(&mut self, codes: &Encoded) -> Result<Decoded> {
        let grid = match &self.config.architecture {
            Architecture::Vqvae2(_) => {
                let grid = two_grids(codes)?;
                let level = &self.quantizer.levels()[0];
                codes.levels.iter().try_for_each(|l| level.check(&l.codes))?;
                grid
            }
            _ => one_grid(codes, self.config.quantizer.values())?,
        };
        let (height, width) = self.config.picture(grid).map_err(Error::invalid)?;
        let latents = self.config.quantizer.latents_of(grid).map_err(Error::invalid)?;
        let what = What::Decode([latents.0, latents.1]);
        let channels = self.config.pixels.channels;
        let output = self.config.pixels.output;
        let (mut pixels, mut reasons) = (Vec::new(), Vec::new());
        while reasons.len() < codes.count {
            let (at, left) = (reasons.len(), codes.count - reasons.len());
            let index = self.load(what, encoder::next_run(left, self.most(what)))?;
            let loaded = &self.loaded[index].1;
            let inputs = self.inputs(codes, grid, at..at + loaded.program.images.min(left))?;
            let vectors: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            let rule = Rule { quantizer: &self.quantizer, rule: self.config.quantizer.rule };
            let floats = self.flights.run(&self.device, loaded, &vectors, &rule)?;
            pixels.par_extend(floats.par_iter().map(|&x| output.to_byte(x)));
            let images = floats.par_chunks(height * width * channels);
            let told = images.map(|image| finite::pixels(&self.config, grid, image));
            reasons.extend(told.collect::<Vec<_>>());
        }
        let pictures = PixelBatch { pixels, count: codes.count, height, width, channels };
        Ok(Decoded { pictures, failed: failed(reasons) })
    }

    fn check(&self, images: &Images<'_>) -> Result<Vec<(usize, usize)>> {
        let grids = images.check(&self.config)?;
        match grids.is_empty() {
            false => Ok(grids),
            true => Err(Error::internal("the model has no grid")),
        }
    }
}

/// The quantizer of a model, of VQ-VAE-2 that of its bottom.
fn quantizer(config: &ModelConfig, weights: &Weights) -> Result<ResidualQuantizer> {
    let vb = weights.reader().var_builder(&Candle::Cpu);
    match &config.architecture {
        Architecture::Vqvae2(_) => codebook(&vb, &config.quantizer, "quantize_b"),
        _ => load_quantizer(config, &vb),
    }
}

/// A library that lacks a function makes cudarc panic: an error like any other here. What was in
/// work is not used again, since an error ends the run.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::catch(work).unwrap_or_else(|panic| {
        let reason = format!("cuda: {}; use {DEVICE} cpu", panic.replace('\n', " "));
        Err(Error::setting(DEVICE, reason))
    })
}

impl Engine for CudaEngine {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn digests(&self) -> Result<&Digests> {
        self.cpu.digests()
    }

    fn device_kind(&self) -> &'static str {
        "cuda"
    }

    fn device_name(&self) -> String {
        // A driver that doesn't tell it says more as soon as it is asked to compute.
        let name = self.device.name().unwrap_or_else(|_| "an NVIDIA GPU".to_owned());
        format!("{name} (cuda:{}, {})", self.device.number(), self.weights.precision())
    }

    fn precision(&self) -> Precision {
        self.weights.precision()
    }

    fn batch_images(&self, side: Option<usize>) -> usize {
        // Where sizes vary a batch is one of a usual size; what the card can't hold goes in parts.
        let side = side.unwrap_or(256);
        self.most(What::Encode([side, side]))
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.config.grid(height, width)
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        batch.check(&self.config)?;
        let submitted = self.submit(&batch.images())?;
        self.collect(submitted)
    }

    fn batches_in_flight(&self) -> usize {
        RUNS
    }

    fn submit(&mut self, images: &Images<'_>) -> Result<Submitted> {
        let grids = self.check(images)?;
        let queued = caught(|| self.queue(images, grids));
        if queued.is_err() {
            self.flights.give_up();
        }
        queued.map(Submitted::Queued)
    }

    fn collect(&mut self, submitted: Submitted) -> Result<Encoded> {
        match submitted {
            Submitted::Encoded(encoded) => Ok(encoded),
            Submitted::Queued(number) => caught(|| {
                let rule = Rule { quantizer: &self.quantizer, rule: self.config.quantizer.rule };
                self.flights.collect(number, &rule)
            }),
        }
    }

    fn decode(&mut self, codes: &Encoded) -> Result<Decoded> {
        match self.decodes {
            true => caught(|| self.decode_parts(codes)),
            false => self.cpu.decode(codes),
        }
    }
}
