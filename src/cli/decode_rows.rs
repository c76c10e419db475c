//! Owns the way from rows of tokens to pictures: which rows a model can decode, batches, files and
//! the sheet. Must not know: flags, where rows come from.

use super::flags;
use super::picture_names::Names;
use super::reconstruct::to_rgb;
use crate::audit::{BadRows, GridRow, TokenFile};
use crate::cli::progress::Meter;
use crate::data::contact_sheet;
use crate::engine::{CodeGrid, Decoded, Encoded, Engine, PixelBatch, oom_split};
use crate::error::{Error, Result};
use crate::model::config::Architecture;
use crate::util::overwrite;
use crate::util::overwrite::Foreign;
use crate::util::text;
use image::RgbImage;
use rayon::prelude::*;
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of decoded pixels that wait for their files, unless one picture has more.
const PIXELS_MAX: usize = 1 << 28;

fn shape(row: &GridRow) -> Vec<(usize, usize)> {
    row.levels.iter().map(|level| (level.height, level.width)).collect()
}

/// Why a row can't be decoded by this model, in one line.
pub(super) fn problem(row: &GridRow, engine: &dyn Engine) -> Option<String> {
    let config = engine.config();
    let (given, wanted) = (row.levels.len(), config.levels());
    if given != wanted {
        return Some(format!(
            "{given} levels of tokens where the model decodes {wanted}: was another model used?"
        ));
    }
    let codes = config.quantizer.codes;
    let all = row.levels.iter().flat_map(|level| &level.codes);
    if let Some(code) = all.copied().find(|&code| code as usize >= codes) {
        return Some(format!(
            "token {code} is beyond the model's {codes} codes: was another model used?"
        ));
    }
    let grids = shape(row);
    let ([fh, fw], (height, width)) = (config.factor(), grids[0]);
    let in_words = |grids: &[(usize, usize)]| {
        let grids: Vec<_> = grids.iter().map(|(h, w)| format!("{h} x {w}")).collect();
        grids.join(" and ")
    };
    match engine.grid(height.saturating_mul(fh), width.saturating_mul(fw)) {
        Err(why) => Some(format!("a grid of {}: {why}", in_words(&grids[..1]))),
        Ok(fit) if fit != grids => Some(format!(
            "grids of {} where the model decodes {}",
            in_words(&grids),
            in_words(&fit)
        )),
        Ok(_)
            if height * width == 1
                && matches!(config.architecture, Architecture::OpenMagvit2(_)) =>
        {
            Some("one token alone, of which this decoder can take no variance".into())
        }
        Ok(_) => None,
    }
}

/// A row on its way, with the name of its picture, and whether it is drawn on the sheet.
pub(super) struct Waiting {
    row: GridRow,
    name: Option<PathBuf>,
    drawn: bool,
}

/// Counts what fails, and tells the first of it: a log must not grow with the file.
pub(super) struct Failures {
    /// Rows, as far as they can be counted.
    pub rows: u64,
    /// Files of which nothing can be read.
    pub files: u64,
    told: u64,
    pub meter: Meter,
}

impl Failures {
    const TOLD_MAX: u64 = 100;

    fn add(&mut self, bad: &BadRows) {
        self.rows += bad.count();
        self.files += u64::from(bad.whole_file);
        self.told += 1;
        self.meter.step(true);
        if self.told <= Failures::TOLD_MAX {
            let fields = json!({"file": &*bad.file, "row": bad.rows.start, "rows": bad.count(),
                                "key": bad.key, "error": bad.problem});
            self.meter.line("failure", &format!("failed: {}", bad.in_words()), fields);
        } else if self.told == Failures::TOLD_MAX + 1 {
            let text = "more than 100 failures: further ones are counted";
            self.meter.line("failures-untold", text, json!({"told": Failures::TOLD_MAX}));
        }
    }

    fn row(&mut self, row: &GridRow, problem: String) {
        self.add(&BadRows {
            file: row.file.clone(),
            rows: row.row..row.row + 1,
            key: row.keyed.then(|| row.key.clone()),
            problem,
            whole_file: false,
        });
    }
}

/// The decoding of rows into pictures.
pub(super) struct Job<'a> {
    engine: &'a mut dyn Engine,
    names: Names,
    /// Where one PNG a row goes.
    pub out: Option<&'a Path>,
    pub foreign: Foreign,
    /// Numbers of the rows that are drawn on a sheet.
    pub chosen: HashSet<u64>,
    /// Their pictures, in order.
    pub drawn: Vec<RgbImage>,
    pub failures: Failures,
    batch: Vec<Waiting>,
    pub batch_size: usize,
    /// As many go to the device at a time: fewer than a batch once it ran out of memory.
    images_max: usize,
    pub decoded: u64,
}

