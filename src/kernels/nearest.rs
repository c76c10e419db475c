//! Owns the search for the nearest code: distances as a blocked product with the arg-min fused.

use super::buffer::Buffer;
use super::isa::Isa;
use super::micro::{Block, Left, Right, Sink, VECTORS, pack, product};
use super::simd::{Kernel, Simd};

/// Latents searched at a time: memory is this many rows of running minima, whatever the number
/// of codes and latents.
const ROWS: usize = 256;

/// The largest panel.
const WIDTH_MAX: usize = 32;

/// Codes packed for the search of the smallest `base + offset - factor * z.e`.
pub(crate) struct Codebook {
    isa: Isa,
    codes: usize,
    dim: usize,
    packed: Buffer,
    /// |e|^2 or the negative bias; infinite after the last code.
    offsets: Buffer,
    factor: f32,
    /// Whether the base is |z|^2; else 0.
    squared: bool,
}

impl Codebook {
    /// Searches the smallest |z|^2 + |e|^2 - 2 z.e over the rows of `[codes, dim]`.
    pub(crate) fn nearest(isa: Isa, embedding: &[f32], dim: usize) -> Codebook {
        let offsets = embedding.chunks(dim).map(square_sum);
        Codebook::new(isa, embedding, dim, offsets, 2.0, true)
    }

    /// Searches the largest z.e + bias over the rows of `[codes, dim]`.
    pub(crate) fn largest(
        isa: Isa,
        embedding: &[f32],
        dim: usize,
        bias: Option<&[f32]>,
    ) -> Codebook {
        let offsets = (0..embedding.len() / dim).map(|code| bias.map_or(0.0, |bias| -bias[code]));
        Codebook::new(isa, embedding, dim, offsets, 1.0, false)
    }

    fn new(
        isa: Isa,
        embedding: &[f32],
        dim: usize,
        values: impl Iterator<Item = f32>,
        factor: f32,
        squared: bool,
    ) -> Codebook {
        let codes = embedding.len() / dim;
        assert_eq!(embedding.len(), codes * dim, "codebook of another shape");
        assert!((1..=1 << 24).contains(&codes), "too many codes for float32 counting");
        let packed = pack(isa, dim, codes, |k, code| embedding[code * dim + k]);
        let mut offsets = Buffer::zeroed(codes.next_multiple_of(isa.panel()));
        offsets.fill(f32::INFINITY);
        offsets.iter_mut().zip(values).for_each(|(offset, value)| *offset = value);
        Codebook { isa, codes, dim, packed, offsets, factor, squared }
    }

    /// Floats of a code.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }
}

/// |v|^2 in float32, rounded once.
pub(super) fn square_sum(v: &[f32]) -> f32 {
    v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() as f32
}

/// For every latent of `[latents, stride]` (its first `dim` floats) the best code in float32, ties
/// to the lower index.
pub(crate) fn nearest(
    codebook: &Codebook,
    latents: &[f32],
    stride: usize,
    codes: &mut [u32],
    scratch: &mut Buffer,
) {
    assert!(stride >= codebook.dim && latents.len() >= codes.len() * stride, "latents too short");
    scratch.reserve(ROWS * (2 * WIDTH_MAX + 1));
    for (block, codes) in codes.chunks_mut(ROWS).enumerate() {
        let latents = &latents[block * ROWS * stride..][..codes.len() * stride];
        let kernel = Nearest { codebook, latents, stride, codes, scratch };
        codebook.isa.run(kernel);
    }
}

struct Nearest<'a> {
    codebook: &'a Codebook,
    latents: &'a [f32],
    stride: usize,
    codes: &'a mut [u32],
    scratch: &'a mut Buffer,
}

impl Kernel for Nearest<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let book = self.codebook;
        let width = book.isa.panel();
        let (best, rest) = self.scratch.split_at_mut(ROWS * width);
        let (index, rest) = rest.split_at_mut(ROWS * width);
        let squares = &mut rest[..self.codes.len()];
        best.fill(f32::INFINITY);
        index.fill(0.0);
        for (square, z) in squares.iter_mut().zip(self.latents.chunks(self.stride)) {
            *square = if book.squared { square_sum(&z[..book.dim]) } else { 0.0 };
        }
        let left = Left {
            taps: &[self.latents.as_ptr()],
            row_stride: self.stride,
            rows: self.codes.len(),
            depth: book.dim,
        };
        let right = Right { start: book.packed.as_ptr(), panels: book.codes.div_ceil(width) };
        let mut sink = Minima {
            best: best.as_mut_ptr(),
            index: index.as_mut_ptr(),
            latent_squares: squares.as_ptr(),
            offsets: book.offsets.as_ptr(),
            factor: book.factor,
            width,
        };
        // SAFETY: `nearest` checked the latents; the minima have ROWS rows of a panel, squares
        // one a row and one a packed code.
        unsafe { product(s, left, right, &mut sink) };
        for row in 0..self.codes.len() {
            let range = row * width..(row + 1) * width;
            self.codes[row] = lowest(&best[range.clone()], &index[range]);
        }
    }
}

