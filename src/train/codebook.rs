//! Owns the codebook that learns by moving averages: nearest codes, updates with consistent
//! counts, the k-means start, the revival of dead codes. Must not know: networks, optimizers.
//!
//! Latents come as rows `[rows, dim]`, float32, in the order (n, y, x). Everything here is plain
//! Rust over slices, in an order that depends on shapes only.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::random::Draws;
use crate::error::Result;
use crate::model::gemm::{Matrix, matmul};

/// Rows that one product of rows and codes covers.
const BLOCK_ROWS: usize = 64;

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
    /// Steps since a code was last used, `[K]`.
    pub idle: Vec<u32>,
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
            idle: vec![0; codes],
            averages,
        }
    }

    /// K.
    pub fn codes(&self) -> usize {
        self.count.len()
    }

    /// The codes as a tensor `[K, D]`.
    pub fn tensor(&self) -> Result<Tensor> {
        let shape = (self.codes(), self.dim);
        Ok(Tensor::from_slice(&self.embedding, shape, &Device::Cpu)?)
    }

    /// Starts from k-means of `rows`: centres from random different rows, `steps` of Lloyd's
    /// algorithm, centres that stayed empty put on random rows. Counts are what the clusters would
    /// get from `step_rows` rows a step, one at least, and sums are consistent with them.
    pub fn start(&mut self, rows: &[f32], step_rows: usize, steps: usize, draws: &mut Draws) {
        let (dim, codes) = (self.dim, self.codes());
        let available = rows.len() / dim;
        let mut centres = Vec::with_capacity(codes * dim);
        while centres.len() < codes * dim {
            for row in draws.distinct(codes - centres.len() / dim, available) {
                centres.extend_from_slice(&rows[row * dim..][..dim]);
            }
        }
        for _ in 0..steps {
            lloyd(rows, &mut centres, dim);
        }
        let (indices, _) = nearest(rows, &centres, dim);
        let mut members = vec![0u32; codes];
        indices.iter().for_each(|k| members[*k as usize] += 1);
        let empty: Vec<usize> = (0..codes).filter(|k| members[*k] == 0).collect();
        for (k, row) in empty.iter().zip(draws.distinct(empty.len(), available)) {
            centres[k * dim..][..dim].copy_from_slice(&rows[row * dim..][..dim]);
        }
        let scale = step_rows as f32 / available as f32;
        for k in 0..codes {
            let count = (members[k] as f32 * scale).max(1.0);
            self.place(k, &centres[k * dim..][..dim], count);
        }
    }

    /// Puts code k at `point` with a consistent count and sum.
    fn place(&mut self, k: usize, point: &[f32], count: f32) {
        let part = k * self.dim..(k + 1) * self.dim;
        self.embedding[part.clone()].copy_from_slice(point);
        for (sum, v) in self.sum[part].iter_mut().zip(point) {
            *sum = v * count;
        }
        self.count[k] = count;
        self.idle[k] = 0;
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
        for (idle, n) in self.idle.iter_mut().zip(&n) {
            *idle = if *n > 0.0 { 0 } else { idle.saturating_add(1) };
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

    /// Share of codes used in the last `window` steps.
    pub fn recent_usage(&self, window: u32) -> f64 {
        self.idle.iter().filter(|i| **i < window).count() as f64 / self.codes().max(1) as f64
    }

    /// Puts every code unused for `window` steps on a random row of the batch, count and sum too.
    /// Returns how many.
    pub fn revive(&mut self, rows: &[f32], window: u32, draws: &mut Draws) -> usize {
        let dead: Vec<usize> = (0..self.codes()).filter(|k| self.idle[*k] >= window).collect();
        let dim = self.dim;
        let places = draws.distinct(dead.len(), rows.len() / dim);
        for (k, row) in dead.iter().zip(&places) {
            self.place(*k, &rows[row * dim..][..dim], 1.0);
        }
        places.len()
    }

    /// Root mean square length of the codes.
    pub fn norm(&self) -> f64 {
        let sum: f64 = self.embedding.iter().map(|v| f64::from(*v).powi(2)).sum();
        (sum / self.codes().max(1) as f64).sqrt()
    }
}

/// One step of Lloyd's algorithm: assignments (ties lower) and inertia before the update; centres
/// become the means of their members, an empty one stays.
pub fn lloyd(rows: &[f32], centres: &mut [f32], dim: usize) -> (Vec<u32>, f64) {
    let (indices, distances) = nearest(rows, centres, dim);
    let codes = centres.len() / dim;
    let mut n = vec![0u64; codes];
    let mut s = vec![0f64; codes * dim];
    for (row, k) in rows.chunks_exact(dim).zip(&indices) {
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
    (indices, distances.iter().map(|d| f64::from(*d)).sum())
}

/// When dead codes are revived: every `every` steps, the interval doubling as long as hardly any
/// code is dead and starting again where some are; not in the last part of the run, unless usage
/// falls under `rearm`.
///
/// Doubling without this condition was tried: on MNIST the latents outgrow the codes in the first
/// hundred steps, and 60 % of them die between two revivals.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevivalSchedule {
    /// Steps between this revival and the last.
    pub interval: u64,
    /// The step of the next.
    pub next: u64,
}

/// The settings that [`RevivalSchedule`] follows.
#[derive(Debug, Clone, Copy)]
pub struct RevivalRule {
    /// First interval; 0 = never.
    pub every: u64,
    /// The step from which there is no scheduled revival.
    pub until: u64,
    /// Recent usage under this revives even behind `until`.
    pub rearm: f64,
}

/// Recent usage from which the interval doubles.
const ALIVE: f64 = 0.99;

impl RevivalSchedule {
    /// For a codebook that starts at step `now`.
    pub fn new(rule: RevivalRule, now: u64) -> RevivalSchedule {
        RevivalSchedule { interval: rule.every, next: now + rule.every }
    }

    /// Whether to revive behind step `now`, given the share of codes used lately.
    pub fn due(&mut self, rule: RevivalRule, now: u64, recent_usage: f64) -> bool {
        if rule.every == 0 {
            return false;
        }
        let low = recent_usage < rule.rearm;
        if low {
            self.next = self.next.min(now + rule.every);
        }
        if now < self.next || (now >= rule.until && !low) {
            return false;
        }
        self.interval = if recent_usage >= ALIVE { 2 * self.interval } else { rule.every };
        self.next = now + self.interval;
        true
    }
}

#[cfg(test)]
#[path = "codebook_tests.rs"]
mod tests;
