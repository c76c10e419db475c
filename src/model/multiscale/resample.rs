//! Owns other sizes of maps of latents, `[h * w, D]`, as PyTorch's `interpolate` makes them.

use crate::model::config::Spread;

/// The mean of the pixels under each pixel of a smaller map, which may overlap (mode `area`).
pub(super) fn mean(
    x: &[f32],
    (height, width): (usize, usize),
    (rows, columns): (usize, usize),
    dim: usize,
) -> Vec<f32> {
    let under = |at: usize, of: usize, side: usize| at * side / of..((at + 1) * side).div_ceil(of);
    let mut made = vec![0.0f32; rows * columns * dim];
    for (at, sums) in made.chunks_exact_mut(dim).enumerate() {
        let down = under(at / columns, rows, height);
        let across = under(at % columns, columns, width);
        let count = (down.len() * across.len()) as f32;
        for (y, x0) in down.flat_map(|y| across.clone().map(move |x0| (y, x0))) {
            let pixel = &x[(y * width + x0) * dim..][..dim];
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
        }
        sums.iter_mut().for_each(|sum| *sum /= count);
    }
    made
}

/// What a pixel of the larger map takes of a row or column of the smaller: places and factors.
type Taps = Vec<(usize, f32)>;

/// A map made larger (modes `bicubic` and `bilinear`, `align_corners` off).
pub(super) fn spread(
    x: &[f32],
    (rows, columns): (usize, usize),
    (height, width): (usize, usize),
    dim: usize,
    how: Spread,
) -> Vec<f32> {
    let taps = |of: usize, side: usize| -> Vec<Taps> {
        (0..side).map(|at| taps(at, of, side, how)).collect()
    };
    let (down, across) = (taps(rows, height), taps(columns, width));
    // Along rows first, as PyTorch.
    let mut wide = vec![0.0f32; rows * width * dim];
    for (at, sums) in wide.chunks_exact_mut(dim).enumerate() {
        let row = &x[at / width * columns * dim..][..columns * dim];
        weighted(sums, &across[at % width], |column| &row[column * dim..][..dim]);
    }
    let mut made = vec![0.0f32; height * width * dim];
    for (at, sums) in made.chunks_exact_mut(dim).enumerate() {
        let column = at % width;
        weighted(sums, &down[at / width], |row| &wide[(row * width + column) * dim..][..dim]);
    }
    made
}

fn weighted<'a>(sums: &mut [f32], taps: &Taps, pixel: impl Fn(usize) -> &'a [f32]) {
    for &(place, factor) in taps {
        sums.iter_mut().zip(pixel(place)).for_each(|(sum, value)| *sum += factor * value);
    }
}

/// What pixel `at` of `side` takes of `of` pixels.
fn taps(at: usize, of: usize, side: usize, how: Spread) -> Taps {
    let place = (at as f64 + 0.5) * of as f64 / side as f64 - 0.5;
    let last = of as f64 - 1.0;
    match how {
        Spread::Bilinear => {
            let place = place.max(0.0);
            let (first, rest) = (place.floor(), place - place.floor());
            let near = |step: f64| (first + step).min(last) as usize;
            vec![(near(0.0), (1.0 - rest) as f32), (near(1.0), rest as f32)]
        }
        Spread::Bicubic => {
            let (first, rest) = (place.floor(), place - place.floor());
            let tap = |step: f64| {
                let place = (first + step).clamp(0.0, last) as usize;
                (place, cubic((step - rest).abs()) as f32)
            };
            [-1.0, 0.0, 1.0, 2.0].map(tap).to_vec()
        }
    }
}

/// Keys' kernel with a = -0.75 at a distance of up to 2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    match x <= 1.0 {
        true => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        false => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_windows_that_may_overlap() {
        let x: Vec<f32> = (0..5).map(|v| v as f32).collect();
        assert_eq!(mean(&x, (1, 5), (1, 2), 1), [1.0, 3.0]);
        assert_eq!(mean(&x, (5, 1), (3, 1), 1), [0.5, 2.0, 3.5]);
        assert_eq!(mean(&x, (1, 5), (1, 5), 1), x);
    }

    /// Made by PyTorch: `interpolate(tensor([[[[1., 2., 4.]]]]), (1, 5), mode=...)`.
    #[test]
    fn spreading_is_pytorchs() {
        let made = |how| spread(&[1.0, 2.0, 4.0], (1, 3), (1, 5), 1, how);
        let near = |made: Vec<f32>, wanted: &[f32]| {
            assert_eq!(made.len(), wanted.len());
            let far = made.iter().zip(wanted).map(|(a, b)| (a - b).abs());
            assert!(far.fold(0.0, f32::max) < 1e-6, "{made:?}");
        };
        near(made(Spread::Bilinear), &[1.0, 1.4, 2.0, 3.2, 4.0]);
        near(made(Spread::Bicubic), &[0.904, 1.244, 2.0, 3.296, 4.192]);
        let one = spread(&[3.0, -1.0], (1, 1), (2, 3), 2, Spread::Bicubic);
        near(one, &[3.0, -1.0].repeat(6));
    }
}
