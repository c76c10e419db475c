//! Owns the configuration language of models: what `config.json` of a model folder holds and what
//! a recipe's `[model]` table says. Must not know: tensors, files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The format word in `config.json`.
pub const FORMAT: &str = "vqtok.model.v1";

/// Residual levels of codes at most.
pub const DEPTH_MAX: usize = 16;

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
    pub provenance: std::collections::BTreeMap<String, String>,
}

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
    /// Open-MAGVIT2: bias-free blocks, a decoder modulated by the codes, sign bits as codes.
    OpenMagvit2(ResnetConfig),
    /// ViT-VQGAN (enhancing-transformers): patches, transformers, a fixed grid.
    VitVqgan(VitVqganConfig),
    /// DALL-E's dVAE.
    Dalle(DalleConfig),
    /// VQ-VAE-2 (rosinality): two levels of codes.
    Vqvae2(Vqvae2Config),
}

impl Architecture {
    /// Which halves there are.
    pub fn parts(&self) -> Parts {
        match self {
            Architecture::Vqvae(_) | Architecture::Vqvae2(_) => Parts::Both,
            Architecture::Vqgan(c) => c.parts,
            Architecture::Maskgit(c) => c.parts,
            Architecture::OpenMagvit2(c) => c.parts,
            Architecture::VitVqgan(c) => c.parts,
            Architecture::Dalle(c) => c.parts,
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

/// The canonical encoder and decoder. Factor = 2^(levels-1).
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
}

impl VqganConfig {
    /// The decoder's own settings, the mirror of the encoder where nothing else is said.
    pub fn decoder(&self) -> VqganDecoderConfig {
        self.decoder.clone().unwrap_or_else(|| VqganDecoderConfig {
            widths: self.widths.clone(),
            blocks: self.res_blocks + 1,
            attention: self.attention.clone(),
            mid_attention: self.mid_attention,
        })
    }
}

/// MaskGIT-VQ and Open-MAGVIT2: residual blocks without attention. Factor = 2^(levels-1).
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

/// How a latent becomes a code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizerConfig {
    /// The rule.
    pub rule: QuantizerRule,
    /// K, the number of codes.
    pub codes: usize,
    /// D, the length of a code.
    pub dim: usize,
    /// Codes are normalised to length one before decoding although the rule is not
    /// `l2-normalised` (Janus as Hugging Face has it).
    #[serde(default)]
    pub decode_normalised: bool,
    /// Levels of each channel, for rule `fsq` only: their number is D, their product K.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<usize>,
    /// Residual levels, for rule `l2`: each has a codebook of its own and quantizes what the levels
    /// before it left over; the decoder gets the sum. Written only where there is more than one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub depth: usize,
}

/// The depth of a quantizer that says none.
pub(crate) fn one() -> usize {
    1
}

/// Whether a depth goes without saying.
pub(crate) fn is_one(depth: &usize) -> bool {
    *depth == 1
}

impl QuantizerConfig {
    /// K codes of length D, decoded as they are; no levels.
    pub fn new(rule: QuantizerRule, codes: usize, dim: usize) -> QuantizerConfig {
        let (decode_normalised, levels) = (false, Vec::new());
        QuantizerConfig { rule, codes, dim, decode_normalised, levels, depth: 1 }
    }

    /// Codes of all levels together: the rows of the codebook.
    pub fn all_codes(&self) -> usize {
        self.depth * self.codes
    }

    /// K, or `<depth> x <K>`.
    pub fn codes_in_words(&self) -> String {
        match self.depth {
            1 => self.codes.to_string(),
            depth => format!("{depth} x {}", self.codes),
        }
    }

    /// The quantizer of each level on its own.
    pub fn of_level(&self) -> QuantizerConfig {
        QuantizerConfig { depth: 1, ..self.clone() }
    }

    /// Refuses, in one line, a depth that can't be. Vectors of length one leave no residuals of
    /// length one, and rules without a codebook leave none that their codes could hold.
    pub fn check_depth(&self) -> Result<(), String> {
        if !(1..=DEPTH_MAX).contains(&self.depth) {
            return Err(format!("the depth is {}; it must be 1 to {DEPTH_MAX}", self.depth));
        }
        if self.depth > 1 && (self.rule != QuantizerRule::L2 || self.decode_normalised) {
            let rule = self.rule;
            let normalised = if self.decode_normalised { " with decode_normalised" } else { "" };
            return Err(format!(
                "residual levels (depth {}) take the quantizer rule \"l2\", not \"{rule}\"{normalised}",
                self.depth
            ));
        }
        Ok(())
    }

    /// Whether decoding looks up normalised codes.
    pub fn normalises_lookup(&self) -> bool {
        self.decode_normalised || self.rule == QuantizerRule::L2Normalised
    }
}

/// The arg-min or arg-max that picks a code; ties go to the lower index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuantizerRule {
    /// Smallest |z|^2 + |e|^2 - 2 z.e.
    L2,
    /// The same after normalising both z and the codes to length one.
    L2Normalised,
    /// Largest z.e (IBQ).
    Dot,
    /// Largest row of a 1x1 projection of z (gumbel).
    Projection,
    /// Largest channel of the encoder's output itself (DALL-E dVAE).
    Logits,
    /// Sign bits of z, channel 0 the low bit (LFQ).
    Sign,
    /// Each channel bounded and rounded, channel 0 the low digit (FSQ).
    Fsq,
}

