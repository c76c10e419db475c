//! Owns `vqtok decode`: any Parquet with tokens back into PNG pictures, with bounded memory.
//! Must not know: how codes become pixels.

use super::Finished;
use super::common::{CheckpointFlags, Common, check_batch_size, stop_flag};
use super::decode_rows::{Job, problem};
use super::picture_names::Names;
use super::{places, same_model};
use crate::audit::{Asked, TokenFile};
use crate::cli::progress::Reporter;
use crate::data::contact_sheet;
use crate::engine::{Engine, images_for_threads};
use crate::error::{Error, Result};
use crate::model::config::Architecture;
use crate::util::numbers;
use crate::util::numbers::counted;
use crate::util::overwrite;
use crate::util::overwrite::Foreign;
use crate::util::text;
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Pictures on a sheet at most.
const SHEET_PICTURES: u64 = 64;

/// Flags of `vqtok decode`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet file with a `tokens` column
    input: PathBuf,
    /// Tokenizer: a folder or checkpoint file with a decoder
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Folder for the pictures, one PNG a row [default: none where there is --sheet]
    #[arg(long, value_name = "DIR", required_unless_present = "sheet")]
    out: Option<PathBuf>,
    /// One picture of up to 64 decoded ones, taken evenly from the rows [default: none]
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Column of tokens (a.b inside a struct); once a level, finest first [default: tokens]
    #[arg(long, value_name = "NAME")]
    column: Vec<String>,
    /// Grid of rows that don't say theirs [default: the model's own, else a square]
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = grid_of)]
    grid: Option<(usize, usize)>,
    /// Decode tokens that say they were made by another model
    #[arg(long)]
    force: bool,
    /// Replace files of the same names that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    /// Rows decoded at once [default: two for every thread, at least 16]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    pub(super) common: Common,
}

fn grid_of(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once(['x', 'X']);
    let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=1 << 22).contains(side));
    sides
        .and_then(|(height, width)| Some((side(height)?, side(width)?)))
        .ok_or_else(|| "height and width in tokens, such as 16x16".to_string())
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let foreign = Foreign::overwritten(args.overwrite);
    args.check(foreign)?;
    args.common.start_threads()?;
    let stop = stop_flag()?;
    let mut engine = args.common.open_engine(&args.model, &args.checkpoint)?;
    let asked = args.asked(engine.as_ref())?;
    let open = || TokenFile::open_as(&args.input, asked.clone());
    let rows = open()?;
    same_model::require(&rows, engine.as_ref(), &args.model, args.force, reporter)?;
    tell_sources(&rows, reporter);
    let (count, unfinished) = (rows.row_count(), rows.sources().unfinished);
    if let Some(out) = args.out.as_deref().filter(|out| foreign == Foreign::Keep && !empty(out)) {
        check_names(open()?, args.names(count), engine.as_ref(), out, &stop)?;
    }
    let mut job =
        Job::new(engine.as_mut(), args.names(count), reporter.meter("decode", "images", count));
    (job.out, job.foreign) = (args.out.as_deref(), foreign);
    job.batch_size = args.batch_size.unwrap_or_else(images_for_threads);
    if args.sheet.is_some() {
        job.chosen = evenly(count);
    }
    job.run(rows, asked.grids.first().copied(), &stop)?;
    let Job { decoded, drawn, failures, .. } = job;
    failures.meter.close();
    let (failed, lost) = (failures.rows, failures.files);
    let mut text = match &args.out {
        Some(out) => format!("{} in {}", counted(decoded, "picture"), text::path(out)),
        None => format!("{} decoded", counted(decoded, "picture")),
    };
    if let Some(path) = &args.sheet {
        let of_all = format!("{} of {}", drawn.len(), counted(count, "row"));
        match drawn.is_empty() {
            true => text += &format!(", none for {}", text::path(path)),
            false => {
                let png = contact_sheet::png(&contact_sheet::tiles(&drawn))?;
                overwrite::write(path, &overwrite::mark_png(&png), foreign)?;
                text += &format!(", {of_all} on {}", text::path(path));
            }
        }
    }
    text += &format!(", {} failed", counted(failed, "row"));
    if lost > 0 {
        text += &match lost {
            1 => ", 1 file is missing or can't be read".into(),
            lost => format!(", {} files are missing or can't be read", numbers::count(lost)),
        };
    }
    if let Some((there, partitions)) = unfinished {
        text += &format!("; of an unfinished output, {there} of {}", counted(partitions, "shard"));
    }
    let fields = json!({"decoded": decoded, "failed": failed, "files_lost": lost, "out": args.out.as_deref().map(text::lossy),
                        "sheet": args.sheet.as_deref().map(text::lossy), "on_sheet": drawn.len(), "finished": unfinished.is_none()});
    reporter.result("decoded", &text, fields);
    let clean = failed == 0 && lost == 0;
    Ok(if clean { Finished::Clean } else { Finished::WithFailures })
}

