//! Owns the codes of one image, and which of them a model can decode.

use crate::engine::{CodeGrid, Encoded, Engine};
use crate::model::config::{Architecture, QuantizerConfig};

/// The codes of one image: a grid for each level, the finest first. Most models have one level;
/// hierarchical ones (VQ-VAE-2) add coarser grids, residual ones a grid of the same size for each
/// further level.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Codes {
    /// At least one.
    pub levels: Vec<Grid>,
}

/// One level of an image's codes, `[height, width]`, row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grid {
    /// Indices into the level's codebook; where a token is a list of bits, the bits of all tokens one
    /// list behind the other ([`Tokenizer::bits`](super::tokenizer::Tokenizer::bits)).
    pub codes: Vec<u32>,
    /// Squared distance of each latent to its code; NaN where the model's quantizer has none. Not
    /// read in decoding, where it may be empty.
    pub distances: Vec<f32>,
    /// In tokens.
    pub height: usize,
    /// In tokens.
    pub width: usize,
}

impl Codes {
    /// Of image `index` of a batch.
    pub(super) fn of(encoded: &Encoded, index: usize) -> Codes {
        let grid = |level: &CodeGrid| Grid {
            codes: level.codes_of(index, encoded.count).to_vec(),
            distances: level.distances_of(index).to_vec(),
            height: level.height,
            width: level.width,
        };
        Codes { levels: encoded.levels.iter().map(grid).collect() }
    }

    /// Those of several images with grids of equal sizes as one batch, `[N, h, w]` a level.
    pub(super) fn stack(images: &[&Codes]) -> Encoded {
        let first = images.first().map_or(&[][..], |codes| &codes.levels);
        let level = |(index, grid): (usize, &Grid)| CodeGrid {
            codes: images.iter().flat_map(|i| i.levels[index].codes.iter().copied()).collect(),
            distances: Vec::new(),
            height: grid.height,
            width: grid.width,
        };
        let levels = first.iter().enumerate().map(level).collect();
        Encoded { count: images.len(), levels, failed: Vec::new() }
    }

    /// (height, width) of each level.
    pub(super) fn shape(&self) -> Vec<(usize, usize)> {
        self.levels.iter().map(|level| (level.height, level.width)).collect()
    }
}

/// Why the codes of an image can't be decoded by this model, in one line.
pub(super) fn problem(codes: &Codes, engine: &dyn Engine) -> Option<String> {
    let config = engine.config();
    let (given, wanted) = (codes.levels.len(), config.levels());
    if given != wanted {
        return Some(format!(
            "{given} levels of tokens where the model decodes {wanted}: was another model used?"
        ));
    }
    if let Some(why) = values_problem(codes, &config.quantizer) {
        return Some(why);
    }
    let grids = codes.shape();
    let (height, width) = match config.picture(grids[0]) {
        Ok(size) => size,
        Err(why) => return Some(why),
    };
    let in_words = |grids: &[(usize, usize)]| {
        let grids: Vec<_> = grids.iter().map(|(h, w)| format!("{h} x {w}")).collect();
        grids.join(" and ")
    };
    match engine.grid(height, width) {
        Err(why) => Some(format!("a grid of {}: {why}", in_words(&grids[..1]))),
        Ok(fit) if fit != grids => Some(format!(
            "grids of {} where the model decodes {}",
            in_words(&grids),
            in_words(&fit)
        )),
        Ok(_)
            if grids[0] == (1, 1)
                && matches!(config.architecture, Architecture::OpenMagvit2(_)) =>
        {
            Some("one token alone, of which this decoder can take no variance".into())
        }
        Ok(_) => None,
    }
}

/// Why there are more or fewer codes than grids have, or one that the quantizer hasn't.
fn values_problem(codes: &Codes, quantizer: &QuantizerConfig) -> Option<String> {
    let values = quantizer.values();
    if let Some(level) = codes.levels.iter().find(|l| {
        // A grid may be of any numbers that a caller makes up.
        let tokens = l.height.checked_mul(l.width);
        tokens.and_then(|tokens| tokens.checked_mul(values)) != Some(l.codes.len())
    }) {
        return Some(format!(
            "{} {} for a grid of {} x {}{}",
            level.codes.len(),
            if values > 1 { "bits" } else { "tokens" },
            level.height,
            level.width,
            if values > 1 { format!(" tokens of {values} bits") } else { String::new() }
        ));
    }
    let count = quantizer.codes;
    let mut all = codes.levels.iter().flat_map(|level| &level.codes);
    let code = all.find(|&&code| code as usize >= count)?;
    Some(match values {
        1 => format!("token {code} is beyond the model's {count} codes: was another model used?"),
        _ => format!("{code} among bits: was another model used?"),
    })
}
