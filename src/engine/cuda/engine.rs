//! Owns the engine trait on a GPU: batches cut into runs of programs, which programs stay loaded,
//! results put together. Decoding is the CPU engine's.

use std::sync::Arc;

use candle_core::Device as Candle;

use super::device::{Device, Loaded, Mark};
use super::program::{Place, Program, Result as Outcome, Work};
use super::weights::DeviceWeights;
use super::{encoder, libraries};
use crate::engine::cpu::CpuEngine;
use crate::engine::device::Precision;
use crate::engine::interface::{CodeGrid, Decoded, Encoded, Engine, PixelBatch, failed};
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::model::config::{ModelConfig, QuantizerRule};
use crate::model::opened::Opened;
use crate::model::residual::ResidualQuantizer;
use crate::model::{finite, load_quantizer};
use crate::util::panics;
use crate::util::settings::DEVICE;
use crate::weights::digests::Digests;

/// The canonical encoder on a GPU.
pub struct CudaEngine {
    config: ModelConfig,
    weights: DeviceWeights,
    /// By size and images, the last used one last. Given back before the device is.
    loaded: Vec<(Key, Loaded)>,
    device: Device,
    /// Of a run; lowered where the device ran out of memory.
    pixels_max: usize,
    /// For rules that the program leaves to the host.
    quantizer: ResidualQuantizer,
    /// Decodes.
    cpu: CpuEngine,
}

/// Programs that stay loaded: sizes that come in turns aren't loaded again and again.
const LOADED_MAX: usize = 3;

