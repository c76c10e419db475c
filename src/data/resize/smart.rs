//! Owns the resize rules of the families from 2024 on: those that take sizes of pictures' own, and
//! those in several steps. Must not know: names of rules.

use image::RgbImage;
use image::imageops::crop_imm;

use super::pillow::{self, Filter, PillowVersion, Region};
use super::placement::{Crop, Placement, even_middle, floor_middle, round};
use super::rules::{Prepared, ResizeRule, covering, stretch, through_pillow};
use crate::error::{Reject, Stage};

/// Pixels of a picture, at least and at most, as Emu3's processor has it.
pub(super) const EMU3_PIXELS: (u64, u64) = (512 * 512, 1024 * 1024);

/// Pixels of a picture, about, as Emu3.5 has it.
pub(super) const EMU35_PIXELS: u64 = 512 * 512;

/// The longest side over the shortest that Emu3 takes.
const EMU3_RATIO_MAX: f64 = 5.0;

/// Multiples that Emu3's and Emu3.5's sides are.
const EMU3_FACTOR: u64 = 8;
const EMU35_FACTOR: u64 = 16;

/// The size that a rule resizes to before it cuts.
pub(super) fn scaled(rule: ResizeRule, to: (u32, u32)) -> (u32, u32) {
    let scale = |side: u32| match rule {
        ResizeRule::Var => round(1.125 * f64::from(side)).min(u32::MAX.into()) as u32,
        ResizeRule::Unitok => (1.125 * f64::from(side)) as u32,
        _ => side,
    };
    (scale(to.0), scale(to.1))
}

/// Resized to cover 9/8 of the size, torchvision's centre crop.
pub(super) fn enlarged(
    image: &RgbImage,
    rule: ResizeRule,
    to: (u32, u32),
    filter: (Filter, PillowVersion),
) -> Prepared {
    let (w, h) = covering(image, scaled(rule, to));
    let offset = (even_middle(w, to.0), even_middle(h, to.1));
    through_pillow(image, (w, h), filter, offset, to)
}

/// By LANCZOS to cover the size, the other side by the ratio as the reference computes it; crop.
pub(super) fn infinity(image: &RgbImage, to: (u32, u32), version: PillowVersion) -> Prepared {
    let ratio = f64::from(image.width()) / f64::from(image.height());
    let (w, h) = match ratio <= f64::from(to.0) / f64::from(to.1) {
        true => (u64::from(to.0), (f64::from(to.0) / ratio) as u64),
        false => ((ratio * f64::from(to.1)) as u64, u64::from(to.1)),
    };
    // Rounding can make the reference's a pixel too short to cut.
    let (w, h) = (w.max(to.0.into()), h.max(to.1.into()));
    let offset = (floor_middle(w, to.0), floor_middle(h, to.1));
    through_pillow(image, (w, h), (Filter::Lanczos, version), offset, to)
}

/// The middle square, whose corners Pillow rounds each on its own, so that it can be a pixel wider
/// or narrower than high; shrunk by whole factors first, then by BICUBIC.
pub(super) fn movq(image: &RgbImage, to: (u32, u32), version: PillowVersion) -> Prepared {
    let short = image.width().min(image.height());
    let span = |side: u32| {
        let corner = |twice: u32| round(f64::from(twice) / 2.0) as u32;
        let (low, high) = (corner(side - short), corner(side + short));
        (low, (high - low).max(1))
    };
    let ((x, width), (y, height)) = (span(image.width()), span(image.height()));
    let square = crop_imm(image, x, y, width, height).to_image();
    let factor = |side: u32, to: u32| (side / to).max(1);
    let factors = (factor(width, to.0), factor(height, to.1));
    let reduced = pillow::reduce(&square, factors);
    let extent =
        (f64::from(width) / f64::from(factors.0), f64::from(height) / f64::from(factors.1));
    let full = (u64::from(to.0), u64::from(to.1));
    let region = Region { x: 0, y: 0, width: to.0, height: to.1 };
    let made = pillow::resize_extent(&reduced, extent, full, (Filter::Bicubic, version), region);
    let scaled = |side: u32, to: u32, of: u32| u64::from(side) * u64::from(to) / u64::from(of);
    let placement = Placement {
        source: image.dimensions(),
        full: (
            scaled(image.width(), to.0, width).max(1),
            scaled(image.height(), to.1, height).max(1),
        ),
        offset: (scaled(x, to.0, width) as i64, scaled(y, to.1, height) as i64),
    };
    let [x, y, width, height] = [x, y, width, height].map(|v| v as i32);
    Prepared { image: made, crop: Crop { x, y, width, height }, placement }
}

/// Stretched to multiples of 8 pixels, of so many pixels in all.
pub(super) fn emu3(
    image: &RgbImage,
    (least, most): (u64, u64),
    version: PillowVersion,
) -> Result<Prepared, Reject> {
    let (width, height) = image.dimensions();
    let (long, short) = (width.max(height), width.min(height));
    if u64::from(short) < EMU3_FACTOR || f64::from(long) / f64::from(short) > EMU3_RATIO_MAX {
        return Err(Reject::new(
            Stage::Resize,
            format!(
                "the image is {width} x {height}: emu3 takes sides of {EMU3_FACTOR} pixels on, the \
                 longer at most {EMU3_RATIO_MAX} times the shorter"
            ),
        ));
    }
    let factor = EMU3_FACTOR as f64;
    let area = f64::from(width) * f64::from(height);
    let sides = [width, height].map(f64::from);
    let multiples = |sides: [f64; 2], rounded: fn(f64) -> f64| {
        sides.map(|side| rounded(side / factor) as u64 * EMU3_FACTOR)
    };
    let [mut w, mut h] = multiples(sides, f64::round_ties_even);
    if w * h > most {
        let beta = (area / most as f64).sqrt();
        [w, h] = multiples(sides.map(|side| side / beta), f64::floor);
    } else if w * h < least {
        let beta = (least as f64 / area).sqrt();
        [w, h] = multiples(sides.map(|side| side * beta), f64::ceil);
    }
    Ok(stretch(image, (w as u32, h as u32), (Filter::Bicubic, version)))
}

/// Stretched to multiples of 16 pixels, of about so many pixels in all.
pub(super) fn emu35(
    image: &RgbImage,
    pixels: u64,
    version: PillowVersion,
) -> Result<Prepared, Reject> {
    let (width, height) = image.dimensions();
    let ratio = f64::from(width) / f64::from(height);
    let h = (pixels as f64 / ratio).sqrt() as u64;
    let w = (h as f64 * ratio) as u64;
    let multiple = |side: u64| (side + EMU35_FACTOR / 2) / EMU35_FACTOR * EMU35_FACTOR;
    match (multiple(w), multiple(h)) {
        (w @ 1.., h @ 1..) => Ok(stretch(image, (w as u32, h as u32), (Filter::Bicubic, version))),
        _ => Err(Reject::new(
            Stage::Resize,
            format!("the image is {width} x {height}: too elongated for the rule emu35"),
        )),
    }
}

/// Cosmos' short side to `short`, by LANCZOS; the long one rounded half up to an even number.
#[cfg(test)]
pub(super) fn cosmos(image: &RgbImage, short: u32, version: PillowVersion) -> Prepared {
    let least = f64::from(image.width().min(image.height()));
    let side = |side: u32| {
        if f64::from(side) == least {
            return short;
        }
        let long = (f64::from(side) * f64::from(short) / least + 0.5) as u32;
        long + long % 2
    };
    let to = (side(image.width()), side(image.height()));
    stretch(image, to, (Filter::Lanczos, version))
}
