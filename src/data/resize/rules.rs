//! Owns what the resize rules of the published tokenizers do: from an upright picture to the
//! model's square, or a bucket, every pixel that of the reference pipeline.

use std::borrow::Cow;

use image::RgbImage;
use image::imageops::crop_imm;

use super::opencv;
use super::pillow::{self, Filter, PillowVersion, Region};
use super::placement::{Placement, even_middle, floor_middle, round};
use super::smart;
use crate::error::{Reject, Stage};

pub use super::names::ResizeRule;
pub(crate) use super::placement::Crop;

/// The pixels that a model gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// As large as asked for, or of the source's own size for [`ResizeRule::None`].
    pub image: RgbImage,
    /// Where they come from.
    pub crop: Crop,
    /// How they were cut from the resized picture.
    pub(crate) placement: Placement,
}

impl Prepared {
    /// What [`ResizeRule::None`] gives.
    fn as_it_is(image: &RgbImage) -> Prepared {
        let (source, offset) = (image.dimensions(), (0, 0));
        let placement = Placement { source, full: (source.0.into(), source.1.into()), offset };
        Prepared { image: image.clone(), crop: whole(image), placement }
    }

    /// What lies from `offset` on in a picture that `source` became, `full` pixels in size.
    pub(super) fn cut(
        cut: RgbImage,
        source: &RgbImage,
        full: (u64, u64),
        offset: (u64, u64),
    ) -> Prepared {
        let offset = (offset.0 as i64, offset.1 as i64);
        let placement = Placement { source: source.dimensions(), full, offset };
        Prepared { crop: placement.region((0, 0), cut.dimensions()), image: cut, placement }
    }
}

fn whole(image: &RgbImage) -> Crop {
    Crop { x: 0, y: 0, width: image.width() as i32, height: image.height() as i32 }
}

/// Applies `rule` for a square of `size` pixels, the rules of Pillow as its `version` does them;
/// `size` is not read for rules under which sizes vary.
///
/// # Errors
/// A [`Stage::Resize`] rejection where the rule needs a size and has none (or 0), and those of
/// `prepare_to`.
pub fn prepare(
    image: &RgbImage,
    rule: ResizeRule,
    size: Option<u32>,
    version: PillowVersion,
) -> Result<Prepared, Reject> {
    match size {
        Some(size @ 1..) if !rule.varies() => prepare_to(image, rule, (size, size), version),
        _ if rule.varies() => prepare_to(image, rule, (1, 1), version),
        _ => Err(Reject::new(Stage::Resize, format!("the rule {rule} needs a size in pixels"))),
    }
}

/// Applies `rule` for a picture of the width and height in `to`, at least 1 each: rules that
/// [cover](ResizeRule::covers) scale the picture until its sides reach both, and cut the middle out.
///
/// # Errors
/// A [`Stage::Resize`] rejection where the picture has no pixels, or it is so elongated that the
/// resized side is beyond 2^31.
pub(crate) fn prepare_to(
    image: &RgbImage,
    rule: ResizeRule,
    to: (u32, u32),
    version: PillowVersion,
) -> Result<Prepared, Reject> {
    let (width, height) = image.dimensions();
    let reject = |message: String| Err(Reject::new(Stage::Resize, message));
    if width == 0 || height == 0 {
        return reject(format!("the image is {width} x {height}: it has no pixels"));
    }
    let (w, h) = covering(image, smart::scaled(rule, to));
    if !rule.varies() && w.max(h) >= 1 << 31 && !rule.stretches() {
        let size = if to.0 == to.1 { to.0.to_string() } else { format!("{}x{}", to.0, to.1) };
        return reject(format!(
            "the image is {width} x {height}: too elongated to resize to {size}"
        ));
    }
    Ok(match rule {
        ResizeRule::Bilinear | ResizeRule::Maskgit | ResizeRule::Muse | ResizeRule::Vqvae2 => {
            torchvision(image, to, (Filter::Bilinear, version))
        }
        ResizeRule::Bicubic => torchvision(image, to, (Filter::Bicubic, version)),
        ResizeRule::Lanczos => torchvision(image, to, (Filter::Lanczos, version)),
        ResizeRule::Box => torchvision(image, to, (Filter::Box, version)),
        ResizeRule::Taming => taming(image, to),
        ResizeRule::Llamagen => llamagen(image, to, version),
        ResizeRule::Chameleon => rounded_lanczos(image, to, version, floor_middle),
        ResizeRule::Dalle => rounded_lanczos(image, to, version, even_middle),
        ResizeRule::Vit => stretch(image, to, (Filter::Bilinear, version)),
        ResizeRule::Stretch => stretch(image, to, (Filter::Bicubic, version)),
        ResizeRule::Pad => pad(image, to.0, version),
        ResizeRule::Var => smart::enlarged(image, rule, to, (Filter::Lanczos, version)),
        ResizeRule::Unitok => smart::enlarged(image, rule, to, (Filter::Bilinear, version)),
        ResizeRule::Infinity => smart::infinity(image, to, version),
        ResizeRule::Movq => smart::movq(image, to, version),
        ResizeRule::Emu3 => smart::emu3(image, smart::EMU3_PIXELS, version)?,
        ResizeRule::Emu35 => smart::emu35(image, smart::EMU35_PIXELS, version)?,
        ResizeRule::None => Prepared::as_it_is(image),
    })
}

