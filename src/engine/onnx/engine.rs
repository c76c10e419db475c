//! Owns the engine over two graphs: images in, codes out, and back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use super::available::require;
use super::decoder::{self, Decoder, LevelIn};
use super::encoder::{Encoder, LevelOut};
use super::grids::Known;
use crate::engine::device::{DeviceChoice, Precision};
use crate::engine::interface::{
    CodeGrid, Decoded, Encoded, Engine, PixelBatch, failed, images_for_threads,
};
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, OnnxConfig, OnnxNetwork, OutputRange};
use crate::model::opened::Opened;
use crate::util::settings::SIZE;
use crate::weights::digests::{Digests, Pending};

/// Side of the image that shows what grids a network gives, where nothing says its size: attention over
/// all pixels of a large one would take gigabytes.
const SMALL_SIDE: usize = 64;

/// The same where it doesn't take so small a one; a side of pictures whose size nobody says.
const SIDE: usize = 256;

/// A side of the grid that shows what a decoder without an encoder makes of it.
const GRID_SIDE: usize = 8;

type Grids = Vec<(usize, usize)>;

/// ONNX files in ONNX Runtime.
pub(crate) struct OnnxEngine {
    config: ModelConfig,
    digests: Pending,
    device: DeviceChoice,
    encoder: Option<RefCell<Encoder>>,
    decoder: Option<Decoder>,
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
        let mut engine = OnnxEngine { config, digests, device, encoder, decoder, odd };
        match &network.encoder {
            Some(graph) => engine.look_at_encoder(&network, graph, side)?,
            None => engine.look_at_decoder(&network)?,
        }
        Ok(engine)
    }

    /// What is known before the network has run.
    fn known(network: &OnnxConfig) -> Known {
        let factor = network.factors.first().copied().filter(|factor| *factor != [1, 1]);
        Known { grid: network.grid, factor }
    }

    /// Runs a grey image for the grids of its levels, which go from the finest to the coarsest.
    fn look_at_encoder(
        &mut self,
        network: &OnnxConfig,
        graph: &OnnxNetwork,
        side: Option<u32>,
    ) -> Result<()> {
        let said = side.map(|side| side as usize);
        let known = OnnxEngine::known(network);
        let sized = |other: usize| {
            let [height, width] = graph.pixels.sides().map(|fixed| fixed.or(said).unwrap_or(other));
            (height, width)
        };
        let look = |size: (usize, usize)| {
            let levels = self.run_grey(size)?;
            let grids = Encoder::grids(&levels, size, known).map_err(Error::invalid)?;
            Ok((size, grids))
        };
        let (small, large) = (sized(SMALL_SIDE), sized(SIDE));
        let found = look(small).or_else(|error| match error {
            Error::Input(_) if small != large => look(large),
            error => Err(error),
        });
        let (size, grids) = found.map_err(|error| match error {
            Error::Input(_) if said.is_none() => Error::invalid(format!(
                "{error} (an image of {}x{} pixels was tried; pass {SIZE} with another side)",
                large.1, large.0
            )),
            error => error,
        })?;
        let mut order: Vec<usize> = (0..grids.len()).collect();
        order.sort_by_key(|&place| std::cmp::Reverse(grids[place].0 * grids[place].1));
        let sorted: Grids = order.iter().map(|&place| grids[place]).collect();
        let mut network = Box::new(network.clone());
        network.factors = sorted.iter().map(|&grid| factor(size, grid)).collect();
        // A row of tokens doesn't grow with the picture; one that happens to be a picture's, does.
        if known.grid.is_none()
            && known.factor.is_none()
            && sorted[0].0 == 1
            && sorted[0].1 > 1
            && size.0 > 1
        {
            network.grid = Some([sorted[0].0, sorted[0].1]);
        }
        self.settle(network, &order, &sorted)
    }

    fn run_grey(&self, (height, width): (usize, usize)) -> Result<Vec<LevelOut>> {
        let Some(encoder) = &self.encoder else { return Err(Error::internal("no encoder")) };
        let bytes =
            height.checked_mul(width).and_then(|n| n.checked_mul(self.config.pixels.channels));
        let Some(bytes) = bytes.filter(|bytes| *bytes <= 1 << 30) else {
            return Err(Error::out_of_memory(format!("images of {width}x{height} pixels")));
        };
        let grey = vec![128; bytes];
        encoder.borrow_mut().run(&[&grey], (height, width))
    }

    /// The pixels that a decoder without an encoder makes of a grid.
    fn look_at_decoder(&mut self, network: &OnnxConfig) -> Result<()> {
        let mut network = Box::new(network.clone());
        let Some(graph) = &network.decoder else { return Err(Error::internal("no graph at all")) };
        let known = OnnxEngine::known(&network);
        let token = &graph.tokens[0];
        let fixed = [token.side(1), token.side(2)].map(|side| side.unwrap_or(GRID_SIDE));
        let fixed = match token.dims.as_ref().map(Vec::len) {
            Some(1 | 2) => [GRID_SIDE, GRID_SIDE],
            _ => fixed,
        };
        let [height, width] = known.grid.unwrap_or(fixed);
        let Some(decoder) = &mut self.decoder else { return Err(Error::internal("no decoder")) };
        let lanes = decoder.lanes(SIDE, SIDE);
        let codes = vec![0; lanes.saturating_mul(height).saturating_mul(width).min(1 << 24)];
        let level = |_| LevelIn { codes: &codes, grid: (height, width) };
        let levels: Vec<LevelIn> = (0..network.levels()).map(level).collect();
        let made = decoder.run(&levels, 1, lanes)?;
        let grids = vec![(height, width); network.levels()];
        network.factors = vec![factor((made.height, made.width), (height, width)); grids.len()];
        let order: Vec<usize> = (0..grids.len()).collect();
        self.settle(network, &order, &grids)
    }

    /// Takes what the network has shown as the model's own.
    fn settle(
        &mut self,
        mut network: Box<OnnxConfig>,
        order: &[usize],
        grids: &Grids,
    ) -> Result<()> {
        let alike = grids.iter().all(|grid| *grid == grids[0]);
        if !alike && grids.len() > 2 {
            let text = format!(
                "its levels have grids of {grids:?}: more than two levels must be of one size"
            );
            return Err(Error::invalid(text));
        }
        if let Some(encoder) = &self.encoder {
            encoder.borrow_mut().reorder(order);
        }
        for network in [&mut network.encoder, &mut network.decoder].into_iter().flatten() {
            network.tokens = order.iter().map(|&place| network.tokens[place].clone()).collect();
        }
        if let Some(decoder) = &mut self.decoder {
            decoder.reorder(order);
        }
        self.config.quantizer.depth = if alike { grids.len() } else { 1 };
        self.config.architecture = Architecture::Onnx(network);
        Ok(())
    }

    /// The grids of a size that is no multiple of a token, as the network gives them.
    fn odd_grids(&self, size: (usize, usize)) -> Result<Grids, String> {
        if let Some(known) = self.odd.borrow().get(&size) {
            return known.clone();
        }
        let Architecture::Onnx(network) = &self.config.architecture else { return Ok(Vec::new()) };
        let found = self.run_grey(size).map_err(|error| error.message());
        let grids =
            found.and_then(|levels| Encoder::grids(&levels, size, OnnxEngine::known(network)));
        self.odd.borrow_mut().insert(size, grids.clone());
        grids
    }
}

/// Pixels that a token of a grid covers, along each side.
fn factor((height, width): (usize, usize), (h, w): (usize, usize)) -> [usize; 2] {
    let along = |pixels: usize, tokens: usize| ((pixels + tokens / 2) / tokens.max(1)).max(1);
    [along(height, h), along(width, w)]
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
            DeviceChoice::Cuda(_) => "cuda",
            DeviceChoice::TensorRt(_) => "tensorrt",
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
            size = (made.height, made.width);
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
