//! Owns the codebook that learns by moving averages: nearest codes, updates with consistent
//! counts, the k-means start. Must not know: networks, optimizers.
//!
//! Latents come as rows `[rows, dim]`, float32, in the order (n, y, x). Everything here is plain
//! Rust over slices, in an order that depends on shapes only.

use rayon::prelude::*;

use crate::error::Result;
use crate::model::gemm::{Matrix, matmul};
use crate::train::network::random::Draws;

/// Rows that one product of rows and codes covers.
const BLOCK_ROWS: usize = 64;

/// Who follows work that can take long: told how much of how much is done, an error stops it.
pub type Follow<'a> = dyn FnMut(usize, usize) -> Result<()> + 'a;

/// For each row the index of its nearest code (ties to the lower) and the squared distance, as
/// |r|^2 + |e|^2 - 2 r.e in float32. A NaN row gets code 0 and the distance NaN.
pub fn nearest(rows: &[f32], codes: &[f32], dim: usize) -> (Vec<u32>, Vec<f32>) {
    let count = codes.len() / dim;
    let norms: Vec<f32> = codes.chunks_exact(dim).map(square_norm).collect();
    let mut indices = vec![0u32; rows.len() / dim];
    let mut distances = vec![0f32; rows.len() / dim];
    rows.par_chunks(BLOCK_ROWS * dim)
        .zip(indices.par_chunks_mut(BLOCK_ROWS))
        .zip(distances.par_chunks_mut(BLOCK_ROWS))
        .for_each(|((rows, indices), distances)| {
            let n = rows.len() / dim;
            let mut products = vec![0f32; n * count];
            let right = Matrix::row_major(codes, count, dim).transposed();
            matmul(&mut products, count, false, Matrix::row_major(rows, n, dim), right);
            for (i, row) in rows.chunks_exact(dim).enumerate() {
                let own = square_norm(row);
                let (mut best, mut at) = (f32::INFINITY, 0);
                for (k, (product, norm)) in
                    products[i * count..][..count].iter().zip(&norms).enumerate()
                {
                    let d = own + norm - 2.0 * product;
                    if d < best {
                        (best, at) = (d, k as u32);
                    }
                }
                indices[i] = at;
                distances[i] = if own.is_finite() { best } else { f32::NAN };
            }
        });
    (indices, distances)
}

fn square_norm(row: &[f32]) -> f32 {
    row.iter().map(|v| v * v).sum()
}

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

/// Settings of [`Codebook`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averages {
    /// g in N <- g N + (1 - g) n.
    pub decay: f64,
    /// Laplace smoothing of the counts.
    pub epsilon: f64,
}

/// Codes that are the means of the latents they were given (van den Oord et al. 2017, appendix).
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    /// D.
    pub dim: usize,
    /// `[K, D]`.
    pub embedding: Vec<f32>,
    /// N, `[K]`: how many rows a step a code gets.
    pub count: Vec<f32>,
    /// W, `[K, D]`: the sum of these rows; the codes are W / N smoothed.
    pub sum: Vec<f32>,
    /// Decay and smoothing.
    pub averages: Averages,
}

impl Codebook {
    /// Codes of zeros: to be started by [`Codebook::start`].
    pub fn new(codes: usize, dim: usize, averages: Averages) -> Codebook {
        Codebook {
            dim,
            embedding: vec![0.0; codes * dim],
            count: vec![0.0; codes],
            sum: vec![0.0; codes * dim],
            averages,
        }
    }

    /// K.
    pub fn codes(&self) -> usize {
        self.count.len()
    }

    /// Puts the codes on [`KMeans`] centres. Counts are what the clusters would get from `step_rows`
    /// rows a step, one at least, and sums are consistent with them.
    pub fn start(&mut self, means: &KMeans, step_rows: usize) {
        let scale = step_rows as f32 / means.rows.max(1) as f32;
        for (k, centre) in means.centres.chunks_exact(self.dim).enumerate() {
            self.place(k, centre, (means.members[k] as f32 * scale).max(1.0));
        }
    }

    /// Puts code k at `point` with a consistent count and sum.
    pub fn place(&mut self, k: usize, point: &[f32], count: f32) {
        let part = k * self.dim..(k + 1) * self.dim;
        self.embedding[part.clone()].copy_from_slice(point);
        for (sum, v) in self.sum[part].iter_mut().zip(point) {
            *sum = v * count;
        }
        self.count[k] = count;
    }

    /// One moving-average update from the rows of a batch and their codes. Belongs behind the
    /// backward pass. All codes move, used or not.
    pub fn update(&mut self, rows: &[f32], indices: &[u32]) {
        let (dim, codes) = (self.dim, self.codes());
        let mut n = vec![0f32; codes];
        let mut s = vec![0f32; codes * dim];
        for (row, k) in rows.chunks_exact(dim).zip(indices) {
            let k = *k as usize;
            n[k] += 1.0;
            for (s, v) in s[k * dim..][..dim].iter_mut().zip(row) {
                *s += v;
            }
        }
        let (g, rest) = (self.averages.decay as f32, (1.0 - self.averages.decay) as f32);
        for (count, n) in self.count.iter_mut().zip(&n) {
            *count = g * *count + rest * n;
        }
        for (sum, s) in self.sum.iter_mut().zip(&s) {
            *sum = g * *sum + rest * s;
        }
        let total: f64 = self.count.iter().map(|c| f64::from(*c)).sum();
        let epsilon = self.averages.epsilon;
        for k in 0..codes {
            let smoothed =
                (f64::from(self.count[k]) + epsilon) / (total + codes as f64 * epsilon) * total;
            for (e, w) in
                self.embedding[k * dim..][..dim].iter_mut().zip(&self.sum[k * dim..][..dim])
            {
                *e = (f64::from(*w) / smoothed) as f32;
            }
        }
    }
}

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
    /// to centres, over all steps.
    ///
    /// # Errors
    /// That of `follow`.
    pub fn of(
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
            let (indices, _) = nearest_followed(rows, &centres, dim, &mut follow)?;
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
                nearest_followed(rows, &centres, dim, &mut follow)?.0
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

/// [`nearest`], part by part, with somebody who follows: the same bits.
fn nearest_followed(
    rows: &[f32],
    codes: &[f32],
    dim: usize,
    follow: &mut Follow<'_>,
) -> Result<(Vec<u32>, Vec<f32>)> {
    // Whole blocks for each thread, of a fraction of a second of work.
    let blocks = ((1 << 31) / (BLOCK_ROWS * codes.len()).max(1)).clamp(1, 64);
    let part = BLOCK_ROWS * blocks * rayon::current_num_threads();
    let all = rows.len() / dim;
    let (mut indices, mut distances) = (Vec::with_capacity(all), Vec::with_capacity(all));
    for rows in rows.chunks(part * dim) {
        let (some, far) = nearest(rows, codes, dim);
        indices.extend(some);
        distances.extend(far);
        follow(indices.len(), all)?;
    }
    Ok((indices, distances))
}

/// One step of Lloyd's algorithm: assignments (ties lower) and inertia before the update; centres
/// become the means of their members, an empty one stays.
pub fn lloyd(rows: &[f32], centres: &mut [f32], dim: usize) -> (Vec<u32>, f64) {
    let (indices, distances) = nearest(rows, centres, dim);
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
