//! Owns `vqtok finalize`: folds what several workers wrote.

use super::outcome::Finished;
use crate::cli::progress::Reporter;
use crate::error::Result;
use crate::tokens::finalize::LevelSummary;
use crate::tokens::{DatasetSummary, LevelLayout, finalize};
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

/// How much of a level's codebook is used.
fn used(level: &LevelSummary) -> String {
    let perplexity = level.perplexity.unwrap_or_default();
    match (level.bits.zip(level.bits_varying).zip(level.bits_entropy_sum), level.used) {
        (Some(((bits, varying), entropy)), _) => format!(
            "{} of {} vary, {entropy:.1} bits of entropy if none depends on another; its codes are \
             too many to be counted",
            numbers::count(varying),
            counted(bits, "bit")
        ),
        (None, used) => format!(
            "{} of {} used ({:.1} %), perplexity {perplexity:.1}",
            numbers::count(used.unwrap_or_default()),
            counted(level.codes, "code"),
            100.0 * used.unwrap_or_default() as f64 / level.codes.max(1) as f64,
        ),
    }
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
        counted(dataset.shards.len(), "shard"),
        counted(totals.tokens, "token"),
        match dataset.identity.levels.first().map_or(1, LevelLayout::values) {
            1 => counted(tokenizer.codes, "code"),
            bits => counted(bits, "bit"),
        },
        text::printable(&tokenizer.family),
        tokenizer.factor,
    );
    for (index, level) in dataset.codebook.levels.iter().enumerate() {
        let of = if index == 0 { String::new() } else { format!(" of level {index}") };
        text += &format!("\ncodebook{of}: {}", used(level));
    }
    let fields = json!({
        "dir": text::lossy(dir), "planned": totals.planned, "written": totals.written,
        "failed": totals.failed, "rows": totals.rows, "tokens": totals.tokens,
        "shards": dataset.shards.len(), "codebook": dataset.codebook.levels,
        "tokenizer": tokenizer,
    });
    reporter.result("dataset", &text, fields);
}