/// The smallest minimum of the lanes, ties to the lower code.
#[inline(always)]
fn lowest(best: &[f32], index: &[f32]) -> u32 {
    let mut found = (index[0], best[0]);
    for (&i, &d) in index.iter().zip(best).skip(1) {
        if d < found.1 || (d == found.1 && i < found.0) {
            found = (i, d);
        }
    }
    found.0 as u32
}

/// Keeps the smallest distance of each row and lane and the code it belongs to.
struct Minima {
    best: *mut f32,
    index: *mut f32,
    latent_squares: *const f32,
    offsets: *const f32,
    factor: f32,
    width: usize,
}

impl Sink for Minima {
    #[inline(always)]
    unsafe fn take<S: Simd, const PX: usize>(
        &mut self,
        s: S,
        sums: Block<S, PX>,
        row: usize,
        column: usize,
    ) {
        for v in 0..VECTORS {
            // SAFETY: the caller's promise for these rows and for columns of whole panels.
            unsafe {
                let first = column + v * S::LANES;
                let code = s.add(s.splat(first as f32), s.iota());
                let offset = s.load(self.offsets.add(first));
                for (p, sum) in sums.iter().enumerate() {
                    let at = (row + p) * self.width + v * S::LANES;
                    let square = s.splat(*self.latent_squares.add(row + p));
                    let both = s.add(square, offset);
                    // The reference's rounding: the factor is 1 or 2, so only the subtraction rounds.
                    let distance = s.fnma(s.splat(self.factor), sum[v], both);
                    let best = s.load(self.best.add(at));
                    let index = s.load(self.index.add(at));
                    // Codes come in ascending order: only a smaller distance displaces one.
                    s.store(self.index.add(at), s.select_less(distance, best, code, index));
                    s.store(self.best.add(at), s.select_less(distance, best, distance, best));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::Random;
    use super::*;

    fn search(book: &Codebook, latents: &[f32], stride: usize) -> Vec<u32> {
        let mut codes = vec![0; latents.len() / stride];
        nearest(book, latents, stride, &mut codes, &mut Buffer::default());
        codes
    }

    #[test]
    fn the_code_found_is_the_best_but_for_rounding() {
        let mut random = Random::new(10);
        for isa in Isa::available() {
            for round in 0..60 {
                let (codes, dim) = (random.below(600) + 1, random.below(40) + 1);
                let stride = dim + random.below(5);
                let embedding = random.floats(codes * dim);
                let bias = random.floats(codes);
                let latents = random.below(300) + 1;
                let z = random.map(latents, stride);
                let stride = super::super::channel_stride(stride);
                let book = match round % 3 {
                    0 => Codebook::nearest(isa, &embedding, dim),
                    1 => Codebook::largest(isa, &embedding, dim, None),
                    _ => Codebook::largest(isa, &embedding, dim, Some(&bias)),
                };
                for (z, code) in z.chunks(stride).zip(search(&book, &z, stride)) {
                    let score = |code: usize| -> f64 {
                        let pairs = embedding[code * dim..][..dim].iter().zip(z);
                        let pairs = pairs.map(|(&e, &z)| (f64::from(e), f64::from(z)));
                        match round % 3 {
                            0 => pairs.map(|(e, z)| (z - e) * (z - e)).sum(),
                            1 => pairs.map(|(e, z)| -z * e).sum(),
                            _ => pairs.map(|(e, z)| -z * e).sum::<f64>() - f64::from(bias[code]),
                        }
                    };
                    let best = (0..codes).map(score).fold(f64::INFINITY, f64::min);
                    let slack = (dim + 4) as f64 * (2 * dim + 1) as f64 * f64::from(f32::EPSILON);
                    assert!(score(code as usize) <= best + slack);
                }
            }
        }
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let mut random = Random::new(11);
        for isa in Isa::available() {
            for codes in [1, 2, 15, 16, 17, 33, 100, 257] {
                let dim = 3;
                // Few different codes, so nearly every latent has many equal ones.
                let kinds = random.floats(4 * dim);
                let kind: Vec<usize> = (0..codes).map(|_| random.below(4)).collect();
                let embedding: Vec<f32> =
                    kind.iter().flat_map(|&k| kinds[k * dim..][..dim].to_vec()).collect();
                let z = random.floats(300 * dim);
                let book = Codebook::nearest(isa, &embedding, dim);
                for code in search(&book, &z, dim) {
                    let first = kind.iter().position(|&k| k == kind[code as usize]);
                    assert_eq!(first, Some(code as usize));
                }
            }
        }
    }

    #[test]
    fn a_latent_that_is_not_finite_gets_the_first_code() {
        for isa in Isa::available() {
            let book = Codebook::nearest(isa, &[1.0, 2.0, 3.0], 1);
            assert_eq!(search(&book, &[f32::NAN, 2.9, f32::INFINITY], 1), [0, 2, 0]);
        }
    }
}
