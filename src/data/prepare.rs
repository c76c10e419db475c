//! Owns the whole way of one image from its place to the model's pixels: read, decode, orient,
//! resize, crop, channels. Tokenizing, training and reconstructing all come through here, so they
//! see the same pixels.

use super::buckets::BucketSizes;
use super::decode::{self, Decoded};
use super::orientation::Orientation;
use super::views::{self, Cut, Views, mirror};
use crate::data::formats::raw_image::Limits;
use crate::data::resize::pillow::PillowVersion;
use crate::data::resize::rules;
use crate::data::source::file;
use crate::error::{Reject, Stage};
use crate::util::hex::sha256_hex;
use crate::util::{fail_point, panics};
use image::RgbImage;
use image::imageops::crop_imm;
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
    /// Side of the crop, in pixels; None where the rule keeps sizes, and beside buckets.
    pub size: Option<u32>,
    /// 1 (grey, by Pillow's L) or 3 (RGB).
    pub channels: usize,
    /// What is seen of an image where that is more than one thing; tokenizing alone asks.
    pub views: Option<Views>,
    /// Sizes that images are brought to by their aspect ratios; tokenizing alone asks.
    pub buckets: Option<BucketSizes>,
}

impl Preparation {
    /// Hex sha256 over every setting that can change a pixel or reject an image.
    pub fn digest(&self) -> String {
        let Preparation { limits, alpha, orientation, pillow, rule, size, .. } = self;
        let Preparation { channels, views, buckets, .. } = self;
        let mut settings = format!("{limits:?} {alpha} {rule} {size:?} {channels}");
        // Outputs from before these could be chosen have digests without them.
        if *orientation != Orientation::default() {
            settings += &format!(" orientation {orientation}");
        }
        if *pillow != PillowVersion::default() {
            settings += &format!(" pillow {pillow}");
        }
        if let Some(views) = views {
            settings += &format!(" views {views}");
        }
        if let Some(buckets) = buckets {
            settings += &format!(" buckets {buckets}");
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
    /// Whether it sees that mirrored.
    pub flip: bool,
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
    decoded(bytes, preparation, |decoded| {
        let seen = whole(&decoded.image, None, preparation)?;
        Ok(seen.prepared(decoded, preparation, Sha256::digest(bytes).into()))
    })
}

/// Prepares every view of the image whose file holds `bytes`, all of one size: the image alone
/// where the preparation has no views. Random ones are drawn from `key`. `bucket`: the width and
/// height that the image is brought to, where the preparation has buckets.
///
/// # Errors
/// A [`Reject`] with the stage that gave it up: of one view as of all.
pub(crate) fn views_from_bytes(
    bytes: &[u8],
    key: &str,
    bucket: Option<(u32, u32)>,
    preparation: &Preparation,
) -> Result<Vec<Prepared>, Reject> {
    decoded(bytes, preparation, |decoded| {
        let image = &decoded.image;
        let seen = match preparation.views {
            None => vec![whole(image, bucket, preparation)?],
            Some(Views::Flips) => {
                let seen = whole(image, bucket, preparation)?;
                vec![seen.clone(), Seen { flip: true, ..seen }]
            }
            Some(Views::TenCrop { range }) => ten_crop(image, range, preparation)?,
            Some(Views::RandomCrops { count }) => {
                let draw = |view| random_crop(image, key, view, preparation);
                (0..count).map(draw).collect::<Result<_, _>>()?
            }
        };
        let digest = Sha256::digest(bytes).into();
        Ok(seen.into_iter().map(|seen| seen.prepared(decoded, preparation, digest)).collect())
    })
}

/// What is seen of an image, as large as the model takes it, before it is mirrored.
#[derive(Clone)]
struct Seen {
    image: RgbImage,
    crop: rules::Crop,
    flip: bool,
}

impl Seen {
    fn prepared(self, decoded: &Decoded, how: &Preparation, content_sha256: [u8; 32]) -> Prepared {
        let (width, height) = (self.image.width() as usize, self.image.height() as usize);
        let mut pixels = to_bytes(self.image, how.channels);
        if self.flip {
            mirror(&mut pixels, width, how.channels);
        }
        Prepared {
            pixels,
            width,
            height,
            image_width: decoded.image.width(),
            image_height: decoded.image.height(),
            orientation: decoded.orientation,
            color_mode: decoded.color_mode,
            crop: self.crop,
            flip: self.flip,
            content_sha256,
        }
    }
}

/// What the rule for resizing shows, in a `bucket` where there is one.
fn whole(
    image: &RgbImage,
    bucket: Option<(u32, u32)>,
    preparation: &Preparation,
) -> Result<Seen, Reject> {
    let Preparation { pillow, rule, size, .. } = preparation;
    let resized = match bucket {
        Some(bucket) => {
            must_suit(image, bucket, preparation)?;
            rules::prepare_to(image, *rule, bucket, *pillow)?
        }
        None => rules::prepare(image, *rule, *size, *pillow)?,
    };
    Ok(Seen { image: resized.image, crop: resized.crop, flip: false })
}

/// Refuses an image in a bucket that isn't the nearest to it: it was planned when it was another one,
/// or when its size couldn't be read.
fn must_suit(image: &RgbImage, bucket: (u32, u32), how: &Preparation) -> Result<(), Reject> {
    let (width, height) = image.dimensions();
    match how.buckets.as_ref().map(|buckets| buckets.nearest((width, height))) {
        Some(nearest) if nearest != bucket => Err(Reject::new(
            Stage::Resize,
            format!(
                "its shape, {width}x{height}, is of the bucket {}x{}, and it was planned for {}x{}, \
                 when it was another one or couldn't be read; append it under another name",
                nearest.0, nearest.1, bucket.0, bucket.1
            ),
        )),
        _ => Ok(()),
    }
}

/// The crops of what the rule shows at a size that is `range` times as large.
fn ten_crop(image: &RgbImage, range: f64, preparation: &Preparation) -> Result<Vec<Seen>, Reject> {
    let Preparation { pillow, rule, size, .. } = preparation;
    let size = size.ok_or_else(|| Reject::new(Stage::Resize, "ten crops need a size in pixels"))?;
    let side = views::ten_crop_side(size, range);
    let square = rules::prepare(image, *rule, Some(side), *pillow)?;
    let seen = |Cut { x, y, flip }| Seen {
        image: crop_imm(&square.image, x, y, size, size).to_image(),
        crop: square.placement.region((x, y), (size, size)),
        flip,
    };
    Ok(views::ten_crop(side, size).map(seen).into())
}

fn random_crop(
    image: &RgbImage,
    key: &str,
    view: u32,
    preparation: &Preparation,
) -> Result<Seen, Reject> {
    let Preparation { pillow, rule, size, .. } = preparation;
    let (crop, flip) = views::random_crop(key, view, image.dimensions());
    Ok(Seen { image: rules::part(image, crop, *rule, *size, *pillow)?, crop, flip })
}

/// Decodes an image and does what is left to do with it.
fn decoded<T>(
    bytes: &[u8],
    preparation: &Preparation,
    then: impl FnOnce(&Decoded) -> Result<T, Reject>,
) -> Result<T, Reject> {
    let Preparation { limits, alpha, orientation, .. } = preparation;
    guarded(|stage| {
        let decoded = decode::decode_as(bytes, limits, *alpha, *orientation)?;
        begin_resize(stage);
        then(&decoded)
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
    let Preparation { pillow, rule, size, .. } = preparation;
    decoded(bytes, preparation, |decoded| {
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

#[cfg(test)]
mod tests;
