//! Owns how commands end: their exit codes, and the line that says why.

use std::process::ExitCode;

use serde_json::json;

use super::progress::Reporter;
use super::{console, flags};
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::util::panics::Bug;
use crate::util::{error_text, text};

/// How a command that didn't fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    /// Everything asked for is done: exit code 0.
    Clean,
    /// Done, but some images or rows failed: exit code 1.
    WithFailures,
}

impl Finished {
    pub(super) fn of(clean: bool) -> Finished {
        if clean { Finished::Clean } else { Finished::WithFailures }
    }
}

/// The end of a command that didn't panic.
pub(super) fn end(reporter: &Reporter, done: Result<Finished>) -> ExitCode {
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

pub(super) fn internal_error(reporter: &Reporter, bug: &Bug) -> ExitCode {
    let place = json!({"stage": bug.stage(), "key": bug.key()});
    fail(reporter, &bug.line(), INTERNAL_ERROR, place)
}

/// One line on stderr, whatever the voice; an event too where machines listen.
pub(super) fn fail(
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
