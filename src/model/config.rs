//! Owns the configuration language of models: what `config.json` of a model folder holds and what
//! a recipe's `[model]` table says. Must not know: tensors, files.

use serde::{Deserialize, Serialize};

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
    /// Sign bits of z, channel 0 the low bit (LFQ).
    Sign,
}

/// Bytes to floats on the way in, floats to bytes on the way out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelConfig {
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// The 256-entry table from bytes to floats.
    pub input: InputRange,
    /// From the decoder's floats to bytes.
    pub output: OutputRange,
}

/// Named normalisations; each is a 256-entry float32 table, since the order of rounding alone
/// moves half of the entries by 6e-8.
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

/// From the decoder's floats to bytes; all clamp. See the module that applies them.
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
}
