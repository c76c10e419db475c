//! Owns the way from rows of tokens to pictures: batches, files and the sheet.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use super::codes::{Codes, Grid, problem};
use super::events::{Event, Observer, OtherGrid};
use super::picture_names::Names;
use super::tokenizer::{Tokenizer, to_rgb};
use crate::audit::{BadRows, GridRow, TokenFile};
use crate::data::contact_sheet;
use crate::engine::{Decoded, PixelBatch};
use crate::error::{Error, Result};
use crate::util::overwrite;
use crate::util::overwrite::Foreign;

/// Bytes of decoded pixels that wait for their files, unless one picture has more.
const PIXELS_MAX: usize = 1 << 28;

/// A row on its way, with the name of its picture, and whether it is drawn on the sheet.
struct Waiting {
    /// Without its levels.
    row: GridRow,
    codes: Codes,
    name: Option<PathBuf>,
    drawn: bool,
}

/// The decoding of rows into pictures.
pub(super) struct Rows<'a> {
    tokenizer: &'a mut Tokenizer,
    observer: &'a mut dyn Observer,
    names: Names,
    /// Where one PNG a row goes.
    pub(super) out: Option<&'a Path>,
    pub(super) foreign: Foreign,
    /// Numbers of the rows that are drawn on a sheet.
    pub(super) chosen: HashSet<u64>,
    /// Their pictures, in order.
    pub(super) drawn: Vec<RgbImage>,
    batch: Vec<Waiting>,
    pub(super) batch_size: usize,
    pub(super) decoded: u64,
    /// Rows that failed, as far as they can be counted.
    pub(super) failed: u64,
    /// Files of which nothing can be read.
    pub(super) files_lost: u64,
}

