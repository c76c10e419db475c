//! Draws whole small models: widths, latents and codes from 1 to 70, levels, blocks, places of
//! attention, norm groups, quantizers, grey and RGB, with weights and images of odd sizes.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::transformers;
use crate::engine::cpu::tests::Maker;
use crate::engine::interface::{CodeGrid, Encoded, PixelBatch};
use crate::model;
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;
use crate::util::random::SplitMix64;

/// The widest map, latent and code.
const WIDTH_MAX: usize = 70;

/// Multiplications of a 3x3 convolution from the widest map to the widest at an image's full size:
/// keeps a model within some hundredths of a second.
const WORK_MAX: usize = 80_000_000;

/// Seeded choices.
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(SplitMix64(seed.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }

    fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// From 0 to below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    /// From `low` to `high`.
    pub(super) fn among(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Small ones as often as large ones.
    pub(super) fn width(&mut self) -> usize {
        let most = self.of(&[4, 16, 40, WIDTH_MAX]);
        self.among(1, most)
    }

    /// A multiple of `unit`.
    fn multiple(&mut self, unit: usize) -> usize {
        self.width().div_ceil(unit).min(WIDTH_MAX / unit) * unit
    }
}

/// The networks that the engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Vqgan,
    Vqvae,
    Maskgit,
    OpenMagvit2,
    Dalle,
    Vqvae2,
    VitVqgan,
    Titok,
    Unitok,
}

/// A model with what goes into it.
pub(crate) struct Drawn {
    pub config: ModelConfig,
    pub weights: BTreeMap<String, Tensor>,
    /// Images, and their height and width.
    pub size: (usize, usize, usize),
    pub images: PixelBatch,
    /// To be decoded, where the size of the images gives a grid.
    pub codes: Option<Encoded>,
}

/// A model of a family, the same for the same chance.
pub(crate) fn draw(family: Family, mut random: Random) -> Drawn {
    let r = &mut random;
    r.0.0 ^= family as u64;
    let pixels = PixelConfig {
        channels: r.of(&[1, 3]),
        input: r.of(&[InputRange::Taming, InputRange::Unit, InputRange::Centered]),
        output: r.of(&[
            OutputRange::SymmetricTruncate,
            OutputRange::SymmetricHalfEven,
            OutputRange::SymmetricHalfUp,
            OutputRange::UnitRound,
            OutputRange::Dalle,
        ]),
    };
    let mut architecture = architecture(family, r);
    let quantizer = quantizer(family, &architecture, r);
    // The layers over frames take codes and what is made of them alike.
    if let Architecture::Vqgan(VqganConfig { z_channels, variant, .. }) = &mut architecture
        && variant.frames.is_some()
    {
        *z_channels = quantizer.dim;
    }
    let config = ModelConfig {
        format: FORMAT.to_owned(),
        family: "vqtok".to_owned(),
        architecture,
        quantizer,
        pixels,
        preprocess: PreprocessConfig::new("none", None),
        provenance: BTreeMap::new(),
    };
    let weights = weights(&config, r);
    let size = size(&config, r);
    let images = images(size, config.pixels.channels, r);
    let codes = codes(&config, size, r);
    Drawn { config, weights, size, images, codes }
}

fn architecture(family: Family, r: &mut Random) -> Architecture {
    let parts = match r.below(8) {
        0 => Parts::Encoder,
        1 => Parts::Decoder,
        _ => Parts::Both,
    };
    // Of as many channels as groups, each is normalised alone.
    let norm_groups = r.of(&[1, 1, 2, 3, 4, 8, 32]);
    let norm_eps = r.of(&[1e-6, 1e-5]);
    let levels = r.among(1, 4);
    let res_blocks = r.among(1, 2);
    let sizes = Sizes { parts, norm_groups, norm_eps, levels, res_blocks };
    match family {
        Family::Vqgan => Architecture::Vqgan(sizes.vqgan(r)),
        Family::Vqvae => Architecture::Vqvae(VqvaeConfig {
            hidden: r.width().max(2),
            downsamples: r.among(1, 3),
            res_blocks: r.below(3),
            res_hidden: r.width(),
        }),
        Family::Maskgit if r.one_in(2) => Architecture::VqganPlus(sizes.resnet(r)),
        Family::Maskgit => Architecture::Maskgit(sizes.resnet(r)),
        Family::OpenMagvit2 => Architecture::OpenMagvit2(sizes.resnet(r)),
        Family::Dalle => Architecture::Dalle(DalleConfig {
            hidden: r.among(4, 17),
            init: r.width(),
            blocks: res_blocks,
            parts,
        }),
        Family::Vqvae2 => Architecture::Vqvae2(Vqvae2Config {
            channels: r.width().max(2),
            res_blocks: r.below(3),
            res_channels: r.width(),
        }),
        Family::VitVqgan => Architecture::VitVqgan(transformers::vit_vqgan(parts, r)),
        Family::Titok => Architecture::Titok(transformers::titok(parts, sizes.resnet(r), r)),
        Family::Unitok => {
            Architecture::Unitok(transformers::unitok(parts, r.of(&[1, 3, 8, 16]), r))
        }
    }
}

