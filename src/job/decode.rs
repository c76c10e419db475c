//! Owns decoding files of tokens into PNG pictures, with bounded memory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::codes::problem;
use super::decode_rows::{Rows, codes_of};
use super::events::{Event, Observer};
use super::picture_names::Names;
use super::tokenize::check_batch_size;
use super::tokenizer::Tokenizer;
use super::{places, same_model};
use crate::audit::{Asked, TokenFile};
use crate::data::contact_sheet;
use crate::engine::images_for_threads;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ScalesConfig};
use crate::storage;
use crate::util::overwrite;
use crate::util::overwrite::Foreign;
use crate::util::settings::{COLUMN, GRID, OUT, SHEET};

/// Pictures on a sheet at most.
const SHEET_PICTURES: u64 = 64;

/// Tokens in files on their way to pictures.
#[derive(Debug, Clone)]
pub struct Decode {
    input: PathBuf,
    out: Option<PathBuf>,
    sheet: Option<PathBuf>,
    columns: Vec<String>,
    grid: Option<(usize, usize)>,
    force: bool,
    overwrite: bool,
    batch_size: Option<usize>,
}

/// What decoding files gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeSummary {
    /// Rows of the files, as far as they can be counted.
    pub rows: u64,
    /// Pictures decoded.
    pub decoded: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Files that are missing or can't be read.
    pub files_lost: u64,
    /// Pictures on the sheet.
    pub on_sheet: usize,
    /// Shards that are there, of so many, where the input is an output that isn't finished.
    pub unfinished: Option<(usize, usize)>,
}

impl DecodeSummary {
    /// Whether every row gave its picture.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.files_lost == 0
    }
}

impl Decode {
    /// An output folder of vqtok, or any Parquet file with a column of tokens.
    pub fn new(input: impl Into<PathBuf>) -> Decode {
        Decode {
            input: input.into(),
            out: None,
            sheet: None,
            columns: Vec::new(),
            grid: None,
            force: false,
            overwrite: false,
            batch_size: None,
        }
    }

    /// Folder for the pictures, one PNG a row.
    pub fn out(mut self, folder: impl Into<PathBuf>) -> Decode {
        self.out = Some(folder.into());
        self
    }

    /// A PNG file for one picture of up to 64 decoded ones, taken evenly from the rows.
    pub fn sheet(mut self, file: impl Into<PathBuf>) -> Decode {
        self.sheet = Some(file.into());
        self
    }

    /// Columns of tokens (`a.b` inside a struct), one a level, the finest first. By default `tokens`
    /// and what vqtok writes beside it.
    pub fn columns<C: Into<String>>(mut self, names: impl IntoIterator<Item = C>) -> Decode {
        self.columns = names.into_iter().map(Into::into).collect();
        self
    }

    /// Grid, in tokens, of rows that don't say theirs. By default the model's own, else a square.
    pub fn grid(mut self, height: usize, width: usize) -> Decode {
        self.grid = Some((height, width));
        self
    }

    /// Decodes tokens that say they were made by another model.
    pub fn force(mut self, force: bool) -> Decode {
        self.force = force;
        self
    }

    /// Replaces files of the same names that vqtok didn't write.
    pub fn overwrite(mut self, overwrite: bool) -> Decode {
        self.overwrite = overwrite;
        self
    }

    /// Rows decoded at once. By default two for every thread, at least 16.
    pub fn batch_size(mut self, rows: impl Into<Option<usize>>) -> Decode {
        self.batch_size = rows.into();
        self
    }

    /// Everything that can be refused before a model is opened.
    ///
    /// # Errors
    /// Places that can't be written, or where other things lie; no batch.
    pub fn check(&self) -> Result<()> {
        if let Some(out) = &self.out {
            places::check_folder(OUT, out)?;
        }
        if let Some(sheet) = &self.sheet {
            places::check_png(SHEET, sheet, self.foreign())?;
        }
        check_batch_size(self.batch_size)
    }

