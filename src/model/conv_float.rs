//! Owns which arithmetic convolutions of training have on the CPU: the engine's kernels for float32, products
//! of columns for float64, for windows of one, which need no rearranging, and for images of few channels.
//! Must not know: how either computes.

use candle_core::{Result, WithDType};

use super::conv_fast::{Way, isa};
use super::conv_sizes::ConvSizes;
use super::{conv_fast, conv_gradient, conv_kernels};

/// A number that networks are trained in.
pub(super) trait ConvFloat: WithDType {
    /// y `[N, O, OH, OW]` of x `[N, C, H, W]`, weight `[O, C, kh, kw]` and bias `[O]`.
    fn forward(g: &ConvSizes, x: &[Self], weight: &[Self], bias: &[Self]) -> Result<Vec<Self>> {
        let mut y = conv_kernels::forward(g, x, weight);
        conv_kernels::add_bias_in_place(&mut y, bias, g.out_plane());
        Ok(y)
    }

    /// The gradient of the input `[N, C, H, W]` from that of the output, plus a bias `[C]`; also the forward
    /// pass of the transposed convolution.
    fn input_gradient(
        g: &ConvSizes,
        dy: &[Self],
        weight: &[Self],
        bias: &[Self],
    ) -> Result<Vec<Self>> {
        let mut dx = conv_kernels::input_gradient(g, dy, weight);
        conv_kernels::add_bias_in_place(&mut dx, bias, g.height * g.width);
        Ok(dx)
    }

    /// The gradient of the weight `[O, C, kh, kw]`.
    fn weight_gradient(g: &ConvSizes, x: &[Self], dy: &[Self]) -> Result<Vec<Self>> {
        Ok(conv_kernels::weight_gradient(g, x, dy))
    }
}

impl ConvFloat for f64 {}

impl ConvFloat for f32 {
    fn forward(g: &ConvSizes, x: &[f32], weight: &[f32], bias: &[f32]) -> Result<Vec<f32>> {
        if let Some(way) = Way::of(g) {
            return Ok(conv_fast::forward(isa()?, g, way, x, weight, bias));
        }
        let mut y = conv_kernels::forward(g, x, weight);
        conv_kernels::add_bias_in_place(&mut y, bias, g.out_plane());
        Ok(y)
    }

    fn input_gradient(g: &ConvSizes, dy: &[f32], weight: &[f32], bias: &[f32]) -> Result<Vec<f32>> {
        let small = g.channels < conv_fast::CHANNELS_MIN || g.is_pointwise();
        if let Some(flipped) = g.flipped().filter(|_| !small) {
            return f32::forward(&flipped, dy, &conv_fast::flip(g, weight), bias);
        }
        if let Some(dx) = conv_fast::by_phases(isa()?, g, dy, weight, bias) {
            return Ok(dx);
        }
        let mut dx = conv_kernels::input_gradient(g, dy, weight);
        conv_kernels::add_bias_in_place(&mut dx, bias, g.height * g.width);
        Ok(dx)
    }

