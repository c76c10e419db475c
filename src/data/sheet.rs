//! Owns the contact sheet: pairs of pictures, each input above its reconstruction.
//! Must not know: where pictures come from.

use image::{Rgb, RgbImage, imageops};

/// Pixels between tiles.
const GAP: u32 = 4;
/// Tiles smaller than this are enlarged by a whole factor, so that single pixels can be judged.
const TILE_MIN: u32 = 96;
/// Width the sheet tries to keep below.
const SHEET_WIDTH_MAX: u32 = 1600;

/// A sheet of (input, reconstruction) pairs in reading order, both of one size in every pair.
/// An empty list gives an empty picture of one tile gap.
pub fn contact_sheet(pairs: &[(RgbImage, RgbImage)]) -> RgbImage {
    let widest = pairs.iter().map(|(input, _)| input.width()).max().unwrap_or(1);
    let highest = pairs.iter().map(|(input, _)| input.height()).max().unwrap_or(1);
    let zoom = TILE_MIN.div_ceil(widest.max(highest)).max(1);
    let (tile_width, tile_height) = (widest * zoom, highest * zoom);
    let columns =
        ((SHEET_WIDTH_MAX - GAP) / (tile_width + GAP)).clamp(1, pairs.len().max(1) as u32);
    let rows = (pairs.len() as u32).div_ceil(columns);
    // A pair's two tiles touch by a quarter gap; pairs stand apart by two gaps.
    let block_height = 2 * tile_height + GAP / 4 + 2 * GAP;
    let size = (columns * (tile_width + GAP) + GAP, rows * block_height + GAP);
    let mut sheet = RgbImage::from_pixel(size.0, size.1, Rgb([255; 3]));
    for (index, (input, output)) in pairs.iter().enumerate() {
        let (column, row) = (index as u32 % columns, index as u32 / columns);
        let x = i64::from(GAP + column * (tile_width + GAP));
        let y = i64::from(GAP + row * block_height);
        imageops::replace(&mut sheet, &enlarge(input, zoom), x, y);
        let below = y + i64::from(tile_height + GAP / 4);
        imageops::replace(&mut sheet, &enlarge(output, zoom), x, below);
    }
    sheet
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
        let sheet = contact_sheet(&pairs);
        assert!(sheet.width() <= SHEET_WIDTH_MAX);
        assert_eq!(sheet.get_pixel(GAP, GAP), &Rgb([255, 0, 0]));
        assert_eq!(sheet.get_pixel(GAP, GAP + 96 + GAP / 4), &Rgb([0, 0, 255]));
        assert_eq!(sheet.get_pixel(0, 0), &Rgb([255; 3]));
    }

    #[test]
    fn large_and_empty_sheets_are_drawn() {
        let big = RgbImage::new(2000, 10);
        assert!(contact_sheet(&[(big.clone(), big)]).width() > 2000);
        assert!(contact_sheet(&[]).width() > 0);
    }
}
