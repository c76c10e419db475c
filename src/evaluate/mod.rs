//! Owns judging reconstructions: each image beside what a model makes of it (PSNR, SSIM, LPIPS), whole
//! sets by Fréchet distance, the use of codes, and what is kept of it all. Must not know: models,
//! where images come from, flags.
//!
//! `compare` looks at one pair of pictures, by `perceptual` and `inception`, which are `network`s of
//! local weights; `rows` keeps what it found in Parquet files, `tally` adds rows up in their order,
//! `frechet` compares two sets of features, one of which may be an earlier evaluation's (`reference`), `worst` keeps the images that models do
//! badly on, `figures` is what comes out, `page` shows it.

pub(crate) mod compare;
pub(crate) mod figures;
mod frechet;
pub(crate) mod inception;
mod network;
pub(crate) mod page;
#[cfg(test)]
pub(crate) mod peers;
pub(crate) mod perceptual;
pub(crate) mod reference;
pub(crate) mod rows;
mod symmetric;
pub(crate) mod tally;
mod weights;
pub(crate) mod worst;
