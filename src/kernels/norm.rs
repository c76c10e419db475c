//! Owns GroupNorm's statistics: sums and squares by channel in float64, and the scale and shift
//! they give.

use super::isa::channel_stride;

/// Sum and sum of squares of every channel of a map, float64.
///
/// A float32's square is exact in float64 and each channel is summed pixel after pixel, so the
/// only error is the summation's, below 1e-16 of the magnitudes: more accurate than two passes in
/// float32, and the same for every vector length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// For maps of up to that many channels.
    pub(crate) fn new(channels: usize) -> Moments {
        let len = channel_stride(channels);
        Moments { sums: vec![0.0; len], squares: vec![0.0; len] }
    }

    /// Starts again.
    pub(crate) fn clear(&mut self) {
        self.sums.fill(0.0);
        self.squares.fill(0.0);
    }

    /// Takes in those of another part of the map.
    pub(crate) fn add(&mut self, other: &Moments) {
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, part)| *sum += part);
        self.squares.iter_mut().zip(&other.squares).for_each(|(square, part)| *square += part);
    }

    /// The moments of a map of whole pixels, `[pixels, stride]`.
    pub(crate) fn take(&mut self, map: &[f32], stride: usize) {
        self.clear();
        for pixel in map.chunks_exact(stride) {
            for ((v, sum), square) in pixel.iter().zip(&mut self.sums).zip(&mut self.squares) {
                let v = f64::from(*v);
                *sum += v;
                *square += v * v;
            }
        }
    }

    /// Raw access for kernels. Panics where it is shorter than `stride`.
    pub(super) fn pointers(&mut self, stride: usize) -> (*mut f64, *mut f64) {
        assert!(self.sums.len() >= stride && self.squares.len() >= stride, "moments too short");
        (self.sums.as_mut_ptr(), self.squares.as_mut_ptr())
    }
}

#[cfg(test)]
impl Moments {
    /// Asserts that these are the moments of a map of `[pixels, channel_stride(channels)]`.
    pub(crate) fn assert_equal(&self, map: &[f32], channels: usize) {
        let stride = channel_stride(channels);
        let (mut sums, mut squares) = (vec![0f64; stride], vec![0f64; stride]);
        for pixel in map.chunks(stride) {
            for (c, &v) in pixel.iter().enumerate() {
                sums[c] += f64::from(v);
                squares[c] += f64::from(v) * f64::from(v);
            }
        }
        let pixels = (map.len() / stride) as f64;
        for c in 0..stride {
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-15 * pixels * (1.0 + squares[c]);
            assert!(close(self.sums[c], sums[c]) && close(self.squares[c], squares[c]));
        }
    }
}

/// A GroupNorm's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupNorm<'a> {
    /// Groups; divides the channel count.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// By channel.
    pub weight: &'a [f32],
    /// By channel.
    pub bias: &'a [f32],
}

/// Below this share of the mean square a variance says that all values are equal: they deviate by
/// less than a unit in float32's last place.
const EQUAL: f64 = 1.0 / (1_u64 << 46) as f64;