/// The part `crop` of a picture stretched to a square of `size` pixels by the rule's filter, as
/// torchvision's `resized_crop` does it; the rest of the picture has no influence. Rules without a
/// filter for shrinking (`pad`, `none`) take BICUBIC.
///
/// # Errors
/// A [`Stage::Resize`] rejection where there is no size, or the part is not inside the picture.
pub(crate) fn part(
    image: &RgbImage,
    crop: Crop,
    rule: ResizeRule,
    size: Option<u32>,
    version: PillowVersion,
) -> Result<RgbImage, Reject> {
    let reject = |message: String| Err(Reject::new(Stage::Resize, message));
    let Some(size @ 1..) = size else {
        return reject("a part of an image needs a size in pixels".into());
    };
    let inside = |start: i32, length: i32, whole: u32| {
        start >= 0 && length >= 1 && i64::from(start) + i64::from(length) <= i64::from(whole)
    };
    let (wide, high) = image.dimensions();
    if !inside(crop.x, crop.width, wide) || !inside(crop.y, crop.height, high) {
        return reject(format!("{crop:?} is no part of an image of {wide} x {high} pixels"));
    }
    // Not negative, as was just checked.
    let [x, y, w, h] = [crop.x, crop.y, crop.width, crop.height].map(|v| v as u32);
    let part = crop_imm(image, x, y, w, h).to_image();
    let filter = match rule {
        ResizeRule::Taming => return Ok(opencv::linear(&part, size, size)),
        ResizeRule::Bilinear
        | ResizeRule::Maskgit
        | ResizeRule::Muse
        | ResizeRule::Vqvae2
        | ResizeRule::Unitok
        | ResizeRule::Vit => Filter::Bilinear,
        ResizeRule::Lanczos
        | ResizeRule::Chameleon
        | ResizeRule::Dalle
        | ResizeRule::Var
        | ResizeRule::Infinity => Filter::Lanczos,
        ResizeRule::Box => Filter::Box,
        ResizeRule::Llamagen => {
            let halved = halved(&part, (size, size), version);
            return Ok(stretch(&halved, (size, size), (Filter::Bicubic, version)).image);
        }
        ResizeRule::Bicubic
        | ResizeRule::Movq
        | ResizeRule::Emu3
        | ResizeRule::Emu35
        | ResizeRule::Stretch
        | ResizeRule::Pad
        | ResizeRule::None => Filter::Bicubic,
    };
    Ok(stretch(&part, (size, size), (filter, version)).image)
}

/// Pillow's `convert("L")` of every pixel, row-major: (19595 R + 38470 G + 7471 B + 2^15) >> 16.
pub(crate) fn to_grey(image: &RgbImage) -> Vec<u8> {
    let grey = |p: &[u8]| {
        (19595 * u32::from(p[0]) + 38470 * u32::from(p[1]) + 7471 * u32::from(p[2]) + 0x8000) >> 16
    };
    image.as_raw().chunks_exact(3).map(|pixel| grey(pixel) as u8).collect()
}

/// The size of a picture that covers `to`: the side that reaches it last is that of `to`, the other
/// one int(other * side / side).
pub(super) fn covering(image: &RgbImage, to: (u32, u32)) -> (u64, u64) {
    let (width, height) = (u64::from(image.width()), u64::from(image.height()));
    let (w, h) = (u64::from(to.0), u64::from(to.1));
    let other = |target: u64, long: u64, short: u64| ((target * long) as f64 / short as f64) as u64;
    match width * h <= w * height {
        true => (w, other(w, height, width)),
        false => (other(h, width, height), h),
    }
}

