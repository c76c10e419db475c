//! Owns the whole way of one image from its place to the model's pixels: read, decode, orient,
//! resize, crop, channels. Tokenizing, training and reconstructing all come through here, so they
//! see the same pixels.

use super::decode;
use super::orientation::Orientation;
use crate::data::formats::raw_image::Limits;
use crate::data::resize::pillow::PillowVersion;
use crate::data::resize::rules;
use crate::data::source::file;
use crate::error::{Reject, Stage};
use crate::util::hex::sha256_hex;
use crate::util::{fail_point, panics};
use image::RgbImage;
use sha2::{Digest, Sha256};

/// How an image becomes the model's pixels.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// Reading and decoding bounds.
    pub limits: Limits,
    /// What shows through transparency.
    pub alpha: decode::Alpha,
    /// What becomes of the orientation that a file states.
    pub orientation: Orientation,
    /// Whose resampling the rules of Pillow follow.
    pub pillow: PillowVersion,
    /// Resize and crop rule.
    pub rule: rules::ResizeRule,
    /// Side of the crop, in pixels; None where the rule keeps sizes.
    pub size: Option<u32>,
    /// 1 (grey, by Pillow's L) or 3 (RGB).
    pub channels: usize,
}

impl Preparation {
    /// Hex sha256 over every setting that can change a pixel or reject an image.
    pub fn digest(&self) -> String {
        let Preparation { limits, alpha, orientation, pillow, rule, size, channels } = self;
        let mut settings = format!("{limits:?} {alpha} {rule} {size:?} {channels}");
        // Outputs from before these could be chosen have digests without them.
        if *orientation != Orientation::default() {
            settings += &format!(" orientation {orientation}");
        }
        if *pillow != PillowVersion::default() {
            settings += &format!(" pillow {pillow}");
        }
        sha256_hex(settings)
    }
}

/// An image as the model takes it, and what is known about its source.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// `height * width * channels` bytes, row-major.
    pub pixels: Vec<u8>,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Width of the source, in pixels; of the upright one unless the orientation is ignored.
    pub image_width: u32,
    /// Height of it.
    pub image_height: u32,
    /// EXIF orientation as found, 1 to 8, whether it was applied or not.
    pub orientation: u8,
    /// Colour mode of the file, in Pillow's words.
    pub color_mode: &'static str,
    /// What the model sees of that source, in its pixels.
    pub crop: rules::Crop,
    /// Of the file's bytes.
    pub content_sha256: [u8; 32],
}

/// An image as the model takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pixels {
    /// `height * width * channels` bytes, row-major.
    pub(crate) bytes: Vec<u8>,
    /// In pixels.
    pub(crate) height: usize,
    /// In pixels.
    pub(crate) width: usize,
}

/// Prepares a picture that is decoded and upright.
///
/// # Errors
/// A [`Reject`] of the rule for resizing.
pub(crate) fn from_rgb(image: &RgbImage, preparation: &Preparation) -> Result<Pixels, Reject> {
    let Preparation { pillow, rule, size, channels, .. } = preparation;
    guarded(|stage| {
        begin_resize(stage);
        let resized = rules::prepare(image, *rule, *size, *pillow)?.image;
        let (width, height) = (resized.width() as usize, resized.height() as usize);
        Ok(Pixels { bytes: to_bytes(resized, *channels), height, width })
    })
}

/// Reads and prepares one image.
///
/// # Errors
/// A [`Reject`] with the stage that gave it up.
pub fn prepare(uri: &str, preparation: &Preparation) -> Result<Prepared, Reject> {
    from_bytes(&file::read(uri, &preparation.limits)?, preparation)
}

/// Prepares the image whose file holds `bytes`.
///
/// # Errors
/// A [`Reject`] with the stage that gave it up.
pub fn from_bytes(bytes: &[u8], preparation: &Preparation) -> Result<Prepared, Reject> {
    let Preparation { limits, alpha, orientation, pillow, rule, size, .. } = preparation;
    guarded(|stage| {
        let decoded = decode::decode_as(bytes, limits, *alpha, *orientation)?;
        begin_resize(stage);
        let resized = rules::prepare(&decoded.image, *rule, *size, *pillow)?;
        let (width, height) = resized.image.dimensions();
        Ok(Prepared {
            pixels: to_bytes(resized.image, preparation.channels),
            width: width as usize,
            height: height as usize,
            image_width: decoded.image.width(),
            image_height: decoded.image.height(),
            orientation: decoded.orientation,
            color_mode: decoded.color_mode,
            crop: resized.crop,
            content_sha256: Sha256::digest(bytes).into(),
        })
    })
}

/// Runs what makes pixels of bytes; a panic in it costs the image and not the run, since it is the
/// image that brings it about, every time.
fn guarded<T>(work: impl FnOnce(&mut Stage) -> Result<T, Reject>) -> Result<T, Reject> {
    let mut stage = Stage::Decode;
    let done = panics::catch(|| work(&mut stage));
    done.unwrap_or_else(|panic| {
        let part = if stage == Stage::Resize { "resizing" } else { "the decoder" };
        Err(Reject::new(stage, format!("{part} failed: {panic}")))
    })
}

fn begin_resize(stage: &mut Stage) {
    *stage = Stage::Resize;
    fail_point::stage("resize");
}

/// Prepares a part of the image whose file holds `bytes`, which `choose` picks by the image's
/// (width, height): the square of [`rules::part`], `size * size * channels` bytes.
///
/// # Errors
/// A [`Reject`] with the stage that gave it up.
pub(crate) fn part_from_bytes(
    bytes: &[u8],
    preparation: &Preparation,
    choose: impl FnOnce((u32, u32)) -> rules::Crop,
) -> Result<Vec<u8>, Reject> {
    let Preparation { limits, alpha, orientation, pillow, rule, size, .. } = preparation;
    guarded(|stage| {
        let decoded = decode::decode_as(bytes, limits, *alpha, *orientation)?;
        begin_resize(stage);
        let crop = choose(decoded.image.dimensions());
        let square = rules::part(&decoded.image, crop, *rule, *size, *pillow)?;
        Ok(to_bytes(square, preparation.channels))
    })
}

fn to_bytes(image: RgbImage, channels: usize) -> Vec<u8> {
    match channels {
        1 => rules::to_grey(&image),
        _ => image.into_raw(),
    }
}