    fn weight_gradient(g: &ConvSizes, x: &[f32], dy: &[f32]) -> Result<Vec<f32>> {
        match Way::of(g) {
            Some(Way::Tiles(scheme)) => {
                Ok(conv_gradient::weight_gradient(isa()?, g, scheme, x, dy))
            }
            _ => Ok(conv_kernels::weight_gradient(g, x, dy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conv_sizes::Padding;
    use super::*;
    use crate::kernels::Isa;
    use crate::util::random::SplitMix64;

    struct Random(SplitMix64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            (self.0.next() % n as u64) as usize
        }

        fn floats(&mut self, n: usize) -> Vec<f32> {
            (0..n).map(|_| (self.0.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
        }
    }

    /// The largest error of `got` as a share of the largest sum of magnitudes that an element of `want` was
    /// added up from, which is what tiles, that mix neighbours, round by.
    fn error(got: &[f32], want: &[f64], sizes: &[f64]) -> f64 {
        assert_eq!(got.len(), want.len());
        let largest = sizes.iter().copied().fold(1e-30, f64::max);
        got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max) / largest
    }

    fn wide(values: &[f32], of: impl Fn(f64) -> f64) -> Vec<f64> {
        values.iter().map(|v| of(f64::from(*v))).collect()
    }

    /// Windows, strides and paddings before and after: those of our networks, and others.
    const SHAPES: [(usize, usize, usize, usize); 14] = [
        (3, 1, 1, 1),
        (3, 2, 0, 1),
        (3, 2, 1, 1),
        (4, 2, 1, 1),
        (4, 1, 1, 1),
        (1, 1, 0, 0),
        (1, 2, 0, 0),
        (5, 1, 2, 2),
        (3, 1, 0, 0),
        (3, 1, 2, 2),
        (4, 2, 2, 2),
        (4, 2, 1, 0),
        (2, 2, 0, 0),
        (5, 3, 1, 2),
    ];

    fn sizes(random: &mut Random, largest: usize, channels: usize) -> ConvSizes {
        let (kernel, stride, before, after) = SHAPES[random.below(SHAPES.len())];
        let least = kernel.saturating_sub(before + after).max(1);
        let side = |random: &mut Random| least + random.below(largest);
        let (h, w) = (side(random), side(random));
        let (n, c, o) =
            (random.below(4) + 1, random.below(channels) + 1, random.below(channels) + 1);
        let padding = Padding { before, after };
        ConvSizes::of(&[n, c, h, w], &[o, c, kernel, kernel], stride, padding).unwrap()
    }

    /// Each of the three beside the definition in float64.
    fn check(random: &mut Random, isa: Isa, g: &ConvSizes, way: Option<Way>) {
        let x = random.floats(g.batch * g.in_size());
        let w = random.floats(g.weight_size());
        let dy = random.floats(g.batch * g.out_size());
        let [filters, channels] = [g.filters, g.channels].map(|n| random.floats(n));
        let plain = |of: fn(f64) -> f64| [&x, &w, &dy, &filters, &channels].map(|v| wide(v, of));
        let all = |[x, w, dy, filters, channels]: &[Vec<f64>; 5]| {
            [
                f64::forward(g, x, w, filters).unwrap(),
                f64::input_gradient(g, dy, w, channels).unwrap(),
                f64::weight_gradient(g, x, dy).unwrap(),
            ]
        };
        let (want, sizes) = (all(&plain(|v| v)), all(&plain(f64::abs)));
        let got = match way {
            None => [
                f32::forward(g, &x, &w, &filters).ok(),
                f32::input_gradient(g, &dy, &w, &channels).ok(),
                f32::weight_gradient(g, &x, &dy).ok(),
            ],
            Some(way) => [
                Some(conv_fast::forward(isa, g, way, &x, &w, &filters)),
                conv_fast::by_phases(isa, g, &dy, &w, &channels),
                match way {
                    Way::Windows(_) => None,
                    Way::Tiles(scheme) => {
                        Some(conv_gradient::weight_gradient(isa, g, scheme, &x, &dy))
                    }
                },
            ],
        };
        for (at, bound) in [5e-6, 5e-6, 5e-6].into_iter().enumerate() {
            let Some(got) = &got[at] else { continue };
            let error = error(got, &want[at], &sizes[at]);
            assert!(error <= bound, "{}: {error:.1e} of {g:?}", ["y", "dx", "dw"][at]);
        }
    }

    #[test]
    fn our_kernels_give_what_the_definition_gives() {
        let mut random = Random(SplitMix64(11));
        for isa in Isa::available() {
            for case in 0..150 {
                let g = sizes(&mut random, if case % 20 == 0 { 70 } else { 12 }, 40);
                let window = g.window();
                let tiles = Way::of(&g).filter(|way| matches!(way, Way::Tiles(_)));
                for way in [Some(Way::Windows(window)), tiles].into_iter().flatten() {
                    check(&mut random, isa, &g, Some(way));
                }
                check(&mut random, isa, &g, None);
            }
        }
    }

    #[test]
    fn no_bit_depends_on_the_number_of_threads() {
        let mut random = Random(SplitMix64(12));
        for _ in 0..60 {
            let g = sizes(&mut random, 40, 40);
            let x = random.floats(g.batch * g.in_size());
            let w = random.floats(g.weight_size());
            let dy = random.floats(g.batch * g.out_size());
            let [filters, channels] = [g.filters, g.channels].map(|n| random.floats(n));
            let all = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    [
                        f32::forward(&g, &x, &w, &filters).unwrap(),
                        f32::input_gradient(&g, &dy, &w, &channels).unwrap(),
                        f32::weight_gradient(&g, &x, &dy).unwrap(),
                    ]
                })
            };
            let one = all(1);
            assert!([2, 3, 7].iter().all(|&threads| all(threads) == one), "{g:?}");
        }
    }

    /// The forms that training lives on are those that are fast.
    #[test]
    fn the_windows_of_our_networks_go_through_tiles() {
        for (kernel, stride, before, after) in SHAPES[..7].iter().copied() {
            let padding = Padding { before, after };
            let of = |channels: usize| {
                let weight = [32, channels, kernel, kernel];
                ConvSizes::of(&[2, channels, 16, 16], &weight, stride, padding).unwrap()
            };
            let tiles = matches!(Way::of(&of(32)), Some(Way::Tiles(_)));
            assert_eq!(tiles, matches!((kernel, stride), (3, 1) | (4, 2)), "{kernel} {stride}");
            assert!(Way::of(&of(3)).is_none());
        }
    }
}