    /// Runs the job.
    ///
    /// # Errors
    /// Those of [`Decode::check`]; a model without decoder, or another one than made the tokens;
    /// an input without tokens; [`Error::Interrupted`] where the observer says so.
    pub fn run(
        &self,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<DecodeSummary> {
        self.check()?;
        storage::complete(&self.input, || self.run_now(tokenizer, observer))
    }

    fn run_now(
        &self,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<DecodeSummary> {
        let asked = self.asked(tokenizer)?;
        let open = || TokenFile::open_as(&self.input, asked.clone());
        let rows = open()?;
        same_model::require(&rows, tokenizer, self.force, observer)?;
        observer.event(&Event::Sources(rows.sources()));
        let (count, unfinished) = (rows.row_count(), rows.sources().unfinished);
        let kept = |out: &&Path| self.foreign() == Foreign::Keep && !is_empty(out);
        if let Some(out) = self.out.as_deref().filter(kept) {
            check_names(open()?, self.names(count), tokenizer, out, observer)?;
        }
        observer.event(&Event::Begin { stage: "decode", images: count });
        let mut job = Rows::new(tokenizer, self.names(count), observer);
        (job.out, job.foreign) = (self.out.as_deref(), self.foreign());
        job.batch_size = self.batch_size.unwrap_or_else(images_for_threads);
        if self.sheet.is_some() {
            job.chosen = evenly(count);
        }
        job.run(rows, asked.grids.first().copied())?;
        if let Some(sheet) = self.sheet.as_ref().filter(|_| !job.drawn.is_empty()) {
            let png = contact_sheet::png(&contact_sheet::tiles(&job.drawn))?;
            overwrite::write(sheet, &overwrite::mark_png(&png), self.foreign())?;
        }
        Ok(DecodeSummary {
            rows: count,
            decoded: job.decoded,
            failed: job.failed,
            files_lost: job.files_lost,
            on_sheet: job.drawn.len(),
            unfinished,
        })
    }

    fn foreign(&self) -> Foreign {
        Foreign::overwritten(self.overwrite)
    }

    /// What to read, with the grids that the model knows.
    fn asked(&self, tokenizer: &Tokenizer) -> Result<Asked> {
        tokenizer.require_decoder()?;
        let (engine, config) = (tokenizer.engine.as_ref(), tokenizer.config());
        let (given, levels) = (self.columns.len(), config.levels());
        if given > 0 && given != levels {
            return Err(Error::setting(
                COLUMN,
                format!(
                    "is given {given} times, the model decodes {levels} levels: name a column for \
                     each, the finest first"
                ),
            ));
        }
        let sequence = config.quantizer.scales.as_ref().and_then(ScalesConfig::only_sequence);
        let grids = match (self.grid, &config.architecture, config.preprocess.size) {
            (Some((height, width)), _, _) => config
                .picture((height, width))
                .and_then(|(height, width)| engine.grid(height, width))
                .map_err(|why| Error::setting(GRID, format!("{height}x{width}: {why}")))?,
            (None, Architecture::VitVqgan(c), _) => vec![(c.grid[0], c.grid[1])],
            (None, Architecture::Titok(c), _) => vec![(1, c.latents)],
            _ if sequence.is_some() => sequence.into_iter().collect(),
            // A size that the model itself can't take says nothing of its grid.
            (None, _, Some(side)) => engine.grid(side as usize, side as usize).unwrap_or_default(),
            (None, _, None) => Vec::new(),
        };
        let (columns, strict) = (self.columns.clone(), self.grid.is_some());
        let values = config.quantizer.values();
        Ok(Asked { columns, grids, values, strict, choosable: true, ..Asked::default() })
    }

    fn names(&self, rows: u64) -> Names {
        let mut names = Names::new(rows);
        // A sheet in the folder of the pictures is none of them.
        let absolute = |path: &Option<PathBuf>| std::path::absolute(path.as_ref()?).ok();
        if let (Some(out), Some(sheet)) = (absolute(&self.out), absolute(&self.sheet))
            && let Ok(inside) = sheet.strip_prefix(out)
        {
            names.reserve(&inside.with_extension("").to_string_lossy());
        }
        names
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Goes through all rows once and refuses the first picture whose name is somebody else's file.
fn check_names(
    mut rows: TokenFile,
    mut names: Names,
    tokenizer: &Tokenizer,
    out: &Path,
    observer: &dyn Observer,
) -> Result<()> {
    while let Some(row) = rows.next_row() {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let Ok(mut row) = row else { continue };
        if problem(&codes_of(&mut row), tokenizer.engine.as_ref()).is_none() {
            overwrite::check(&out.join(names.name(&row)), Foreign::Keep)?;
        }
    }
    Ok(())
}

/// The numbers of up to [`SHEET_PICTURES`] of so many rows, evenly.
fn evenly(rows: u64) -> HashSet<u64> {
    let count = rows.min(SHEET_PICTURES);
    (0..count).map(|i| (u128::from(i) * u128::from(rows) / u128::from(count)) as u64).collect()
}
