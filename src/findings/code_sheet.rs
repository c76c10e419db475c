//! Owns the sheet of a codebook: every code alone, and beside it in its commonest neighbourhood. Must
//! not know: how codes are drawn.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::codes::CodePictures;
use super::picture::Picture;
use crate::error::{Error, Result};

/// Pixels between codes.
const GAP: u32 = 3;
/// Codes up to which they are shown large.
const LARGE_MAX: usize = 1024;

/// The sheet, row by row from the most used code to the least; None where no code was drawn.
///
/// # Errors
/// None but of a picture whose bytes don't match its sizes.
pub(crate) fn sheet(pictures: &CodePictures) -> Result<Option<RgbImage>> {
    let codes = &pictures.codes;
    if codes.iter().all(|code| code.alone.is_none()) {
        return Ok(None);
    }
    let side = if codes.len() <= LARGE_MAX { 48 } else { 24 };
    let (wide, high) = (2 * side + 1 + GAP, side + GAP);
    // About as wide as high.
    let count = codes.len() as u32;
    let columns = (1..count).find(|columns| columns * wide >= count.div_ceil(*columns) * high);
    let columns = columns.unwrap_or(1);
    let (width, height) = (columns * wide + GAP, count.div_ceil(columns) * high + GAP);
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([40; 3]));
    for (at, code) in (0..).zip(codes) {
        let (x, y) = (GAP + at % columns * wide, GAP + at / columns * high);
        for (picture, x) in [(&code.alone, x), (&code.around, x + side + 1)] {
            if let Some(picture) = picture {
                imageops::replace(&mut sheet, &tile(picture, side)?, x.into(), y.into());
            }
        }
    }
    Ok(Some(sheet))
}

/// A picture as a square.
fn tile(picture: &Picture, side: u32) -> Result<RgbImage> {
    let (width, height) = (picture.width as u32, picture.height as u32);
    let image = RgbImage::from_raw(width, height, picture.rgb.clone());
    let image = image.ok_or_else(|| Error::internal("a picture of another size than it says"))?;
    // Single pixels stay sharp.
    let enlarged = width <= side && height <= side;
    let filter = if enlarged { FilterType::Nearest } else { FilterType::Triangle };
    Ok(imageops::resize(&image, side, side, filter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::codes::CodePicture;

    fn code(code: u32, shade: u8, around: bool) -> CodePicture {
        let picture = || Picture { width: 4, height: 4, rgb: vec![shade; 48] };
        CodePicture {
            code,
            uses: 1,
            neighbourhood: None,
            neighbourhood_uses: 0,
            alone: Some(picture()),
            around: around.then(picture),
        }
    }

    #[test]
    fn codes_stand_in_rows_with_their_neighbourhoods_beside_them() {
        let mut pictures = CodePictures::default();
        assert_eq!(sheet(&pictures).unwrap(), None);
        pictures.codes = (0..5).map(|n| code(n, 100 + n as u8, n != 4)).collect();
        let sheet = sheet(&pictures).unwrap().unwrap();
        assert_eq!(sheet.dimensions(), (2 * 100 + 3, 3 * 51 + 3));
        let at = |x, y| sheet.get_pixel(x, y)[0];
        assert_eq!([at(3, 3), at(3 + 49, 3), at(103, 3), at(3, 54)], [100, 100, 101, 102]);
        assert_eq!([at(3, 105), at(3 + 49, 105), at(103, 105)], [104, 40, 40]);
    }
}
