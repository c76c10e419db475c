//! Owns the command line: one file a command, each parses, calls, prints.
//! Must not know: how anything works.

mod again;
mod common;
mod convert;
mod decode;
mod decode_rows;
mod finalize;
mod inputs;
mod inspect;
mod picture_names;
mod places;
mod planning;
mod quickstart;
mod rank;
mod recipe;
mod reconstruct;
mod repair;
mod report;
mod same_model;
mod tokenize;
mod train;
mod training;
mod verify;

use crate::error::{Error, Result};
use crate::progress::Reporter;
use crate::text;
use clap::{Parser, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// How a command that didn't fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Everything asked for is done: exit code 0.
    Clean,
    /// Done, but some images or rows failed: exit code 1.
    WithFailures,
}

#[derive(Parser)]
#[command(
    name = "vqtok",
    version,
    about = "Image data sets to VQ token grids, in Parquet shards",
    long_about = "vqtok streams images through a trained VQGAN or VQ-VAE encoder and writes token \
                  grids and codebook statistics to Parquet shards; where there is no tokenizer \
                  yet, it trains one.",
    after_help = "Exit codes: 0 clean, 1 finished with failures, 2 fatal, 75 try again later, \
                  130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turn images into token shards; trains the model first where there is none.
    Tokenize(tokenize::Args),
    /// Train a tokenizer on images.
    Train(train::Args),
    /// Turn tokens back into PNG pictures.
    Decode(decode::Args),
    /// Draw a contact sheet: inputs above their reconstructions, with PSNR and SSIM.
    Reconstruct(reconstruct::Args),
    /// Show what a model, an output folder or a token file is.
    Inspect(inspect::Args),
    /// Draw pictures, train a small model, tokenize, reconstruct: the whole tour in minutes.
    Quickstart(quickstart::Args),
    /// List, show and check recipes.
    Recipe(recipe::Args),
    /// Fold the shards of several workers into codebook.parquet and dataset.json.
    Finalize(finalize::Args),
    /// Check every byte of an output against what it claims.
    Verify(verify::Args),
    /// Make the bad parts of an output anew, and nothing else.
    Repair(repair::Args),
    /// Draw a page about an output: use of the codebook, errors, labels, failures.
    Report(report::Args),
    /// Turn a published checkpoint into a model folder.
    Convert(convert::Args),
}

impl Command {
    fn json(&self) -> bool {
        match self {
            Command::Tokenize(args) => args.common.json,
            Command::Train(args) => args.common.json,
            Command::Decode(args) => args.common.json,
            Command::Reconstruct(args) => args.common.json,
            Command::Inspect(args) => args.json,
            Command::Quickstart(args) => args.common.json,
            Command::Recipe(args) => args.json(),
            Command::Finalize(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Repair(args) => args.common.json,
            Command::Report(args) => args.json,
            Command::Convert(args) => args.json,
        }
    }

    /// What goes on with this command where it was interrupted, for a shell.
    fn again(&self) -> String {
        let more = match self {
            Command::Train(args) if !args.resume => &["--resume"][..],
            _ => &[],
        };
        again::line(std::env::args_os(), more)
    }

    fn run(self, reporter: &Reporter) -> Result<Finished> {
        match self {
            Command::Tokenize(args) => tokenize::run(args, reporter),
            Command::Train(args) => train::run(args, reporter),
            Command::Decode(args) => decode::run(args, reporter),
            Command::Reconstruct(args) => reconstruct::run(args, reporter),
            Command::Inspect(args) => inspect::run(args, reporter),
            Command::Quickstart(args) => quickstart::run(args, reporter),
            Command::Recipe(args) => recipe::run(args, reporter),
            Command::Finalize(args) => finalize::run(args, reporter),
            Command::Verify(args) => verify::run(args, reporter),
            Command::Repair(args) => repair::run(args, reporter),
            Command::Report(args) => report::run(args, reporter),
            Command::Convert(args) => convert::run(args, reporter),
        }
    }
}

/// All commands with their flags, for tests that go through them.
#[doc(hidden)]
pub fn command_line() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses the process's arguments, runs the command and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let reporter = Reporter::new(cli.command.json());
    let again = cli.command.again();
    match cli.command.run(&reporter) {
        Ok(Finished::Clean) => ExitCode::from(0),
        Ok(Finished::WithFailures) => ExitCode::from(1),
        Err(Error::Interrupted) => {
            let text = format!("interrupted; go on with: {again}");
            fail(&reporter, &text, Error::Interrupted.exit_code())
        }
        Err(error) => fail(&reporter, &error.to_string(), error.exit_code()),
    }
}

/// One line on stderr, whatever the voice; an event too where machines listen.
fn fail(reporter: &Reporter, message: &str, exit_code: u8) -> ExitCode {
    let message = message.replace('\n', " ");
    let message = text::printable(&message);
    eprintln!("vqtok: {message}");
    if reporter.is_json() {
        reporter.result("error", "", json!({"message": message, "exit_code": exit_code}));
    }
    ExitCode::from(exit_code)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        super::Cli::command().debug_assert();
    }
}