impl<'a> Rows<'a> {
    /// One that writes nothing yet.
    pub(super) fn new(
        tokenizer: &'a mut Tokenizer,
        names: Names,
        observer: &'a mut dyn Observer,
    ) -> Rows<'a> {
        Rows {
            tokenizer,
            observer,
            names,
            out: None,
            foreign: Foreign::Keep,
            chosen: HashSet::new(),
            drawn: Vec::new(),
            batch: Vec::new(),
            batch_size: 1,
            decoded: 0,
            failed: 0,
            files_lost: 0,
        }
    }

    /// Decodes all rows; `known` is the model's own grid.
    ///
    /// # Errors
    /// A file that may not be overwritten or can't be written; the engine's; an interrupt.
    pub(super) fn run(&mut self, mut rows: TokenFile, known: Option<(usize, usize)>) -> Result<()> {
        let (mut number, mut guesses) = (0_u64, HashSet::new());
        while let Some(row) = rows.next_row() {
            if self.observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let mut row = match row {
                Ok(row) => row,
                Err(bad) => {
                    number = number.saturating_add(bad.count());
                    self.bad(&bad);
                    continue;
                }
            };
            let drawn = self.chosen.contains(&number);
            number += 1;
            let codes = codes_of(&mut row);
            if let Some(problem) = problem(&codes, self.tokenizer.engine.as_ref()) {
                self.bad_row(&row, problem);
                continue;
            }
            let name = self.out.map(|_| self.names.name(&row));
            if name.is_none() && !drawn {
                self.observer.event(&Event::Decoded);
                continue;
            }
            if let Some(known) = known.filter(|_| row.guessed) {
                self.tell_guess(&row, &codes, known, &mut guesses);
            }
            self.push(Waiting { row, codes, name, drawn })?;
        }
        self.flush()
    }

    fn bad(&mut self, bad: &BadRows) {
        self.failed += bad.count();
        self.files_lost += u64::from(bad.whole_file);
        self.observer.event(&Event::BadRows(bad));
    }

    fn bad_row(&mut self, row: &GridRow, problem: String) {
        self.bad(&BadRows {
            file: row.file.clone(),
            rows: row.row..row.row + 1,
            key: row.keyed.then(|| row.key.clone()),
            problem,
            whole_file: false,
        });
    }

    /// Says once for each number of tokens that it is read as another grid than the model's own.
    fn tell_guess(
        &mut self,
        row: &GridRow,
        codes: &Codes,
        model_grid: (usize, usize),
        guesses: &mut HashSet<usize>,
    ) {
        let level = &codes.levels[0];
        let tokens = level.height * level.width;
        if guesses.len() < 10 && guesses.insert(tokens) {
            let grid = (level.height, level.width);
            let (file, row) = (&*row.file, row.row);
            let other = OtherGrid { tokens, file, row, grid, model_grid };
            self.observer.event(&Event::OtherGrid(&other));
        }
    }

    fn push(&mut self, waiting: Waiting) -> Result<()> {
        let config = self.tokenizer.config();
        let size = config.picture(waiting.codes.shape()[0]).map_err(Error::invalid)?;
        let bytes = size.0.saturating_mul(size.1).saturating_mul(config.pixels.channels);
        let rows_max = self.batch_size.min((PIXELS_MAX / bytes.max(1)).max(1));
        let other =
            self.batch.first().is_some_and(|first| first.codes.shape() != waiting.codes.shape());
        if other || self.batch.len() >= rows_max {
            self.flush()?;
        }
        self.batch.push(waiting);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let codes: Vec<&Codes> = batch.iter().map(|waiting| &waiting.codes).collect();
        let Decoded { pictures, failed } = match self.tokenizer.decode_batch(&codes) {
            Ok(decoded) => decoded,
            // Not even one of them fits: others may be smaller.
            Err(error @ Error::OutOfMemory(_)) => {
                let reason = error.to_string();
                batch.iter().for_each(|w| self.bad_row(&w.row, reason.clone()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (index, reason) in &failed {
            self.bad_row(&batch[*index].row, reason.clone());
        }
        let failed: HashSet<usize> = failed.into_iter().map(|(index, _)| index).collect();
        let numbered = batch.iter().enumerate();
        let good: Vec<(usize, &Waiting)> =
            numbered.filter(|(index, _)| !failed.contains(index)).collect();
        for (index, _) in good.iter().filter(|(_, waiting)| waiting.drawn) {
            self.drawn.push(contact_sheet::tile(to_rgb(&pictures, *index)));
        }
        self.save(&good, &pictures)
    }

    /// Writes the pictures that have names. One whose name the file system refuses costs its row.
    fn save(&mut self, good: &[(usize, &Waiting)], pictures: &PixelBatch) -> Result<()> {
        let (out, foreign) = (self.out, self.foreign);
        let save = |(index, waiting): &(usize, &Waiting)| match (out, &waiting.name) {
            (Some(out), Some(name)) => {
                overwrite::write(&out.join(name), &png(pictures, *index)?, foreign)
            }
            // Only for the sheet.
            _ => Ok(()),
        };
        let saved: Vec<Result<()>> = good.par_iter().map(save).collect();
        for ((_, waiting), saved) in good.iter().zip(saved) {
            match saved {
                Ok(()) => {
                    self.decoded += 1;
                    self.observer.event(&Event::Decoded);
                }
                Err(Error::Io { path, source }) if is_of_name(&source) => {
                    let reason = Error::Io { path, source }.to_string();
                    self.bad_row(&waiting.row, format!("the system refuses its name: {reason}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes the codes out of a row.
pub(super) fn codes_of(row: &mut GridRow) -> Codes {
    let grid = |grid: crate::audit::Grid| Grid {
        codes: grid.codes,
        distances: Vec::new(),
        height: grid.height,
        width: grid.width,
    };
    Codes { levels: std::mem::take(&mut row.levels).into_iter().map(grid).collect() }
}

/// A picture of a batch as a PNG file with vqtok's mark.
fn png(batch: &PixelBatch, index: usize) -> Result<Vec<u8>> {
    let colour = match batch.channels {
        1 => image::ExtendedColorType::L8,
        _ => image::ExtendedColorType::Rgb8,
    };
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    let (width, height) = (batch.width as u32, batch.height as u32);
    image::ImageEncoder::write_image(encoder, batch.image(index), width, height, colour)
        .map_err(|e| Error::invalid(format!("a picture can't be encoded as PNG: {e}")))?;
    Ok(overwrite::mark_png(&png))
}

/// Whether a file system refused a name for what it is: too long, or of characters it doesn't take.
fn is_of_name(error: &std::io::Error) -> bool {
    let of_name = [libc::ENAMETOOLONG, libc::EINVAL, libc::EILSEQ];
    error.raw_os_error().is_some_and(|number| of_name.contains(&number))
}
