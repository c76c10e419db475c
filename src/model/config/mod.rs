//! Owns the configuration language of models: what `config.json` of a model folder holds and what
//! a recipe's `[model]` table says. Must not know: tensors, files.

mod architecture;
mod model;
mod onnx;
mod pixels;
mod quantizer;
mod scales;

pub use architecture::{
    Architecture, DalleConfig, FramesConfig, Parts, ResnetConfig, TitokConfig, TitokPixels,
    TransformerConfig, UnitokConfig, UnitokStage, VitVqganConfig, VqganConfig, VqganDecoderConfig,
    VqganVariant, Vqvae2Config, VqvaeConfig,
};
pub use model::{FORMAT, ModelConfig};
pub use onnx::{
    OnnxConfig, OnnxElement, OnnxNetwork, OnnxPixels, OnnxTensor, PixelLayout, PixelScale,
};
pub use pixels::{InputRange, OutputRange, PixelConfig, PreprocessConfig};
pub use quantizer::{DEPTH_MAX, NUMBERED_BITS_MAX, QuantizerConfig, QuantizerRule};
pub(crate) use quantizer::{is_one, one};
pub use scales::{ScalesConfig, Spread, check_scales};
