//! Owns the search for the nearest code: distances as a blocked product with the arg-min fused.
//! Must not know: quantizer rules other than this one.

use super::buffer::Buffer;
use super::micro::{Block, Left, Right, Sink, VECTORS, pack, product};
use super::simd::Simd;
use super::{Kernel, Level};

/// Latents searched at a time: memory is this many rows of running minima, whatever the number
/// of codes and latents.
const ROWS: usize = 256;

/// The largest panel.
const WIDTH_MAX: usize = 32;

/// Codes packed for the search.
pub struct Codebook {
    level: Level,
    codes: usize,
    dim: usize,
    packed: Buffer,
    /// |e|^2, infinite behind the last code.
    squares: Buffer,
}

impl Codebook {
    /// From `[codes, dim]`; at most 2^24 codes, since the search counts in float32.
    pub fn new(level: Level, embedding: &[f32], codes: usize, dim: usize) -> Codebook {
        assert_eq!(embedding.len(), codes * dim, "codebook of another shape");
        assert!((1..=1 << 24).contains(&codes), "too many codes for float32 counting");
        let packed = pack(level, dim, codes, |k, code| embedding[code * dim + k]);
        let mut squares = Buffer::zeroed(codes.next_multiple_of(level.panel()));
        squares.fill(f32::INFINITY);
        for (square, code) in squares.iter_mut().zip(embedding.chunks(dim)) {
            *square = square_sum(code);
        }
        Codebook { level, codes, dim, packed, squares }
    }

    /// Number of codes.
    pub fn count(&self) -> usize {
        self.codes
    }
}

/// |v|^2 in float32, rounded once.
pub fn square_sum(v: &[f32]) -> f32 {
    v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() as f32
}

/// For every latent of `[latents, stride]` (its first `dim` floats) the code with the smallest
/// |z|^2 + |e|^2 - 2 z.e in float32, ties to the lower index, and that distance.
pub fn nearest(
    codebook: &Codebook,
    latents: &[f32],
    stride: usize,
    codes: &mut [u32],
    distances: &mut [f32],
    scratch: &mut Buffer,
) {
    assert!(stride >= codebook.dim && latents.len() >= codes.len() * stride, "latents too short");
    assert_eq!(codes.len(), distances.len());
    scratch.reserve(ROWS * (2 * WIDTH_MAX + 1));
    let rows = codes.chunks_mut(ROWS).zip(distances.chunks_mut(ROWS));
    for (block, (codes, distances)) in rows.enumerate() {
        let latents = &latents[block * ROWS * stride..][..codes.len() * stride];
        let kernel = Nearest { codebook, latents, stride, codes, distances, scratch };
        codebook.level.run(kernel);
    }
}

struct Nearest<'a> {
    codebook: &'a Codebook,
    latents: &'a [f32],
    stride: usize,
    codes: &'a mut [u32],
    distances: &'a mut [f32],
    scratch: &'a mut Buffer,
}

impl Kernel for Nearest<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let book = self.codebook;
        let width = book.level.panel();
        let (best, rest) = self.scratch.split_at_mut(ROWS * width);
        let (index, rest) = rest.split_at_mut(ROWS * width);
        let squares = &mut rest[..self.codes.len()];
        best.fill(f32::INFINITY);
        index.fill(0.0);
        for (square, z) in squares.iter_mut().zip(self.latents.chunks(self.stride)) {
            *square = square_sum(&z[..book.dim]);
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
            code_squares: book.squares.as_ptr(),
            width,
        };
        // SAFETY: `nearest` checked the latents; the minima have ROWS rows of a panel, squares
        // one a row and one a packed code.
        unsafe { product(s, left, right, &mut sink) };
        for row in 0..self.codes.len() {
            let range = row * width..(row + 1) * width;
            let (code, distance) = lowest(&best[range.clone()], &index[range]);
            // A latent that isn't finite has no nearest code: the first, at the distance NaN.
            self.codes[row] = code;
            self.distances[row] = if distance.is_finite() { distance } else { f32::NAN };
        }
    }
}

