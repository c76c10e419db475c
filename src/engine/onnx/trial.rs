//! Owns what a network shows of itself before the first image: the grids that it gives, that its settings
//! don't say otherwise, and that an image's tokens are its own, every time.

use std::cmp::Reverse;

use super::decoder::LevelIn;
use super::encoder::{Encoder, LevelOut};
use super::engine::{Grids, OnnxEngine};
use super::grids::Known;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, OnnxConfig, OnnxNetwork};
use crate::util::random::splitmix64;
use crate::util::settings::SIZE;

/// Side of the image that shows what grids a network gives, where nothing says its size: attention over
/// all pixels of a large one would take gigabytes.
const SMALL_SIDE: usize = 64;

/// The same where it doesn't take so small a one; a side of pictures whose size nobody says.
pub(super) const SIDE: usize = 256;

/// A side of the grid that shows what a decoder without an encoder makes of it.
const GRID_SIDE: usize = 8;

/// One of so many tokens may be another one where an image comes in another place of a batch: sums of it may be
/// rounded otherwise there, and two codes as near as that.
const MOVED_SHARE: usize = 256;

/// Side of the squares of the image that a network is tried with, in pixels: larger than most tokens.
const SQUARE: usize = 16;

impl OnnxEngine {
    /// What is known before the network has run.
    pub(super) fn known(network: &OnnxConfig) -> Known {
        let factor = network.factors.first().copied().filter(|factor| *factor != [1, 1]);
        Known { grid: network.grid, factor }
    }

    /// Runs a drawn image for the grids of its levels, which go from the finest to the coarsest.
    pub(super) fn look_at_encoder(
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
            let levels = self.run_drawn(size)?;
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
                "{error} (an image of {}x{} pixels was tried as {}; pass {SIZE} with another side)",
                large.1,
                large.0,
                format!("{:?}", graph.pixels.layout).to_uppercase()
            )),
            error => error,
        })?;
        self.check_again(size)?;
        self.check_apart(size)?;
        self.tried = size;
        let mut order: Vec<usize> = (0..grids.len()).collect();
        order.sort_by_key(|&place| Reverse(grids[place].0 * grids[place].1));
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

    /// Codes of a drawn image, in lanes of which the others are empty.
    pub(super) fn run_drawn(&self, size: (usize, usize)) -> Result<Vec<LevelOut>> {
        self.run_images(&[&self.drawn(0, size)?], size)
    }

    fn run_images(&self, images: &[&[u8]], size: (usize, usize)) -> Result<Vec<LevelOut>> {
        let Some(encoder) = &self.encoder else { return Err(Error::internal("no encoder")) };
        encoder.borrow_mut().run(images, size)
    }

    /// A picture of squares of many colours, and noise on them.
    fn drawn(&self, seed: u64, (height, width): (usize, usize)) -> Result<Vec<u8>> {
        let channels = self.config.pixels.channels;
        let bytes = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        let Some(bytes) = bytes.filter(|bytes| *bytes <= 1 << 30) else {
            return Err(Error::out_of_memory(format!("images of {width}x{height} pixels")));
        };
        let half = |seed: u64, place: usize| splitmix64(seed, place as u64) as u8 / 2;
        let value = |place: usize| {
            let (pixel, channel) = (place / channels, place % channels);
            let (y, x) = (pixel / width, pixel % width);
            let square = (y / SQUARE * width + x / SQUARE) * channels + channel;
            half(seed, square) + half(!seed, place)
        };
        Ok((0..bytes).map(value).collect())
    }

    /// That an image has the same tokens every time.
    fn check_again(&self, size: (usize, usize)) -> Result<()> {
        let image = [self.drawn(0, size)?];
        match self.lanes_of(&image, size)? == self.lanes_of(&image, size)? {
            true => Ok(()),
            false => Err(Error::invalid(
                "an image has other tokens every time: export the model for inference (`model.eval()`), \
                 without what draws at random",
            )),
        }
    }

    /// That an image has the same tokens alone and beside others, wherever it is among them: once for each
    /// number of images that go through at a time.
    ///
    /// # Errors
    /// Other tokens; those of running it.
    pub(super) fn check_apart(&self, size: (usize, usize)) -> Result<()> {
        let lanes = self.encoder.as_ref().map_or(1, |e| e.borrow().lanes(size.0, size.1));
        if lanes < 2 || !self.apart.borrow_mut().insert(lanes) {
            return Ok(());
        }
        let images = (0..lanes as u64).map(|seed| self.drawn(seed, size));
        let mut images = images.collect::<Result<Vec<_>>>()?;
        let alone = self.lanes_of(&images[..1], size)?;
        let there = self.lanes_of(&images, size)?;
        // What is computed over all of them shows beside others; what an image takes from one before or
        // behind it shows where they come the other way round.
        images.reverse();
        let mut back = self.lanes_of(&images, size)?;
        back.reverse();
        let pairs = there.iter().zip(&back).flat_map(|(one, other)| one.iter().zip(other));
        let moved = pairs.clone().filter(|(one, other)| one != other).count();
        match alone[0] == there[0] && moved * MOVED_SHARE <= pairs.count() {
            true => Ok(()),
            false => Err(Error::invalid(
                "an image has other tokens where others are beside it in a batch: export the model for \
                 inference (`model.eval()`), without what is computed over a batch",
            )),
        }
    }

    /// The codes of all levels in each lane.
    fn lanes_of(&self, images: &[Vec<u8>], size: (usize, usize)) -> Result<Vec<Vec<u32>>> {
        let lanes = self.encoder.as_ref().map_or(1, |e| e.borrow().lanes(size.0, size.1));
        let images: Vec<&[u8]> = images.iter().map(|image| &image[..]).collect();
        let levels = self.run_images(&images, size)?;
        let codes = |lane: usize| {
            let of = |level: &LevelOut| {
                let each = level.codes.len() / lanes;
                level.codes[lane * each..][..each].to_vec()
            };
            levels.iter().flat_map(of).collect()
        };
        Ok((0..lanes).map(codes).collect())
    }

    /// The pixels that a decoder without an encoder makes of a grid.
    pub(super) fn look_at_decoder(&mut self, network: &OnnxConfig) -> Result<()> {
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
        self.tried = (made.height, made.width);
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
}

