//! Owns pixels to codes through a graph. Must not know: what model the codes are of.

use ort::environment::Environment;

use super::grids::{self, Known, Shape};
use super::pictures;
use super::session::{Graph, Input};
use crate::engine::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::model::config::{OnnxNetwork, OnnxPixels};
use crate::util::text;

/// Pixels that go through a graph at a time on the CPU: more of them don't make it faster, and an image
/// that comes alone takes as long as if it were so many.
const PIXELS_OF_CPU: usize = 1 << 16;

/// The same on a GPU, which many of them keep busy.
const PIXELS_OF_GPU: usize = 1 << 21;

/// Images at a time at most.
const IMAGES_MAX: usize = 64;

/// Images that go through a graph at a time: always as many, since a library may compute otherwise for
/// more or fewer of them, and codes must not depend on the batch that an image comes in.
pub(super) fn lanes(
    pixels: &OnnxPixels,
    device: DeviceChoice,
    height: usize,
    width: usize,
) -> usize {
    let (all, max) = match device {
        DeviceChoice::Auto | DeviceChoice::Cpu => (PIXELS_OF_CPU, IMAGES_MAX / 4),
        DeviceChoice::Cuda(_) | DeviceChoice::CudaAll | DeviceChoice::TensorRt(_) => {
            (PIXELS_OF_GPU, IMAGES_MAX)
        }
    };
    let suits = all / height.saturating_mul(width).max(1);
    pixels.batch().unwrap_or(suits.clamp(1, max))
}

/// The encoder's graph on a device.
pub(super) struct Encoder {
    graph: Graph,
    network: OnnxNetwork,
    tables: Vec<[f32; 256]>,
    device: DeviceChoice,
    /// Codes of a level.
    codes: usize,
}

/// What came out of one level's output, of all lanes.
pub(super) struct LevelOut {
    pub(super) shape: Shape,
    pub(super) codes: Vec<u32>,
}

impl Encoder {
    /// Opens it.
    ///
    /// # Errors
    /// Those of [`Graph::open`].
    pub(super) fn open(
        network: &OnnxNetwork,
        codes: usize,
        environment: &Environment,
        device: DeviceChoice,
    ) -> Result<Encoder> {
        let names = network.tokens.iter().map(|token| token.name.clone()).collect();
        Ok(Encoder {
            graph: Graph::open(&network.file, names, (environment, device))?,
            tables: pictures::tables(&network.pixels),
            network: network.clone(),
            device,
            codes,
        })
    }

    /// Images that go through at a time.
    pub(super) fn lanes(&self, height: usize, width: usize) -> usize {
        lanes(&self.network.pixels, self.device, height, width)
    }

    /// The order in which levels come.
    pub(super) fn reorder(&mut self, order: &[usize]) {
        let tokens = order.iter().map(|&place| self.network.tokens[place].clone()).collect();
        self.network.tokens = tokens;
    }

    /// Codes of each level for images of a size, `[H, W, C]` bytes each, at most as many as there are
    /// lanes.
    ///
    /// # Errors
    /// Those of the library; outputs that are no grids of codes.
    pub(super) fn run(
        &mut self,
        images: &[&[u8]],
        (height, width): (usize, usize),
    ) -> Result<Vec<LevelOut>> {
        let (lanes, pixels) = (self.lanes(height, width), &self.network.pixels);
        let mut shape = vec![lanes; 4];
        for (place, side) in
            pixels.layout.places().into_iter().zip([pixels.channels, height, width])
        {
            shape[place] = side;
        }
        let (name, element) = (pixels.tensor.name.clone(), pixels.tensor.element);
        let tensors = self.graph.inputs(vec![Input { name, element, shape }])?;
        let each = pixels.channels * height * width;
        for tensor in tensors {
            pictures::write(tensor, pixels, &self.tables, images.iter().copied(), each)?;
        }
        let (network, count) = (&self.network, self.codes);
        self.graph.run(&network.file, |outputs| {
            let names: Vec<&str> = network.tokens.iter().map(|t| t.name.as_str()).collect();
            let level = |(place, name): (usize, &&str)| {
                let token = &network.tokens[place];
                let at =
                    outputs.get(place).ok_or_else(|| Error::internal("an output is missing"))?;
                let of_output = |reason: String| {
                    let (file, name) = (text::path(&network.file), text::shorten(name));
                    Error::invalid(format!("{file}: its output '{name}': {reason}"))
                };
                let found = pictures::codes(at, token.element, count);
                let (dims, codes) = found.map_err(|error| of_output(error.message()))?;
                let shape = grids::shape(&dims, lanes).map_err(of_output)?;
                Ok(LevelOut { shape, codes })
            };
            names.iter().enumerate().map(level).collect()
        })
    }

    /// The grid of each level. What is known is so of the first; others that have as many tokens have
    /// its grid.
    ///
    /// # Errors
    /// A grid that is known and has another number of tokens.
    pub(super) fn grids(
        levels: &[LevelOut],
        size: (usize, usize),
        known: Known,
    ) -> Result<Vec<(usize, usize)>, String> {
        let Some(first) = levels.first() else { return Ok(Vec::new()) };
        let finest = first.shape.grid(size, known)?;
        let grid = |level: &LevelOut| match level.shape {
            Shape::Tokens(tokens) if tokens == finest.0 * finest.1 => Ok(finest),
            shape => shape.grid(size, Known::default()),
        };
        let others = levels.iter().skip(1).map(grid);
        std::iter::once(Ok(finest)).chain(others).collect()
    }
}
