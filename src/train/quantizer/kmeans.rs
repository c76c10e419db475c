//! Owns k-means (Lloyd's algorithm) over latents. Must not know: what the centres are for.
//!
//! Over rows `[rows, D]` on the host, in an order that depends on shapes only: means are sums in the order
//! of the rows. The search for the nearest centres, nearly all of the work, is the device's.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::train::network::random::Draws;
use crate::train::quantizer::nearest::{BLOCK_ROWS, search};
use crate::train::quantizer::trainable::Follow;

/// Centres of a cloud of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    /// `[K, D]`.
    pub centres: Vec<f32>,
    /// Rows that each centre has, `[K]`.
    pub members: Vec<u32>,
    /// All rows.
    pub rows: usize,
}

impl KMeans {
    /// Centres from random different rows, `steps` of Lloyd's algorithm, centres that stayed empty
    /// put on random rows. Fewer rows than codes are dealt out again. `follow` hears of rows given
    /// to centres, over all steps. `device` is where they are searched for.
    ///
    /// # Errors
    /// That of `follow`; a device without room.
    pub fn of(
        device: &Device,
        rows: &[f32],
        codes: usize,
        dim: usize,
        steps: usize,
        draws: &mut Draws,
        follow: &mut Follow<'_>,
    ) -> Result<KMeans> {
        let available = rows.len() / dim;
        let mut centres = Vec::with_capacity(codes * dim);
        while available > 0 && centres.len() < codes * dim {
            for row in draws.distinct(codes - centres.len() / dim, available) {
                centres.extend_from_slice(&rows[row * dim..][..dim]);
            }
        }
        centres.resize(codes * dim, 0.0);
        let mut settled = None;
        for step in 0..steps {
            let before = centres.clone();
            let mut follow = |done, _| follow(step * available + done, (steps + 1) * available);
            let indices = search_followed(device, rows, (&centres, dim), &mut follow)?;
            move_centres(rows, &indices, &mut centres, dim);
            // Where no centre moved, none ever will: the steps that are left change nothing.
            if centres == before {
                settled = Some(indices);
                break;
            }
        }
        let indices = match settled {
            Some(indices) => indices,
            None => {
                let mut follow =
                    |done, _| follow(steps * available + done, (steps + 1) * available);
                search_followed(device, rows, (&centres, dim), &mut follow)?
            }
        };
        let mut members = vec![0u32; codes];
        indices.iter().for_each(|k| members[*k as usize] += 1);
        let empty: Vec<usize> = (0..codes).filter(|k| members[*k] == 0).collect();
        for (k, row) in empty.iter().zip(draws.distinct(empty.len(), available)) {
            centres[k * dim..][..dim].copy_from_slice(&rows[row * dim..][..dim]);
        }
        Ok(KMeans { centres, members, rows: available })
    }
}

/// [`search`], part by part, with somebody who follows: the same bits.
fn search_followed(
    device: &Device,
    rows: &[f32],
    (codes, dim): (&[f32], usize),
    follow: &mut Follow<'_>,
) -> Result<Vec<u32>> {
    // Whole blocks for each thread, of a fraction of a second of work.
    let blocks = ((1 << 31) / (BLOCK_ROWS * codes.len()).max(1)).clamp(1, 64);
    let part = BLOCK_ROWS * blocks * rayon::current_num_threads();
    let all = rows.len() / dim;
    let mut indices = Vec::with_capacity(all);
    let codes = Tensor::from_slice(codes, (codes.len() / dim, dim), device)?;
    for rows in rows.chunks(part * dim) {
        indices
            .extend(search(&Tensor::from_slice(rows, (rows.len() / dim, dim), device)?, &codes)?);
        follow(indices.len(), all)?;
    }
    Ok(indices)
}

/// One step of Lloyd's algorithm: assignments (ties lower) and inertia before the update; centres
/// become the means of their members, an empty one stays.
#[cfg(test)]
pub(crate) fn lloyd(rows: &[f32], centres: &mut [f32], dim: usize) -> (Vec<u32>, f64) {
    let (indices, distances) = crate::train::quantizer::nearest::nearest(rows, centres, dim);
    move_centres(rows, &indices, centres, dim);
    (indices, distances.iter().map(|d| f64::from(*d)).sum())
}

/// Puts each centre on the mean of its members.
fn move_centres(rows: &[f32], indices: &[u32], centres: &mut [f32], dim: usize) {
    let codes = centres.len() / dim;
    let mut n = vec![0u64; codes];
    let mut s = vec![0f64; codes * dim];
    for (row, k) in rows.chunks_exact(dim).zip(indices) {
        let k = *k as usize;
        n[k] += 1;
        for (s, v) in s[k * dim..][..dim].iter_mut().zip(row) {
            *s += f64::from(*v);
        }
    }
    for k in (0..codes).filter(|k| n[*k] > 0) {
        for (c, s) in centres[k * dim..][..dim].iter_mut().zip(&s[k * dim..][..dim]) {
            *c = (*s / n[k] as f64) as f32;
        }
    }
}

#[cfg(test)]
mod tests;