/// What convolutional architectures share.
struct Sizes {
    parts: Parts,
    norm_groups: usize,
    norm_eps: f64,
    levels: usize,
    res_blocks: usize,
}

impl Sizes {
    fn widths(&self, r: &mut Random) -> Vec<usize> {
        (0..self.levels).map(|_| r.multiple(self.norm_groups)).collect()
    }

    fn attention(&self, r: &mut Random) -> Vec<bool> {
        (0..self.levels).map(|_| r.one_in(3)).collect()
    }

    fn vqgan(&self, r: &mut Random) -> VqganConfig {
        VqganConfig {
            ch: r.multiple(self.norm_groups),
            widths: self.widths(r),
            res_blocks: self.res_blocks,
            attention: self.attention(r),
            mid_attention: r.one_in(2),
            z_channels: r.width(),
            norm_groups: self.norm_groups,
            norm_eps: self.norm_eps,
            parts: self.parts,
            decoder: r.one_in(3).then(|| VqganDecoderConfig {
                widths: self.widths(r),
                blocks: r.among(1, 2),
                attention: self.attention(r),
                mid_attention: r.one_in(2),
                blocks_by_level: self.blocks_by_level(r),
                spatial_norm: r.one_in(3).then_some(self.norm_groups),
            }),
            variant: self.variant(r),
        }
    }

    fn blocks_by_level(&self, r: &mut Random) -> Vec<usize> {
        match r.one_in(4) {
            true => (0..self.levels).map(|_| r.among(1, 3)).collect(),
            false => Vec::new(),
        }
    }

    fn variant(&self, r: &mut Random) -> VqganVariant {
        if !r.one_in(4) {
            return VqganVariant { blocks: self.blocks_by_level(r), ..VqganVariant::default() };
        }
        let halvings = r.among(0, self.levels - 1);
        let patch = r.of(&[1, 2, 4]);
        let frames = FramesConfig {
            halvings: r.among(1, 3),
            encoder_blocks: r.below(3),
            decoder_blocks: r.below(3),
        };
        VqganVariant {
            blocks: Vec::new(),
            patch: Some(patch),
            halvings: Some(halvings),
            pad: r.one_in(2).then_some(patch << halvings),
            around: r.one_in(2).then_some(3),
            frames: r.one_in(2).then_some(frames),
        }
    }

    fn resnet(&self, r: &mut Random) -> ResnetConfig {
        ResnetConfig {
            ch: r.multiple(self.norm_groups),
            widths: self.widths(r),
            res_blocks: self.res_blocks,
            norm_groups: self.norm_groups,
            norm_eps: self.norm_eps,
            parts: self.parts,
        }
    }
}

fn quantizer(family: Family, architecture: &Architecture, r: &mut Random) -> QuantizerConfig {
    use QuantizerRule::{Dot, Fsq, L2, L2Normalised, Logits, Projection, Sign, SignHigh};
    let (codes, dim) = (r.of(&[1, 3, 16, 40, 150, 300]), r.width());
    let codes = r.among(1, codes);
    if let Architecture::Unitok(c) = architecture {
        return books(c, codes, r);
    }
    let rule = match family {
        Family::Dalle => Logits,
        Family::Vqvae2 => r.of(&[L2, L2, L2Normalised]),
        Family::OpenMagvit2 => r.of(&[Sign, Sign, Sign, L2, Fsq]),
        _ => r.of(&[L2, L2, L2, L2Normalised, Dot, Projection, Sign, Fsq]),
    };
    match rule {
        Logits => QuantizerConfig::new(Logits, codes, codes),
        Sign => {
            let bits = r.among(1, 40);
            let codes = if bits > NUMBERED_BITS_MAX { 2 } else { 1 << bits };
            QuantizerConfig::new(r.of(&[Sign, SignHigh]), codes, bits)
        }
        Fsq => {
            let levels: Vec<usize> = (0..r.among(1, 6)).map(|_| r.among(2, 8)).collect();
            let (codes, dim) = (levels.iter().product(), levels.len());
            QuantizerConfig { levels, ..QuantizerConfig::new(Fsq, codes, dim) }
        }
        // The encoder and the projection of a decoder's file were left out.
        Projection if parts(architecture) == Parts::Decoder => QuantizerConfig::new(L2, codes, dim),
        L2 if !matches!(family, Family::Vqvae2 | Family::Titok) && r.one_in(3) => {
            QuantizerConfig { depth: r.among(2, 4), ..QuantizerConfig::new(L2, codes, dim) }
        }
        rule => QuantizerConfig {
            decode_normalised: rule == L2 && family != Family::Vqvae2 && r.one_in(4),
            ..QuantizerConfig::new(rule, codes, dim)
        },
    }
}

