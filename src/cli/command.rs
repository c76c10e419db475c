//! Owns the commands: their names, what each one says of itself, and which file runs it.

use clap::{CommandFactory, Parser, Subcommand};

use super::outcome::Finished;
use super::progress::Reporter;
use super::{
    again, audit, completions, convert, decode, diff, evaluate, export, finalize, inspect, man,
    plan, quickstart, recipe, reconstruct, repair, report, tokenize, train, verify, worker,
};
use crate::error::Result;
use crate::util::compute_pool;
use crate::util::scale::Scale;

#[derive(Parser)]
#[command(
    name = "vqtok",
    version,
    about = "Image data sets to VQ token grids, in Parquet shards",
    long_about = "vqtok streams images through a trained VQGAN or VQ-VAE encoder and writes token \
                  grids and codebook statistics to Parquet shards; where there is no tokenizer \
                  yet, it trains one.",
    after_help = "Exit codes: 0 clean, 1 finished with failures, 2 fatal, 70 internal error, \
                  75 try again later, 130 and 143 stopped by \
                  SIGINT and SIGTERM.",
    max_term_width = 80
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Turn images into token shards; trains the model first where there is none.
    Tokenize(tokenize::Args),
    /// Show what tokenize would plan, or what has changed since it did.
    Plan(plan::Args),
    /// Train a tokenizer on images.
    Train(train::Args),
    /// Turn tokens back into PNG pictures.
    Decode(decode::Args),
    /// Turn tokens into the files that trainers read.
    Export(export::Args),
    /// Draw a contact sheet of inputs and reconstructions, with PSNR and SSIM.
    Reconstruct(reconstruct::Args),
    /// Judge tokenizers on whole data sets: PSNR, SSIM, LPIPS, rFID, use of codes.
    Evaluate(evaluate::Args),
    /// Describe a model, an output folder or a token file.
    Inspect(inspect::Args),
    /// Draw images, train a small model, tokenize, reconstruct: an end-to-end demo in minutes.
    Quickstart(quickstart::Args),
    /// List and show recipes.
    Recipe(recipe::Args),
    /// Make partitions of a plan as they are asked for, by JSON lines on stdin and stdout.
    Worker(worker::Args),
    /// Merge the statistics of several workers into codebook.parquet and dataset.json.
    Finalize(finalize::Args),
    /// Find duplicates, leaks, empty and odd images, and what else is in an output.
    Audit(audit::Args),
    /// Compare two outputs: tokens, images, settings.
    Diff(diff::Args),
    /// Check every byte of an output against its digests.
    Verify(verify::Args),
    /// Rebuild the damaged parts of an output, and nothing else.
    Repair(repair::Args),
    /// Write a page about an output: codebook usage, errors, labels, failures.
    Report(report::Args),
    /// Turn a published checkpoint into a model folder.
    Convert(convert::Args),
    /// Print what completes commands and flags in a shell.
    Completions(completions::Args),
    /// Write the manual pages.
    Man(man::Args),
}

impl Command {
    pub(super) fn json(&self) -> bool {
        match self {
            Command::Tokenize(args) => args.common.json,
            Command::Plan(args) => args.json,
            Command::Train(args) => args.common.json,
            Command::Decode(args) => args.common.json,
            Command::Export(args) => args.json,
            Command::Reconstruct(args) => args.common.json,
            Command::Evaluate(args) => args.events,
            Command::Inspect(args) => args.json,
            Command::Quickstart(args) => args.common.json,
            Command::Recipe(args) => args.json(),
            // Its stdout is for machines in any case.
            Command::Worker(_) => true,
            Command::Finalize(args) => args.json,
            Command::Audit(args) => args.events,
            Command::Diff(args) => args.events,
            Command::Verify(args) => args.json,
            Command::Repair(args) => args.common.json,
            Command::Report(args) => args.json,
            Command::Convert(args) => args.json,
            Command::Completions(args) => args.json,
            Command::Man(args) => args.json,
        }
    }

    /// What goes on with this command where it was interrupted, for a shell.
    pub(super) fn again(&self) -> String {
        let more = match self {
            Command::Train(args) if !args.resume => &["--resume"][..],
            _ => &[],
        };
        again::line(std::env::args_os(), more)
    }

