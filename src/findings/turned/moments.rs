//! Owns small pictures and what a linear judge needs of them: means, covariances, detail. Must not know:
//! what is judged.

use crate::findings::picture::Picture;

/// Pixels a side of lightness, and of each of two colours.
pub(super) const SIDE: usize = 8;
const COLOUR_SIDE: usize = 4;
pub(super) const SIZE: usize = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE;

/// What a linear judge needs of some pictures.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub(super) count: u64,
    sum: Vec<f64>,
    /// Of products, by rows.
    products: Vec<f64>,
    /// Of their detail, and of its square.
    pub(super) detail: [f64; 2],
}

impl Moments {
    pub(super) fn none() -> Moments {
        let (sum, products) = (vec![0.0; SIZE], vec![0.0; SIZE * SIZE]);
        Moments { count: 0, sum, products, detail: [0.0; 2] }
    }

    pub(super) fn add(&mut self, small: &[f64; SIZE], detail: f64) {
        self.count += 1;
        self.detail[0] += detail;
        self.detail[1] += detail * detail;
        self.sum.iter_mut().zip(small).for_each(|(sum, value)| *sum += value);
        for (row, value) in self.products.chunks_exact_mut(SIZE).zip(small) {
            row.iter_mut().zip(small).for_each(|(sum, other)| *sum += value * other);
        }
    }

    pub(super) fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.detail.iter_mut().zip(other.detail).for_each(|(sum, more)| *sum += more);
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, more)| *sum += more);
        self.products.iter_mut().zip(&other.products).for_each(|(sum, more)| *sum += more);
    }

    pub(super) fn mean(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        self.sum.iter().map(|sum| sum / count).collect()
    }

    pub(super) fn covariance(&self) -> Vec<f64> {
        let (count, mean) = (self.count.max(1) as f64, self.mean());
        let at = |at: usize| self.products[at] / count - mean[at / SIZE] * mean[at % SIZE];
        (0..SIZE * SIZE).map(at).collect()
    }

    /// Of the judge's verdicts.
    pub(super) fn variance(&self, judge: &[f64]) -> f64 {
        let covariance = self.covariance();
        let rows = covariance.chunks_exact(SIZE).zip(judge);
        rows.map(|(row, weight)| weight * dot(row, judge)).sum::<f64>().max(0.0)
    }
}

pub(super) fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// Lightness in 8 x 8 pixels and two colours in 4 x 4.
pub(super) fn small(picture: &Picture) -> [f64; SIZE] {
    let mut sums = [[0.0_f64; 4]; SIDE * SIDE];
    for (at, pixel) in picture.rgb.chunks_exact(3).enumerate() {
        let (y, x) = (at / picture.width, at % picture.width);
        let sum = &mut sums[y * SIDE / picture.height * SIDE + x * SIDE / picture.width];
        (0..3).for_each(|c| sum[c] += f64::from(pixel[c]));
        sum[3] += 1.0;
    }
    let mut small = [0.0; SIZE];
    for (at, [red, green, blue, count]) in sums.into_iter().enumerate() {
        let luma = (0.299 * red + 0.587 * green + 0.114 * blue) / count;
        small[at] = luma;
        let colour = at / SIDE / 2 * COLOUR_SIDE + at % SIDE / 2;
        small[SIDE * SIDE + colour] += (blue / count - luma) / 4.0;
        small[SIDE * SIDE + COLOUR_SIDE * COLOUR_SIDE + colour] += (red / count - luma) / 4.0;
    }
    small
}

/// Mean squared difference in lightness between neighbours, which a turn leaves as it is.
pub(super) fn detail(picture: &Picture) -> f64 {
    let luma = |[red, green, blue]: [f64; 3]| 0.299 * red + 0.587 * green + 0.114 * blue;
    let pixels = picture.rgb.chunks_exact(3);
    let lumas: Vec<f64> =
        pixels.map(|pixel| luma([pixel[0], pixel[1], pixel[2]].map(f64::from))).collect();
    let mut sum = 0.0;
    for (y, row) in lumas.chunks_exact(picture.width).enumerate() {
        sum += row.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>();
        let below = lumas[(y + 1) * picture.width..].iter();
        sum += row.iter().zip(below).map(|(above, below)| (below - above).powi(2)).sum::<f64>();
    }
    sum / lumas.len().max(1) as f64
}

/// Which value of a small picture comes to place `at` when it is turned by so many quarters.
pub(super) fn before(at: usize, quarters: usize) -> usize {
    let (start, side) = match at {
        _ if at < SIDE * SIDE => (0, SIDE),
        _ if at < SIDE * SIDE + COLOUR_SIDE * COLOUR_SIDE => (SIDE * SIDE, COLOUR_SIDE),
        _ => (SIDE * SIDE + COLOUR_SIDE * COLOUR_SIDE, COLOUR_SIDE),
    };
    let (mut y, mut x) = ((at - start) / side, (at - start) % side);
    for _ in 0..quarters {
        (y, x) = (x, side - 1 - y);
    }
    start + y * side + x
}
