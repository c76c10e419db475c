//! Owns `vqtok verify`: prints what the auditor finds. Must not know: how it looks.

use super::Finished;
use crate::audit::verify::verify;
use crate::error::Result;
use crate::progress::Reporter;
use crate::text;
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folder of `vqtok tokenize`
    dir: PathBuf,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let report = verify(&args.dir)?;
    for finding in &report.findings {
        reporter.result("finding", &format!("bad: {}", finding.problem), json!(finding));
    }
    for stray in &report.strays {
        let text = format!("stray: {stray} belongs to nothing");
        reporter.result("stray", &text, json!({"path": stray}));
    }
    let state = if report.finished { "finished" } else { "unfinished" };
    let text = format!(
        "{}: {state}, {} of {} partitions there, {} images planned in them = {} written + {} \
         failed, {} bytes checked: {}",
        text::path(&args.dir),
        report.partitions - report.missing.min(report.partitions),
        report.partitions,
        report.planned,
        report.written,
        report.failed,
        report.bytes,
        match report.findings.len() {
            0 => "all as it claims".to_string(),
            findings => format!("{findings} findings; `vqtok repair` makes the bad parts anew"),
        }
    );
    reporter.result("verified", &text, json!(report));
    Ok(if report.clean() { Finished::Clean } else { Finished::WithFailures })
}