    /// What a panic outside of any stage is said to have happened in.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Command::Tokenize(_) => "vqtok tokenize",
            Command::Plan(_) => "vqtok plan",
            Command::Train(_) => "vqtok train",
            Command::Decode(_) => "vqtok decode",
            Command::Export(_) => "vqtok export",
            Command::Reconstruct(_) => "vqtok reconstruct",
            Command::Evaluate(_) => "vqtok evaluate",
            Command::Inspect(_) => "vqtok inspect",
            Command::Quickstart(_) => "vqtok quickstart",
            Command::Recipe(_) => "vqtok recipe",
            Command::Worker(_) => "vqtok worker",
            Command::Finalize(_) => "vqtok finalize",
            Command::Audit(_) => "vqtok audit",
            Command::Diff(_) => "vqtok diff",
            Command::Verify(_) => "vqtok verify",
            Command::Repair(_) => "vqtok repair",
            Command::Report(_) => "vqtok report",
            Command::Convert(_) => "vqtok convert",
            Command::Completions(_) => "vqtok completions",
            Command::Man(_) => "vqtok man",
        }
    }

    /// Whether the command sets its threads, which stands above the environment.
    fn has_threads(&self) -> bool {
        !matches!(
            self,
            Command::Plan(_)
                | Command::Inspect(_)
                | Command::Recipe(_)
                | Command::Finalize(_)
                | Command::Verify(_)
                | Command::Report(_)
                | Command::Convert(_)
                | Command::Completions(_)
                | Command::Man(_)
        )
    }

    pub(super) fn run(self, reporter: &Reporter) -> Result<Finished> {
        Scale::check_environment()?;
        if !self.has_threads() {
            compute_pool::check_environment()?;
        }
        match self {
            Command::Tokenize(args) => tokenize::run(args, reporter),
            Command::Plan(args) => plan::run(args, reporter),
            Command::Train(args) => train::run(args, reporter),
            Command::Decode(args) => decode::run(args, reporter),
            Command::Export(args) => export::run(args, reporter),
            Command::Reconstruct(args) => reconstruct::run(args, reporter),
            Command::Evaluate(args) => evaluate::run(args, reporter),
            Command::Inspect(args) => inspect::run(args, reporter),
            Command::Quickstart(args) => quickstart::run(args, reporter),
            Command::Recipe(args) => recipe::run(args, reporter),
            Command::Worker(args) => worker::run(args, reporter),
            Command::Finalize(args) => finalize::run(args, reporter),
            Command::Audit(args) => audit::run(args, reporter),
            Command::Diff(args) => diff::run(args, reporter),
            Command::Verify(args) => verify::run(args, reporter),
            Command::Repair(args) => repair::run(args, reporter),
            Command::Report(args) => report::run(args, reporter),
            Command::Convert(args) => convert::run(args, reporter),
            Command::Completions(args) => completions::run(&args, command(), reporter),
            Command::Man(args) => man::run(&args, command(), reporter),
        }
    }
}

/// The command line. A negative number is a value, and refused as one.
pub(super) fn command() -> clap::Command {
    fn with_numbers(command: clap::Command) -> clap::Command {
        let names: Vec<String> =
            command.get_subcommands().map(|below| below.get_name().to_string()).collect();
        let command = command.mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        });
        names.iter().fold(command, |all, name| all.mut_subcommand(name, with_numbers))
    }
    with_numbers(Cli::command())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }

    /// Every command, those below others too, with the words that call it.
    fn commands(command: &clap::Command, words: &str, all: &mut Vec<(String, clap::Command)>) {
        let words = format!("{words} {}", command.get_name());
        all.push((words.clone(), command.clone()));
        command.get_subcommands().for_each(|below| commands(below, &words, all));
    }

    #[test]
    fn help_says_every_default_and_fits_a_terminal() {
        let mut all = Vec::new();
        let mut command = super::command();
        command.build();
        commands(&command, "", &mut all);
        for (words, command) in &mut all {
            for help in [command.render_help(), command.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{words}: {line}");
                }
            }
            for arg in command.get_arguments() {
                let optional = arg.get_action().takes_values() && !arg.is_required_set();
                let told = !arg.get_default_values().is_empty()
                    || arg.get_help().is_some_and(|text| text.to_string().contains("[default: "));
                assert!(!optional || told, "{words}: {arg} doesn't say its default");
            }
        }
        assert!(all.len() > 12, "{}", all.len());
    }
}
