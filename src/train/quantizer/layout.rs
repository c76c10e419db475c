//! Owns the two layouts of vectors: latents `[B, D, h, w]` and rows `[B h w, D]`, in the order
//! (n, y, x).

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::train::network::parameters::flat;

/// Latents `[B, D, h, w]` as rows `[B h w, D]`.
pub fn to_rows(latents: &[f32], dim: usize, plane: usize) -> Vec<f32> {
    let mut rows = vec![0f32; latents.len()];
    for (image, rows) in latents.chunks_exact(dim * plane).zip(rows.chunks_exact_mut(dim * plane)) {
        for (d, channel) in image.chunks_exact(plane).enumerate() {
            for (p, v) in channel.iter().enumerate() {
                rows[p * dim + d] = *v;
            }
        }
    }
    rows
}

/// The codes of `indices` laid out as latents `[B, D, h, w]`.
pub fn lookup(codes: &[f32], dim: usize, indices: &[u32], plane: usize) -> Vec<f32> {
    let mut latents = vec![0f32; indices.len() * dim];
    for (image, indices) in latents.chunks_exact_mut(dim * plane).zip(indices.chunks_exact(plane)) {
        for (p, index) in indices.iter().enumerate() {
            for (d, v) in codes[*index as usize * dim..][..dim].iter().enumerate() {
                image[d * plane + p] = *v;
            }
        }
    }
    latents
}

/// Latents `[B, D, h, w]` as rows `[B h w, D]`.
pub(crate) fn rows_of(z: &Tensor) -> Result<Vec<f32>> {
    let (_, dim, height, width) = z.dims4()?;
    Ok(to_rows(&flat(z)?, dim, height * width))
}

/// The same where they are, in float32 and without a graph.
pub(super) fn rows_tensor(z: &Tensor) -> Result<Tensor> {
    let (batch, dim, height, width) = z.dims4()?;
    let rows = z.detach().to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?;
    Ok(rows.reshape((batch * height * width, dim))?)
}

/// Rows `[B h w, D]` laid out like the latents `z`.
pub(super) fn like_latents(rows: &Tensor, z: &Tensor) -> Result<Tensor> {
    let (batch, dim, height, width) = z.dims4()?;
    Ok(rows.reshape((batch, height, width, dim))?.permute((0, 3, 1, 2))?.contiguous()?)
}

/// The same from plain values, in the latents' type.
pub(super) fn laid_out(rows: Vec<f32>, z: &Tensor) -> Result<Tensor> {
    let count = rows.len();
    let rows = Tensor::from_vec(rows, count, z.device())?;
    like_latents(&rows.to_dtype(z.dtype())?, z)
}

/// The codes of `indices` from `codes`, laid out like the latents `z`.
pub(super) fn picked(codes: &Tensor, indices: &[u32], z: &Tensor) -> Result<Tensor> {
    let at = Tensor::from_slice(indices, indices.len(), z.device())?;
    like_latents(&codes.index_select(&at, 0)?, z)
}
