//! Owns the engine over two graphs: images in, codes out, and back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::available::require;
use super::decoder::{self, Decoder, LevelIn};
use super::encoder::Encoder;
use super::trial::{self, SIDE};
use crate::engine::device::{DeviceChoice, Precision};
use crate::engine::interface::{
    CodeGrid, Decoded, Encoded, Engine, PixelBatch, failed, images_for_threads,
};
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, OutputRange};
use crate::model::opened::Opened;
use crate::weights::digests::{Digests, Pending};

pub(super) type Grids = Vec<(usize, usize)>;

/// ONNX files in ONNX Runtime.
pub(crate) struct OnnxEngine {
    pub(super) config: ModelConfig,
    digests: Pending,
    device: DeviceChoice,
    pub(super) encoder: Option<RefCell<Encoder>>,
    pub(super) decoder: Option<Decoder>,
    /// The size (height, width) in pixels that the network was tried with.
    pub(super) tried: (usize, usize),
    /// Numbers of images that went through at a time and were found not to touch each other.
    pub(super) apart: RefCell<BTreeSet<usize>>,
    /// Grids for sizes that are no multiples of a token, which only the network knows.
    odd: RefCell<BTreeMap<(usize, usize), Result<Grids, String>>>,
}

impl OnnxEngine {
    /// Of an opened model, by the library that `library` names or the one that is found. `side` is that
    /// of images where the caller knows it: an image of it is run, to know the grids.
    ///
    /// # Errors
    /// Those of [`require`]; files that the library refuses, outputs that are no codes.
    pub(crate) fn open(
        opened: Opened,
        device: DeviceChoice,
        library: Option<&Path>,
        side: Option<u32>,
    ) -> Result<OnnxEngine> {
        let environment = require(device, Precision::F32, library)?;
        let Opened { config, digests, .. } = opened;
        let Architecture::Onnx(network) = &config.architecture else {
            return Err(Error::internal("another model than one of ONNX files"));
        };
        let codes = config.quantizer.codes;
        let encoder =
            network.encoder.as_ref().map(|n| Encoder::open(n, codes, &environment, device));
        let decoder =
            network.decoder.as_ref().map(|n| Decoder::open(n, &environment, device)).transpose()?;
        let encoder = encoder.transpose()?.map(RefCell::new);
        let (odd, network) = (RefCell::default(), network.clone());
        let apart = RefCell::default();
        let mut engine =
            OnnxEngine { config, digests, device, encoder, decoder, odd, apart, tried: (0, 0) };
        match &network.encoder {
            Some(graph) => engine.look_at_encoder(&network, graph, side)?,
            None => engine.look_at_decoder(&network)?,
        }
        Ok(engine)
    }

    /// The grids of a size that is no multiple of a token, as the network gives them.
    fn odd_grids(&self, size: (usize, usize)) -> Result<Grids, String> {
        if let Some(known) = self.odd.borrow().get(&size) {
            return known.clone();
        }
        let Architecture::Onnx(network) = &self.config.architecture else { return Ok(Vec::new()) };
        let found = self.run_drawn(size).map_err(|error| error.message());
        let grids =
            found.and_then(|levels| Encoder::grids(&levels, size, OnnxEngine::known(network)));
        self.odd.borrow_mut().insert(size, grids.clone());
        grids
    }
}

impl Engine for OnnxEngine {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn digests(&self) -> Result<&Digests> {
        self.digests.get()
    }