/// Of a UniTok: books side by side, or one, whose codes together divide both widths.
fn books(config: &UnitokConfig, codes: usize, r: &mut Random) -> QuantizerConfig {
    let [a, b] = [config.encoder.dim, config.decoder.dim];
    let fits = |dim: &usize| a % dim == 0 && b % dim == 0 && *dim < a.min(b);
    let dim = [16, 8, 3, 1].into_iter().find(fits).unwrap_or(1);
    let books = [4, 2].into_iter().find(|books| dim % books == 0 && r.one_in(2)).unwrap_or(1);
    QuantizerConfig { books, ..QuantizerConfig::new(QuantizerRule::L2Normalised, codes, dim) }
}

fn parts(architecture: &Architecture) -> Parts {
    match architecture {
        Architecture::Vqgan(c) => c.parts,
        Architecture::Maskgit(c) | Architecture::VqganPlus(c) => c.parts,
        Architecture::OpenMagvit2(c) => c.parts,
        Architecture::VitVqgan(c) => c.parts,
        Architecture::Titok(c) => c.parts,
        Architecture::Unitok(c) => c.parts,
        Architecture::Dalle(c) => c.parts,
        Architecture::Vqvae(_) | Architecture::Vqvae2(_) => Parts::Both,
        Architecture::Onnx(c) => c.parts(),
    }
}

/// Whatever the network asks for.
fn weights(config: &ModelConfig, r: &mut Random) -> BTreeMap<String, Tensor> {
    let maker = Maker::seeded(r.next());
    let QuantizerConfig { rule, codes, dim, .. } = config.quantizer;
    if rule == QuantizerRule::Projection {
        // Read without a shape: it is asked for with one here, so that it is there.
        let asked = maker.builder().pp("quantize.proj").get((codes, dim, 1, 1), "weight");
        asked.expect("a tensor");
    }
    model::build(config, maker.builder()).expect("a model that candle takes");
    maker.weights()
}

/// Images, height and width: mostly what the model takes, one in twelve whatever it is.
fn size(config: &ModelConfig, r: &mut Random) -> (usize, usize, usize) {
    let count = r.among(1, 3);
    if let Architecture::VitVqgan(VitVqganConfig { grid, patch, .. })
    | Architecture::Titok(TitokConfig { grid, patch, .. }) = &config.architecture
    {
        let [height, width] = [0, 1].map(|i| grid[i] * patch[i]);
        return (count, height + usize::from(r.one_in(12)), width);
    }
    let least = match &config.architecture {
        Architecture::Vqvae2(_) => 8,
        _ => config.factor()[0],
    };
    let widest = widest(&config.architecture);
    let area = (WORK_MAX / (9 * widest * widest)).min(4096) / count;
    let area = area.max(least * least);
    if r.one_in(12) {
        return (count, r.among(1, 2 * least), r.among(1, 2 * least));
    }
    let height = r.among(least, (area / least).clamp(least, 96));
    let width = r.among(least, (area / height).clamp(least, 96));
    match &config.architecture {
        // The top level halves the bottom's grid.
        Architecture::Vqvae2(_) => (count, height / 8 * 8 + r.below(4), width / 8 * 8 + r.below(4)),
        _ => (count, height, width),
    }
}

/// Channels at about full size, of the widest convolution's both sides.
fn widest(architecture: &Architecture) -> usize {
    match architecture {
        Architecture::Vqgan(c) => {
            let attention = 60 * usize::from(c.attention.iter().any(|&a| a) || c.mid_attention);
            let widths = c.widths.iter().chain(&c.decoder().widths).copied().max();
            widths.unwrap_or(1).max(c.ch).max(attention)
        }
        Architecture::Maskgit(c) | Architecture::VqganPlus(c) | Architecture::OpenMagvit2(c) => {
            c.widths.iter().copied().max().unwrap_or(1).max(c.ch)
        }
        Architecture::Vqvae(c) => c.hidden / 2 + 1,
        Architecture::Vqvae2(c) => c.channels / 2 + 1,
        Architecture::Dalle(c) => 4 * c.hidden,
        Architecture::Unitok(c) => {
            c.stages.iter().map(|stage| stage.width.max(stage.hidden)).max().unwrap_or(1)
        }
        Architecture::VitVqgan(_) | Architecture::Titok(_) | Architecture::Onnx(_) => 1,
    }
}

fn images(size: (usize, usize, usize), channels: usize, r: &mut Random) -> PixelBatch {
    let (count, height, width) = size;
    // Flat pictures are the ones whose norms divide by almost nothing.
    let flat = r.one_in(16);
    let pixels = 0..count * height * width * channels;
    let pixels = pixels.map(|_| if flat { 128 } else { r.below(256) as u8 }).collect();
    PixelBatch { pixels, count, height, width, channels }
}

fn codes(config: &ModelConfig, size: (usize, usize, usize), r: &mut Random) -> Option<Encoded> {
    let (count, height, width) = size;
    let grids = config.grid(height, width).ok()?;
    let level = |(height, width): (usize, usize)| CodeGrid {
        codes: (0..count * height * width * config.quantizer.values())
            .map(|_| r.below(config.quantizer.codes) as u32)
            .collect(),
        distances: Vec::new(),
        height,
        width,
    };
    Some(Encoded { count, levels: grids.into_iter().map(level).collect(), failed: Vec::new() })
}
