//! Owns what stands between an image and the network: sizes, ranges of pixels.

use serde::{Deserialize, Serialize};

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
/// moves half of the entries by 6e-8. `model::pixels` computes them.
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
    /// What an ONNX file's settings say of its own input.
    #[serde(skip_deserializing)]
    Stated,
}

/// From the decoder's floats to bytes; all clamp. `model::pixels` applies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputRange {
    /// trunc(255 (x+1)/2)
    SymmetricTruncate,
    /// round half even of 127.5 (clamp(x,-1,1)+1)
    SymmetricHalfEven,
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
    /// What an ONNX file's settings say of its own output.
    #[serde(skip_deserializing)]
    Stated,
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
