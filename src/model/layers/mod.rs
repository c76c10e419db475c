//! Owns candle's layers, each made of plain operations with right gradients. Must not know: which
//! networks have them, files, threads.

mod attention;
mod conv;
mod inverted;
mod norm;
mod patches;
mod residual;
mod transformer;

pub(crate) use attention::AttnBlock;
pub use conv::double_nearest;
pub(crate) use conv::{Conv2d, ConvTranspose2d, depth_to_space, even, mean_of_neighbours};
pub(crate) use inverted::InvertedBottleneck;
pub use norm::GroupNorm;
pub(crate) use norm::{AdaptiveNorm, Norm};
pub(crate) use patches::{
    Mixture, PatchEmbedding, PatchPixels, Positions, TokensAround, pixels_as_channels, take_pixels,
};
pub(crate) use residual::{AffineResidual, Bottleneck, PlainResidual, ResnetBlock};
pub(crate) use transformer::{
    AttentionProjection, GATED_EPS, LayerNorm, Linear, PROJECTION_EPS, TransformerLayer, nonlinear,
};
