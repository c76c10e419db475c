//! Owns `vqtok report`: a page about an output. Must not know: what is on it.

use super::Finished;
use crate::audit::{html, report};
use crate::error::{Error, Result};
use crate::progress::Reporter;
use crate::text;
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet with tokens
    input: PathBuf,
    /// The page, one self-contained HTML file
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let report = report::report(&args.input)?;
    std::fs::write(&args.out, html::render(&report)).map_err(Error::io(&args.out))?;
    let text = format!("{}: {} rows of {} files", text::path(&args.out), report.rows, report.files);
    reporter.result("report", &text, json!({"out": args.out, "report": report}));
    Ok(Finished::Clean)
}
