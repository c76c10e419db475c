//! Owns the sizes of the families that code images at several scales, and the scales that they are
//! published with.

use super::geometry::{Geometry, Shapes, bits, codebook, image_channels, vqgan};
use super::published::Published;
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;
use crate::util::settings::SCALES;

/// Sides of VAR's scales for 256 and 512 pixels, and of Switti's for 1024.
const VAR: [&[usize]; 3] = [
    &[1, 2, 3, 4, 5, 6, 8, 10, 13, 16],
    &[1, 2, 3, 4, 6, 9, 13, 18, 24, 32],
    &[1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64],
];

/// Infinity's scales (height, width) for pictures that are as high as wide, 1.25, 1.333, 1.5, 1.75, 2, 2.5
/// and 3 times higher; wider ones have them turned.
const INFINITY: [[[usize; 2]; 13]; 8] = [
    same([1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64]),
    [
        [1, 1],
        [2, 2],
        [3, 3],
        [5, 4],
        [10, 8],
        [15, 12],
        [20, 16],
        [25, 20],
        [30, 24],
        [35, 28],
        [45, 36],
        [55, 44],
        [70, 56],
    ],
    [
        [1, 1],
        [2, 2],
        [4, 3],
        [8, 6],
        [12, 9],
        [16, 12],
        [20, 15],
        [24, 18],
        [28, 21],
        [36, 27],
        [48, 36],
        [60, 45],
        [72, 54],
    ],
    [
        [1, 1],
        [2, 2],
        [3, 2],
        [6, 4],
        [9, 6],
        [15, 10],
        [21, 14],
        [27, 18],
        [33, 22],
        [39, 26],
        [48, 32],
        [63, 42],
        [78, 52],
    ],
    [
        [1, 1],
        [2, 2],
        [3, 3],
        [7, 4],
        [11, 6],
        [14, 8],
        [21, 12],
        [28, 16],
        [35, 20],
        [42, 24],
        [56, 32],
        [70, 40],
        [84, 48],
    ],
    [
        [1, 1],
        [2, 2],
        [4, 2],
        [6, 3],
        [10, 5],
        [16, 8],
        [22, 11],
        [30, 15],
        [38, 19],
        [46, 23],
        [60, 30],
        [74, 37],
        [90, 45],
    ],
    [
        [1, 1],
        [2, 2],
        [5, 2],
        [10, 4],
        [15, 6],
        [20, 8],
        [25, 10],
        [30, 12],
        [40, 16],
        [50, 20],
        [65, 26],
        [80, 32],
        [100, 40],
    ],
    [
        [1, 1],
        [2, 2],
        [6, 2],
        [9, 3],
        [15, 5],
        [21, 7],
        [27, 9],
        [36, 12],
        [45, 15],
        [54, 18],
        [72, 24],
        [90, 30],
        [111, 37],
    ],
];

/// How many of them are trained with: 0.06, 0.25, 0.6 and 1 megapixels.
const INFINITY_LENGTHS: [usize; 4] = [7, 10, 12, 13];

const fn same<const N: usize>(sides: [usize; N]) -> [[usize; 2]; N] {
    let mut scales = [[0; 2]; N];
    let mut at = 0;
    while at < N {
        scales[at] = [sides[at]; 2];
        at += 1;
    }
    scales
}

/// Every set of Infinity's scales.
fn infinitys() -> Vec<Vec<[usize; 2]>> {
    let lengths = |scales: &[[usize; 2]; 13]| INFINITY_LENGTHS.map(|n| scales[..n].to_vec());
    let high: Vec<Vec<[usize; 2]>> = INFINITY.iter().flat_map(lengths).collect();
    let turned = |scales: &Vec<[usize; 2]>| -> Vec<[usize; 2]> {
        scales.iter().map(|&[height, width]| [width, height]).collect()
    };
    let wide: Vec<_> = high.iter().map(turned).filter(|scales| !high.contains(scales)).collect();
    [high, wide].concat()
}

/// The scales that are asked for, those of the configuration, or those that are published.
fn chosen(
    published: &Published,
    known: impl FnOnce() -> Vec<Vec<[usize; 2]>>,
) -> Result<Vec<Vec<[usize; 2]>>> {
    if let Some(scales) = &published.scales {
        check_scales(scales).map_err(|reason| Error::setting(SCALES, reason))?;
        return Ok(vec![scales.clone()]);
    }
    match published.list(&["v_patch_nums"])? {
        None => Ok(known()),
        Some((sides, setting)) => {
            let scales: Vec<[usize; 2]> = sides.iter().map(|&side| [side; 2]).collect();
            match check_scales(&scales) {
                Ok(()) if !scales.is_empty() => Ok(vec![scales]),
                Ok(()) => setting.refuse("there is one scale at least"),
                Err(reason) => setting.refuse(&reason),
            }
        }
    }
}

/// VAR: larger convolutions around the quantizer, others over its scales.
pub(super) fn var(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let mut config = vqgan(shapes, published)?;
    let around = if config.parts.encoder() { "quant_conv" } else { "post_quant_conv" };
    config.variant.around = Some(shapes.axis(&format!("{around}.weight"), 2)?).filter(|n| *n != 1);
    let convolutions = shapes.count("quantize.phi.");
    let stated = published.number("quant_resi")?.map(|(share, _)| share.abs());
    let scales = ScalesConfig {
        grids: chosen(published, || {
            VAR.map(|sides| sides.iter().map(|&s| [s; 2]).collect()).into()
        })?,
        spread: Spread::Bicubic,
        convolutions,
        share: stated.unwrap_or(0.5),
    };
    let channels = image_channels(shapes)?;
    let geometry = Geometry::new(Architecture::Vqgan(config), channels, codebook(shapes)?);
    Ok(Geometry { scales: Some(scales), ..geometry })
}

/// Infinity: bits, and nothing around the quantizer.
pub(super) fn infinity(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let mut config = vqgan(shapes, published)?;
    config.variant.around = Some(0);
    let scales = ScalesConfig {
        grids: chosen(published, infinitys)?,
        spread: Spread::Bilinear,
        convolutions: 0,
        share: 0.0,
    };
    let codes = bits(config.z_channels);
    let geometry = Geometry::new(Architecture::Vqgan(config), image_channels(shapes)?, codes);
    Ok(Geometry { scales: Some(scales), ..geometry })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_scales_can_be_told_by_their_sequences() {
        let sides = VAR.map(|sides| sides.iter().map(|&side| [side; 2]).collect());
        for grids in [sides.to_vec(), infinitys()] {
            let scales =
                ScalesConfig { grids, spread: Spread::Bilinear, convolutions: 0, share: 0.0 };
            assert_eq!(scales.check(), Ok(()));
        }
        assert_eq!(infinitys().len(), 4 + 7 * 4 * 2);
    }
}
