//! Owns `vqtok finalize`: folds what several workers wrote.

use super::outcome::Finished;
use crate::cli::progress::Reporter;
use crate::error::Result;
use crate::job::{RankFrom, Share};
use crate::tokens::dataset::LevelSummary;
use crate::tokens::finalize::fold_share;
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
    /// Only fold every N-th of the folders whose shards are there, from the I-th (0 to N-1; N/N is 0/N),
    /// of an output whose shards lie in folders; who finishes it takes what is there [default: finish
    /// the output]
    #[arg(long, value_name = "I/N", conflicts_with = "rank_from")]
    partition: Option<Share>,
    /// Take I/N from the environment: slurm, kubernetes or torch [default: from --partition]
    #[arg(long, value_name = "SOURCE")]
    rank_from: Option<RankFrom>,
    /// Number of workers, where the source of --rank-from doesn't say [default: what it says]
    #[arg(long, value_name = "N", requires = "rank_from", conflicts_with = "partition")]
    ranks: Option<usize>,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let share = match args.rank_from {
        Some(source) => Some(source.share(args.ranks)?),
        None => args.partition,
    };
    if let Some(share) = share {
        let (folded, folders) = fold_share(&args.dir, |folder| share.has(folder))?;
        let dir = text::path(&args.dir);
        let text = match folders {
            0 => format!(
                "{dir}: no folder of this share: shards of a small output lie in one, which `vqtok \
                 finalize` without a share sums up at its end"
            ),
            _ => format!(
                "{dir}: {} of {} folded",
                numbers::count(folded),
                counted(folders, "folder")
            ),
        };
        let fields = json!({"dir": text::lossy(&args.dir), "folded": folded, "folders": folders});
        reporter.result("folded", &text, fields);
        return Ok(Finished::Clean);
    }
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
        counted(dataset.partitions(), "shard"),
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
        "shards": dataset.partitions(), "codebook": dataset.codebook.levels,
        "tokenizer": tokenizer,
    });
    reporter.result("dataset", &text, fields);
}
