//! Owns what a few images of a data set are like: sizes, colours, detail. Must not know: what
//! follows from it.

use rayon::prelude::*;
use serde::Serialize;

use super::inputs::Inputs;
use crate::data::SourceImage;
use crate::data::prepare::{Preparation, Prepared, from_bytes};
use crate::data::source::library::Library;
use crate::data::subsample;
use crate::error::{Error, Result};
use crate::metrics::psnr_of_mse;

/// Images that are looked at, evenly over all of them.
const LOOKED_AT_MAX: usize = 64;
/// Side at which colours and detail are looked at.
const SIDE: usize = 64;
/// A channel's mean distance from the others under which a picture is grey, in steps of 255.
const GREY_MAX: f64 = 2.0;

/// What the images are like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataLook {
    /// All of them.
    pub images: u64,
    /// Those that were looked at and can be read.
    pub looked_at: usize,
    /// Those that were looked at and can't.
    pub unreadable: usize,
    /// Shorter side in pixels: of the smallest tenth, the median, of the largest tenth.
    pub short_sides: [u32; 3],
    /// Share of them without colour, 0 to 1.
    pub grey: f64,
    /// Mean PSNR, in dB, of what is left of them at 64 pixels when they are scaled to a quarter and
    /// back: little where there is much detail.
    pub coarse_psnr: f64,
}

/// Of one image.
struct Seen {
    short_side: u32,
    grey: bool,
    coarse_psnr: f64,
}

impl DataLook {
    /// Of `inputs`, prepared as `preparation` says but for size and colours.
    ///
    /// # Errors
    /// Inputs that can't be listed; no image, or none that can be read.
    pub(super) fn at(inputs: &Inputs, preparation: &Preparation) -> Result<DataLook> {
        let mut images = 0;
        let mut stream = inputs.images(inputs.take(), false)?;
        let counted = stream.by_ref().inspect(|_| images += 1);
        let chosen = subsample::evenly(counted, LOOKED_AT_MAX)?;
        let how = Preparation { size: Some(SIDE as u32), channels: 3, ..preparation.clone() };
        let library = Library::default();
        let look = |image: &SourceImage| {
            let bytes = library.read(image, &how.limits)?;
            from_bytes(&bytes, &how).map(|prepared| seen(&prepared))
        };
        let looked: Vec<_> = chosen.par_iter().map(look).collect();
        let unreadable = looked.iter().filter(|seen| seen.is_err()).count();
        let why = looked.iter().find_map(|seen| seen.as_ref().err().map(ToString::to_string));
        let seen: Vec<Seen> = looked.into_iter().filter_map(Result::ok).collect();
        let Some(count) = Some(seen.len()).filter(|count| *count > 0) else {
            return Err(Error::invalid(match why {
                None => "no image under the inputs".into(),
                Some(why) => format!("none of {unreadable} images can be read: {why}"),
            }));
        };
        let mut sides: Vec<u32> = seen.iter().map(|seen| seen.short_side).collect();
        sides.sort_unstable();
        let mean = |of: &dyn Fn(&Seen) -> f64| seen.iter().map(of).sum::<f64>() / count as f64;
        Ok(DataLook {
            images,
            looked_at: count,
            unreadable,
            short_sides: [1, 5, 9].map(|tenths| sides[(count - 1) * tenths / 10]),
            grey: mean(&|seen| f64::from(u8::from(seen.grey))),
            coarse_psnr: mean(&|seen| seen.coarse_psnr),
        })
    }
}

fn seen(image: &Prepared) -> Seen {
    let pixels = image.pixels.as_chunks::<3>().0;
    let apart = |[r, g, b]: &[u8; 3]| {
        let most = *r.max(g).max(b);
        f64::from(most - *r.min(g).min(b))
    };
    let apart = pixels.iter().map(apart).sum::<f64>() / pixels.len().max(1) as f64;
    Seen {
        short_side: image.image_width.min(image.image_height),
        grey: apart <= GREY_MAX,
        coarse_psnr: coarse_psnr(pixels, image.width),
    }
}

/// PSNR of a picture whose squares of 4x4 pixels have one colour each.
fn coarse_psnr(pixels: &[[u8; 3]], width: usize) -> f64 {
    const SQUARE: usize = 4;
    let (mut squares, mut count) = (0.0, 0usize);
    for rows in pixels.chunks_exact((SQUARE * width).max(1)) {
        for left in (0..width / SQUARE).map(|square| square * SQUARE) {
            for channel in 0..3 {
                let at = |i: usize| {
                    f64::from(rows[i / SQUARE * width + left + i % SQUARE][channel]) / 255.0
                };
                let mean = (0..SQUARE * SQUARE).map(at).sum::<f64>() / (SQUARE * SQUARE) as f64;
                squares += (0..SQUARE * SQUARE).map(|i| (at(i) - mean).powi(2)).sum::<f64>();
                count += SQUARE * SQUARE;
            }
        }
    }
    // A picture of one colour is as good as any can be.
    psnr_of_mse((squares / count.max(1) as f64).max(1e-10), 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_is_what_a_quarter_of_the_size_loses() {
        let flat = vec![[9, 9, 9]; 64];
        assert!(coarse_psnr(&flat, 8) > 90.0);
        // Black and white in turns: off by half everywhere, 6.02 dB.
        let fine: Vec<_> = (0..64).map(|i| [if i % 2 == 0 { 0 } else { 255 }; 3]).collect();
        assert!((coarse_psnr(&fine, 8) - 6.02).abs() < 0.01);
    }
}
