//! Owns every inner loop of the CPU engine and all of its `unsafe`: convolutions, norms,
//! attention, nearest codes. Must not know: models, layers' names, threads.
//!
//! Each algorithm is written once over `simd::Simd` and compiled for AVX-512, AVX2+FMA and
//! plain Rust; [`Level`] picks one at run time. Activations are float32 `[H, W, S]`, row-major,
//! where S, the channel stride, is the channel count rounded up to 16 and the channels of the
//! rounding are zero: no kernel needs a tail of channels. Callers pass slices, whose lengths are
//! checked once a call; pointers are used inside.

mod attention;
mod buffer;
mod clock;
mod direct;
mod micro;
mod nearest;
mod norm;
mod rows;
mod scheme;
mod simd;
mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod reference;

pub use attention::{Attention, KeysValues, attention};
pub use buffer::Buffer;
pub use clock::thread_seconds;
pub use direct::{DirectWeights, Window, direct, pointwise};
pub use micro::peak;
pub use nearest::{Codebook, nearest};
pub use norm::{GroupNorm, Moments, scale_and_shift};
pub use rows::{Activation, Input, Output, Residual};
pub use scheme::{WinogradWeights, winograd_cost};
pub use winograd::winograd;

use crate::error::{Error, Result};
use simd::Simd;

/// Floats that the channel stride is a multiple of: the widest vector.
pub const CHANNEL_BLOCK: usize = 16;

/// Channels rounded up to a whole number of the widest vectors.
pub fn channel_stride(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_BLOCK)
}

/// The instruction set that kernels run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// 512-bit vectors, 32 registers.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Whatever the program was compiled for.
    Portable,
}

/// Work that runs at a level: a struct of arguments whose `run` is generic over the vector type.
pub(crate) trait Kernel {
    /// What it returns.
    type Out;
    /// The work; must be `inline(always)`, as everything hot that it calls, so that it is
    /// compiled with the level's instructions.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

impl Level {
    /// The levels this processor has, best first.
    pub fn available() -> Vec<Level> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                levels.push(Level::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
            }
        }
        levels.push(Level::Portable);
        levels
    }

    /// The best level, or the one that the environment's `VQTOK_CPU` names (`avx512`, `avx2`,
    /// `portable`). An error where the processor lacks it.
    pub fn detect() -> Result<Level> {
        match std::env::var("VQTOK_CPU") {
            Ok(word) if !word.is_empty() => Level::named(&word),
            _ => Ok(Level::available()[0]),
        }
    }

    /// The level of that name, where the processor has it.
    pub fn named(word: &str) -> Result<Level> {
        let available = Level::available();
        available.iter().copied().find(|level| level.name() == word).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|level| level.name()).collect();
            Error::invalid(format!(
                "VQTOK_CPU={word}: this processor has {}; unset it or name one of them",
                names.join(", ")
            ))
        })
    }

    /// The word of `VQTOK_CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Avx512 => "avx512",
            Level::Avx2 => "avx2",
            Level::Portable => "portable",
        }
    }

    /// Columns of a packed panel of weights: two vectors.
    pub(crate) fn panel(self) -> usize {
        match self {
            Level::Avx512 => 32,
            Level::Avx2 | Level::Portable => 16,
        }
    }

    /// Runs a kernel with this level's instructions.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                assert!(is_x86_feature_detected!("avx512f"), "level without its instructions");
                // SAFETY: just checked.
                unsafe { x86::Avx512::new() }.isolate(kernel)
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                assert!(
                    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
                    "level without its instructions"
                );
                // SAFETY: just checked.
                unsafe { x86::Avx2::new() }.isolate(kernel)
            }
            _ => kernel.run(simd::Portable),
        }
    }
}
