//! Owns codes to pixels through a graph. Must not know: what model the codes are of.

use ort::environment::Environment;

use super::encoder::lanes;
use super::pictures;
use super::session::{Graph, Input};
use crate::engine::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::model::config::{OnnxElement, OnnxNetwork, OnnxTensor};
use crate::model::finite;
use crate::util::settings::{MEAN, STD};
use crate::util::text;

/// The decoder's graph on a device.
pub(super) struct Decoder {
    graph: Graph,
    network: OnnxNetwork,
    device: DeviceChoice,
}

/// A level's codes for some images, and its grid.
pub(super) struct LevelIn<'a> {
    pub(super) codes: &'a [u32],
    pub(super) grid: (usize, usize),
}

/// Pictures that came out.
pub(super) struct Pictures {
    pub(super) height: usize,
    pub(super) width: usize,
    /// `[H, W, C]` floats of 0 to 255 each, not rounded.
    pub(super) images: Vec<Vec<f32>>,
}

impl Decoder {
    /// Opens it.
    ///
    /// # Errors
    /// Those of [`Graph::open`].
    pub(super) fn open(
        network: &OnnxNetwork,
        environment: &Environment,
        device: DeviceChoice,
    ) -> Result<Decoder> {
        let names = vec![network.pixels.tensor.name.clone()];
        let graph = Graph::open(&network.file, names, (environment, device))?;
        Ok(Decoder { graph, network: network.clone(), device })
    }

    /// The order in which levels come.
    pub(super) fn reorder(&mut self, order: &[usize]) {
        let tokens = order.iter().map(|&place| self.network.tokens[place].clone()).collect();
        self.network.tokens = tokens;
    }

    /// Images that go through at a time, of pictures of that size.
    pub(super) fn lanes(&self, height: usize, width: usize) -> usize {
        let fixed = self.network.tokens.first().filter(|t| rank(t) != 1).and_then(|t| t.side(0));
        fixed.unwrap_or_else(|| lanes(&self.network.pixels, self.device, height, width))
    }

    /// Whether the floats that come out can be told to be pixels.
    ///
    /// # Errors
    /// That, by the names of what isn't said.
    pub(super) fn check(&self) -> Result<()> {
        let pixels = &self.network.pixels;
        match pixels.scale.is_some() || pixels.tensor.element == OnnxElement::U8 {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "{}: what its pixels are scaled by isn't said: write `output.mean` and `output.std` into \
                 tokenizer.json (of pixels of 0 to 255), or pass {MEAN} and {STD}",
                text::path(&self.network.file)
            ))),
        }
    }

    /// Pictures of some images' codes, at most as many as there are lanes.
    ///
    /// # Errors
    /// Those of the library; an output that is no pictures.
    pub(super) fn run(
        &mut self,
        levels: &[LevelIn],
        count: usize,
        lanes: usize,
    ) -> Result<Pictures> {
        let network = &self.network;
        let input = |(token, level): (&OnnxTensor, &LevelIn)| Input {
            name: token.name.clone(),
            element: token.element,
            shape: shape(token, lanes, level.grid),
        };
        let inputs = network.tokens.iter().zip(levels).map(input).collect();
        let tensors = self.graph.inputs(inputs)?;
        for ((tensor, token), level) in tensors.iter_mut().zip(&network.tokens).zip(levels) {
            pictures::write_codes(tensor, token.element, level.codes)?;
        }
        let pixels = &network.pixels;
        self.graph.run(&network.file, |outputs| {
            let found = outputs.first().ok_or_else(|| Error::internal("an output is missing"))?;
            let (dims, floats) = pictures::floats(found, pixels.tensor.element)?;
            let sides = pixels.layout.places().map(|place| dims.get(place).copied().unwrap_or(0));
            let [channels, height, width] = sides.map(|side| usize::try_from(side).unwrap_or(0));
            let each = channels * height * width;
            if channels != pixels.channels
                || dims.len() != 4
                || each * lanes != floats.len()
                || each == 0
            {
                let file = text::path(&network.file);
                let reason = format!("{dims:?} is no shape of {lanes} pictures");
                return Err(Error::invalid(format!("{file}: its output: {reason}")));
            }
            let some = floats.chunks_exact(each).take(count);
            let images = some.map(|image| pictures::interleaved(image, pixels)).collect();
            Ok(Pictures { height, width, images })
        })
    }
}

/// The number of sides; three where the file doesn't say.
fn rank(token: &OnnxTensor) -> usize {
    token.dims.as_ref().map_or(3, Vec::len)
}

/// The shape in which a grid's codes go in.
fn shape(token: &OnnxTensor, lanes: usize, (height, width): (usize, usize)) -> Vec<usize> {
    match rank(token) {
        1 => vec![lanes * height * width],
        2 if lanes == 1 && token.side(0).is_some_and(|side| side != 1) => vec![height, width],
        2 => vec![lanes, height * width],
        4 if token.side(3) == Some(1) => vec![lanes, height, width, 1],
        4 => vec![lanes, 1, height, width],
        _ => vec![lanes, height, width],
    }
}

/// Why a picture's floats are none, in one line.
pub(super) fn problem(image: &[f32], channels: usize) -> Option<String> {
    let count = image.iter().filter(|v| !v.is_finite()).count();
    (!finite::all_finite(image)).then(|| {
        format!(
            "{count} of the {} values of {} pixels are not finite: the decoder overflows on these tokens",
            image.len(),
            image.len() / channels.max(1)
        )
    })
}
