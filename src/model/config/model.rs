//! Owns the whole of a model's configuration, and the sizes that follow from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::architecture::{
    Architecture, Parts, TitokConfig, VitVqganConfig, VqganConfig, VqganVariant,
};
use super::pixels::{PixelConfig, PreprocessConfig};
use super::quantizer::QuantizerConfig;
use crate::error::Error;

/// The format word in `config.json`.
pub const FORMAT: &str = "vqtok.model.v1";

/// Everything about a model but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Always [`FORMAT`].
    pub format: String,
    /// Whose mathematics and names: the words of `--family`, or `vqtok` for models trained here.
    pub family: String,
    /// The network.
    pub architecture: Architecture,
    /// Latents to codes.
    pub quantizer: QuantizerConfig,
    /// Bytes to floats and back.
    pub pixels: PixelConfig,
    /// From an oriented image to the model's pixels, where the caller doesn't say otherwise.
    pub preprocess: PreprocessConfig,
    /// Facts for the identity card, each `name: value`: what was assumed and from where, which
    /// file the weights came from, what was ignored. Sorted by name.
    #[serde(default)]
    pub provenance: BTreeMap<String, String>,
}

impl ModelConfig {
    /// Which halves the model has.
    pub fn parts(&self) -> Parts {
        self.architecture.parts()
    }

    /// Grids of codes an image gives: 2 for hierarchical models, else one a residual level.
    pub fn levels(&self) -> usize {
        match &self.architecture {
            Architecture::Vqvae2(_) => 2,
            Architecture::Onnx(c) => c.levels(),
            _ => self.quantizer.depth * self.quantizer.books,
        }
    }

    /// Pixels a token covers along each side, of the finest level (height and width); of TiTok, whose
    /// tokens cover the whole picture, those of a patch.
    pub fn factor(&self) -> [usize; 2] {
        let square = |f: usize| [f, f];
        match &self.architecture {
            Architecture::Vqvae(c) => square(1 << c.downsamples),
            Architecture::Vqgan(c) => square(c.factor()),
            Architecture::Maskgit(c) | Architecture::VqganPlus(c) => {
                square(1 << (c.widths.len() - 1))
            }
            Architecture::OpenMagvit2(c) => square(1 << (c.widths.len() - 1)),
            Architecture::VitVqgan(c) => c.patch,
            Architecture::Titok(c) => c.patch,
            Architecture::Unitok(c) => square(4 << c.stages.len().min(32)),
            Architecture::Dalle(_) => square(8),
            Architecture::Vqvae2(_) => square(4),
            Architecture::Onnx(c) => c.factor(),
        }
    }

    /// Refuses a checkpoint that holds no encoder.
    pub(crate) fn require_encoder(&self) -> Result<(), Error> {
        match self.parts().encoder() {
            true => Ok(()),
            false => {
                Err(Error::invalid("this checkpoint has no encoder: it can decode codes only"))
            }
        }
    }

    /// Refuses a checkpoint that holds no decoder.
    pub(crate) fn require_decoder(&self) -> Result<(), Error> {
        match self.parts().decoder() {
            true => Ok(()),
            false => {
                Err(Error::invalid("this checkpoint has no decoder: it can encode images only"))
            }
        }
    }

    /// Pictures are padded with black to multiples of so many pixels.
    pub fn pad(&self) -> Option<usize> {
        match &self.architecture {
            Architecture::Vqgan(c) => c.variant.pad,
            _ => None,
        }
    }

