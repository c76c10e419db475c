//! Owns the step from latents to codes and back, in float32 over plain slices: each pair of latent
//! and code is computed in one fixed order, so that equal codes tie exactly (the lower index wins)
//! and nothing depends on the batch or the number of threads.

mod margins;

use rayon::prelude::*;

use super::config::{QuantizerConfig, QuantizerRule};
use super::finite;
use super::fsq::Fsq;
use crate::error::{Error, Result};

/// Codes that share the lanes of the inner loop.
const LANES: usize = 16;
/// Latents that share one pass over a block of codes.
const ROWS: usize = 4;
/// Terms of a dot product summed before they are added to the total: keeps float32's error small.
const CHUNK: usize = 64;

/// A table of K vectors, packed for the search of the smallest
/// `base + offset[k] + factor * (z . e[k])`. Memory: one copy of the table.
#[derive(Debug, Clone)]
pub(crate) struct SearchTable {
    dim: usize,
    /// Blocks of LANES codes, `[ceil(K/LANES), dim, LANES]`.
    packed: Vec<f32>,
    /// `[ceil(K/LANES) * LANES]`; infinite in the padding, which therefore never wins.
    offset: Vec<f32>,
    factor: f32,
    /// Whether `base` is |z|^2 or 0.
    squared_base: bool,
    /// The longest vector's length, and the largest |offset|.
    reach: (f64, f64),
}

impl SearchTable {
    /// Searches the smallest |z|^2 + |e|^2 - 2 z.e over the rows of `codes`, `[K, dim]`.
    pub(crate) fn nearest(codes: &[f32], dim: usize) -> SearchTable {
        let offset = codes.chunks_exact(dim).map(|e| dot(e, e)).collect();
        Self::pack(codes, dim, offset, -2.0, true)
    }

    /// Searches the largest z.e + bias over the rows of `codes`, `[K, dim]`.
    pub(crate) fn largest(codes: &[f32], dim: usize, bias: Option<&[f32]>) -> SearchTable {
        let count = codes.len() / dim;
        let offset = bias.map_or(vec![0.0; count], |bias| bias.iter().map(|b| -b).collect());
        Self::pack(codes, dim, offset, -1.0, false)
    }

    fn pack(
        codes: &[f32],
        dim: usize,
        mut offset: Vec<f32>,
        factor: f32,
        squared_base: bool,
    ) -> Self {
        let count = codes.len() / dim;
        let blocks = count.div_ceil(LANES);
        let mut packed = vec![0.0; blocks * dim * LANES];
        for (k, code) in codes.chunks_exact(dim).enumerate() {
            let block = k / LANES * dim * LANES;
            for (d, &value) in code.iter().enumerate() {
                packed[block + d * LANES + k % LANES] = value;
            }
        }
        let lengths = codes.chunks_exact(dim).map(length);
        let largest = offset.iter().fold(0.0, |most, o| f64::max(most, f64::from(o.abs())));
        let reach = (lengths.fold(0.0, f64::max), largest);
        offset.resize(blocks * LANES, f32::INFINITY);
        SearchTable { dim, packed, offset, factor, squared_base, reach }
    }

    /// Whether a score of the latent may be beyond float32, so that the largest isn't known. Where
    /// |z|^2 is part of the scores, the distances tell.
    fn overflows(&self, z: &[f32]) -> bool {
        let (longest, offset) = self.reach;
        // No partial sum of z.e is larger than |z| |e|.
        !self.squared_base && length(z) * longest + offset > f64::from(f32::MAX)
    }

    /// The best code of each row of `z`, `[T, dim]`; ties go to the lower index.
    pub(crate) fn search(&self, z: &[f32]) -> Vec<u32> {
        let rows_per_task = 64 * ROWS;
        let mut best = vec![0; z.len() / self.dim];
        best.par_chunks_mut(rows_per_task).zip(z.par_chunks(rows_per_task * self.dim)).for_each(
            |(best, z)| {
                for (best, z) in best.chunks_mut(ROWS).zip(z.chunks(ROWS * self.dim)) {
                    self.search_rows(z, best);
                }
            },
        );
        best
    }

