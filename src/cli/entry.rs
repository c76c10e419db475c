//! Owns the way from the process's arguments to its exit code.

use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::FromArgMatches;

use super::command::{Cli, command};
use super::console;
use super::outcome::{Finished, end, internal_error};
use super::progress::Reporter;
use super::signals::stopped;
use crate::error::Error;
use crate::util::{error_text, panics};

/// All commands with their flags, for tests that go through them.
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
        (None, Ok(Err(Error::Interrupted))) => stopped(&reporter, &again),
        (None, Ok(done)) => end(&reporter, done),
    }
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
