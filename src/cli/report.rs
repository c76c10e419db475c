//! Owns `vqtok report`: a page about an output.

use super::outcome::Finished;
use crate::audit::report;
use crate::cli::progress::Reporter;
use crate::error::Result;
use crate::findings::render_report;
use crate::job::places;
use crate::util::numbers::counted;
use crate::util::overwrite::Foreign;
use crate::util::settings::OUT;
use crate::util::{overwrite, text};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok report`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet with tokens
    input: PathBuf,
    /// The page, one self-contained HTML file
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    /// Replace a file of that name that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let foreign = Foreign::overwritten(args.overwrite);
    places::check_page(OUT, &args.out, foreign)?;
    let report = report::report(&args.input)?;
    for problem in &report.problems {
        reporter.say("failure", &format!("failed: {problem}"), json!({"error": problem}));
    }
    for note in &report.notes {
        reporter.say("warning", &format!("warning: {note}"), json!({"message": note}));
    }
    overwrite::write(&args.out, render_report(&report).as_bytes(), foreign)?;
    let mut text = format!(
        "{}: {} of {}",
        text::path(&args.out),
        counted(report.rows, "row"),
        counted(report.files, "file")
    );
    if !report.complete() {
        text += &format!("; {} can't be used", counted(report.unusable, "row"));
    }
    let complete = report.complete();
    reporter.result("report", &text, json!({"out": text::lossy(&args.out), "report": report}));
    Ok(if complete { Finished::Clean } else { Finished::WithFailures })
}