    /// Up to ROWS rows at once. A short last group repeats its first row, whose copies are dropped.
    fn search_rows(&self, z: &[f32], best: &mut [u32]) {
        let dim = self.dim;
        let row = |r: usize| if r < best.len() { &z[r * dim..(r + 1) * dim] } else { &z[..dim] };
        let rows: [&[f32]; ROWS] = std::array::from_fn(row);
        let base = rows.map(|z| if self.squared_base { dot(z, z) } else { 0.0 });
        let mut lowest = [f32::INFINITY; ROWS];
        let mut index = [0u32; ROWS];
        for (block, codes) in self.packed.chunks_exact(dim * LANES).enumerate() {
            let dots = dot_block(&rows, codes);
            for r in 0..ROWS {
                for (lane, dot) in dots[r].iter().enumerate() {
                    let k = block * LANES + lane;
                    let score = (base[r] + self.offset[k]) + self.factor * dot;
                    if score < lowest[r] {
                        lowest[r] = score;
                        index[r] = k as u32;
                    }
                }
            }
        }
        best.copy_from_slice(&index[..best.len()]);
    }
}

/// Dot products of ROWS latents with LANES codes, `codes` as `[dim, LANES]`.
fn dot_block(rows: &[&[f32]; ROWS], codes: &[f32]) -> [[f32; LANES]; ROWS] {
    let mut total = [[0.0f32; LANES]; ROWS];
    for (chunk, codes) in codes.chunks(CHUNK * LANES).enumerate() {
        let mut sum = [[0.0f32; LANES]; ROWS];
        for (d, code) in codes.chunks_exact(LANES).enumerate() {
            for r in 0..ROWS {
                let z = rows[r][chunk * CHUNK + d];
                for lane in 0..LANES {
                    sum[r][lane] += z * code[lane];
                }
            }
        }
        for r in 0..ROWS {
            for lane in 0..LANES {
                total[r][lane] += sum[r][lane];
            }
        }
    }
    total
}

/// z.e in the order of the search.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let chunk = |(a, b): (&[f32], &[f32])| a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b);
    a.chunks(CHUNK).zip(b.chunks(CHUNK)).map(chunk).fold(0.0, |total, sum: f32| total + sum)
}

