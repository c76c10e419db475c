//! The losses of a reconstruction: per pixel, perceptual (LPIPS), adversarial. Must not know: the
//! loop.

pub(crate) mod adversarial;
pub(crate) mod discriminator;
pub(crate) mod lpips;
pub(crate) mod lpips_weights;
pub(crate) mod pixel;
pub(crate) mod schedule;
