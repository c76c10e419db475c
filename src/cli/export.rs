//! Owns `vqtok export`.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::decode::grid_of;
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::signals::stop_flag;
use crate::error::Result;
use crate::export::{ExportSummary, Fields, Header, LevelChoice, RowOrder, Splits, Target};
use crate::job::{Export, set_threads};
use crate::util::numbers::counted;
use crate::util::{numbers, text};

/// Flags of `vqtok export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet file with a `tokens` column
    input: PathBuf,
    /// What is written: webdataset (tars), megatron (.bin and .idx), jsonl, bin (bare ids),
    /// datatrove (.ds), litdata, mds, hf (save_to_disk), tfrecord, npy (one array), llamagen, emu3,
    /// 4m or open-muse
    #[arg(long, value_name = "FORMAT")]
    to: Target,
    /// Folder for the files: new, or of the same export, which goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Order of the rows: that of the plan, or by a hash of SEED and key
    #[arg(long, value_name = "plan|shuffle=SEED", default_value = "plan")]
    order: RowOrder,
    /// Splits with their shares, a folder each, such as train=0.98,val=0.02; an image's key alone
    /// says which one it is in [default: none]
    #[arg(long, value_name = "NAME=SHARE,...")]
    split: Option<Splits>,
    /// Added to every code; formats of sequences only
    #[arg(long, value_name = "N", default_value_t = 0)]
    vocab_offset: u32,
    /// Id that each sequence begins with [default: none]
    #[arg(long, value_name = "ID")]
    bos: Option<u32>,
    /// Id that each sequence ends with [default: none]
    #[arg(long, value_name = "ID")]
    eos: Option<u32>,
    /// Id of class 0: the row's class stands before its codes [default: none does]
    #[arg(long, value_name = "FIRST")]
    class_tokens: Option<u32>,
    /// Ids of the labels: a JSON object of names and ids, or a name a line [default: the rows'
    /// label_id, else places among the sorted names]
    #[arg(long, value_name = "FILE")]
    label_map: Option<PathBuf>,
    /// Levels taken of a row that has several [default: none; it must be said]
    #[arg(long, value_name = "first|all")]
    levels: Option<LevelChoice>,
    /// Size of the codebook, where the files don't say it [default: theirs]
    #[arg(long, value_name = "N")]
    codes: Option<u64>,
    /// Rows of a file, where there are many [default: 10000; hf: 100000]
    #[arg(long, value_name = "N")]
    shard_rows: Option<u64>,
    /// Fields of jsonl, of class_id, tokens, key, label, caption, grid_height and grid_width;
    /// tokens:NAME calls one otherwise, and names open-muse's [default: class_id,tokens]
    #[arg(long, value_name = "FIELD,...")]
    fields: Option<Fields>,
    /// What stands before the ids of bin: llmc, for llm.c and modded-nanogpt [default: none]
    #[arg(long, value_name = "llmc")]
    header: Option<Header>,
    /// Column of tokens (a.b inside a struct); once a level, finest first [default: tokens]
    #[arg(long, value_name = "NAME")]
    column: Vec<String>,
    /// Grid of rows that don't state theirs [default: a square]
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = grid_of)]
    grid: Option<(usize, usize)>,
    /// Don't read back what was written
    #[arg(long)]
    no_check: bool,
    /// Take an unfinished output as it is, and leave out rows that can't be used
    #[arg(long)]
    partial: bool,
    /// Worker threads [default: RAYON_NUM_THREADS, else every core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print events as JSON on stdout, one object per line
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    set_threads(args.threads)?;
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    let begun = Instant::now();
    let summary = args.job().run(&mut printer)?;
    let seconds = begun.elapsed().as_secs_f64();
    printer.close();
    let splits =
        summary.splits.iter().filter_map(|(name, rows)| Some((name.clone()?, (*rows).into())));
    let splits: serde_json::Map<_, _> = splits.collect();
    let fields = json!({
        "to": args.to.to_string(), "out": text::lossy(&args.out), "rows": summary.rows,
        "written": summary.written, "tokens": summary.tokens, "files": summary.files,
        "bytes": summary.bytes, "splits": splits, "left_out": summary.left_out,
        "seconds": seconds, "checked": !args.no_check,
    });
    reporter.result("exported", &args.in_words(&summary, seconds), fields);
    Ok(Finished::of(summary.left_out == 0))
}

impl Args {
    fn job(&self) -> Export {
        Export::new(&self.input, self.to, &self.out)
            .order(self.order)
            .split(self.split.clone())
            .vocab_offset(self.vocab_offset)
            .bos(self.bos)
            .eos(self.eos)
            .class_tokens(self.class_tokens)
            .label_map(self.label_map.clone())
            .levels(self.levels)
            .codes(self.codes)
            .shard_rows(self.shard_rows)
            .fields(self.fields.clone())
            .header(self.header)
            .columns(&self.column)
            .grid(self.grid)
            .check(!self.no_check)
            .partial(self.partial)
    }

    fn in_words(&self, summary: &ExportSummary, seconds: f64) -> String {
        let out = text::path(&self.out);
        let mut words = format!(
            "{out}: {} in {}, {}, {}",
            counted(summary.rows, "row"),
            counted(summary.files, "file"),
            numbers::bytes(summary.bytes),
            counted(summary.tokens, "token"),
        );
        let splits = summary.splits.iter().filter_map(|(name, rows)| Some((name.as_ref()?, rows)));
        for (name, rows) in splits {
            words += &format!("; {name}: {}", numbers::count(*rows));
        }
        if summary.left_out > 0 {
            words += &format!("; {} left out", counted(summary.left_out, "row"));
        }
        if self.no_check {
            words += "; not read back";
        }
        match summary.written {
            0 => words += "; all of it was there",
            written if seconds > 0.0 => {
                let share = written as f64 / summary.rows.max(1) as f64;
                let rate = summary.tokens as f64 * share / seconds;
                words += &format!(" ({})", numbers::rate(rate, " tokens"));
            }
            _ => {}
        }
        words
    }
}
