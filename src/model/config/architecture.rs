//! Owns the settings of each network family.

use serde::{Deserialize, Serialize};

use super::onnx::OnnxConfig;

/// The network families, each with its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Architecture {
    /// The classic VQ-VAE (van den Oord et al. 2017): strided 4x4 convolutions, residual blocks.
    Vqvae(VqvaeConfig),
    /// The encoder and decoder of taming-transformers, shared by most published tokenizers.
    Vqgan(VqganConfig),
    /// MaskGIT-VQ (open-muse): average pooling, no attention, shortcuts on the block's output.
    Maskgit(ResnetConfig),
    /// VQGAN+ (MaskBit): the same with strided convolutions, padded as TensorFlow does, so that
    /// odd sides round up.
    VqganPlus(ResnetConfig),
    /// Open-MAGVIT2: bias-free blocks, a decoder modulated by the codes, sign bits as codes.
    OpenMagvit2(ResnetConfig),
    /// ViT-VQGAN (enhancing-transformers): patches, transformers, a fixed grid.
    VitVqgan(VitVqganConfig),
    /// TiTok (1d-tokenizer): a row of latent tokens beside the patches of a fixed grid.
    Titok(TitokConfig),
    /// UniTok (FoundationVision): a ViTamin, and books side by side.
    Unitok(UnitokConfig),
    /// DALL-E's dVAE.
    Dalle(DalleConfig),
    /// VQ-VAE-2 (rosinality): two levels of codes.
    Vqvae2(Vqvae2Config),
    /// A network in ONNX files, which no configuration of ours describes: the files do.
    #[serde(skip_deserializing)]
    Onnx(Box<OnnxConfig>),
}

impl Architecture {
    /// Which halves there are.
    pub fn parts(&self) -> Parts {
        match self {
            Architecture::Vqvae(_) | Architecture::Vqvae2(_) => Parts::Both,
            Architecture::Vqgan(c) => c.parts,
            Architecture::Maskgit(c) | Architecture::VqganPlus(c) => c.parts,
            Architecture::OpenMagvit2(c) => c.parts,
            Architecture::VitVqgan(c) => c.parts,
            Architecture::Titok(c) => c.parts,
            Architecture::Unitok(c) => c.parts,
            Architecture::Dalle(c) => c.parts,
            Architecture::Onnx(c) => c.parts(),
        }
    }
}

/// Which halves a checkpoint has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parts {
    /// Encoder and decoder.
    #[default]
    Both,
    /// Images to codes only.
    Encoder,
    /// Codes to images only.
    Decoder,
}

impl Parts {
    /// Whether images can become codes.
    pub fn encoder(self) -> bool {
        self != Parts::Decoder
    }

    /// Whether codes can become images.
    pub fn decoder(self) -> bool {
        self != Parts::Encoder
    }
}

/// Classic VQ-VAE. Factor = 2^downsamples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqvaeConfig {
    /// Width h of the trunk; the first strided convolution has h/2.
    pub hidden: usize,
    /// Number of stride-2 convolutions.
    pub downsamples: usize,
    /// Residual blocks on each side.
    pub res_blocks: usize,
    /// Width inside a residual block.
    pub res_hidden: usize,
}

/// The canonical encoder and decoder. Factor = 2^(levels-1), unless its variant says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqganConfig {
    /// Channels after `conv_in` of the encoder.
    pub ch: usize,
    /// Channels of each level, highest resolution first (ch times ch_mult).
    pub widths: Vec<usize>,
    /// Residual blocks a level in the encoder; the decoder has one more.
    pub res_blocks: usize,
    /// Whether a level has attention, highest resolution first; the same length as `widths`.
    pub attention: Vec<bool>,
    /// Whether the middle block has attention.
    pub mid_attention: bool,
    /// Channels of `conv_out` of the encoder, before `quant_conv`.
    pub z_channels: usize,
    /// Groups of every GroupNorm.
    pub norm_groups: usize,
    /// Epsilon of every GroupNorm.
    pub norm_eps: f64,
    /// Which halves there are; the fields above describe the decoder where it is alone.
    #[serde(default)]
    pub parts: Parts,
    /// A decoder that is no mirror of the encoder; None is the mirror: the same widths and
    /// attention, one block more a level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<VqganDecoderConfig>,
    /// What the family does otherwise than taming; unwritten where that is nothing.
    #[serde(default, skip_serializing_if = "VqganVariant::is_plain")]
    pub variant: VqganVariant,
}