/// The smallest minimum of the lanes, ties to the lower code.
#[inline(always)]
fn lowest(best: &[f32], index: &[f32]) -> (u32, f32) {
    let mut found = (index[0], best[0]);
    for (&i, &d) in index.iter().zip(best).skip(1) {
        if d < found.1 || (d == found.1 && i < found.0) {
            found = (i, d);
        }
    }
    (found.0 as u32, found.1)
}

/// Keeps the smallest distance of each row and lane and the code it belongs to.
struct Minima {
    best: *mut f32,
    index: *mut f32,
    latent_squares: *const f32,
    code_squares: *const f32,
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
                let code_square = s.load(self.code_squares.add(first));
                for (p, sum) in sums.iter().enumerate() {
                    let at = (row + p) * self.width + v * S::LANES;
                    let square = s.splat(*self.latent_squares.add(row + p));
                    let both = s.add(square, code_square);
                    // The reference's rounding: twice the product is exact, one subtraction.
                    let distance = s.fnma(s.splat(2.0), sum[v], both);
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

    fn search(book: &Codebook, latents: &[f32], stride: usize) -> (Vec<u32>, Vec<f32>) {
        let count = latents.len() / stride;
        let (mut codes, mut distances) = (vec![0; count], vec![0.0; count]);
        nearest(book, latents, stride, &mut codes, &mut distances, &mut Buffer::default());
        (codes, distances)
    }

    #[test]
    fn the_code_found_is_the_nearest_but_for_rounding() {
        let mut random = Random::new(10);
        for level in Level::available() {
            for _ in 0..40 {
                let (count, dim) = (random.below(600) + 1, random.below(40) + 1);
                let stride = dim + random.below(5);
                let (latents, codes) = (random.below(300) + 1, count);
                let embedding = random.floats(codes * dim);
                let z = random.floats(latents * stride);
                let book = Codebook::new(level, &embedding, codes, dim);
                let (found, distances) = search(&book, &z, stride);
                for (i, z) in z.chunks(stride).enumerate() {
                    let exact = |code: usize| -> f64 {
                        let e = &embedding[code * dim..][..dim];
                        e.iter().zip(z).map(|(&e, &z)| (f64::from(z) - f64::from(e)).powi(2)).sum()
                    };
                    let best = (0..codes).map(exact).fold(f64::INFINITY, f64::min);
                    let slack = (dim + 4) as f64 * 2.0 * dim as f64 * f64::from(f32::EPSILON);
                    assert!(exact(found[i] as usize) <= best + slack);
                    assert!((f64::from(distances[i]) - best).abs() <= slack);
                }
            }
        }
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let mut random = Random::new(11);
        for level in Level::available() {
            for codes in [1, 2, 15, 16, 17, 33, 100, 257] {
                let dim = 3;
                // Few different codes, so nearly every latent has many equal ones.
                let kinds = random.floats(4 * dim);
                let kind: Vec<usize> = (0..codes).map(|_| random.below(4)).collect();
                let embedding: Vec<f32> =
                    kind.iter().flat_map(|&k| kinds[k * dim..][..dim].to_vec()).collect();
                let z = random.floats(300 * dim);
                let book = Codebook::new(level, &embedding, codes, dim);
                for &code in &search(&book, &z, dim).0 {
                    let first = kind.iter().position(|&k| k == kind[code as usize]);
                    assert_eq!(first, Some(code as usize));
                }
            }
        }
    }

    #[test]
    fn a_latent_that_is_not_finite_gets_the_first_code_and_no_distance() {
        for level in Level::available() {
            let book = Codebook::new(level, &[1.0, 2.0, 3.0], 3, 1);
            let (codes, distances) = search(&book, &[f32::NAN, 2.9, f32::INFINITY], 1);
            assert_eq!(codes, [0, 2, 0]);
            assert!(distances[0].is_nan() && !distances[1].is_nan() && distances[2].is_nan());
        }
    }
}
