//! Owns which family's layers make up an architecture.

use super::emit::Emit;
use super::geometry::Io;
use super::maskgit::Halving;
use super::{dalle, maskgit, open_magvit2, titok, unitok, vit_vqgan, vqgan, vqvae};
use crate::error::{Error, Result};
use crate::model::config::Architecture;

/// Images to latents: emits the encoder of an architecture that [`is_sequence`].
///
/// # Errors
/// Those of the emitter; an architecture that isn't a sequence of layers.
pub(crate) fn encoder(e: &mut impl Emit, architecture: &Architecture, io: Io) -> Result<()> {
    match architecture {
        Architecture::Vqgan(c) => vqgan::encoder(e, c, io),
        Architecture::Vqvae(c) => vqvae::encoder(e, c, io),
        Architecture::Maskgit(c) => maskgit::encoder(e, c, Halving::Mean, io),
        Architecture::VqganPlus(c) => maskgit::encoder(e, c, Halving::Strided, io),
        Architecture::OpenMagvit2(c) => open_magvit2::encoder(e, c, io),
        Architecture::Dalle(c) => dalle::encoder(e, c, io),
        Architecture::VitVqgan(c) => vit_vqgan::encoder(e, c, io),
        Architecture::Titok(c) => titok::encoder(e, c, io),
        Architecture::Unitok(c) => unitok::encoder(e, c, io),
        Architecture::Vqvae2(_) | Architecture::Onnx(_) => Err(no_sequence()),
    }
}

/// Looked-up codes to images: emits the decoder of an architecture that [`is_sequence`].
///
/// # Errors
/// As [`encoder`].
pub(crate) fn decoder(e: &mut impl Emit, architecture: &Architecture, io: Io) -> Result<()> {
    match architecture {
        Architecture::Vqgan(c) => vqgan::decoder(e, c, io),
        Architecture::Vqvae(c) => vqvae::decoder(e, c, io),
        Architecture::Maskgit(c) | Architecture::VqganPlus(c) => maskgit::decoder(e, c, io),
        Architecture::OpenMagvit2(c) => open_magvit2::decoder(e, c, io),
        Architecture::Dalle(c) => dalle::decoder(e, c, io),
        Architecture::VitVqgan(c) => vit_vqgan::decoder(e, c, io),
        Architecture::Titok(c) => titok::decoder(e, c, io),
        Architecture::Unitok(c) => unitok::decoder(e, c, io),
        Architecture::Vqvae2(_) | Architecture::Onnx(_) => Err(no_sequence()),
    }
}

/// Channels of what a decoder starts from.
pub(crate) fn decoder_input(architecture: &Architecture, io: Io) -> usize {
    match architecture {
        Architecture::Dalle(c) => c.init,
        _ => io.dim,
    }
}

/// Whether both halves are plain sequences of layers. VQ-VAE-2 has a quantizer between its parts, each
/// of which is one (`vqvae2`).
pub(crate) fn is_sequence(architecture: &Architecture) -> bool {
    !matches!(architecture, Architecture::Vqvae2(_) | Architecture::Onnx(_))
}

fn no_sequence() -> Error {
    Error::internal("this architecture is no sequence of layers")
}