/// What a program was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    /// Height and width.
    size: [usize; 2],
    images: usize,
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
        // The driver takes memory back for a thread's own GPU only. A failure is that of a device
        // that lost its memory anyway.
        let _ = self.device.bind();
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
        encoder::supported(&config)?;
        let quantizer = load_quantizer(&config, &weights.reader().var_builder(&Candle::Cpu))?;
        let tensors = weights.tensors()?;
        let cpu =
            CpuEngine::with_digests(config.clone(), weights, Arc::new(digests), Isa::detect()?)?;
        let device = caught(|| Device::open(number, precision))?;
        let weights = DeviceWeights::new(tensors, precision);
        Ok(CudaEngine {
            config,
            weights,
            loaded: Vec::new(),
            device,
            pixels_max: usize::MAX,
            quantizer,
            cpu,
        })
    }

    /// Whether models of that kind run on a GPU.
    ///
    /// # Errors
    /// Why they don't, in one line.
    pub fn supports(config: &ModelConfig) -> Result<()> {
        encoder::supported(config).map(|_| ())
    }

    /// The GPU's name.
    ///
    /// # Errors
    /// Where the driver doesn't tell it.
    pub fn device_name(&self) -> Result<String> {
        self.device.name()
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
        let index = self.load([height, width], encoder::images(height, width))?;
        let (device, loaded) = (&self.device, &mut self.loaded[index].1);
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
        device.run(loaded, &pixels, &mut |_| {
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

    /// Images of the largest run of a size.
    fn most(&self, size: [usize; 2]) -> usize {
        let fitting = self.pixels_max / (size[0] * size[1]).max(1);
        encoder::images(size[0], size[1]).min(encoder::at_most(fitting))
    }

    /// Loads a program for that size and about so many images: fewer where memory lacks, more where
    /// cuDNN can't do with so few. The place in `loaded`.
    fn load(&mut self, size: [usize; 2], images: usize) -> Result<usize> {
        let mut images = images.min(self.most(size));
        let mut lacked = None;
        loop {
            let key = Key { size, images };
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
                    self.pixels_max = images * size[0] * size[1];
                    lacked = Some(error);
                }
                (Room::Unsuited, None) if images < encoder::images(size[0], size[1]) => {
                    images *= 4;
                }
                (Room::Unsuited, Some(error)) => return Err(error),
                (Room::Unsuited, None) => {
                    let what = format!("{} images of {}x{} pixels", images, size[1], size[0]);
                    return Err(libraries::failed("cuDNN", "no configuration for", &what));
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
            let program = encoder::program(&mut self.weights, &self.config, key.images, key.size)?;
            match self.device.load(&self.weights, program) {
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

    fn encode_parts(&mut self, batch: &PixelBatch, grid: (usize, usize)) -> Result<Encoded> {
        let size = [batch.height, batch.width];
        let rule = self.config.quantizer.rule;
        let mut found = Found::default();
        let mut rest = &batch.pixels[..];
        let mut left = batch.count;
        while left > 0 {
            let index = self.load(size, encoder::next_run(left, self.most(size)))?;
            let loaded = &mut self.loaded[index].1;
            if loaded.program.grid != grid {
                return Err(Error::internal(format!(
                    "the network gives a grid of {:?} where {grid:?} was announced",
                    loaded.program.grid
                )));
            }
            let images = loaded.program.images.min(left);
            let (pixels, behind) = rest.split_at(images * loaded.program.image_bytes);
            self.device.run(loaded, pixels, &mut |_| Ok(()))?;
            found.take(&self.device, loaded, &self.quantizer, rule, images)?;
            (rest, left) = (behind, left - images);
        }
        let Found { codes, distances, reasons } = found;
        // The device's codes index the codebook when they are read again.
        self.quantizer.check(&[&codes])?;
        let (height, width) = grid;
        let levels = vec![CodeGrid { codes, distances, height, width }];
        Ok(Encoded { count: batch.count, levels, failed: failed(reasons) })
    }

    fn check(&self, batch: &PixelBatch) -> Result<(usize, usize)> {
        let grids = batch.check(&self.config)?;
        grids.first().copied().ok_or_else(|| Error::internal("the model has no grid"))
    }
}

/// What the runs of a batch gave so far.
#[derive(Default)]
struct Found {
    codes: Vec<u32>,
    distances: Vec<f32>,
    /// By image: why it can't be used, if so.
    reasons: Vec<Option<String>>,
}

impl Found {
    /// Adds what the program left on the device for `images` images. Latents that it left to the
    /// host are quantized here.
    fn take(
        &mut self,
        device: &Device,
        loaded: &Loaded,
        quantizer: &ResidualQuantizer,
        rule: QuantizerRule,
        images: usize,
    ) -> Result<()> {
        let Program { dim, grid: (height, width), latents, .. } = loaded.program;
        let area = height * width;
        let rows = images * area;
        let floats = |place: Place, words: usize| -> Result<Vec<f32>> {
            let words = device.read(loaded, place, words)?;
            Ok(words.into_iter().map(f32::from_bits).collect())
        };
        let unusable = |latents: &[f32]| quantizer.unusable(latents, dim);
        match loaded.program.result {
            Outcome::Codes { codes, distances } => {
                self.codes.extend(device.read(loaded, codes, rows)?);
                let distances = floats(distances, rows)?;
                if rule == QuantizerRule::Projection {
                    // Without distances only the latents tell what overflowed.
                    let latents = floats(latents, rows * dim)?;
                    self.reasons.extend(latents.chunks(area * dim).map(unusable));
                } else {
                    let images = distances.chunks(area);
                    self.reasons.extend(images.map(|image| finite::distances(rule, image)));
                }
                self.distances.extend(distances);
            }
            Outcome::Latents => {
                let latents = floats(latents, rows * dim)?;
                self.reasons.extend(latents.chunks(area * dim).map(unusable));
                // One level: `supported` refuses more.
                for (codes, distances) in quantizer.quantize(latents, dim, (height, width))? {
                    self.codes.extend(codes);
                    self.distances.extend(distances);
                }
            }
        }
        Ok(())
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

    fn precision(&self) -> Precision {
        self.weights.precision()
    }

    fn batch_images(&self, side: Option<usize>) -> usize {
        // Where sizes vary a batch is one of a usual size; what the card can't hold goes in parts.
        let side = side.unwrap_or(256);
        self.most([side, side])
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.config.grid(height, width)
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        let grid = self.check(batch)?;
        caught(|| self.encode_parts(batch, grid))
    }

    fn decode(&mut self, codes: &Encoded) -> Result<Decoded> {
        self.cpu.decode(codes)
    }
}
