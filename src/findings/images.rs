//! Owns the facts of every image, read from the shards in one pass. Must not know: what is concluded
//! from them.

use std::borrow::Cow;

use bytemuck::Zeroable;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::columns::{Column, Growing, GrowingTexts, Texts};
use super::look::{Look, Looks};
use super::padding::Padding;
use super::picture::{Draw, Picture};
use super::result::Unreadable;
use super::run::{Event, Observer};
use super::thumbnail::Thumbnail;
use super::turned::Turned;
use crate::audit::{BadRows, Grid, GridRow, TokenFile};
use crate::error::{Error, Result};

/// Rows that are looked at together.
const TOGETHER: usize = 512;

/// What is known of the images of an output, in the order of its rows: of several views of one, the
/// first.
#[derive(Debug)]
pub(super) struct Images {
    pub keys: Texts,
    /// The first half of the sha256 of the file; all 0 where the row doesn't say it.
    pub files: Column<[u8; 16]>,
    /// The same of the grids and the image's size.
    pub grids: Column<[u8; 16]>,
    /// The place of each image's label in `label_names`, or [`NO_LABEL`].
    pub labels: Column<u32>,
    pub label_names: Vec<String>,
    pub sizes: Column<ImageSize>,
    pub looks: Column<Look>,
    /// Small pictures of them; none where no pictures can be made.
    pub thumbnails: Column<Thumbnail>,
    /// Rows that were views of images that are there already.
    pub further_views: u64,
    /// Rows that can't be used.
    pub bad: Unreadable,
    /// Small pictures by label, where they were asked for.
    pub turned: Option<Turned>,
}

/// What stands for the label of an image without one.
pub(super) const NO_LABEL: u32 = u32::MAX;

/// What the row says of its file.
#[derive(Debug, Clone, Copy, PartialEq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct ImageSize {
    /// In pixels, oriented; 0 where the row doesn't say it.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Place of its colour mode in [`MODES`], or their number.
    pub mode: u32,
    /// Mean squared distance of its latents to their codes; NaN where the row doesn't say it.
    pub quantization_error: f32,
    /// Of what the row shows of it, in pixels; 0 where the row doesn't say it.
    pub shown_width: u32,
    /// In pixels.
    pub shown_height: u32,
}

impl ImageSize {
    /// Whether the row says it.
    pub(super) fn is_known(&self) -> bool {
        self.width > 0 && self.height > 0
    }
}

impl ImageSize {
    fn of(row: &GridRow) -> ImageSize {
        let image = row.beside.image.as_deref();
        let mode = image.map_or(MODES.len(), |image| {
            MODES.iter().position(|mode| *mode == image.color_mode).unwrap_or(MODES.len())
        });
        let shown = row.beside.crops.first();
        let shown =
            |side: usize| shown.and_then(|crop| u32::try_from(crop[side]).ok()).unwrap_or_default();
        ImageSize {
            shown_width: shown(3),
            shown_height: shown(2),
            width: image.map_or(0, |image| image.width),
            height: image.map_or(0, |image| image.height),
            mode: mode as u32,
            quantization_error: image.map_or(f32::NAN, |image| image.quantization_error),
        }
    }
}

/// Colour modes, as Pillow calls them.
pub(super) const MODES: [&str; 8] = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"];

struct GrowingImages {
    keys: GrowingTexts,
    files: Growing<[u8; 16]>,
    grids: Growing<[u8; 16]>,
    labels: Growing<u32>,
    label_names: std::collections::HashMap<String, u32>,
    sizes: Growing<ImageSize>,
    looks: Growing<Look>,
    thumbnails: Growing<Thumbnail>,
    further_views: u64,
    bad: Unreadable,
    turned: Option<Turned>,
    /// Where pictures lie in the middle of black.
    padding: Option<Padding>,
}

impl Images {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The label of an image.
    pub(super) fn label(&self, at: usize) -> Option<&str> {
        self.label_names.get(self.labels[at] as usize).map(String::as_str)
    }

    /// Whether two images have labels, and different ones.
    pub(super) fn labels_differ(&self, one: u32, other: u32) -> bool {
        let [a, b] = [one, other].map(|at| self.labels[at as usize]);
        a != b && a != NO_LABEL && b != NO_LABEL
    }

    /// Reads all rows; those that can't be used are told and passed over.
    ///
    /// # Errors
    /// An interrupt; a full file system; those of `draw`.
    pub(super) fn read(
        mut rows: TokenFile,
        looks: &Looks,
        padding: Option<Padding>,
        mut draw: Option<&mut (dyn Draw + '_)>,
        observer: &mut dyn Observer,
    ) -> Result<Images> {
        let mut images = GrowingImages::new();
        images.turned = looks.turned.then(Turned::default);
        images.padding = padding;
        let mut chunk: Vec<GridRow> = Vec::with_capacity(TOGETHER);
        while let Some(row) = rows.next_row() {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            match row {
                Ok(row) => {
                    observer.event(&Event::Row);
                    match row.view.is_some_and(|view| view != 0) {
                        true => images.further_views += 1,
                        false => chunk.push(row),
                    }
                }
                Err(bad) => images.bad(&bad, observer),
            }
            if chunk.len() == TOGETHER {
                images.take(&chunk, looks, draw.as_deref_mut(), observer)?;
                chunk.clear();
            }
        }
        images.take(&chunk, looks, draw, observer)?;
        images.finish()
    }
}

impl GrowingImages {
    fn new() -> GrowingImages {
        GrowingImages {
            keys: GrowingTexts::new(),
            files: Growing::new(),
            grids: Growing::new(),
            labels: Growing::new(),
            label_names: Default::default(),
            sizes: Growing::new(),
            looks: Growing::new(),
            thumbnails: Growing::new(),
            further_views: 0,
            bad: Unreadable::default(),
            turned: None,
            padding: None,
        }
    }

