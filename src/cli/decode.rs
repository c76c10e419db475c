//! Owns `vqtok decode`: any Parquet with tokens back into PNG pictures, with bounded memory.
//! Must not know: how codes become pixels.

use super::Finished;
use super::common::{CheckpointFlags, Common, check_batch_size, stop_flag};
use crate::audit::read::{GridRow, TokenFile};
use crate::engine::{CodeGrid, Decoded, Encoded, Engine, PixelBatch, fit, images_for_threads};
use crate::error::{Error, Result};
use crate::progress::{Meter, Reporter};
use crate::text;
use rayon::prelude::*;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Flags of `vqtok decode`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet file with a `tokens` column
    input: PathBuf,
    /// Tokenizer: a folder or checkpoint file with a decoder
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Folder for the pictures, one PNG a row
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    /// Rows decoded at once (default: two for every thread, at least 16)
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    check_batch_size(args.batch_size)?;
    let stop = stop_flag()?;
    let mut engine = args.common.open_engine(&args.model, &args.checkpoint)?;
    let rows = TokenFile::open(&args.input)?;
    let mut meter = reporter.meter("decode", "images", rows.row_count()?);
    let mut job = Job {
        engine: engine.as_mut(),
        out: &args.out,
        names: Names::default(),
        failed: 0,
        images_max: usize::MAX,
    };
    let batch_size = args.batch_size.unwrap_or_else(images_for_threads);
    let mut batch: Vec<GridRow> = Vec::new();
    let mut decoded = 0u64;
    for row in rows {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let row = row?;
        if let Some(problem) = problem(&row, job.engine) {
            job.failed += 1;
            meter.step(true);
            tell_failure(&meter, &row.key, &problem);
            continue;
        }
        let full = batch.len() >= batch_size;
        if full || batch.first().is_some_and(|first| !same_grid(first, &row)) {
            decoded += job.flush(&mut batch, &meter)?;
        }
        batch.push(row);
        meter.step(false);
    }
    decoded += job.flush(&mut batch, &meter)?;
    let failed = job.failed;
    meter.close();
    reporter.result(
        "decoded",
        &format!("{decoded} pictures in {}, {failed} rows failed", text::path(&args.out)),
        json!({"decoded": decoded, "failed": failed, "out": args.out}),
    );
    Ok(if failed > 0 { Finished::WithFailures } else { Finished::Clean })
}

fn tell_failure(meter: &Meter, key: &str, reason: &str) {
    let text = format!("failed: {}: {reason}", text::printable(key));
    meter.line("failure", &text, json!({"key": key, "error": reason}));
}

fn same_grid(a: &GridRow, b: &GridRow) -> bool {
    let shape =
        |g: &GridRow| g.levels.iter().map(|level| (level.height, level.width)).collect::<Vec<_>>();
    shape(a) == shape(b)
}

/// Why a row can't be decoded by this model, in one line.
fn problem(row: &GridRow, engine: &dyn Engine) -> Option<String> {
    let (given, wanted) = (row.levels.len(), engine.config().levels());
    if given != wanted {
        return Some(format!(
            "{given} levels of tokens where the model decodes {wanted}: was another model used?"
        ));
    }
    let codes = engine.config().quantizer.codes;
    let level = row.levels.iter().find(|level| level.codes.iter().any(|&c| c as usize >= codes))?;
    let worst = level.codes.iter().max()?;
    Some(format!("token {worst} is beyond the model's {codes} codes: was another model used?"))
}

/// The decoding of batches into files.
struct Job<'a> {
    engine: &'a mut dyn Engine,
    out: &'a Path,
    names: Names,
    failed: u64,
    /// As many go to the device at a time: fewer than a batch once it ran out of memory.
    images_max: usize,
}

impl Job<'_> {
    fn flush(&mut self, batch: &mut Vec<GridRow>, meter: &Meter) -> Result<u64> {
        if batch.is_empty() {
            return Ok(0);
        }
        let Decoded { pictures, failed } =
            fit::decode(self.engine, &stack(batch), &mut self.images_max)?;
        for (index, reason) in &failed {
            self.failed += 1;
            tell_failure(meter, &batch[*index].key, reason);
        }
        // A row that failed keeps its name, so that no other's depends on failures.
        let paths = batch.drain(..).map(|row| self.out.join(self.names.name(&row)));
        let mut paths: Vec<Option<PathBuf>> = paths.map(Some).collect();
        failed.iter().for_each(|(index, _)| paths[*index] = None);
        let side = pictures.height * pictures.width * pictures.channels;
        let errors: Vec<Error> = pictures
            .pixels
            .par_chunks_exact(side)
            .zip(&paths)
            .filter_map(|(bytes, path)| save_png(path.as_ref()?, bytes, &pictures).err())
            .collect();
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok((paths.len() - failed.len()) as u64),
        }
    }
}

