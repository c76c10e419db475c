//! Owns candle's layers, each made of plain operations with right gradients. Must not know: which
//! networks have them, files, threads.

mod attention;
mod conv;
mod norm;
mod residual;

pub use attention::AttnBlock;
pub use conv::{Conv2d, ConvTranspose2d, depth_to_space, double_nearest};
pub use norm::{AdaptiveNorm, GroupNorm, finite_or_nan};
pub use residual::{Bottleneck, PlainResidual, ResnetBlock};