    fn device_kind(&self) -> &'static str {
        match self.device {
            DeviceChoice::Auto | DeviceChoice::Cpu => "cpu",
            DeviceChoice::Cuda(_) | DeviceChoice::CudaAll => "cuda",
            DeviceChoice::TensorRt(_) => "tensorrt",
        }
    }

    fn precision_word(&self) -> &'static str {
        match &self.config.architecture {
            Architecture::Onnx(network) => {
                let graph = network.encoder.as_ref().or(network.decoder.as_ref());
                graph.map_or("f32", |graph| graph.precision)
            }
            _ => "f32",
        }
    }

    fn batch_images(&self, side: Option<usize>) -> usize {
        let lanes = |encoder: &RefCell<Encoder>| {
            let side = side.unwrap_or(SIDE);
            encoder.borrow().lanes(side, side)
        };
        let lanes = self.encoder.as_ref().map_or(1, lanes).max(1);
        images_for_threads().next_multiple_of(lanes)
    }

    fn grid(&self, height: usize, width: usize) -> Result<Grids, String> {
        let grids = self.config.grid(height, width)?;
        let [fh, fw] = self.config.factor();
        let whole = height.is_multiple_of(fh) && width.is_multiple_of(fw);
        let constant =
            matches!(&self.config.architecture, Architecture::Onnx(n) if n.grid.is_some());
        if whole || constant || self.encoder.is_none() {
            return Ok(grids);
        }
        self.odd_grids((height, width))
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        let size = (batch.height, batch.width);
        batch.check(&self.config)?;
        let grids = Engine::grid(self, batch.height, batch.width).map_err(Error::invalid)?;
        self.digests.get()?;
        let Architecture::Onnx(network) = &self.config.architecture else {
            return Err(Error::internal("another model than one of ONNX files"));
        };
        let known = OnnxEngine::known(network);
        let file = network.encoder.as_ref().map(|graph| &graph.file);
        self.check_apart(size).map_err(|error| match file {
            Some(file) => Error::about(file)(error),
            None => error,
        })?;
        let Some(encoder) = &mut self.encoder else {
            return Err(Error::invalid("this model has no encoder: it can decode codes only"));
        };
        let encoder = encoder.get_mut();
        let level = |&(height, width): &(usize, usize)| CodeGrid {
            codes: Vec::with_capacity(batch.count * height * width),
            distances: vec![f32::NAN; batch.count * height * width],
            height,
            width,
        };
        let mut levels: Vec<CodeGrid> = grids.iter().map(level).collect();
        let images: Vec<&[u8]> = (0..batch.count).map(|index| batch.image(index)).collect();
        for some in images.chunks(encoder.lanes(batch.height, batch.width).max(1)) {
            let found = encoder.run(some, size)?;
            let given = Encoder::grids(&found, size, known).map_err(Error::invalid)?;
            if given != grids {
                return Err(Error::invalid(format!(
                    "the network gives grids of {given:?} for {}x{} pixels where {grids:?} were \
                     expected: say its `grid` in tokenizer.json if that doesn't depend on the size",
                    batch.width, batch.height
                )));
            }
            for (level, found) in levels.iter_mut().zip(found) {
                level.codes.extend(&found.codes[..some.len() * level.height * level.width]);
            }
        }
        Ok(Encoded { count: batch.count, levels, failed: Vec::new() })
    }

    fn decode(&mut self, codes: &Encoded) -> Result<Decoded> {
        self.digests.get()?;
        let (channels, [down, across]) = (self.config.pixels.channels, self.config.factor());
        let Some(decoder) = &mut self.decoder else {
            return Err(Error::invalid("this model has no decoder: it can encode images only"));
        };
        decoder.check()?;
        let fits = |level: &CodeGrid| level.codes.len() == codes.count * level.height * level.width;
        if codes.levels.len() != self.config.levels() || !codes.levels.iter().all(fits) {
            return Err(Error::invalid("the codes don't match the sizes of their grids"));
        }
        let grid = codes.grid();
        let lanes = decoder.lanes(grid.0 * down, grid.1 * across).max(1);
        let (mut pixels, mut reasons) = (Vec::new(), Vec::new());
        let tried = (self.tried, [down, across]);
        let mut size = (grid.0 * down, grid.1 * across);
        for first in (0..codes.count).step_by(lanes) {
            let count = lanes.min(codes.count - first);
            let level = |level: &'_ CodeGrid| {
                let area = level.height * level.width;
                let range = first * area..(first + count) * area;
                (range, (level.height, level.width))
            };
            let ranges: Vec<_> = codes.levels.iter().map(level).collect();
            let levels: Vec<LevelIn> = codes
                .levels
                .iter()
                .zip(ranges)
                .map(|(level, (range, grid))| LevelIn { codes: &level.codes[range], grid })
                .collect();
            let made = decoder.run(&levels, count, lanes)?;
            size = trial::fits((made.height, made.width), size, tried)?;
            for image in made.images {
                reasons.push(decoder::problem(&image, channels));
                pixels.extend(image.iter().map(|&x| OutputRange::Stated.to_byte(x)));
            }
        }
        let (height, width) = size;
        let pictures = PixelBatch { pixels, count: codes.count, height, width, channels };
        Ok(Decoded { pictures, failed: failed(reasons) })
    }
}