    fn bad(&mut self, bad: &BadRows, observer: &mut dyn Observer) {
        self.bad.take(bad);
        observer.event(&Event::BadRows(bad));
    }

    fn take(
        &mut self,
        rows: &[GridRow],
        looks: &Looks,
        draw: Option<&mut (dyn Draw + '_)>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut fits = |row: &&GridRow| match looks.problem(&row.levels) {
            None => true,
            Some(problem) => {
                let (file, at) = (row.file.clone(), row.row);
                let key = Some(row.key.clone());
                let bad = BadRows { file, rows: at..at + 1, key, problem, whole_file: false };
                self.bad(&bad, observer);
                false
            }
        };
        let rows: Vec<&GridRow> = rows.iter().filter(&mut fits).collect();
        let levels: Vec<&[Grid]> = rows.iter().map(|row| row.levels.as_slice()).collect();
        let pictures = self.pictures(&rows, &levels, draw)?;
        let seen: Vec<(Look, [u8; 16])> = (rows.par_iter().zip(&pictures))
            .map(|(row, picture)| {
                let size = ImageSize::of(row);
                let grid = row.levels.first().map(Grid::numbered);
                let grid = grid.as_deref().map(|grid| match self.padding {
                    Some(padding) => padding.grid([size.width, size.height], grid),
                    None => Cow::Borrowed(grid),
                });
                (looks.of(grid.as_deref(), picture.as_ref()), grid_digest(row))
            })
            .collect();
        for (row, (look, grid)) in rows.iter().zip(seen) {
            let image = row.beside.image.as_deref();
            self.keys.push(&row.key)?;
            self.files.push(image.and_then(|image| image.content_sha256).unwrap_or_default())?;
            self.grids.push(grid)?;
            let label = self.label(label_of(row));
            self.labels.push(label)?;
            self.sizes.push(ImageSize::of(row))?;
            self.looks.push(look)?;
        }
        Ok(())
    }

    /// Pictures of rows, where they can be made; small ones are kept.
    fn pictures(
        &mut self,
        rows: &[&GridRow],
        levels: &[&[Grid]],
        draw: Option<&mut (dyn Draw + '_)>,
    ) -> Result<Vec<Option<Picture>>> {
        let Some(draw) = draw else { return Ok(vec![None; rows.len()]) };
        let mut pictures = draw.draw(levels)?;
        if let Some(padding) = self.padding {
            for (row, picture) in rows.iter().zip(&mut pictures) {
                let size = ImageSize::of(row);
                let cut = |picture| padding.picture([size.width, size.height], picture);
                *picture = picture.take().map(cut);
            }
        }
        let small = |picture: &Option<Picture>| match picture {
            Some(picture) => Thumbnail::of(picture),
            None => Thumbnail::zeroed(),
        };
        self.thumbnails.extend(&pictures.par_iter().map(small).collect::<Vec<_>>())?;
        for (row, picture) in rows.iter().zip(&pictures) {
            let turned = self.turned.as_mut().zip(label_of(row));
            if let (Some((turned, label)), Some(picture)) = (turned, picture) {
                turned.take(label, picture);
            }
        }
        Ok(pictures)
    }

    fn label(&mut self, label: Option<&str>) -> u32 {
        let Some(label) = label else { return NO_LABEL };
        let next = self.label_names.len() as u32;
        match self.label_names.get(label) {
            Some(known) => *known,
            None => *self.label_names.entry(label.to_string()).or_insert(next),
        }
    }

    fn finish(self) -> Result<Images> {
        let mut names: Vec<(String, u32)> = self.label_names.into_iter().collect();
        names.sort_unstable_by_key(|(_, at)| *at);
        Ok(Images {
            keys: self.keys.finish()?,
            files: self.files.finish()?,
            grids: self.grids.finish()?,
            labels: self.labels.finish()?,
            label_names: names.into_iter().map(|(name, _)| name).collect(),
            sizes: self.sizes.finish()?,
            looks: self.looks.finish()?,
            thumbnails: self.thumbnails.finish()?,
            further_views: self.further_views,
            bad: self.bad,
            turned: self.turned,
        })
    }
}

/// A label of nothing but space is none.
fn label_of(row: &GridRow) -> Option<&str> {
    row.beside.label.as_deref().filter(|label| !label.trim().is_empty())
}

/// Of all levels and the image's size.
fn grid_digest(row: &GridRow) -> [u8; 16] {
    let mut hasher = Sha256::new();
    let image = row.beside.image.as_deref();
    let [width, height] = image.map_or([0, 0], |image| [image.width, image.height]);
    hasher.update(bytemuck::cast_slice(&[width, height]));
    for grid in &row.levels {
        hasher.update(bytemuck::cast_slice(&[grid.height as u64, grid.width as u64]));
        hasher.update(bytemuck::cast_slice(&grid.codes));
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize()[..16]);
    half
}
