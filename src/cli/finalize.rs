//! Owns `vqtok finalize`: folds what several workers wrote.

use super::outcome::Finished;
use crate::cli::progress::Reporter;
use crate::error::Result;
use crate::tokens::{DatasetSummary, finalize};
use crate::util::numbers::counted;
use crate::util::{numbers, text};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Flags of `vqtok finalize`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`
    dir: PathBuf,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let dataset = finalize(&args.dir)?;
    report(&args.dir, &dataset, reporter);
    Ok(if dataset.totals.failed > 0 { Finished::WithFailures } else { Finished::Clean })
}

/// What a finished output is, in a few lines.
pub(super) fn report(dir: &Path, dataset: &DatasetSummary, reporter: &Reporter) {
    let totals = &dataset.totals;
    let tokenizer = &dataset.identity.tokenizer;
    let mut text = format!(
        "{}: {} planned, {} written, {} failed, in {}\n{} of {} ({}, factor {})",
        text::path(dir),
        counted(totals.planned, "image"),
        numbers::count(totals.written),
        numbers::count(totals.failed),
        counted(dataset.partitions(), "shard"),
        counted(totals.tokens, "token"),
        counted(tokenizer.codes, "code"),
        text::printable(&tokenizer.family),
        tokenizer.factor,
    );
    for (index, level) in dataset.codebook.levels.iter().enumerate() {
        text += &format!(
            "\ncodebook{}: {} of {} used ({:.1} %), perplexity {:.1}",
            if index == 0 { String::new() } else { format!(" of level {index}") },
            numbers::count(level.used),
            counted(level.codes, "code"),
            100.0 * level.used as f64 / level.codes.max(1) as f64,
            level.perplexity,
        );
    }
    let fields = json!({
        "dir": text::lossy(dir), "planned": totals.planned, "written": totals.written,
        "failed": totals.failed, "rows": totals.rows, "tokens": totals.tokens,
        "shards": dataset.partitions(), "codebook": dataset.codebook.levels,
        "tokenizer": tokenizer,
    });
    reporter.result("dataset", &text, fields);
}
