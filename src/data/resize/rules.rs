//! Owns the resize rules of the published tokenizers, by name: from an upright picture to the
//! model's square, or a bucket, every pixel that of the reference pipeline.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use image::RgbImage;
use image::imageops::crop_imm;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::opencv;
use super::pillow::{self, Filter, PillowVersion, Region};
use super::placement::{Placement, even_middle, floor_middle, round};
use crate::error::{Error, Reject, Stage};

pub(crate) use super::placement::Crop;

/// How a picture becomes the square that a model sees. Each is known by its name in recipes, model
/// configurations, `--resize` and shard metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ResizeRule {
    /// torchvision `Resize(size, BICUBIC)` and `CenterCrop(size)` on a PIL image (1d-tokenizer).
    #[default]
    Bicubic,
    /// torchvision `Resize(size, BILINEAR)` and `CenterCrop(size)` on a PIL image.
    Bilinear,
    /// torchvision `Resize(size, LANCZOS)` and `CenterCrop(size)` on a PIL image.
    Lanczos,
    /// torchvision `Resize(size, BOX)` and `CenterCrop(size)` on a PIL image.
    Box,
    /// taming-transformers, SEED-Voken: albumentations `SmallestMaxSize` (OpenCV's linear, no
    /// antialiasing) and `CenterCrop`.
    Taming,
    /// LlamaGen (after ADM): halved by BOX while it can be, then BICUBIC, centre crop.
    Llamagen,
    /// Chameleon: LANCZOS, centre crop; transparency over white happens at decoding.
    Chameleon,
    /// DALL-E's notebook: LANCZOS, torchvision's centre crop. The notebook refuses pictures
    /// smaller than the size; here they are enlarged by the same rule.
    Dalle,
    /// MaskGIT-VQ as open-muse ran it: the same pixels as `bilinear`.
    Maskgit,
    /// open-muse: the same pixels as `bilinear`.
    Muse,
    /// ViT-VQGAN: the whole picture stretched to the square, BILINEAR.
    Vit,
    /// VQ-VAE-2 (rosinality): the same pixels as `bilinear`.
    Vqvae2,
    /// The whole picture stretched to the square, BICUBIC.
    Stretch,
    /// The whole picture at its own size in the middle of a black square; only what is larger
    /// is shrunk, BICUBIC, until its long side fits. For digits and icons.
    Pad,
    /// No resize and no crop: every picture keeps its size. Sides that are no multiple of the
    /// model's factor are left to the model, as in the reference code.
    None,
}

const NAMES: [(&str, ResizeRule); 15] = [
    ("bicubic", ResizeRule::Bicubic),
    ("bilinear", ResizeRule::Bilinear),
    ("lanczos", ResizeRule::Lanczos),
    ("box", ResizeRule::Box),
    ("taming", ResizeRule::Taming),
    ("llamagen", ResizeRule::Llamagen),
    ("chameleon", ResizeRule::Chameleon),
    ("dalle", ResizeRule::Dalle),
    ("maskgit", ResizeRule::Maskgit),
    ("muse", ResizeRule::Muse),
    ("vit", ResizeRule::Vit),
    ("vqvae2", ResizeRule::Vqvae2),
    ("stretch", ResizeRule::Stretch),
    ("pad", ResizeRule::Pad),
    ("none", ResizeRule::None),
];

impl ResizeRule {
    /// Every rule, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = ResizeRule> {
        NAMES.iter().map(|(_, rule)| *rule)
    }

    /// Refuses a version of Pillow beside a rule that Pillow has no part in: it would do nothing.
    ///
    /// # Errors
    /// Says so.
    pub fn check(self, version: PillowVersion) -> Result<(), Error> {
        let without = matches!(self, ResizeRule::Taming | ResizeRule::None);
        if without && version != PillowVersion::default() {
            return Err(Error::invalid(format!(
                "pillow {version} beside the resize rule {self}: Pillow has no part in that rule; \
                 leave it out"
            )));
        }
        Ok(())
    }

    /// Whether it gives a size of any aspect ratio by covering it and cutting its middle out.
    pub(crate) fn covers(self) -> bool {
        use ResizeRule::{None, Pad, Stretch, Vit};
        !matches!(self, None | Pad | Stretch | Vit)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        // Every variant stands in NAMES; a test walks them.
        NAMES.iter().find(|(_, rule)| *rule == self).map_or("none", |(name, _)| name)
    }
}

impl fmt::Display for ResizeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ResizeRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<ResizeRule, Error> {
        let known = NAMES.iter().find(|(name, _)| *name == text).map(|(_, rule)| *rule);
        known.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            Error::invalid(format!("no resize rule {text:?}; use one of: {}", names.join(", ")))
        })
    }
}

impl Serialize for ResizeRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ResizeRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ResizeRule, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

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
    fn cut(cut: RgbImage, source: &RgbImage, full: (u64, u64), offset: (u64, u64)) -> Prepared {
        let offset = (offset.0 as i64, offset.1 as i64);
        let placement = Placement { source: source.dimensions(), full, offset };
        Prepared { crop: placement.region((0, 0), cut.dimensions()), image: cut, placement }
    }
}

fn whole(image: &RgbImage) -> Crop {
    Crop { x: 0, y: 0, width: image.width() as i32, height: image.height() as i32 }
}

/// Applies `rule` for a square of `size` pixels, the rules of Pillow as its `version` does them;
/// `size` is not read for [`ResizeRule::None`].
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
        Some(size @ 1..) => prepare_to(image, rule, (size, size), version),
        _ if rule == ResizeRule::None => prepare_to(image, rule, (1, 1), version),
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
    let (w, h) = covering(image, to);
    if rule.covers() && w.max(h) >= 1 << 31 {
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
        | ResizeRule::Vit => Filter::Bilinear,
        ResizeRule::Lanczos | ResizeRule::Chameleon | ResizeRule::Dalle => Filter::Lanczos,
        ResizeRule::Box => Filter::Box,
        ResizeRule::Llamagen => {
            let halved = halved(&part, (size, size), version);
            return Ok(stretch(&halved, (size, size), (Filter::Bicubic, version)).image);
        }
        ResizeRule::Bicubic | ResizeRule::Stretch | ResizeRule::Pad | ResizeRule::None => {
            Filter::Bicubic
        }
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
fn covering(image: &RgbImage, to: (u32, u32)) -> (u64, u64) {
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

fn stretch(image: &RgbImage, to: (u32, u32), filter: (Filter, PillowVersion)) -> Prepared {
    let full = (u64::from(to.0), u64::from(to.1));
    through_pillow(image, full, filter, (0, 0), to)
}

fn through_pillow(
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
