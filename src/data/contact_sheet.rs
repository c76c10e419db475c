//! Owns the contact sheet: pairs of pictures, each input above its reconstruction.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ImageBuffer, PixelWithColorType, Rgb, RgbImage, imageops};

use crate::error::{Error, Result};

/// Pixels between tiles.
const GAP: u32 = 4;
/// Tiles smaller than this are enlarged by a whole factor, so that single pixels can be judged.
const TILE_MIN: u32 = 96;
/// Width the sheet tries to keep below.
const SHEET_WIDTH_MAX: u32 = 1600;

/// Pixels of a sheet of pairs at most: 800 MB, and sides that fit into a u32.
const PIXELS_MAX: u64 = 1 << 28;

/// Where the pictures of a sheet stand, for pairs of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SheetLayout {
    /// Whole factor by which pictures are enlarged.
    pub zoom: u32,
    /// Of a tile, in pixels of the sheet.
    tile: (u32, u32),
    columns: u32,
    rows: u32,
}

impl SheetLayout {
    /// For `pairs` pairs of pictures of at most `width` x `height` pixels.
    pub fn new(pairs: usize, width: u32, height: u32) -> SheetLayout {
        let (width, height) = (width.max(1), height.max(1));
        let zoom = TILE_MIN.div_ceil(width.max(height)).max(1);
        let tile = (width * zoom, height * zoom);
        let columns = ((SHEET_WIDTH_MAX - GAP) / (tile.0 + GAP)).clamp(1, pairs.max(1) as u32);
        SheetLayout { zoom, tile, columns, rows: (pairs as u32).div_ceil(columns) }
    }

    /// Width and height of the sheet.
    pub fn size(&self) -> (u32, u32) {
        (self.columns * (self.tile.0 + GAP) + GAP, self.rows * self.block_height() + GAP)
    }

    /// Pixels of the sheet.
    fn pixels(&self) -> u64 {
        let width = u64::from(self.columns) * (u64::from(self.tile.0) + u64::from(GAP));
        let height = 2 * u64::from(self.tile.1) + u64::from(3 * GAP);
        width.saturating_mul(u64::from(self.rows) * height)
    }

    /// A pair's two tiles touch by a quarter gap; pairs stand apart by two gaps.
    fn block_height(&self) -> u32 {
        2 * self.tile.1 + GAP / 4 + 2 * GAP
    }

    /// The upper left corners of a pair's input and its reconstruction.
    pub fn places(&self, pair: usize) -> [(u32, u32); 2] {
        let (column, row) = (pair as u32 % self.columns, pair as u32 / self.columns);
        let (x, y) = (GAP + column * (self.tile.0 + GAP), GAP + row * self.block_height());
        [(x, y), (x, y + self.tile.1 + GAP / 4)]
    }

    /// A picture of `width` x `height` pixels back from a sheet, at its own size; None where the
    /// sheet is too small.
    pub fn picture(
        &self,
        sheet: &RgbImage,
        (x, y): (u32, u32),
        (width, height): (u32, u32),
    ) -> Option<RgbImage> {
        let inside =
            x + width * self.zoom <= sheet.width() && y + height * self.zoom <= sheet.height();
        let at = |i, j| *sheet.get_pixel(x + i * self.zoom, y + j * self.zoom);
        inside.then(|| RgbImage::from_fn(width, height, at))
    }
}

/// A sheet of (input, reconstruction) pairs in reading order, both of one size in every pair. Where
/// it would be too large, larger pictures are made as small as those of [`tiles`]. An empty list
/// gives an empty picture of one tile gap.
///
/// # Errors
/// Where it is too large even so.
pub(crate) fn contact_sheet(pairs: &[(RgbImage, RgbImage)]) -> Result<RgbImage> {
    let layout = layout_of(pairs);
    if layout.pixels() <= PIXELS_MAX {
        return Ok(drawn(pairs, layout));
    }
    let small: Vec<(RgbImage, RgbImage)> =
        pairs.iter().map(|(a, b)| (tile(a.clone()), tile(b.clone()))).collect();
    let layout = layout_of(&small);
    if layout.pixels() <= PIXELS_MAX {
        return Ok(drawn(&small, layout));
    }
    Err(Error::invalid(format!("{} pictures are too many for one sheet", pairs.len())))
}

fn layout_of(pairs: &[(RgbImage, RgbImage)]) -> SheetLayout {
    let widest = pairs.iter().map(|(input, _)| input.width()).max().unwrap_or(1);
    let highest = pairs.iter().map(|(input, _)| input.height()).max().unwrap_or(1);
    SheetLayout::new(pairs.len(), widest, highest)
}

fn drawn(pairs: &[(RgbImage, RgbImage)], layout: SheetLayout) -> RgbImage {
    let (width, height) = layout.size();
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (index, (input, output)) in pairs.iter().enumerate() {
        for (image, (x, y)) in [input, output].into_iter().zip(layout.places(index)) {
            imageops::replace(&mut sheet, &enlarge(image, layout.zoom), x.into(), y.into());
        }
    }
    sheet
}

/// Sides of a tile of [`tiles`], in pixels at most.
pub(crate) const TILE_MAX: u32 = 256;