/// Rows of equal grids as one batch, `[N, h, w]` a level.
fn stack(batch: &[GridRow]) -> Encoded {
    let levels = (0..batch[0].levels.len())
        .map(|index| CodeGrid {
            codes: batch.iter().flat_map(|row| row.levels[index].codes.iter().copied()).collect(),
            distances: Vec::new(),
            height: batch[0].levels[index].height,
            width: batch[0].levels[index].width,
        })
        .collect();
    Encoded { count: batch.len(), levels, failed: Vec::new() }
}

/// Writes one picture under a temporary name first, so that a kill leaves no half of it.
pub fn save_png(path: &Path, bytes: &[u8], batch: &PixelBatch) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let colour = match batch.channels {
        1 => image::ExtendedColorType::L8,
        _ => image::ExtendedColorType::Rgb8,
    };
    let mut png = Vec::new();
    image::ImageEncoder::write_image(
        image::codecs::png::PngEncoder::new(&mut png),
        bytes,
        batch.width as u32,
        batch.height as u32,
        colour,
    )
    .map_err(|e| Error::corrupt(path, format!("can't be encoded as PNG: {e}")))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, png).map_err(Error::io(path))?;
    std::fs::rename(&temporary, path).map_err(Error::io(path))
}

/// Gives every row a file name of its own. Keys come from files that others wrote: no name leaves
/// the output folder.
#[derive(Default)]
struct Names {
    taken: HashSet<u64>,
}

impl Names {
    fn name(&mut self, row: &GridRow) -> PathBuf {
        let mut stem = stem(&row.key);
        if let Some(view @ 1..) = row.view {
            stem.push_str(&format!("-{view}"));
        }
        let mut name = stem.clone();
        let mut number = 1;
        // Two inputs may give the same key, or `a.png` and `a.jpg` the same stem.
        while !self.taken.insert(hash(&name)) {
            number += 1;
            name = format!("{stem}~{number}");
        }
        PathBuf::from(name + ".png")
    }
}

/// 8 bytes a name instead of the name: 100 million rows stay under 2 GB.
fn hash(name: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// The key without its extension, safe as a relative path.
fn stem(key: &str) -> String {
    let mut parts: Vec<String> = key
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| match part {
            ".." => "%2E%2E".to_string(),
            part => part.replace('\0', "%00").replace('\\', "%5C"),
        })
        .collect();
    if let Some(last) = parts.last_mut()
        && let Some(dot) = last.rfind('.').filter(|&dot| dot > 0)
    {
        last.truncate(dot);
    }
    parts.iter_mut().for_each(|part| shorten(part, PART_BYTES_MAX));
    let mut stem = parts.join("/");
    shorten(&mut stem, STEM_BYTES_MAX);
    if stem.is_empty() { "row".to_string() } else { stem }
}

/// With room for `-<view>`, `~<number>`, `.png` and `.tmp` below the 255 bytes that file systems
/// take.
const PART_BYTES_MAX: usize = 200;
/// Far below the 4096 bytes that Linux takes for a path.
const STEM_BYTES_MAX: usize = 2048;

/// Cuts a name that no file system takes, and marks it with the whole name's digest.
fn shorten(name: &mut String, bytes_max: usize) {
    if name.len() > bytes_max {
        let mark: String =
            Sha256::digest(&*name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let mut end = bytes_max - mark.len() - 1;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push('~');
        name.push_str(&mark);
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn names_stay_in_the_output_folder() {
        assert_eq!(stem("cat/1.jpg"), "cat/1");
        assert_eq!(stem("cat/a.b.JPEG"), "cat/a.b");
        assert_eq!(stem("cat/.hidden"), "cat/.hidden");
        assert_eq!(stem("/etc/passwd"), "etc/passwd");
        assert_eq!(stem("../../x.png"), "%2E%2E/%2E%2E/x");
        assert_eq!(stem("a/./b//c.png"), "a/b/c");
        assert_eq!(stem(""), "row");
        assert_eq!(stem("a\0b.png"), "a%00b");
        let cut = stem(&format!("{}.png", "\u{e9}".repeat(300)));
        assert_eq!((cut.len(), &cut[182..]), (199, "~7250b66610f8b7db"));
        assert!(stem(&"d/".repeat(3000)).len() <= 2048);
    }
}