impl Args {
    /// Everything that can be refused before the model is opened.
    fn check(&self, foreign: Foreign) -> Result<()> {
        if let Some(out) = &self.out {
            places::check_folder("--out", out)?;
        }
        if let Some(sheet) = &self.sheet {
            places::check_png("--sheet", sheet, foreign)?;
        }
        check_batch_size(self.batch_size)
    }

    /// What to read, with the grids that the model knows.
    fn asked(&self, engine: &dyn Engine) -> Result<Asked> {
        let config = engine.config();
        if !config.parts().decoder() {
            let model = text::path(&self.model);
            let text =
                format!("{model}: this checkpoint has no decoder: it can encode images only");
            return Err(Error::invalid(text));
        }
        let (given, levels) = (self.column.len(), config.levels());
        if given > 0 && given != levels {
            return Err(Error::invalid(format!(
                "--column is given {given} times, the model decodes {levels} levels: name a column \
                 for each, the finest first"
            )));
        }
        let [fh, fw] = config.factor();
        let grids = match (self.grid, &config.architecture, config.preprocess.size) {
            (Some((height, width)), _, _) => {
                let grids = engine.grid(height * fh, width * fw);
                grids.map_err(|why| Error::invalid(format!("--grid {height}x{width}: {why}")))?
            }
            (None, Architecture::VitVqgan(c), _) => vec![(c.grid[0], c.grid[1])],
            // A size that the model itself can't take says nothing of its grid.
            (None, _, Some(side)) => engine.grid(side as usize, side as usize).unwrap_or_default(),
            (None, _, None) => Vec::new(),
        };
        Ok(Asked { columns: self.column.clone(), grids, strict: self.grid.is_some() })
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

/// Says what the folder lacks, or holds beside its own.
fn tell_sources(rows: &TokenFile, reporter: &Reporter) {
    let sources = rows.sources();
    if let Some((there, partitions)) = sources.unfinished {
        let text = format!(
            "warning: an unfinished output, {there} of {partitions} shards are there: only those \
             are decoded"
        );
        reporter.say("unfinished", &text, json!({"there": there, "partitions": partitions}));
    }
    const TOLD_MAX: usize = 20;
    for stray in sources.strays.iter().take(TOLD_MAX) {
        let text = format!(
            "stray: {} isn't the output's own and is passed over; `vqtok verify` lists strays",
            text::printable(stray)
        );
        reporter.say("stray", &text, json!({"path": stray}));
    }
    for note in &sources.notes {
        reporter.say("warning", &format!("warning: {note}"), json!({"message": note}));
    }
}

fn empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Goes through all rows once and refuses the first picture whose name is somebody else's file.
fn check_names(
    mut rows: TokenFile,
    mut names: Names,
    engine: &dyn Engine,
    out: &Path,
    stop: &AtomicBool,
) -> Result<()> {
    while let Some(row) = rows.next_row() {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let Ok(row) = row else { continue };
        if problem(&row, engine).is_none() {
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
