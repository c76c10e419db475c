//! Owns `vqtok verify`: prints what the auditor finds.

use super::outcome::Finished;
use crate::audit::VerifyReport;
use crate::cli::progress::Reporter;
use crate::error::Result;
use crate::job::places::holds_model;
use crate::job::verify;
use crate::util::numbers::counted;
use crate::util::{numbers, text};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Flags of `vqtok verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`
    dir: PathBuf,
    /// Let an unfinished output pass where what is there is right
    #[arg(long, overrides_with = "complete")]
    partial: bool,
    /// Demand a finished output, which is the default
    #[arg(long, overrides_with = "partial")]
    complete: bool,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let report = verify(&args.dir)?;
    for finding in &report.findings {
        reporter.result("finding", &format!("bad: {}", finding.problem), json!(finding));
    }
    tell_strays(&args.dir, &report, reporter);
    let there = report.partitions - report.missing.min(report.partitions);
    let state = match report.finished {
        true => "finished".to_string(),
        false if there == report.partitions => "UNFINISHED (not finalized yet)".to_string(),
        false => "UNFINISHED".to_string(),
    };
    let text = format!(
        "{}: {state}, {} of {} there, {} planned in {} = {} written + {} failed, {} checked: {}",
        text::path(&args.dir),
        numbers::count(there),
        counted(report.partitions, "partition"),
        counted(report.planned, "image"),
        if there == 1 { "it" } else { "them" },
        numbers::count(report.written),
        numbers::count(report.failed),
        counted(report.bytes, "byte"),
        verdict(&report)
    );
    reporter.result("verified", &text, json!(report));
    let passed = report.complete() || (args.partial && report.clean());
    Ok(if passed { Finished::Clean } else { Finished::WithFailures })
}

fn tell_strays(dir: &Path, report: &VerifyReport, reporter: &Reporter) {
    const TOLD_MAX: usize = 100;
    let beside_model = holds_model(dir);
    for stray in report.strays.iter().take(TOLD_MAX) {
        let within = ["tokens/", "failures/", "codebook/"].iter().any(|at| stray.starts_with(at));
        let text = match () {
            () if stray.ends_with('/') && holds_model(&dir.join(stray)) => {
                "isn't the output's own but a model; leave it, or move it elsewhere"
            }
            () if beside_model && !within => {
                "isn't the output's own, but a model lies in this folder too: leave what is the \
                 model's"
            }
            () if stray.starts_with("tokens/") => {
                "isn't the output's own, and whoever reads tokens/ may read it; remove it"
            }
            () => "isn't the output's own; remove it",
        };
        let text = format!("stray: {} {text}", text::printable(stray));
        reporter.result("stray", &text, json!({"path": stray}));
    }
    if report.strays.len() > TOLD_MAX {
        let more = report.strays.len() - TOLD_MAX;
        let text = format!("stray: {more} more");
        reporter.result("strays-untold", &text, json!({"more": more}));
    }
    for leftover in &report.leftovers {
        let why = match ["plan/", "dataset/"].iter().any(|at| leftover.starts_with(at)) {
            true => "named by nothing yet; who finishes the output takes it, or removes it",
            false => "of a worker that is at work or was killed; the next run removes it",
        };
        let text = format!("leftover: {}, {why}", text::printable(leftover));
        reporter.result("leftover", &text, json!({"path": leftover}));
    }
}

fn verdict(report: &VerifyReport) -> String {
    let strays = match report.strays.len() {
        0 => String::new(),
        strays => format!("{}, which nothing here removes", counted(strays, "stray")),
    };
    match (report.findings.len(), report.finished) {
        (0, true) if strays.is_empty() => "all as it claims".into(),
        (0, true) => strays,
        (0, false) => {
            let with = if strays.is_empty() { strays } else { format!("; {strays}") };
            format!("what is there is as it claims, but `vqtok tokenize` has to finish it{with}")
        }
        (findings, _) => {
            let with = if strays.is_empty() { strays } else { format!("; {strays}") };
            let findings = counted(findings, "finding");
            let plan = match report.findings.iter().any(|finding| finding.part.is_plan()) {
                true => " or says how to get a plan back",
                false => "",
            };
            let way = match report.is_in_the_way() {
                true => ", once what is in the way was moved away",
                false => "",
            };
            format!("{findings}; `vqtok repair` rebuilds the damaged parts{plan}{way}{with}")
        }
    }
}