/// The scale and shift by channel of a GroupNorm over a map of `pixels` whose moments are known:
/// y = x * scale + shift equals (x - mean) / sqrt(variance + epsilon) * weight + bias. Fills up to
/// the channel stride with zeros.
///
/// Of equal values, such as a group of one value, only the bias is left: scaled by a thousand for
/// an epsilon of 1e-6, x and the shift would leave their rounding instead.
pub(crate) fn scale_and_shift(
    moments: &Moments,
    pixels: usize,
    norm: GroupNorm<'_>,
    scale: &mut [f32],
    shift: &mut [f32],
) {
    let channels = norm.weight.len();
    let size = channels / norm.groups;
    let count = (pixels * size) as f64;
    scale[..channel_stride(channels)].fill(0.0);
    shift[..channel_stride(channels)].fill(0.0);
    for group in 0..norm.groups {
        let range = group * size..(group + 1) * size;
        let mean = moments.sums[range.clone()].iter().sum::<f64>() / count;
        let square = moments.squares[range.clone()].iter().sum::<f64>() / count;
        let variance = square - mean * mean;
        if variance <= EQUAL * square {
            for c in range {
                // Zero, but NaN where the weight is.
                scale[c] = 0.0 * norm.weight[c];
                shift[c] = norm.bias[c];
            }
            continue;
        }
        let inverse = 1.0 / (variance + norm.epsilon).sqrt();
        for c in range {
            let factor = inverse * f64::from(norm.weight[c]);
            scale[c] = factor as f32;
            shift[c] = (f64::from(norm.bias[c]) - mean * factor) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::Random;
    use super::*;

    #[test]
    fn equal_values_leave_the_bias_alone() {
        for (value, pixels) in [(0.0, 9), (3.7, 1), (-1e20, 4), (1e-20, 30)] {
            let mut moments = Moments::new(2);
            moments.take(&vec![value; pixels * 16], 16);
            let (mut scale, mut shift) = ([9.0; 16], [9.0; 16]);
            let norm =
                GroupNorm { groups: 2, epsilon: 1e-6, weight: &[2.0, 3.0], bias: &[0.25, -0.5] };
            scale_and_shift(&moments, pixels, norm, &mut scale, &mut shift);
            for (x, bias) in [0.25, -0.5].into_iter().enumerate() {
                assert_eq!(value.mul_add(scale[x], shift[x]), bias, "{value} {pixels}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut map = vec![1.0; 5 * 16];
            map[16] = value;
            let mut moments = Moments::new(2);
            moments.take(&map, 16);
            let (mut scale, mut shift) = ([9.0; 16], [9.0; 16]);
            let norm = GroupNorm { groups: 1, epsilon: 1e-6, weight: &[1.0; 2], bias: &[0.0; 2] };
            scale_and_shift(&moments, 5, norm, &mut scale, &mut shift);
            for x in 0..2 {
                assert!(!map[x].mul_add(scale[x], shift[x]).is_finite(), "{value}");
            }
        }
    }

    #[test]
    fn scale_and_shift_normalise_like_two_passes() {
        let mut random = Random::new(3);
        for _ in 0..50 {
            let (groups, size, pixels) =
                (random.below(8) + 1, random.below(5) + 1, random.below(90) + 2);
            let channels = groups * size;
            // A mean far above the deviation is where one pass in float32 breaks.
            let offset = [0.0, 1.0, 300.0][random.below(3)];
            let x: Vec<f32> = random.floats(pixels * channels).iter().map(|v| v + offset).collect();
            let (weight, bias) = (random.floats(channels), random.floats(channels));
            let mut moments = Moments::new(channels);
            for pixel in x.chunks(channels) {
                for (c, &v) in pixel.iter().enumerate() {
                    moments.sums[c] += f64::from(v);
                    moments.squares[c] += f64::from(v) * f64::from(v);
                }
            }
            let stride = channel_stride(channels);
            let (mut scale, mut shift) = (vec![9f32; stride], vec![9f32; stride]);
            let norm = GroupNorm { groups, epsilon: 1e-6, weight: &weight, bias: &bias };
            scale_and_shift(&moments, pixels, norm, &mut scale, &mut shift);
            assert!(scale[channels..].iter().chain(&shift[channels..]).all(|&v| v == 0.0));
            for c in 0..channels {
                let group = c / size;
                let values: Vec<f64> = (0..pixels)
                    .flat_map(|p| (0..size).map(move |i| (p, i)))
                    .map(|(p, i)| f64::from(x[p * channels + group * size + i]))
                    .collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance =
                    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
                let factor = f64::from(weight[c]) / (variance + 1e-6).sqrt();
                for p in 0..pixels {
                    let v = f64::from(x[p * channels + c]);
                    let want = (v - mean) * factor + f64::from(bias[c]);
                    let got = f64::from(v as f32 * scale[c] + shift[c]);
                    // Scale, shift, product and sum are each rounded to float32 once.
                    let size = (v * factor).abs() + (mean * factor).abs() + 1.0;
                    assert!((got - want).abs() <= 3e-7 * size, "{got} for {want}");
                }
            }
        }
    }
}
