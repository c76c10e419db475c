//! Owns the inference of a network's sizes from the shapes of its weights under canonical names.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::KeyLayout;
use super::published::Published;
use super::recent_geometry as recent;
use super::scales as multiscale;
use super::{titok, unitok, vit_vqgan};
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;

/// Shapes by canonical name.
pub(crate) struct Shapes<'a>(pub &'a BTreeMap<String, Vec<usize>>);

impl Shapes<'_> {
    /// The length of one axis of a weight that the family must have.
    pub(crate) fn axis(&self, name: &str, axis: usize) -> Result<usize> {
        let shape = self.0.get(name);
        let length = shape.and_then(|shape| shape.get(axis)).filter(|&&length| length > 0);
        length.copied().ok_or_else(|| match shape {
            None => Error::invalid(format!("the checkpoint has no tensor `{name}`")),
            Some(shape) => {
                Error::invalid(format!("tensor `{name}` has the unexpected shape {shape:?}"))
            }
        })
    }

    /// Whether a weight exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether any name begins with `prefix`.
    pub(crate) fn any(&self, prefix: &str) -> bool {
        self.0.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// How many different numbers follow `prefix`.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let names =
            self.0.range(prefix.to_owned()..).map_while(|(name, _)| name.strip_prefix(prefix));
        let numbers = names.filter_map(|rest| rest.split('.').next()?.parse::<usize>().ok());
        numbers.collect::<BTreeSet<_>>().len()
    }

    pub(super) fn parts(&self, encoder: &str, decoder: &str) -> Parts {
        match (self.any(encoder), self.any(decoder)) {
            (true, false) => Parts::Encoder,
            (false, true) => Parts::Decoder,
            _ => Parts::Both,
        }
    }

    /// `[widths]` of `{stem}.{i}.block.0.conv2`, highest resolution first.
    pub(super) fn widths(&self, stem: &str) -> Result<Vec<usize>> {
        let levels = self.count(&format!("{stem}."));
        (0..levels).map(|i| self.axis(&format!("{stem}.{i}.block.0.conv2.weight"), 0)).collect()
    }

    fn attention(&self, stem: &str, levels: usize) -> Vec<bool> {
        (0..levels).map(|i| self.any(&format!("{stem}.{i}.attn."))).collect()
    }
}

/// A number that no weight shows and a configuration may say.
pub(crate) struct Optional {
    /// What it is, for provenance.
    pub name: &'static str,
    /// The keys it stands under; none where no configuration says it.
    pub keys: &'static [&'static str],
    /// What it is where none says it.
    pub default: String,
}

/// The architecture of `layout` with these shapes, the image channels, and codes and dim.
pub(crate) struct Geometry {
    /// The network.
    pub architecture: Architecture,
    /// Channels of an image.
    pub channels: usize,
    /// K.
    pub codes: usize,
    /// D.
    pub dim: usize,
    /// Residual levels of codes.
    pub depth: usize,
    /// Books side by side.
    pub books: usize,
    /// Scales of codes, where there are several.
    pub scales: Option<ScalesConfig>,
    /// Levels of digits, where codes are made of them.
    pub levels: Vec<usize>,
    /// Whether codes are normalised, where the family's configurations may say and don't.
    pub normalised: bool,
    /// Pixels a side, where the network has no other size.
    pub side: Option<u32>,
    /// What it takes besides the weights.
    pub optional: Vec<Optional>,
}

impl Geometry {
    /// Of an architecture with K codes of length D, and norms whose groups no weight shows.
    pub(super) fn new(
        architecture: Architecture,
        channels: usize,
        (codes, dim): (usize, usize),
    ) -> Geometry {
        let (depth, scales, levels) = (1, None, Vec::new());
        let (normalised, side, optional) = (true, None, of_norms());
        Geometry {
            architecture,
            channels,
            codes,
            dim,
            depth,
            books: 1,
            scales,
            levels,
            normalised,
            side,
            optional,
        }
    }
}