/// What some families do otherwise than taming.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VqganVariant {
    /// Residual blocks of each level of the encoder, where they aren't as many in all (Show-o).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<usize>,
    /// Pixels along a side that the first layer takes together, and the last one makes at once
    /// (Cosmos, whose wavelets are in those layers' weights).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// How many levels end with halving, the first ones (Cosmos); None: all but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halvings: Option<usize>,
    /// Pictures are padded with black to multiples of so many pixels (Cosmos).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad: Option<usize>,
    /// Side of the windows of the convolutions around the quantizer, where it isn't 1 (VAR); 0 where
    /// there are none (Infinity).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub around: Option<usize>,
    /// The layers over frames, of which a picture is several equal ones (Emu3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<FramesConfig>,
}

impl VqganVariant {
    /// Whether it is taming's network.
    pub fn is_plain(&self) -> bool {
        *self == VqganVariant::default()
    }
}

/// Emu3's layers over frames. A picture is 2^halvings equal frames, which become one, and what is
/// decoded of that one is the first of as many, so that plain convolutions with sums of the
/// published weights do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FramesConfig {
    /// Convolutions that halve the number of frames, and that double it.
    pub halvings: usize,
    /// Residual blocks over frames of the encoder.
    pub encoder_blocks: usize,
    /// The same of the decoder.
    pub decoder_blocks: usize,
}

/// A canonical decoder with widths of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqganDecoderConfig {
    /// Channels of each level, highest resolution first.
    pub widths: Vec<usize>,
    /// Residual blocks a level, all of them.
    pub blocks: usize,
    /// Whether a level has attention, highest resolution first.
    pub attention: Vec<bool>,
    /// Whether the middle block has attention.
    pub mid_attention: bool,
    /// Residual blocks of each level, where they aren't as many in all (Show-o).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks_by_level: Vec<usize>,
    /// Groups of its norms where the codes modulate them (MoVQ).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spatial_norm: Option<usize>,
}

impl VqganDecoderConfig {
    /// Residual blocks of a level.
    pub fn blocks_of(&self, level: usize) -> usize {
        self.blocks_by_level.get(level).copied().unwrap_or(self.blocks)
    }
}

impl VqganConfig {
    /// Residual blocks of a level of the encoder.
    pub fn blocks_of(&self, level: usize) -> usize {
        self.variant.blocks.get(level).copied().unwrap_or(self.res_blocks)
    }

    /// How many levels end with halving, of as many.
    pub fn halvings_of(&self, levels: usize) -> usize {
        self.variant.halvings.unwrap_or(levels.saturating_sub(1))
    }

    /// Pixels that a token covers along a side.
    pub fn factor(&self) -> usize {
        let levels = match self.parts {
            Parts::Decoder => self.decoder().widths.len(),
            _ => self.widths.len(),
        };
        self.variant.patch.unwrap_or(1) << self.halvings_of(levels)
    }

    /// The decoder's own settings, the mirror of the encoder where nothing else is said.
    pub fn decoder(&self) -> VqganDecoderConfig {
        self.decoder.clone().unwrap_or_else(|| VqganDecoderConfig {
            widths: self.widths.clone(),
            blocks: self.res_blocks.saturating_add(1),
            attention: self.attention.clone(),
            mid_attention: self.mid_attention,
            blocks_by_level: self.variant.blocks.iter().map(|blocks| blocks + 1).collect(),
            spatial_norm: None,
        })
    }
}