impl<'a> Job<'a> {
    /// One that writes nothing yet.
    pub fn new(engine: &'a mut dyn Engine, names: Names, meter: Meter) -> Job<'a> {
        Job {
            engine,
            names,
            out: None,
            foreign: Foreign::Keep,
            chosen: HashSet::new(),
            drawn: Vec::new(),
            failures: Failures { rows: 0, files: 0, told: 0, meter },
            batch: Vec::new(),
            batch_size: 1,
            images_max: usize::MAX,
            decoded: 0,
        }
    }

    /// Decodes all rows; `known` is the model's own grid.
    ///
    /// # Errors
    /// A file that may not be overwritten or can't be written; the engine's; an interrupt.
    pub fn run(
        &mut self,
        mut rows: TokenFile,
        known: Option<(usize, usize)>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let (mut number, mut guesses) = (0_u64, HashSet::new());
        while let Some(row) = rows.next_row() {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let row = match row {
                Ok(row) => row,
                Err(bad) => {
                    number = number.saturating_add(bad.count());
                    self.failures.add(&bad);
                    continue;
                }
            };
            let drawn = self.chosen.contains(&number);
            number += 1;
            if let Some(problem) = problem(&row, self.engine) {
                self.failures.row(&row, problem);
                continue;
            }
            let name = self.out.map(|_| self.names.name(&row));
            if name.is_none() && !drawn {
                self.failures.meter.step(false);
                continue;
            }
            if let Some(known) = known.filter(|_| row.guessed) {
                self.tell_guess(&row, known, &mut guesses);
            }
            self.push(Waiting { row, name, drawn })?;
        }
        self.flush()
    }

    /// Says once for each number of tokens that it is read as another grid than the model's own.
    fn tell_guess(&self, row: &GridRow, known: (usize, usize), guesses: &mut HashSet<usize>) {
        let level = &row.levels[0];
        if guesses.len() >= 10 || !guesses.insert(level.codes.len()) {
            return;
        }
        let text = format!(
            "note: rows of {} tokens (the first: {}, row {}) are read as {} x {}; the model was \
             made for {} x {}",
            level.codes.len(),
            text::path(&*row.file),
            row.row,
            level.height,
            level.width,
            known.0,
            known.1
        );
        let fields = json!({"tokens": level.codes.len(), "file": &*row.file, "row": row.row,
                            "grid": [level.height, level.width], "model_grid": [known.0, known.1]});
        self.failures.meter.line("other-grid", &text, fields);
    }

    fn push(&mut self, waiting: Waiting) -> Result<()> {
        let config = self.engine.config();
        let ([fh, fw], level) = (config.factor(), &waiting.row.levels[0]);
        let bytes = level.codes.len() * fh * fw * config.pixels.channels;
        let rows_max = self.batch_size.min((PIXELS_MAX / bytes.max(1)).max(1));
        let other =
            self.batch.first().is_some_and(|first| shape(&first.row) != shape(&waiting.row));
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
        let Decoded { pictures, failed } =
            match oom_split::decode(self.engine, &stack(&batch), &mut self.images_max) {
                Ok(decoded) => decoded,
                // Not even one of them fits: others may be smaller.
                Err(error @ Error::OutOfMemory(_)) => {
                    let reason = flags::message(&error);
                    batch.iter().for_each(|w| self.failures.row(&w.row, reason.clone()));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
        for (index, reason) in &failed {
            self.failures.row(&batch[*index].row, reason.clone());
        }
        let failed: HashSet<usize> = failed.into_iter().map(|(index, _)| index).collect();
        let good = || batch.iter().enumerate().filter(|(index, _)| !failed.contains(index));
        for (index, _) in good().filter(|(_, waiting)| waiting.drawn) {
            self.drawn.push(contact_sheet::tile(to_rgb(&pictures, index)));
        }
        let save = |(index, waiting): (usize, &Waiting)| match (self.out, &waiting.name) {
            (Some(out), Some(name)) => {
                let png = png(pictures.image(index), &pictures)?;
                overwrite::write(&out.join(name), &png, self.foreign)
            }
            // Only for the sheet.
            _ => Ok(()),
        };
        let good: Vec<(usize, &Waiting)> = good().collect();
        let saved: Vec<Result<()>> = good.par_iter().copied().map(save).collect();
        for ((_, waiting), saved) in good.into_iter().zip(saved) {
            match saved {
                Ok(()) => {
                    self.decoded += 1;
                    self.failures.meter.step(false);
                }
                Err(Error::Io { path, source }) if is_of_name(&source) => {
                    let reason = Error::Io { path, source }.to_string();
                    self.failures
                        .row(&waiting.row, format!("the system refuses its name: {reason}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Rows of equal grids as one batch, `[N, h, w]` a level.
fn stack(batch: &[Waiting]) -> Encoded {
    let first = &batch[0].row.levels;
    let levels = (0..first.len())
        .map(|index| CodeGrid {
            codes: batch.iter().flat_map(|w| w.row.levels[index].codes.iter().copied()).collect(),
            distances: Vec::new(),
            height: first[index].height,
            width: first[index].width,
        })
        .collect();
    Encoded { count: batch.len(), levels, failed: Vec::new() }
}

/// A picture of a batch as a PNG file with vqtok's mark.
fn png(bytes: &[u8], batch: &PixelBatch) -> Result<Vec<u8>> {
    let colour = match batch.channels {
        1 => image::ExtendedColorType::L8,
        _ => image::ExtendedColorType::Rgb8,
    };
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    let (width, height) = (batch.width as u32, batch.height as u32);
    image::ImageEncoder::write_image(encoder, bytes, width, height, colour)
        .map_err(|e| Error::invalid(format!("a picture can't be encoded as PNG: {e}")))?;
    Ok(overwrite::mark_png(&png))
}

/// Whether a file system refused a name for what it is: too long, or of characters it doesn't take.
fn is_of_name(error: &std::io::Error) -> bool {
    let of_name = [libc::ENAMETOOLONG, libc::EINVAL, libc::EILSEQ];
    error.raw_os_error().is_some_and(|number| of_name.contains(&number))
}