/// A picture in the size that it has on a sheet of [`tiles`]: larger ones are made smaller.
pub(crate) fn tile(picture: RgbImage) -> RgbImage {
    match picture.width().max(picture.height()) {
        side if side > TILE_MAX => {
            let scaled = |a: u32| (a * TILE_MAX).div_ceil(side).max(1);
            let (width, height) = (scaled(picture.width()), scaled(picture.height()));
            imageops::thumbnail(&picture, width, height)
        }
        _ => picture,
    }
}

/// A sheet of pictures in reading order, of whatever sizes up to [`TILE_MAX`].
pub(crate) fn tiles(pictures: &[RgbImage]) -> RgbImage {
    let widest = pictures.iter().map(|picture| picture.width()).max().unwrap_or(1);
    let highest = pictures.iter().map(|picture| picture.height()).max().unwrap_or(1);
    let zoom = TILE_MIN.div_ceil(widest.max(highest)).max(1);
    let (width, height) = (widest * zoom + GAP, highest * zoom + GAP);
    let columns = ((SHEET_WIDTH_MAX - GAP) / width).clamp(1, pictures.len().max(1) as u32);
    let rows = (pictures.len() as u32).div_ceil(columns);
    let mut sheet = RgbImage::from_pixel(columns * width + GAP, rows * height + GAP, Rgb([255; 3]));
    for (index, picture) in pictures.iter().enumerate() {
        let (column, row) = (index as u32 % columns, index as u32 / columns);
        let (x, y) = (GAP + column * width, GAP + row * height);
        imageops::replace(&mut sheet, &enlarge(picture, zoom), x.into(), y.into());
    }
    sheet
}

/// A picture as the bytes of a PNG file, the same for the same pixels.
pub(crate) fn png<P>(image: &ImageBuffer<P, Vec<u8>>) -> Result<Vec<u8>>
where
    P: PixelWithColorType<Subpixel = u8>,
{
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
    image
        .write_with_encoder(encoder)
        .map_err(|e| Error::invalid(format!("a picture can't be encoded as PNG: {e}")))?;
    Ok(bytes)
}

fn enlarge(image: &RgbImage, zoom: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    imageops::resize(image, width * zoom, height * zoom, imageops::FilterType::Nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_stand_above_their_reconstructions() {
        let red = RgbImage::from_pixel(32, 32, Rgb([255, 0, 0]));
        let blue = RgbImage::from_pixel(32, 32, Rgb([0, 0, 255]));
        let pairs = vec![(red, blue); 20];
        let sheet = contact_sheet(&pairs).unwrap();
        assert!(sheet.width() <= SHEET_WIDTH_MAX);
        assert_eq!(sheet.get_pixel(GAP, GAP), &Rgb([255, 0, 0]));
        assert_eq!(sheet.get_pixel(GAP, GAP + 96 + GAP / 4), &Rgb([0, 0, 255]));
        assert_eq!(sheet.get_pixel(0, 0), &Rgb([255; 3]));
    }

    #[test]
    fn every_picture_comes_back_from_the_sheet() {
        for (side, count) in [(7, 3), (32, 40), (200, 9)] {
            let picture = |seed: u32| {
                RgbImage::from_fn(side, side, |x, y| Rgb([x as u8, y as u8, seed as u8]))
            };
            let pairs: Vec<_> =
                (0..count).map(|i| (picture(i as u32), picture(100 + i as u32))).collect();
            let sheet = contact_sheet(&pairs).unwrap();
            let layout = SheetLayout::new(count, side, side);
            assert_eq!(layout.size(), sheet.dimensions());
            for (i, (input, output)) in pairs.iter().enumerate() {
                let [above, below] = layout.places(i);
                let read = |place| layout.picture(&sheet, place, (side, side));
                assert_eq!(read(above).as_ref(), Some(input));
                assert_eq!(read(below).as_ref(), Some(output));
            }
            assert_eq!(layout.picture(&RgbImage::new(5, 5), (0, 0), (side, side)), None);
            let read = image::load_from_memory(&png(&sheet).unwrap()).unwrap();
            assert_eq!(read.into_rgb8(), sheet);
        }
    }

    #[test]
    fn large_and_empty_sheets_are_drawn() {
        let big = RgbImage::new(2000, 10);
        assert!(contact_sheet(&[(big.clone(), big)]).unwrap().width() > 2000);
        assert!(contact_sheet(&[]).unwrap().width() > 0);
    }

    #[test]
    fn a_sheet_of_wide_and_high_pictures_has_bounds() {
        let (wide, high) = (RgbImage::new(30_000, 8), RgbImage::new(8, 30_000));
        let pairs = vec![(wide.clone(), wide), (high.clone(), high)];
        let sheet = contact_sheet(&pairs).unwrap();
        assert!(sheet.width() < 2000 && sheet.height() < 2000, "{:?}", sheet.dimensions());
        let many = vec![(RgbImage::new(1, 1), RgbImage::new(1, 1)); 100_000];
        let error = contact_sheet(&many).unwrap_err().to_string();
        assert!(error.contains("100000 pictures"), "{error}");
    }
}
