//! Owns candle's layers, each made of plain operations with right gradients. Must not know: which
//! networks have them, files, threads.

mod attention;
mod conv;
mod norm;
mod residual;

pub(crate) use attention::AttnBlock;
pub use conv::double_nearest;
pub(crate) use conv::{Conv2d, ConvTranspose2d, depth_to_space, even};
pub use norm::GroupNorm;
pub(crate) use norm::{AdaptiveNorm, Norm, finite_or_nan};
pub(crate) use residual::{AffineResidual, Bottleneck, PlainResidual, ResnetBlock};
