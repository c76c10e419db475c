//! Owns the choice of the instruction set that kernels run with, and the channel stride that suits
//! all of them.

use super::simd::{self, Kernel, Simd};
use crate::error::{Error, Result};

/// Floats that the channel stride is a multiple of: the widest vector.
pub(crate) const CHANNEL_BLOCK: usize = 16;

/// Channels rounded up to a whole number of the widest vectors.
pub(crate) fn channel_stride(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_BLOCK)
}

/// The instruction set that kernels run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors, 32 registers.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Whatever the program was compiled for.
    Portable,
}

impl Isa {
    /// The instruction sets this processor has, best first.
    pub fn available() -> Vec<Isa> {
        let mut isas = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                isas.push(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                isas.push(Isa::Avx2);
            }
        }
        isas.push(Isa::Portable);
        isas
    }

    /// The best instruction set, or the one that the environment's `VQTOK_CPU` names (`avx512`, `avx2`,
    /// `portable`).
    ///
    /// # Errors
    /// As [`Isa::named`].
    pub fn detect() -> Result<Isa> {
        match std::env::var("VQTOK_CPU") {
            Ok(word) if !word.is_empty() => Isa::named(&word),
            _ => Ok(Isa::available()[0]),
        }
    }

    /// The instruction set of that name, where the processor has it.
    ///
    /// # Errors
    /// A name that is none, or of one that the processor lacks; the message lists what it has.
    pub fn named(word: &str) -> Result<Isa> {
        let available = Isa::available();
        available.iter().copied().find(|isa| isa.name() == word).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
            Error::invalid(format!(
                "VQTOK_CPU={word}: this processor has {}; unset it or name one of them",
                names.join(", ")
            ))
        })
    }

    /// The word of `VQTOK_CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    /// Columns of a packed panel of weights: two vectors.
    pub(crate) fn panel(self) -> usize {
        match self {
            Isa::Avx512 => 32,
            Isa::Avx2 | Isa::Portable => 16,
        }
    }

    /// Runs a kernel with this instruction set's instructions.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                assert!(is_x86_feature_detected!("avx512f"), "level without its instructions");
                // SAFETY: just checked.
                unsafe { super::x86::Avx512::new() }.isolate(kernel)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                assert!(
                    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
                    "level without its instructions"
                );
                // SAFETY: just checked.
                unsafe { super::x86::Avx2::new() }.isolate(kernel)
            }
            _ => kernel.run(simd::Portable),
        }
    }
}