    /// The grid (h, w), in tokens, of each level for an image of `height` x `width` pixels, as the
    /// reference code computes it; or, in one line, why the model can't take this size.
    ///
    /// # Errors
    /// A size that is smaller than a token, another one than a ViT-VQGAN is made for, one whose
    /// grid VQ-VAE-2 can't halve, or whose latents have no scales.
    pub fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        if let Architecture::Onnx(c) = &self.architecture {
            return c.grids(height, width);
        }
        let (h, w) = self.latents(height, width)?;
        if let Architecture::Vqvae2(_) = self.architecture {
            if h % 2 != 0 || w % 2 != 0 {
                return Err(format!(
                    "{width}x{height} pixels give a bottom grid of {w}x{h} tokens, which the top level \
                     can't halve; take sides that are multiples of 8"
                ));
            }
            return Ok(vec![(h, w), (h / 2, w / 2)]);
        }
        if let Architecture::Titok(c) = &self.architecture {
            return Ok(vec![(1, c.latents); self.levels()]);
        }
        let grid = self.quantizer.grid_of((h, w)).map_err(|reason| {
            format!("{width}x{height} pixels: {reason}; take another size, or say its scales")
        })?;
        Ok(vec![grid; self.levels()])
    }

    /// The height and width of pictures, in pixels, where they are of one size alone and no squares.
    pub(crate) fn oblong(&self) -> Option<(usize, usize)> {
        let (height, width) = match &self.architecture {
            Architecture::Onnx(c) => match c.encoder.as_ref()?.pixels.sides() {
                [Some(height), Some(width)] => (height, width),
                _ => return None,
            },
            Architecture::VitVqgan(c) => (c.grid[0] * c.patch[0], c.grid[1] * c.patch[1]),
            Architecture::Titok(c) => (c.grid[0] * c.patch[0], c.grid[1] * c.patch[1]),
            _ => return None,
        };
        (height != width).then_some((height, width))
    }

    /// The size, in pixels, of pictures whose finest tokens make this grid.
    ///
    /// # Errors
    /// In one line, a grid that the model doesn't make.
    pub fn picture(&self, (height, width): (usize, usize)) -> Result<(usize, usize), String> {
        let [fh, fw] = self.factor();
        let (h, w) = match &self.architecture {
            Architecture::Titok(c) if (height, width) == (1, c.latents) => (c.grid[0], c.grid[1]),
            Architecture::Titok(c) => {
                let count = c.latents;
                return Err(format!(
                    "a grid of {height}x{width} tokens where the model has 1x{count}"
                ));
            }
            Architecture::VitVqgan(c) if [height, width] != c.grid => {
                let [h, w] = c.grid;
                return Err(format!(
                    "a grid of {height}x{width} tokens where the model has {h}x{w}"
                ));
            }
            _ => self.quantizer.latents_of((height, width))?,
        };
        Ok((h.saturating_mul(fh), w.saturating_mul(fw)))
    }

    /// The size (h, w) of the finest latents, or patches, for an image of `height` x `width` pixels.
    ///
    /// # Errors
    /// A size that is smaller than a token, or another one than a ViT-VQGAN is made for.
    pub fn latents(&self, height: usize, width: usize) -> Result<(usize, usize), String> {
        let [fh, fw] = self.factor();
        let too_small =
            || format!("{width}x{height} pixels are smaller than one token ({fw}x{fh})");
        let (h, w) = match &self.architecture {
            Architecture::VitVqgan(VitVqganConfig { grid: [gh, gw], .. })
            | Architecture::Titok(TitokConfig { grid: [gh, gw], .. }) => {
                let (h, w) = (gh * fh, gw * fw);
                if (height, width) != (h, w) {
                    return Err(format!(
                        "{width}x{height} pixels where the model takes {w}x{h} only"
                    ));
                }
                (*gh, *gw)
            }
            // Strided convolutions with padding 1 on both sides round up, and so does a chain of them.
            Architecture::OpenMagvit2(_) | Architecture::VqganPlus(_) | Architecture::Unitok(_) => {
                (height.div_ceil(fh), width.div_ceil(fw))
            }
            Architecture::Vqgan(VqganConfig {
                variant: VqganVariant { pad: Some(pad), .. },
                ..
            }) => (height.next_multiple_of(*pad) / fh, width.next_multiple_of(*pad) / fw),
            _ => (height / fh, width / fw),
        };
        match h == 0 || w == 0 {
            true => Err(too_small()),
            false => Ok((h, w)),
        }
    }
}