/// The same with each side rounded.
fn covering_rounded(image: &RgbImage, to: (u32, u32)) -> (u64, u64) {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let scale = (f64::from(to.0) / width).max(f64::from(to.1) / height);
    (round(width * scale), round(height * scale))
}

/// For a square the short side to its side, the long one to int(side * long / short); centre crop.
fn torchvision(image: &RgbImage, to: (u32, u32), filter: (Filter, PillowVersion)) -> Prepared {
    let (w, h) = covering(image, to);
    let offset = (even_middle(w, to.0), even_middle(h, to.1));
    through_pillow(image, (w, h), filter, offset, to)
}

/// By LANCZOS, sides rounded; the crop is in the `middle`.
fn rounded_lanczos(
    image: &RgbImage,
    to: (u32, u32),
    version: PillowVersion,
    middle: fn(u64, u32) -> u64,
) -> Prepared {
    let (w, h) = covering_rounded(image, to);
    let offset = (middle(w, to.0), middle(h, to.1));
    through_pillow(image, (w, h), (Filter::Lanczos, version), offset, to)
}

/// Halved by BOX as long as it still covers `to`.
fn halved(image: &RgbImage, to: (u32, u32), version: PillowVersion) -> Cow<'_, RgbImage> {
    let mut halved = Cow::Borrowed(image);
    let twice = (to.0.saturating_mul(2), to.1.saturating_mul(2));
    while halved.width() >= twice.0 && halved.height() >= twice.1 {
        let (width, height) = (halved.width() / 2, halved.height() / 2);
        let region = Region { x: 0, y: 0, width, height };
        let full = (width.into(), height.into());
        let half = pillow::resize(&halved, full, (Filter::Box, version), region);
        halved = Cow::Owned(half);
    }
    halved
}

fn llamagen(image: &RgbImage, to: (u32, u32), version: PillowVersion) -> Prepared {
    let halved = halved(image, to, version);
    let (w, h) = covering_rounded(&halved, to);
    let offset = (floor_middle(w, to.0), floor_middle(h, to.1));
    let prepared = through_pillow(&halved, (w, h), (Filter::Bicubic, version), offset, to);
    Prepared::cut(prepared.image, image, (w, h), offset)
}

fn taming(image: &RgbImage, to: (u32, u32)) -> Prepared {
    // The check for elongation in `prepare_to` keeps both below 2^31.
    let (w, h) = covering_rounded(image, to);
    let offset = (floor_middle(w, to.0), floor_middle(h, to.1));
    let resized = opencv::linear(image, w as u32, h as u32);
    let view = crop_imm(&resized, offset.0 as u32, offset.1 as u32, to.0, to.1);
    Prepared::cut(view.to_image(), image, (w, h), offset)
}

fn pad(image: &RgbImage, size: u32, version: PillowVersion) -> Prepared {
    let (width, height) = image.dimensions();
    let long = width.max(height);
    let fitting = if long <= size {
        Cow::Borrowed(image)
    } else {
        let scale = f64::from(size) / f64::from(long);
        let side = |side: u32| round(f64::from(side) * scale).max(1);
        let (w, h) = (side(width), side(height));
        let region = Region { x: 0, y: 0, width: w as u32, height: h as u32 };
        Cow::Owned(pillow::resize(image, (w, h), (Filter::Bicubic, version), region))
    };
    let mut square = RgbImage::new(size, size);
    let (wide, high) = fitting.dimensions();
    let (x, y) = (i64::from((size - wide) / 2), i64::from((size - high) / 2));
    image::imageops::replace(&mut square, fitting.as_ref(), x, y);
    let full = (wide.into(), high.into());
    let placement = Placement { source: image.dimensions(), full, offset: (-x, -y) };
    Prepared { image: square, crop: whole(image), placement }
}

pub(super) fn stretch(
    image: &RgbImage,
    to: (u32, u32),
    filter: (Filter, PillowVersion),
) -> Prepared {
    let full = (u64::from(to.0), u64::from(to.1));
    through_pillow(image, full, filter, (0, 0), to)
}

pub(super) fn through_pillow(
    image: &RgbImage,
    full: (u64, u64),
    filter: (Filter, PillowVersion),
    offset: (u64, u64),
    (width, height): (u32, u32),
) -> Prepared {
    let region = Region { x: offset.0, y: offset.1, width, height };
    Prepared::cut(pillow::resize(image, full, filter, region), image, full, offset)
}

#[cfg(test)]
mod tests;
