//! Owns `vqtok completions`: the script with which a shell completes commands and flags.

use clap_complete::Shell;
use serde_json::json;

use super::outcome::Finished;
use super::progress::Reporter;
use crate::error::Result;

/// Flags of `vqtok completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell that reads the script
    shell: Shell,
    /// The script in an event, on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command, for the command line `all`.
pub(super) fn run(args: &Args, mut all: clap::Command, reporter: &Reporter) -> Result<Finished> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut all, "vqtok", &mut script);
    let script = String::from_utf8_lossy(&script);
    let fields = json!({"shell": args.shell.to_string(), "script": script});
    reporter.result("completions", script.trim_end(), fields);
    Ok(Finished::Clean)
}
