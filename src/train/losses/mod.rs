//! The losses of a reconstruction: per pixel, perceptual (LPIPS), adversarial. Must not know: the
//! loop.

pub mod adversarial;
pub mod discriminator;
pub mod lpips;
pub mod lpips_weights;
pub mod pixel;
pub mod schedule;
