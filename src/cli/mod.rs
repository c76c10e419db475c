//! Owns the command line: one file a command, each parses, calls, prints.
//! Must not know: how anything works.

mod again;
mod common;
mod console;
mod convert;
mod decode;
mod finalize;
mod flags;
mod inputs;
mod inspect;
mod printer;
mod progress;
mod quickstart;
mod recipe;
mod reconstruct;
mod repair;
mod report;
mod tokenize;
mod train;
mod verify;

use crate::cli::progress::Reporter;
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::util::error_text;
use crate::util::panics;
use crate::util::panics::Bug;
use crate::util::text;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::json;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// How a command that didn't fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Everything asked for is done: exit code 0.
    Clean,
    /// Done, but some images or rows failed: exit code 1.
    WithFailures,
}

impl Finished {
    fn of(clean: bool) -> Finished {
        if clean { Finished::Clean } else { Finished::WithFailures }
    }
}

#[derive(Parser)]
#[command(
    name = "vqtok",
    version,
    about = "Image data sets to VQ token grids, in Parquet shards",
    long_about = "vqtok streams images through a trained VQGAN or VQ-VAE encoder and writes token \
                  grids and codebook statistics to Parquet shards; where there is no tokenizer \
                  yet, it trains one.",
    after_help = "Exit codes: 0 clean, 1 finished with failures, 2 fatal, 70 internal error, \
                  75 try again later, 130 interrupted.",
    max_term_width = 80
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

    /// What a panic outside of any stage is said to have happened in.
    fn name(&self) -> &'static str {
        match self {
            Command::Tokenize(_) => "vqtok tokenize",
            Command::Train(_) => "vqtok train",
            Command::Decode(_) => "vqtok decode",
            Command::Reconstruct(_) => "vqtok reconstruct",
            Command::Inspect(_) => "vqtok inspect",
            Command::Quickstart(_) => "vqtok quickstart",
            Command::Recipe(_) => "vqtok recipe",
            Command::Finalize(_) => "vqtok finalize",
            Command::Verify(_) => "vqtok verify",
            Command::Repair(_) => "vqtok repair",
            Command::Report(_) => "vqtok report",
            Command::Convert(_) => "vqtok convert",
        }
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
    command()
}

/// Parses the process's arguments, runs the command and gives the exit code.
pub fn main() -> ExitCode {
    panics::record_panics();
    outlive_signals();
    let parsed = command().try_get_matches();
    let cli = match parsed.and_then(|mut found| Cli::from_arg_matches_mut(&mut found)) {
        Ok(cli) => cli,
        Err(told) => return tell(&told),
    };
    let reporter = Reporter::new(cli.command.json());
    let again = cli.command.again();
    let done = catch_unwind(AssertUnwindSafe(|| {
        let _at = panics::at(cli.command.name(), None);
        cli.command.run(&reporter)
    }));
    reporter.notices();
    // A thread may have panicked where nobody noticed: then what was done can't be trusted either.
    match (panics::take_bug(), done) {
        (Some(bug), _) => internal_error(&reporter, &bug),
        (None, Err(payload)) => internal_error(&reporter, &panics::bug_of(payload.as_ref())),
        (None, Ok(Err(Error::Interrupted))) => {
            let text = format!("interrupted; go on with: {again}");
            fail(&reporter, &text::printable(&text), Error::Interrupted.exit_code(), json!({}))
        }
        (None, Ok(done)) => end(&reporter, done),
    }
}

/// The command line. A negative number is a value, and refused as one.
fn command() -> clap::Command {
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

/// A file that grows beyond `ulimit -f` is an error of the write, as a full disk is.
fn outlive_signals() {
    // SAFETY: no handler is installed; the signal is ignored from here on.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Help, the version, or what is wrong with the arguments.
fn tell(told: &clap::Error) -> ExitCode {
    let text = |colours: bool| match colours && std::env::var_os("NO_COLOR").is_none() {
        true => error_text::plain(&told.render().ansi().to_string()).into_owned(),
        false => error_text::plain(&told.render().to_string()).into_owned(),
    };
    if told.use_stderr() {
        console::err(text(std::io::stderr().is_terminal()).trim_end());
        return ExitCode::from(2);
    }
    console::out(text(std::io::stdout().is_terminal()).trim_end());
    end(&Reporter::new(false), Ok(Finished::Clean))
}

/// The end of a command that didn't panic.
fn end(reporter: &Reporter, done: Result<Finished>) -> ExitCode {
    let done = done.and_then(|finished| match console::take_out_error() {
        None => Ok(finished),
        Some(error) => Err(Error::Output(error)),
    });
    match done {
        Ok(Finished::Clean) => ExitCode::from(0),
        Ok(Finished::WithFailures) => ExitCode::from(1),
        Err(error) => {
            let message = error_text::plain(&flags::message(&error)).replace('\n', " ");
            fail(reporter, &text::printable(&message), error.exit_code(), json!({}))
        }
    }
}

fn internal_error(reporter: &Reporter, bug: &Bug) -> ExitCode {
    let place = json!({"stage": bug.stage(), "key": bug.key()});
    fail(reporter, &bug.line(), INTERNAL_ERROR, place)
}

/// One line on stderr, whatever the voice; an event too where machines listen.
fn fail(
    reporter: &Reporter,
    message: &str,
    exit_code: u8,
    mut fields: serde_json::Value,
) -> ExitCode {
    console::err(&format!("vqtok: {message}"));
    if reporter.is_json() {
        fields["message"] = message.into();
        fields["exit_code"] = exit_code.into();
        reporter.result("error", "", fields);
    }
    ExitCode::from(exit_code)
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