/// Infers everything that shapes tell; `published` gives what they don't (groups, heads).
pub(crate) fn infer(layout: KeyLayout, shapes: &Shapes, published: &Published) -> Result<Geometry> {
    match layout {
        KeyLayout::Canonical
        | KeyLayout::CanonicalReversedUp
        | KeyLayout::Diffusers
        | KeyLayout::LlamaGen
        | KeyLayout::Movq
        | KeyLayout::DiffusersSpatial => {
            let config = vqgan(shapes, published)?;
            let channels = image_channels(shapes)?;
            Ok(Geometry::new(Architecture::Vqgan(config), channels, codebook(shapes)?))
        }
        KeyLayout::ShowO => recent::show_o(shapes, published),
        KeyLayout::Rqvae => recent::rqvae(shapes, published),
        KeyLayout::Emu3 | KeyLayout::Emu3Hf => recent::emu3(shapes, published),
        KeyLayout::Cosmos => recent::cosmos(shapes, published),
        KeyLayout::MaskBit => recent::vqgan_plus(shapes, published),
        KeyLayout::Titok => titok::infer(shapes, published),
        KeyLayout::Unitok => unitok::infer(shapes),
        KeyLayout::Var => multiscale::var(shapes, published),
        KeyLayout::Infinity => multiscale::infinity(shapes, published),
        KeyLayout::Maskgit => maskgit(shapes, published),
        KeyLayout::OpenMagvit2 => open_magvit2(shapes, published),
        KeyLayout::Vit => vit_vqgan::infer(shapes, published),
        KeyLayout::DalleEncoder | KeyLayout::DalleDecoder | KeyLayout::DallePair => dalle(shapes),
        KeyLayout::Vqvae2 => vqvae2(shapes),
    }
}

/// Groups of norms that codes modulate: their classes know no others.
const SPATIAL_GROUPS: usize = 32;

const NORM_GROUPS: &[&str] = &["norm_num_groups"];

fn norm_groups(published: &Published) -> Result<usize> {
    Ok(published.usize(NORM_GROUPS)?.map_or(32, |(groups, _)| groups))
}

/// [`norm_groups`] for provenance.
fn of_norms() -> Vec<Optional> {
    vec![Optional { name: "norm groups", keys: NORM_GROUPS, default: "32".to_owned() }]
}

/// Channels of an image, from the encoder's input or the decoder's output.
pub(super) fn image_channels(shapes: &Shapes) -> Result<usize> {
    if shapes.has("encoder.conv_in.weight") {
        shapes.axis("encoder.conv_in.weight", 1)
    } else {
        shapes.axis("decoder.conv_out.weight", 0)
    }
}

pub(super) fn codebook(shapes: &Shapes) -> Result<(usize, usize)> {
    let name = "quantize.embedding.weight";
    Ok((shapes.axis(name, 0)?, shapes.axis(name, 1)?))
}

pub(super) fn vqgan(shapes: &Shapes, published: &Published) -> Result<VqganConfig> {
    let parts = shapes.parts("encoder.", "decoder.");
    let decoder = parts.decoder().then(|| vqgan_decoder(shapes)).transpose()?;
    let mut config = VqganConfig {
        ch: 0,
        widths: vec![],
        res_blocks: 0,
        attention: vec![],
        mid_attention: false,
        z_channels: 0,
        norm_groups: norm_groups(published)?,
        norm_eps: 1e-6,
        parts,
        decoder: None,
        variant: VqganVariant::default(),
    };
    if parts.encoder() {
        config.ch = shapes.axis("encoder.conv_in.weight", 0)?;
        config.widths = shapes.widths("encoder.down")?;
        config.res_blocks = shapes.count("encoder.down.0.block.");
        config.attention = shapes.attention("encoder.down", config.widths.len());
        config.mid_attention = shapes.any("encoder.mid.attn_1.");
        config.z_channels = shapes.axis("encoder.conv_out.weight", 0)?;
    } else if let Some(decoder) = &decoder {
        config.widths = decoder.widths.clone();
        config.ch = decoder.widths.first().copied().unwrap_or(0);
        config.res_blocks = decoder.blocks.saturating_sub(1);
        config.attention = decoder.attention.clone();
        config.mid_attention = decoder.mid_attention;
        config.z_channels = shapes.axis("decoder.conv_in.weight", 1)?;
    }
    if config.widths.is_empty() {
        return Err(Error::invalid(
            "the checkpoint has no levels (`encoder.down.*`, `decoder.up.*`)",
        ));
    }
    // The mirror needs no words of its own.
    if decoder.as_ref().is_some_and(|own| *own != config.decoder()) {
        config.decoder = decoder;
    }
    Ok(config)
}

fn vqgan_decoder(shapes: &Shapes) -> Result<VqganDecoderConfig> {
    let widths = shapes.widths("decoder.up")?;
    Ok(VqganDecoderConfig {
        blocks: shapes.count("decoder.up.0.block."),
        attention: shapes.attention("decoder.up", widths.len()),
        mid_attention: shapes.any("decoder.mid.attn_1."),
        blocks_by_level: Vec::new(),
        spatial_norm: shapes.has("decoder.norm_out.norm_layer.weight").then_some(SPATIAL_GROUPS),
        widths,
    })
}