impl fmt::Display for QuantizerRule {
    /// The word in configurations and recipes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Bytes to floats on the way in, floats to bytes on the way out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelConfig {
    /// 1 (grey) or 3 (RGB), in and out.
    pub channels: usize,
    /// The 256-entry table from bytes to floats.
    pub input: InputRange,
    /// From the decoder's floats to bytes.
    pub output: OutputRange,
}

/// Named normalisations; each is a 256-entry float32 table, since the order of rounding alone
/// moves half of the entries by 6e-8. [`crate::model::pixels`] computes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputRange {
    /// float32(x / 127.5 - 1), computed in float64 (taming).
    Taming,
    /// float32(x/255*2 - 1), computed in float64 in Chameleon's order.
    Chameleon,
    /// torchvision ToTensor: x/255 in float32, [0, 1].
    Unit,
    /// torchvision ToTensor and Normalize(0.5, 0.5), [-1, 1].
    Symmetric,
    /// 0.8 x + 0.1 of x/255 (DALL-E dVAE).
    Dalle,
    /// diffusers' VaeImageProcessor: 2 x - 1 of x/255 in float32.
    Diffusers,
    /// Hugging Face Chameleon: u8 * 0.0078 - 1.
    ChameleonHf,
    /// x/255 - 0.5, [-0.5, 0.5]: the classic VQ-VAE trained here.
    Centered,
}

/// From the decoder's floats to bytes; all clamp. [`crate::model::pixels`] applies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputRange {
    /// trunc(255 (x+1)/2)
    SymmetricTruncate,
    /// trunc(127.5 x + 128)
    SymmetricHalfUp,
    /// trunc(255 (clamp(x,-1,1)+1)/2 + 0.5)
    SymmetricSaveImage,
    /// round half even of 255 (x/2 + 0.5)
    SymmetricRound,
    /// trunc(255 x)
    UnitTruncate,
    /// round half even of 255 x
    UnitRound,
    /// open-muse: y = clamp(2x-1), trunc(255 (y+1)/2)
    UnitMuse,
    /// trunc(255 (sigmoid(x)-0.1)/0.8)
    Dalle,
    /// round half even of 255 (x + 0.5): the classic VQ-VAE trained here.
    CenteredRound,
}

/// The default way from an oriented image to the model's pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessConfig {
    /// Name of the rule (`vqtok::data::resize`).
    pub resize: String,
    /// Side of the square crop, in pixels; None keeps each image's size (rule `none`).
    pub size: Option<u32>,
    /// What shows through transparency: `white`, `black` or `drop`. None, and unwritten: white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<String>,
    /// What becomes of the orientation that a file states: `apply` or `ignore`. None, and
    /// unwritten: it is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<String>,
    /// Whose resampling the rules of Pillow follow: 12 or 13. None, and unwritten: 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pillow: Option<u32>,
}

impl PreprocessConfig {
    /// A rule and a size, with nothing unusual about them.
    pub fn new(resize: &str, size: Option<u32>) -> PreprocessConfig {
        PreprocessConfig {
            resize: resize.to_owned(),
            size,
            alpha: None,
            orientation: None,
            pillow: None,
        }
    }
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
            _ => self.quantizer.depth,
        }
    }

    /// Pixels a token covers along each side, of the finest level (height and width).
    pub fn factor(&self) -> [usize; 2] {
        let square = |f: usize| [f, f];
        match &self.architecture {
            Architecture::Vqvae(c) => square(1 << c.downsamples),
            Architecture::Vqgan(c) if c.parts == Parts::Decoder => {
                square(1 << (c.decoder().widths.len() - 1))
            }
            Architecture::Vqgan(c) => square(1 << (c.widths.len() - 1)),
            Architecture::Maskgit(c) => square(1 << (c.widths.len() - 1)),
            Architecture::OpenMagvit2(c) => square(1 << (c.widths.len() - 1)),
            Architecture::VitVqgan(c) => c.patch,
            Architecture::Dalle(_) => square(8),
            Architecture::Vqvae2(_) => square(4),
        }
    }

    /// The grid (h, w), in tokens, of each level for an image of `height` x `width` pixels, as the
    /// reference code computes it; or, in one line, why the model can't take this size.
    pub fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        let [fh, fw] = self.factor();
        let too_small =
            || format!("{width}x{height} pixels are smaller than one token ({fw}x{fh})");
        let (h, w) = match &self.architecture {
            Architecture::VitVqgan(c) => {
                let (h, w) = (c.grid[0] * fh, c.grid[1] * fw);
                if (height, width) != (h, w) {
                    return Err(format!(
                        "{width}x{height} pixels where the model takes {w}x{h} only"
                    ));
                }
                (c.grid[0], c.grid[1])
            }
            // Strided convolutions with padding 1 on both sides round up, and so does a chain of them.
            Architecture::OpenMagvit2(_) => (height.div_ceil(fh), width.div_ceil(fw)),
            _ => (height / fh, width / fw),
        };
        if h == 0 || w == 0 {
            return Err(too_small());
        }
        if let Architecture::Vqvae2(_) = self.architecture {
            if h % 2 != 0 || w % 2 != 0 {
                return Err(format!(
                    "{width}x{height} pixels give a bottom grid of {w}x{h} tokens, which the top level \
                     can't halve; take sides that are multiples of 8"
                ));
            }
            return Ok(vec![(h, w), (h / 2, w / 2)]);
        }
        Ok(vec![(h, w); self.levels()])
    }
}
