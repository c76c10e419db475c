//! Owns structural similarity, of one scale and of several.

use crate::error::{Error, Result};

const WINDOW: usize = 11;

/// Exponents of the scales, the finest first (Wang et al. 2003).
const SCALES: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// The 11 weights of a Gaussian with sigma 1.5, summing to 1.
fn gaussian() -> [f64; WINDOW] {
    let mut g = [0.0; WINDOW];
    for (i, w) in g.iter_mut().enumerate() {
        let x = i as f64 - (WINDOW / 2) as f64;
        *w = (-x * x / (2.0 * 1.5 * 1.5)).exp();
    }
    let sum: f64 = g.iter().sum();
    g.map(|w| w / sum)
}

/// One channel of two images.
struct Planes {
    a: Vec<f64>,
    b: Vec<f64>,
    height: usize,
    width: usize,
}

/// Means over whole windows.
struct Similarity {
    /// Luminance, contrast and structure.
    whole: f64,
    /// Contrast and structure.
    contrast: f64,
}

impl Planes {
    fn new(a: &[f32], b: &[f32], height: usize, width: usize) -> Planes {
        let wide = |plane: &[f32]| plane.iter().map(|&value| f64::from(value)).collect();
        Planes { a: wide(a), b: wide(b), height, width }
    }

    /// As [`ssim_channel`] says. Sides are no shorter than the window.
    fn compare(&self, peak: f64) -> Similarity {
        let &Planes { ref a, ref b, height, width } = self;
        let field = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            let values: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
            blur(&values, height, width)
        };
        let (ma, mb) = (field(&|a, _| a), field(&|_, b| b));
        let (aa, bb, ab) = (field(&|a, _| a * a), field(&|_, b| b * b), field(&|a, b| a * b));
        let (c1, c2) = ((0.01 * peak).powi(2), (0.03 * peak).powi(2));
        let (mut whole, mut contrast) = (0.0, 0.0);
        for i in 0..ma.len() {
            let (ma, mb) = (ma[i], mb[i]);
            let (va, vb, cab) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
            let (above, below) = (2.0 * cab + c2, va + vb + c2);
            whole += (2.0 * ma * mb + c1) * above / ((ma * ma + mb * mb + c1) * below);
            contrast += above / below;
        }
        let windows = ma.len() as f64;
        Similarity { whole: whole / windows, contrast: contrast / windows }
    }

    /// The mean of 2x2 pixels; where a side is odd, of a row or a column of zeros in front as well.
    fn halved(&self) -> Planes {
        let &Planes { ref a, ref b, height, width } = self;
        let (above, left) = (height % 2, width % 2);
        let (down, across) = ((height + above) / 2, (width + left) / 2);
        let halve = |plane: &[f64]| {
            let at = |y: usize, x: usize| match (y.checked_sub(above), x.checked_sub(left)) {
                (Some(y), Some(x)) => plane[y * width + x],
                _ => 0.0,
            };
            let mean = |y, x| (at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1)) / 4.0;
            let rows = (0..down).flat_map(|y| (0..across).map(move |x| (2 * y, 2 * x)));
            rows.map(|(y, x)| mean(y, x)).collect()
        };
        Planes { a: halve(a), b: halve(b), height: down, width: across }
    }
}

/// SSIM (Wang et al. 2004) of one channel `[height, width]`: 11x11 Gaussian window, sigma 1.5,
/// only whole windows, population variances, K1 0.01, K2 0.03, values from 0 to `peak`.
///
/// # Errors
/// Where a side is shorter than the window.
pub(crate) fn ssim_channel(
    a: &[f32],
    b: &[f32],
    height: usize,
    width: usize,
    peak: f64,
) -> Result<f64> {
    if height < WINDOW || width < WINDOW {
        return Err(Error::invalid(format!(
            "SSIM needs images of at least {WINDOW}x{WINDOW} pixels, not {width}x{height}"
        )));
    }
    Ok(Planes::new(a, b, height, width).compare(peak).whole)
}

/// The separable Gaussian over whole windows: `[h - 10, w - 10]`.
fn blur(values: &[f64], height: usize, width: usize) -> Vec<f64> {
    let g = gaussian();
    let out_w = width + 1 - WINDOW;
    let mut rows = Vec::with_capacity(height * out_w);
    for line in values.chunks_exact(width) {
        rows.extend(
            line.windows(WINDOW).map(|w| w.iter().zip(&g).map(|(v, g)| v * g).sum::<f64>()),
        );
    }
    let mut out = Vec::with_capacity((height + 1 - WINDOW) * out_w);
    for y in 0..height + 1 - WINDOW {
        for x in 0..out_w {
            out.push((0..WINDOW).map(|k| rows[(y + k) * out_w + x] * g[k]).sum::<f64>());
        }
    }
    out
}