/// MaskGIT-VQ, VQGAN+ and Open-MAGVIT2: residual blocks without attention. Factor = 2^(levels-1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResnetConfig {
    /// Channels after `conv_in` of the encoder.
    pub ch: usize,
    /// Channels of each level, highest resolution first.
    pub widths: Vec<usize>,
    /// Residual blocks a level and in the middle, in the encoder and in the decoder.
    pub res_blocks: usize,
    /// Groups of every GroupNorm.
    pub norm_groups: usize,
    /// Epsilon of every GroupNorm.
    pub norm_eps: f64,
    /// Which halves there are.
    #[serde(default)]
    pub parts: Parts,
}

/// ViT-VQGAN. The grid is fixed by the position embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitVqganConfig {
    /// Patch height and width, in pixels.
    pub patch: [usize; 2],
    /// Grid height and width, in tokens.
    pub grid: [usize; 2],
    /// The encoder's transformer; without an encoder, the decoder's.
    pub encoder: TransformerConfig,
    /// The decoder's transformer; without a decoder, the encoder's.
    pub decoder: TransformerConfig,
    /// Which halves there are.
    #[serde(default)]
    pub parts: Parts,
}

/// TiTok. A picture of `grid` patches gives `latents` codes in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TitokConfig {
    /// Patch height and width, in pixels.
    pub patch: [usize; 2],
    /// Patches of a column and of a row.
    pub grid: [usize; 2],
    /// Latent tokens of a picture.
    pub latents: usize,
    /// The encoder's transformer; without an encoder, the decoder's.
    pub encoder: TransformerConfig,
    /// The decoder's transformer; without a decoder, the encoder's.
    pub decoder: TransformerConfig,
    /// Whether the encoder's last layer takes the states of tokens for those of channels, as the first
    /// published ones do.
    #[serde(default)]
    pub legacy: bool,
    /// The decoder behind the transformer's; None where that makes pixels itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<TitokPixels>,
    /// Which halves there are.
    #[serde(default)]
    pub parts: Parts,
}

/// MaskGIT-VQ's decoder of a mixture of its codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TitokPixels {
    /// Width between the transformer's states and the codes' logits.
    pub hidden: usize,
    /// Codes that are mixed.
    pub codes: usize,
    /// Their length.
    pub dim: usize,
    /// The decoder.
    pub resnets: ResnetConfig,
}

/// UniTok. Factor = 2^(stages + 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitokConfig {
    /// Width of the first convolutions.
    pub stem: usize,
    /// The convolutional stages, highest resolution first; each halves its maps.
    pub stages: Vec<UnitokStage>,
    /// The encoder's transformer; without an encoder, the decoder's.
    pub encoder: TransformerConfig,
    /// The decoder's transformer; without a decoder, the encoder's.
    pub decoder: TransformerConfig,
    /// Width inside the feed-forward block of the projection to the codes' width.
    pub quant_hidden: usize,
    /// The same of the one from it.
    pub post_quant_hidden: usize,
    /// Which halves there are.
    #[serde(default)]
    pub parts: Parts,
}

/// A stage of inverted bottlenecks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitokStage {
    /// Its width.
    pub width: usize,
    /// Width inside its blocks.
    pub hidden: usize,
    /// Blocks in the encoder.
    pub encoder_blocks: usize,
    /// Blocks in the decoder.
    pub decoder_blocks: usize,
}

/// A pre-norm transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of layers.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width inside the feed-forward block.
    pub mlp_dim: usize,
}

/// DALL-E's dVAE: four groups of blocks. Factor 8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DalleConfig {
    /// Width of the narrowest group.
    pub hidden: usize,
    /// Channels after the decoder's first layer.
    pub init: usize,
    /// Blocks a group.
    pub blocks: usize,
    /// Which halves there are; published as two files.
    #[serde(default)]
    pub parts: Parts,
}

/// VQ-VAE-2. Factor 4 (bottom) and 8 (top).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vqvae2Config {
    /// Width of the trunk.
    pub channels: usize,
    /// Residual blocks in each encoder and decoder.
    pub res_blocks: usize,
    /// Width inside a residual block.
    pub res_channels: usize,
}
