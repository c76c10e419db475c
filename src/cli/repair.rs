//! Owns `vqtok repair`.

use super::common::{CheckpointFlags, Common, PixelFlags};
use super::onnx::{OnnxFlags, RuntimeFlags};
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::signals::{end_in_time, stop_flag};
use crate::error::{Error, Result};
use crate::job::Repair;
use crate::util::numbers::counted;
use serde_json::json;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Flags of `vqtok repair`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`
    dir: PathBuf,
    /// The tokenizer that made it; needed where shards have to be rebuilt [default: none]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Where the images lie now, if they moved since they were tokenized: the folder they were in
    /// and the one they are in [default: where they were]
    #[arg(long, value_name = "OLD=NEW")]
    moved: Option<Folders>,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    /// Images a batch [default: what suits the device]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    let mut job = Repair::new(&args.dir).batch_size(args.batch_size);
    if let Some(model) = &args.model {
        let options = args.common.options(&args.checkpoint, &PixelFlags::default())?;
        job = job.model(model, args.runtime.over(args.onnx.over(options)));
    }
    if let Some(Folders { old, new }) = &args.moved {
        job = job.moved(old, new);
    }
    let stop = stop_flag()?;
    end_in_time(Arc::clone(&stop), *reporter)?;
    let mut printer = ProgressPrinter::new(reporter, stop);
    let summary = job.run(&mut printer)?;
    printer.output(&args.dir, &summary.tokenized);
    let strays = &summary.strays;
    if !strays.is_empty() {
        let text = format!(
            "not removed here: {} that the output doesn't own; `vqtok verify` lists what",
            counted(strays.len(), "stray file")
        );
        reporter.say("strays", &text, json!({"paths": strays}));
    }
    if let Some(first) = summary.left.first() {
        let count = counted(summary.left.len(), "finding");
        let text =
            format!("still wrong: {count}, the first: {}; `vqtok verify` lists all", first.problem);
        reporter.say("left", &text, json!({"findings": summary.left}));
    }
    Ok(Finished::of(summary.is_clean()))
}

/// Two folders.
#[derive(Debug, Clone)]
struct Folders {
    old: PathBuf,
    new: PathBuf,
}

impl FromStr for Folders {
    type Err = Error;

    fn from_str(text: &str) -> Result<Folders> {
        match text.split_once('=') {
            Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                Ok(Folders { old: old.into(), new: new.into() })
            }
            _ => Err(Error::invalid("give two folders as OLD=NEW")),
        }
    }
}