/// SSIM of one image `[channels, height, width]`: the mean over its channels.
///
/// # Errors
/// As [`ssim_channel`].
pub(crate) fn ssim(
    a: &[f32],
    b: &[f32],
    channels: usize,
    height: usize,
    width: usize,
    peak: f64,
) -> Result<f64> {
    let plane = height * width;
    let mut sum = 0.0;
    for c in 0..channels {
        let part = c * plane..(c + 1) * plane;
        sum += ssim_channel(&a[part.clone()], &b[part], height, width, peak)?;
    }
    Ok(sum / channels as f64)
}

/// Multi-scale SSIM (Wang et al. 2003) of one image `[channels, height, width]`, the mean over its
/// channels: contrast and structure at five scales, luminance at the coarsest, each at least 0, by the
/// published exponents; from a scale to the next the mean of 2x2 pixels, odd sides with zeros in front,
/// as the package `pytorch-msssim` has it. None where a side has 160 pixels or fewer.
pub(crate) fn multiscale_ssim(
    a: &[f32],
    b: &[f32],
    channels: usize,
    (height, width): (usize, usize),
    peak: f64,
) -> Option<f64> {
    let coarsest = 1 << (SCALES.len() - 1);
    if height.min(width) <= (WINDOW - 1) * coarsest {
        return None;
    }
    let plane = height * width;
    let channel = |c: usize| {
        let part = c * plane..(c + 1) * plane;
        let mut planes = Planes::new(&a[part.clone()], &b[part], height, width);
        let mut product = 1.0;
        for (scale, exponent) in SCALES.into_iter().enumerate() {
            if scale > 0 {
                planes = planes.halved();
            }
            let found = planes.compare(peak);
            let last = scale + 1 == SCALES.len();
            let value = if last { found.whole } else { found.contrast };
            product *= value.max(0.0).powf(exponent);
        }
        product
    };
    Some((0..channels).map(channel).sum::<f64>() / channels as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::peers::pictures;
    use crate::train::golden::{Case, assert_close};

    #[test]
    fn golden_ssim() {
        let Some(case) = Case::open("metrics") else { return };
        let (a, b) = (case.f32("a"), case.f32("b"));
        let image = 3 * 32 * 32;
        let pairs = || a.chunks(image).zip(b.chunks(image));
        let channels: Vec<f32> = a
            .chunks(32 * 32)
            .zip(b.chunks(32 * 32))
            .map(|(a, b)| ssim_channel(a, b, 32, 32, 1.0).unwrap() as f32)
            .collect();
        // Ours is in float64, so a tighter bound than float32's holds.
        let golden: Vec<f64> = case.f32("ssim_per_channel").iter().map(|v| f64::from(*v)).collect();
        let mine: Vec<f64> = channels.iter().map(|v| f64::from(*v)).collect();
        assert_close("ssim_per_channel", &mine, &golden, 1e-6);
        let whole: Vec<f64> = pairs().map(|(a, b)| ssim(a, b, 3, 32, 32, 1.0).unwrap()).collect();
        assert_close("ssim_per_image", &whole, &case.scalars("ssim_per_image"), 1e-6);
        case.check_scalar("ssim_mean", whole.iter().sum::<f64>() / 3.0);
        let gaussian: Vec<f32> = gaussian().iter().map(|g| *g as f32).collect();
        case.check("gaussian_1d", &gaussian);
        assert!(ssim_channel(&a[..100], &b[..100], 10, 10, 1.0).is_err());
    }

    #[test]
    fn multiscale_ssim_is_that_of_the_package() {
        // `benches/peers/evaluate_torch.py golden` prints them.
        for (height, width, golden) in GOLDEN {
            let [a, b] = pictures(height, width);
            let found = multiscale_ssim(&a, &b, 3, (height, width), 255.0).unwrap();
            assert!((found - golden).abs() < 2e-6, "{width}x{height}: {found} {golden}");
            assert!(
                (multiscale_ssim(&a, &a, 3, (height, width), 255.0).unwrap() - 1.0).abs() < 1e-12
            );
        }
        let [a, b] = pictures(160, 200);
        assert_eq!(multiscale_ssim(&a, &b, 3, (160, 200), 255.0), None);
    }

    const GOLDEN: [(usize, usize, f64); 3] = [
        (161, 161, 0.931_243_260_597_660_6),
        (176, 192, 0.931_185_636_521_486_8),
        (163, 210, 0.931_813_205_650_764_8),
    ];
}
