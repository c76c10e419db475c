//! Owns `vqtok decode`.

use super::common::{CheckpointFlags, Common, PixelFlags};
use super::onnx::{OnnxFlags, RuntimeFlags};
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::signals::stop_flag;
use crate::error::Result;
use crate::job::{Decode, DecodeSummary};
use crate::util::numbers::counted;
use crate::util::{numbers, text};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok decode`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet file with a `tokens` column
    input: PathBuf,
    /// Tokenizer: a folder or checkpoint file with a decoder
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Folder for the pictures, one PNG per row [default: none with --sheet]
    #[arg(long, value_name = "DIR", required_unless_present = "sheet")]
    out: Option<PathBuf>,
    /// A contact sheet of up to 64 decoded pictures, taken evenly from the rows [default: none]
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Column of tokens (a.b inside a struct); once a level, finest first [default: tokens]
    #[arg(long, value_name = "NAME")]
    column: Vec<String>,
    /// Grid of rows that don't state theirs [default: the model's own, else a square]
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = grid_of)]
    grid: Option<(usize, usize)>,
    /// Decode even where the tokens name another model
    #[arg(long)]
    force: bool,
    /// Replace files of the same names that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    /// Rows decoded at once [default: two per thread, at least 16]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn grid_of(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once(['x', 'X']);
    let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=1 << 22).contains(side));
    sides
        .and_then(|(height, width)| Some((side(height)?, side(width)?)))
        .ok_or_else(|| "height and width in tokens, such as 16x16".to_string())
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let job = args.job();
    job.check()?;
    args.common.start_threads()?;
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    let options = args.common.options(&args.checkpoint, &PixelFlags::default())?;
    let options = args.runtime.over(args.onnx.over(options));
    let summary = job.run(&mut options.open(&args.model)?, &mut printer)?;
    printer.close();
    let fields = json!({
        "decoded": summary.decoded, "failed": summary.failed, "files_lost": summary.files_lost,
        "out": args.out.as_deref().map(text::lossy), "sheet": args.sheet.as_deref().map(text::lossy),
        "on_sheet": summary.on_sheet, "finished": summary.unfinished.is_none(),
    });
    reporter.result("decoded", &args.in_words(&summary), fields);
    Ok(Finished::of(summary.is_clean()))
}

impl Args {
    fn job(&self) -> Decode {
        let mut job = Decode::new(&self.input)
            .columns(&self.column)
            .force(self.force)
            .overwrite(self.overwrite)
            .batch_size(self.batch_size);
        if let Some(out) = &self.out {
            job = job.out(out);
        }
        if let Some(sheet) = &self.sheet {
            job = job.sheet(sheet);
        }
        match self.grid {
            Some((height, width)) => job.grid(height, width),
            None => job,
        }
    }

    fn in_words(&self, summary: &DecodeSummary) -> String {
        let pictures = counted(summary.decoded, "picture");
        let mut text = match &self.out {
            Some(out) => format!("{pictures} in {}", text::path(out)),
            None => format!("{pictures} decoded"),
        };
        if let Some(sheet) = &self.sheet {
            let rows = counted(summary.rows, "row");
            text += &match summary.on_sheet {
                0 => format!(", none for {}", text::path(sheet)),
                drawn => format!(", {drawn} of {rows} on {}", text::path(sheet)),
            };
        }
        text += &format!(", {} failed", counted(summary.failed, "row"));
        text += &match summary.files_lost {
            0 => String::new(),
            1 => ", 1 file is missing or can't be read".into(),
            lost => format!(", {} files are missing or can't be read", numbers::count(lost)),
        };
        if let Some((there, partitions)) = summary.unfinished {
            let shards = counted(partitions, "shard");
            text += &format!("; of an unfinished output, {there} of {shards}");
        }
        text
    }
}
