//! Owns the inner loops on the CPU and all of their `unsafe`: convolutions, norms, attention, nearest
//! codes, for the engine and for training. Must not know: models, layers' names, threads.
//!
//! Each algorithm is written once over `simd::Simd` and compiled for AVX-512, AVX2+FMA and
//! plain Rust; [`Isa`] picks one at run time. Activations are float32 `[H, W, S]`, row-major,
//! where S, the channel stride, is the channel count rounded up to 16 and the channels of the
//! rounding are zero: no kernel needs a tail of channels. Callers pass slices, whose lengths are
//! checked once a call; pointers are used inside.

mod attention;
mod buffer;
mod clock;
mod direct;
mod groups;
mod isa;
mod micro;
mod nearest;
mod norm;
mod outer;
mod pixels;
mod planes;
mod pool;
mod rows;
mod simd;
mod windows;
mod winograd;
mod winograd_gradient;
mod winograd_maps;
mod winograd_tiles;
mod winograd_transforms;
mod winograd_weights;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod reference;

pub(crate) use attention::{Attention, KeysValues, attention};
pub(crate) use buffer::Buffer;
pub use clock::thread_seconds;
pub(crate) use direct::{DirectWeights, Window, direct, pointwise};
pub(crate) use groups::{Group, normalise, normalise_gradient};
pub use isa::Isa;
pub(crate) use isa::{CHANNEL_BLOCK, channel_stride};
pub use micro::peak;
pub(crate) use nearest::{Codebook, nearest};
pub(crate) use norm::{GroupNorm, Moments, scale_and_shift};
pub(crate) use pixels::{
    Depthwise, Elementwise, LayerNorm, depthwise_row, elementwise, gate, layer_norm, softmax_pixels,
};
pub(crate) use planes::{Frame, Phase, frame, planes};
pub(crate) use pool::{Pooled, pooled_bytes};
pub(crate) use rows::{Activation, Input, Output, Residual};
pub(crate) use windows::windows;
pub(crate) use winograd::winograd;
pub(crate) use winograd_gradient::{
    GRADIENT_TILES, GradientShape, TilePairs, gradient_product, gradient_tiles, gradient_weights,
};
pub(crate) use winograd_maps::{Tiling, winograd_maps};
pub(crate) use winograd_weights::{Scheme, WinogradWeights, winograd_cost, winograd_side};
