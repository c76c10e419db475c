//! Owns `vqtok verify`: prints what the auditor finds. Must not know: how it looks.

use super::Finished;
use crate::audit::verify::verify;
use crate::error::Result;
use crate::progress::Reporter;
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
        let text = format!("{}: {}", finding.path, finding.problem);
        reporter.result("finding", &text, serde_json::json!(finding));
    }
    let text = format!(
        "{}: {} files and {} rows checked, {} findings",
        args.dir.display(),
        report.files,
        report.rows,
        report.findings.len()
    );
    let fields = serde_json::json!({"dir": args.dir, "files": report.files, "rows": report.rows,
                                    "findings": report.findings.len()});
    reporter.result("verified", &text, fields);
    Ok(if report.findings.is_empty() { Finished::Clean } else { Finished::WithFailures })
}