/// |v|
fn length(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// Each row of `rows`, `[T, dim]`, divided by its length (at least 1e-12), as `F.normalize`; NaN
/// where the length is beyond float32, which would make zeros of it.
pub(crate) fn normalise_rows(rows: &mut [f32], dim: usize) {
    for row in rows.chunks_exact_mut(dim) {
        let length = length(row) as f32;
        let length = if length.is_finite() { length.max(1e-12) } else { f32::NAN };
        row.iter_mut().for_each(|x| *x /= length);
    }
}

/// A family's quantizer with its tables.
#[derive(Debug, Clone)]
pub(crate) struct VectorQuantizer {
    config: QuantizerConfig,
    /// What decoding looks up, `[K, D]`; None where codes are bits.
    lookup: Option<Vec<f32>>,
    /// What the rule measures distances to, where that isn't `lookup`.
    measured: Option<Vec<f32>>,
    search: Option<SearchTable>,
    /// Rule `fsq` only.
    fsq: Option<Fsq>,
}

impl VectorQuantizer {
    /// `codebook` is `[K, D]` as published; `projection` the weight `[K, Z]` and bias `[K]` of rule
    /// `projection`. Errors where the rule lacks its table or a length is wrong.
    pub(crate) fn new(
        config: &QuantizerConfig,
        codebook: Option<Vec<f32>>,
        projection: Option<(Vec<f32>, Vec<f32>)>,
    ) -> Result<VectorQuantizer> {
        let QuantizerConfig { rule, codes, dim, .. } = *config;
        let missing =
            |what: &str| Error::invalid(format!("the quantizer rule {rule} needs {what}"));
        if codebook.as_ref().is_some_and(|c| c.len() != codes * dim) {
            return Err(missing(&format!("a codebook of {codes} x {dim}")));
        }
        let normalised = codebook.clone().map(|mut codebook| {
            normalise_rows(&mut codebook, dim);
            codebook
        });
        let book = || codebook.as_deref().ok_or_else(|| missing("a codebook"));
        let search = match rule {
            QuantizerRule::L2 => Some(SearchTable::nearest(book()?, dim)),
            QuantizerRule::L2Normalised => {
                let normalised = normalised.as_deref().ok_or_else(|| missing("a codebook"))?;
                Some(SearchTable::nearest(normalised, dim))
            }
            QuantizerRule::Dot => Some(SearchTable::largest(book()?, dim, None)),
            QuantizerRule::Projection => projection.map(|(weight, bias)| {
                SearchTable::largest(&weight, weight.len() / codes, Some(&bias))
            }),
            QuantizerRule::Sign
            | QuantizerRule::SignHigh
            | QuantizerRule::Logits
            | QuantizerRule::Fsq
            | QuantizerRule::Exported => None,
        };
        let fsq = match rule {
            QuantizerRule::Fsq => Some(levels(config)?),
            _ => None,
        };
        let (lookup, measured) = match (config.normalises_lookup(), rule) {
            (true, QuantizerRule::L2Normalised) => (normalised, None),
            (true, _) => (normalised, codebook),
            (false, _) => (codebook, None),
        };
        Ok(VectorQuantizer { config: config.clone(), lookup, measured, search, fsq })
    }

    /// Why latents, `[T, stride]` with as many channels as the rule takes in front, can't be
    /// quantized, in one line: a value isn't finite, or a score that is compared might not be.
    pub(crate) fn unusable(&self, latents: &[f32], stride: usize) -> Option<String> {
        finite::latents(latents, stride).or_else(|| {
            let table = self.search.as_ref()?;
            let far = latents.chunks_exact(stride).filter(|z| table.overflows(z)).count();
            let all = latents.len() / stride;
            (far > 0).then(|| format!("{far} of {all} latents are too large for float32"))
        })
    }

    /// Codes of the latents `z`, `[T, channels]` row-major (`[T, D]` bits where a token is a list of
    /// them, channel 0 first), and the squared distance of each to its code (between the normalised vectors for `l2-normalised`; NaN for rules without one).
    pub(crate) fn quantize(
        &self,
        mut z: Vec<f32>,
        channels: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let QuantizerConfig { rule, codes, dim, .. } = self.config;
        let wanted = match (&self.search, rule) {
            (Some(table), _) => table.dim,
            (None, QuantizerRule::Sign | QuantizerRule::SignHigh | QuantizerRule::Fsq) => dim,
            (None, QuantizerRule::Logits) => codes,
            (None, _) => {
                return Err(Error::invalid(
                    "this checkpoint has no `quantize.proj`: it can decode only",
                ));
            }
        };
        if channels != wanted {
            return Err(Error::invalid(format!(
                "the encoder gives {channels} channels where the quantizer takes {wanted}: this checkpoint can decode only"
            )));
        }
        if let Some(fsq) = &self.fsq {
            return Ok((fsq.codes_of(&fsq.round(&z)), fsq.distances(&z)));
        }
        if rule == QuantizerRule::L2Normalised {
            normalise_rows(&mut z, dim);
        }
        let found = match (&self.search, rule) {
            (Some(table), _) => table.search(&z),
            (None, QuantizerRule::Sign | QuantizerRule::SignHigh) if self.config.values() > 1 => {
                z.iter().map(|&x| u32::from(x > 0.0)).collect()
            }
            (None, QuantizerRule::Sign) => z.chunks_exact(dim).map(sign_bits).collect(),
            (None, QuantizerRule::SignHigh) => z.chunks_exact(dim).map(sign_bits_high).collect(),
            (None, _) => z.chunks_exact(codes).map(argmax_first).collect(),
        };
        let distances = match rule {
            QuantizerRule::L2 | QuantizerRule::L2Normalised | QuantizerRule::Dot => {
                let codebook = self.measured.as_ref().or(self.lookup.as_ref());
                // `new` refuses these rules without a codebook.
                let codebook = codebook.map_or(&[][..], Vec::as_slice);
                let pairs = z.chunks_exact(dim).zip(&found);
                pairs
                    .map(|(z, &k)| squared_distance(z, &codebook[k as usize * dim..][..dim]))
                    .collect()
            }
            _ => vec![f32::NAN; found.len() / self.config.values()],
        };
        Ok((found, distances))
    }

    /// Errors on a code that isn't below K.
    pub(crate) fn check(&self, codes: &[u32]) -> Result<()> {
        let count = self.config.codes;
        match codes.iter().find(|&&code| code as usize >= count) {
            Some(code) => {
                Err(Error::invalid(format!("code {code} where the codebook has {count} codes")))
            }
            None => Ok(()),
        }
    }

    /// The vectors of `codes` as the decoder takes them, `[T, D]`. Errors on a code that isn't
    /// below K, and where codes have no vectors (rule `logits`).
    pub(crate) fn lookup(&self, codes: &[u32]) -> Result<Vec<f32>> {
        self.check(codes)?;
        let QuantizerConfig { rule, dim, .. } = self.config;
        if let Some(fsq) = &self.fsq {
            let mut vectors = Vec::with_capacity(codes.len() * dim);
            codes.iter().for_each(|code| fsq.lookup(*code, &mut vectors));
            return Ok(vectors);
        }
        if self.lookup.is_none() && !matches!(rule, QuantizerRule::Sign | QuantizerRule::SignHigh) {
            return Err(Error::invalid("this model has no codebook to look codes up in"));
        }
        if self.config.values() > 1 {
            return Ok(codes.iter().map(|&bit| if bit == 1 { 1.0 } else { -1.0 }).collect());
        }
        let mut vectors = Vec::with_capacity(codes.len() * dim);
        for &code in codes {
            match &self.lookup {
                Some(codebook) => {
                    vectors.extend_from_slice(&codebook[code as usize * dim..][..dim])
                }
                None => vectors.extend((0..dim).map(|channel| {
                    let bit = if rule == QuantizerRule::Sign { channel } else { dim - 1 - channel };
                    if code >> bit & 1 == 1 { 1.0 } else { -1.0 }
                })),
            }
        }
        Ok(vectors)
    }
}

/// The levels of rule `fsq`, which must make the K and D that the configuration says.
fn levels(config: &QuantizerConfig) -> Result<Fsq> {
    let fsq = Fsq::new(&config.levels)?;
    if (fsq.codes(), fsq.dim()) != (config.codes, config.dim) {
        return Err(Error::invalid(format!(
            "the quantizer's levels {:?} make {} codes of length {}, not {} of length {}",
            config.levels,
            fsq.codes(),
            fsq.dim(),
            config.codes,
            config.dim
        )));
    }
    Ok(fsq)
}

/// Bit b is set where `z[b] > 0`.
pub(crate) fn sign_bits(z: &[f32]) -> u32 {
    z.iter().enumerate().fold(0, |code, (b, &x)| code | u32::from(x > 0.0) << b)
}

/// Bit `dim - 1 - b` is set where `z[b] > 0`.
pub(crate) fn sign_bits_high(z: &[f32]) -> u32 {
    z.iter().fold(0, |code, &x| code << 1 | u32::from(x > 0.0))
}

fn argmax_first(row: &[f32]) -> u32 {
    let mut best = 0;
    for (k, &value) in row.iter().enumerate() {
        if value > row[best] {
            best = k;
        }
    }
    best as u32
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) as f64 * (a - b) as f64).sum::<f64>() as f32
}

#[cfg(test)]
mod tests;