/// Widths and blocks of the two families whose halves are mirrors: (ch, widths, blocks).
fn mirrored(shapes: &Shapes, parts: Parts) -> Result<(usize, Vec<usize>, usize)> {
    let stem = if parts.encoder() { "encoder.down" } else { "decoder.up" };
    let widths = shapes.widths(stem)?;
    let Some(&first) = widths.first() else {
        return Err(Error::invalid(format!("the checkpoint has no levels (`{stem}.*`)")));
    };
    let ch = match parts.encoder() {
        true => shapes.axis("encoder.conv_in.weight", 0)?,
        false => first,
    };
    Ok((ch, widths, shapes.count(&format!("{stem}.0.block."))))
}

/// What MaskGIT-VQ and Open-MAGVIT2 have in common.
pub(super) fn resnets(shapes: &Shapes, published: &Published) -> Result<ResnetConfig> {
    let parts = shapes.parts("encoder.", "decoder.");
    let (ch, widths, res_blocks) = mirrored(shapes, parts)?;
    let norm_groups = norm_groups(published)?;
    Ok(ResnetConfig { ch, widths, res_blocks, norm_groups, norm_eps: 1e-6, parts })
}

fn maskgit(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let config = resnets(shapes, published)?;
    let channels = image_channels(shapes)?;
    Ok(Geometry::new(Architecture::Maskgit(config), channels, codebook(shapes)?))
}

fn open_magvit2(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let config = resnets(shapes, published)?;
    let dim = match config.parts.encoder() {
        true => shapes.axis("encoder.conv_out.weight", 0)?,
        false => shapes.axis("decoder.conv_in.weight", 1)?,
    };
    let channels = image_channels(shapes)?;
    Ok(Geometry::new(Architecture::OpenMagvit2(config), channels, bits(dim)))
}

/// The number of codes of so many bits, and these; 2 where a token is a list of bits.
pub(super) fn bits(dim: usize) -> (usize, usize) {
    (if dim > NUMBERED_BITS_MAX { 2 } else { 1 << dim }, dim)
}

fn dalle(shapes: &Shapes) -> Result<Geometry> {
    let parts = shapes.parts("encoder.", "decoder.");
    let (hidden, codes, channels) = match parts.encoder() {
        true => (
            shapes.axis("encoder.blocks.input.w", 0)?,
            shapes.axis("encoder.blocks.output.conv.w", 0)?,
            shapes.axis("encoder.blocks.input.w", 1)?,
        ),
        false => (
            shapes.axis("decoder.blocks.output.conv.w", 1)?,
            shapes.axis("decoder.blocks.input.w", 1)?,
            // Means and scales of a Laplace distribution.
            shapes.axis("decoder.blocks.output.conv.w", 0)? / 2,
        ),
    };
    let stem = if parts.encoder() { "encoder" } else { "decoder" };
    let init = match parts.decoder() {
        true => shapes.axis("decoder.blocks.input.w", 0)?,
        false => 0,
    };
    // Blocks are `block_1`, `block_2`, ...: the shapes are counted by their first convolution.
    let mut blocks = 0;
    while shapes.has(&format!("{stem}.blocks.group_1.block_{}.res_path.conv_1.w", blocks + 1)) {
        blocks += 1;
    }
    let config = DalleConfig { hidden, init, blocks, parts };
    let architecture = Architecture::Dalle(config);
    let geometry = Geometry::new(architecture, channels, (codes, codes));
    Ok(Geometry { optional: Vec::new(), ..geometry })
}

fn vqvae2(shapes: &Shapes) -> Result<Geometry> {
    let channels = shapes.axis("enc_b.blocks.4.weight", 0)?;
    // Residual blocks follow the last convolution of the bottom encoder, before a ReLU.
    let mut res_blocks = 0;
    while shapes.has(&format!("enc_b.blocks.{}.conv.1.weight", 5 + res_blocks)) {
        res_blocks += 1;
    }
    let res_channels = match res_blocks {
        0 => 0,
        _ => shapes.axis("enc_b.blocks.5.conv.1.weight", 0)?,
    };
    let config = Vqvae2Config { channels, res_blocks, res_channels };
    let channels = shapes.axis("enc_b.blocks.0.weight", 1)?;
    // Stored transposed: (dim, n).
    let book = (shapes.axis("quantize_b.embed", 1)?, shapes.axis("quantize_b.embed", 0)?);
    let geometry = Geometry::new(Architecture::Vqvae2(config), channels, book);
    Ok(Geometry { optional: Vec::new(), ..geometry })
}
