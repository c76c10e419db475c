//! Owns `vqtok inspect`: what a model, an output folder or a token file is.

use super::common::CheckpointFlags;
use super::onnx::OnnxFlags;
use super::outcome::Finished;
use crate::audit::{TokenFile, sources};
use crate::checkpoint::model_card;
use crate::checkpoint::model_card::Card;
use crate::cli::progress::Reporter;
use crate::error::{Error, Result};
use crate::job::places::holds_model;
use crate::job::refuse_unfinished;
use crate::storage;
use crate::tokens::files::{DATASET_FILE, LISTED_FOLDER};
use crate::tokens::{Plan, finalize, must_lie_as_planned, plan};
use crate::util::numbers::counted;
use crate::util::{numbers, text};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Flags of `vqtok inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A model (folder or checkpoint file), an output folder, or a Parquet file with tokens
    path: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    storage::opening(|| inspect(&args, reporter))
}

fn inspect(args: &Args, reporter: &Reporter) -> Result<Finished> {
    let path = &args.path;
    let there = |path: &Path| storage::exists(path).map_err(Error::io(path));
    if !there(path)? {
        return Err(Error::invalid(format!(
            "{}: there is no such file or folder",
            text::path(path)
        )));
    }
    if there(&path.join(plan::FILE))? {
        return output(path, reporter);
    }
    if !holds_model(path)
        && (there(&path.join(DATASET_FILE))?
            || there(&path.join("tokens"))?
            || there(&path.join(LISTED_FOLDER))?)
    {
        return without_plan(path, reporter);
    }
    if path.extension().is_some_and(|extension| extension == "parquet") {
        return token_file(path, reporter);
    }
    let path = &storage::local_copy(path).map_err(Error::io(path))?;
    refuse_unfinished(path)?;
    let options = args.onnx.over(args.checkpoint.options());
    model(&options.detect(|options| model_card::read(path, options))?, reporter);
    Ok(Finished::Clean)
}

/// An output folder, finished or not.
fn output(dir: &Path, reporter: &Reporter) -> Result<Finished> {
    if let Some(dataset) = finalize::read(dir)? {
        super::finalize::report(dir, &dataset, reporter);
        if Plan::open(dir).is_ok_and(|plan| plan.partitions() as u64 > dataset.partitions()) {
            unfinished(dir, reporter)?;
        }
        return shards(dir, reporter);
    }
    let done = unfinished(dir, reporter)?;
    if done > 0 { shards(dir, reporter) } else { Ok(Finished::Clean) }
}

/// An output folder whose plan is lost.
fn without_plan(dir: &Path, reporter: &Reporter) -> Result<Finished> {
    let Some(dataset) = finalize::read(dir)? else {
        // Which says what is missing.
        return Plan::open(dir).and_then(|_| output(dir, reporter));
    };
    super::finalize::report(dir, &dataset, reporter);
    let path = dir.join(plan::FILE);
    let text = format!(
        "missing: {} with {}; `vqtok repair` rebuilds it, or says how to get it back",
        text::path(&path),
        counted(dataset.totals.planned, "image")
    );
    let fields = json!({"path": text::lossy(&path), "rows": dataset.totals.planned});
    reporter.result("missing", &text, fields);
    shards(dir, reporter).map(|_| Finished::WithFailures)
}

/// How far an output is; how many partitions are there.
fn unfinished(dir: &Path, reporter: &Reporter) -> Result<usize> {
    let plan = Plan::open(dir)?;
    must_lie_as_planned(&plan)?;
    let done = plan.committed()?.iter().count();
    let text = format!(
        "{}: unfinished, {} of {} there, {} planned; run the same `vqtok tokenize` again",
        text::path(dir),
        numbers::count(done),
        counted(plan.partitions(), "partition"),
        counted(plan.rows(), "image")
    );
    let fields = json!({"dir": text::lossy(dir), "planned": plan.rows(), "partitions": plan.partitions(),
                        "committed": done, "identity": plan.identity()});
    reporter.result("unfinished", &text, fields);
    Ok(done)
}

/// What an output lacks, or holds beside its own, by the names of its shards.
fn shards(dir: &Path, reporter: &Reporter) -> Result<Finished> {
    let sources = sources::of(dir)?;
    for missing in &sources.missing {
        let path = text::path(&missing.path);
        let text = format!(
            "missing: {path} with {}; `vqtok repair` rebuilds it",
            counted(missing.rows, "row")
        );
        reporter.result(
            "missing",
            &text,
            json!({"path": text::lossy(&missing.path), "rows": missing.rows}),
        );
    }
    let beside = sources::lost_beside(dir);
    for missing in &beside {
        let path = dir.join(missing);
        let text = format!("missing: {}; `vqtok repair` rebuilds it", text::path(&path));
        reporter.result("missing", &text, json!({"path": text::lossy(&path)}));
    }
    for foreign in &sources.foreign {
        let text = format!(
            "foreign: {}: {}",
            text::path(&foreign.path),
            text::printable(&foreign.problem)
        );
        reporter.result("foreign", &text, json!({"path": foreign.path, "rows": foreign.rows}));
    }
    for stray in &sources.strays {
        let text = format!("stray: {} isn't the output's own", text::printable(stray));
        reporter.result("stray", &text, json!({"path": stray}));
    }
    let whole = sources.missing.is_empty()
        && beside.is_empty()
        && sources.foreign.is_empty()
        && sources.strays.is_empty();
    Ok(if whole { Finished::Clean } else { Finished::WithFailures })
}

/// One Parquet file: its rows, and what its metadata says.
fn token_file(path: &Path, reporter: &Reporter) -> Result<Finished> {
    let file = TokenFile::open(path)?;
    let (metadata, rows) = (file.entries(), file.row_count());
    let mut text = format!("{}: {}", text::path(path), counted(rows, "row"));
    for (name, value) in metadata.iter().filter(|(name, _)| *name != "ARROW:schema") {
        text += &format!("\n  {:28} {}", text::printable(name), text::printable(value));
    }
    reporter.result("tokens", &text, json!({"rows": rows, "metadata": metadata}));
    Ok(Finished::Clean)
}

/// The model card.
pub(super) fn model(card: &Card, reporter: &Reporter) {
    let lines: Vec<String> =
        card.lines().into_iter().map(|(name, value)| format!("{name:16} {value}")).collect();
    reporter.result("model", &lines.join("\n"), card.to_json());
}