/// Pixels that a token of a grid covers, along each side.
fn factor((height, width): (usize, usize), (h, w): (usize, usize)) -> [usize; 2] {
    [along(height, h), along(width, w)]
}

/// Of sizes that are no multiple of a token several would do: the power of two, then, that networks
/// halve by.
fn along(pixels: usize, tokens: usize) -> usize {
    let tokens = tokens.max(1);
    let near = ((pixels + tokens / 2) / tokens).max(1);
    let makes = |side: &usize| pixels / side == tokens || pixels.div_ceil(*side) == tokens;
    let halved = || [near.next_power_of_two(), near.next_power_of_two() / 2];
    match pixels.is_multiple_of(tokens) {
        true => near,
        false => halved().into_iter().filter(|side| *side > 0).find(makes).unwrap_or(near),
    }
}

/// The size (height, width) of a decoded picture, which must be the one that its tokens stand for: the
/// one `due`, or less than a token away from it where the size that was `tried` was no multiple of one
/// either.
///
/// # Errors
/// Another size.
pub(super) fn fits(
    made: (usize, usize),
    due: (usize, usize),
    (tried, [down, across]): ((usize, usize), [usize; 2]),
) -> Result<(usize, usize)> {
    let along = |made: usize, due: usize, tried: usize, token: usize| {
        made == due || !tried.is_multiple_of(token.max(1)) && made.abs_diff(due) < token
    };
    if along(made.0, due.0, tried.0, down) && along(made.1, due.1, tried.1, across) {
        return Ok(made);
    }
    Err(Error::invalid(format!(
        "its decoder makes pictures of {}x{} pixels of what its encoder takes {}x{} for: they are of two \
         models",
        made.1, made.0, due.1, due.0
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_size_that_its_tokens_stand_for() {
        let whole = ((64, 64), [8, 8]);
        assert_eq!(fits((32, 48), (32, 48), whole).unwrap(), (32, 48));
        assert!(fits((30, 32), (32, 32), whole).unwrap_err().to_string().contains("32x30"));
        // A model that was tried with 30 pixels, four tokens of eight.
        let odd = ((30, 30), [8, 8]);
        assert_eq!(fits((30, 30), (32, 32), odd).unwrap(), (30, 30));
        assert!(fits((24, 30), (32, 32), odd).is_err());
    }

    #[test]
    fn the_pixels_of_a_token_are_told_from_any_size() {
        for (pixels, tokens, side) in [
            (64, 4, 16),
            (18, 4, 4),
            (18, 5, 4),
            (62, 4, 16),
            (60, 20, 3),
            (61, 20, 3),
            (1, 9, 1),
            (9, 0, 9),
        ] {
            assert_eq!(along(pixels, tokens), side, "{pixels} / {tokens}");
        }
    }
}
