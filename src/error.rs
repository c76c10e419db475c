//! Owns the two kinds of failure: [`Error`] ends the run, [`Reject`] costs one image.
//! Must not know: who raises them.
//!
//! # Which error
//!
//! | what happened | how it is said |
//! |---|---|
//! | a setting's value can't be used | `Error::setting(SIZE, "is 1 to 4096, not 0")` |
//! | a recipe, model, list or set of images can't be used as asked | `Error::invalid` |
//! | a file is broken, cut or hostile | `Error::corrupt`, `Error::corrupt_by` with a source |
//! | an output's own file is broken | `Error::damaged`, which says how it is repaired |
//! | the system refused a file operation | `map_err(Error::io(path))` |
//! | the folder is another job's | [`Error::Mismatch`] |
//! | a store can't be reached in the midst of a run | `Error::busy`, by `Reject::refuse_outage` |
//! | vqtok is wrong: an invariant doesn't hold | `Error::internal`, exit code 70 |
//!
//! Messages call a setting by its name, never by a flag: `format!("use another {OUT}")` with the
//! names of `util::settings`. A program reads `out` there, the command line shows `--out`.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::util::settings::{self, DEVICE, LIST_ONLY, SIZE, Setting};
use crate::util::{error_text, text};

/// What ends a run. Every message is one line: what, where, what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting whose value can't be used.
    Setting {
        /// The setting, such as `shard_rows`.
        name: &'static str,
        /// What is wrong with its value, to be read after the name; a colon may stand first.
        reason: Message,
    },
    /// A recipe, model or input that can't be used as asked.
    Input(Message),
    /// The operating system refused a file operation.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file whose content is broken or hostile.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: Message,
        /// The reader's own error, where there is one.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The output folder belongs to another model, other settings or other input.
    Mismatch(Message),
    /// Another process holds what this one needs; trying again later can succeed.
    Busy(Message),
    /// The device can't hold what it was asked to work on; a smaller batch may fit.
    OutOfMemory(Message),
    /// Stopped by SIGINT or SIGTERM after leaving everything consistent.
    Interrupted,
    /// Not everything that was meant for stdout could be written there.
    Output(std::io::Error),
    /// An invariant of vqtok's own doesn't hold: a bug.
    Internal(Message),
    /// A tensor operation failed: a shape or device problem inside vqtok.
    Tensor(candle_core::Error),
}

/// A text for people, in one line. The settings that it names are shown by their names.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    fn of(text: impl Into<String>) -> Message {
        Message::as_it_is(error_text::plain(&text.into()))
    }

    /// Without anything that steers a terminal, whoever wrote it.
    fn as_it_is<'a>(text: impl Into<Cow<'a, str>>) -> Message {
        Message(settings::printable(&text.into()).into_owned())
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&settings::plain(&self.0))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", settings::plain(&self.0))
    }
}

/// The exit code of a bug of vqtok's.
pub(crate) const INTERNAL_ERROR: u8 = 70;

/// What is done after an outage.
pub(crate) const GO_ON: &str = "nothing is lost: run the same command again to go on";

/// Where bugs are reported.
pub(crate) const ISSUES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/issues");

/// The result of anything that can end the run.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The process's exit code: 2 fatal, 70 a bug, 75 try again, 130 interrupted; of a command that SIGTERM
    /// stopped, 143.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Busy(_) => 75,
            Error::Interrupted => 130,
            Error::Internal(_) => INTERNAL_ERROR,
            _ => 2,
        }
    }

    /// The message for readers who know settings by other names: `name` gives that of `shard_rows`.
    pub fn naming_settings(&self, name: impl Fn(&str) -> String) -> String {
        settings::named(&self.message(), name)
    }

    /// The message as part of another error's, in which settings stay settings.
    pub(crate) fn message(&self) -> String {
        match self {
            Error::Setting { name, reason } => {
                let space = if reason.0.starts_with(':') { "" } else { " " };
                format!("{}{space}{}", Setting(name), reason.0)
            }
            Error::Input(text) | Error::Mismatch(text) | Error::Busy(text) => text.0.clone(),
            Error::Io { path, source } => {
                format!("{}: {}", text::path(path), error_text::reason(source))
            }
            Error::Corrupt { path, reason, .. } => format!("{}: {}", text::path(path), reason.0),
            Error::OutOfMemory(what) => format!(
                "the device is out of memory: {}; use a smaller {SIZE}, model or {DEVICE}",
                what.0
            ),
            Error::Interrupted => "interrupted; run the same command again to go on".into(),
            Error::Output(source) => {
                format!("stdout: {}; not everything was written there", error_text::reason(source))
            }
            Error::Internal(what) => {
                format!("internal error: {}; please report it at {ISSUES}", what.0)
            }
            Error::Tensor(source) => {
                format!("tensor operation failed: {}", text::printable(&source.to_string()))
            }
        }
    }

    /// A setting whose value can't be used; `reason` is read after its name.
    pub(crate) fn setting(setting: Setting, reason: impl Into<String>) -> Error {
        Error::Setting { name: setting.0, reason: Message::of(reason) }
    }

    /// A recipe, model or input that can't be used as asked. Control characters are escaped here as
    /// in all messages.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::Input(Message::of(message))
    }

    /// For `map_err`: an I/O error with the path it happened at.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// A file whose content can't be used, with the reason.
    pub fn corrupt(path: impl AsRef<Path>, reason: impl Into<String>) -> Error {
        let path = path.as_ref().to_path_buf();
        Error::Corrupt { path, reason: Message::of(reason), source: None }
    }

    /// For `map_err`: what is wrong with the file or folder at `path` as what it was opened for, which
    /// stands in front unless it does already.
    pub(crate) fn about(path: impl AsRef<Path>) -> impl FnOnce(Error) -> Error {
        let shown = text::path(path);
        move |error| match error {
            Error::Input(Message(text)) if !begins_with(&text, &shown) => {
                Error::Input(Message(format!("{shown}: {text}")))
            }
            error => error,
        }
    }

    /// For `map_err`: a file that its reader can't use: `what: the reader's words`.
    pub(crate) fn corrupt_by<E>(path: impl AsRef<Path>, what: &str) -> impl FnOnce(E) -> Error
    where
        E: StdError + Send + Sync + 'static,
    {
        move |source| {
            let reason = Message::of(format!("{what}: {source}"));
            let path = path.as_ref().to_path_buf();
            Error::Corrupt { path, reason, source: Some(Box::new(source)) }
        }
    }

    /// For `map_err`: why a file or folder of an output can't be read or written, with what to do where
    /// the system says that something else is in its place, or nothing.
    pub(crate) fn of_output(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        use std::io::ErrorKind;
        let path = path.as_ref().to_path_buf();
        move |error| match error.kind() {
            ErrorKind::NotFound => Error::damaged(path, "it is missing"),
            ErrorKind::InvalidData => Error::damaged(path, "it is not text (UTF-8)"),
            ErrorKind::IsADirectory => Error::corrupt(path, FOLDER_IN_THE_WAY),
            ErrorKind::NotADirectory => Error::corrupt(path, FILE_IN_THE_WAY),
            _ => Error::io(path)(error),
        }
    }

    /// A folder into which an input was listed, and that holds no output yet.
    pub(crate) fn only_listed(dir: &Path) -> Error {
        Error::invalid(format!(
            "{}: no output yet: its input was listed; the same `vqtok tokenize` without {LIST_ONLY} \
             makes it",
            text::path(dir)
        ))
    }

    /// A broken file of an output, which can be made again.
    pub(crate) fn damaged(path: impl AsRef<Path>, reason: impl fmt::Display) -> Error {
        Error::corrupt(path, format!("{reason}; run `vqtok verify`, then `vqtok repair`"))
    }

    /// A bug: `what` is the invariant that doesn't hold.
    pub(crate) fn internal(what: impl Into<String>) -> Error {
        Error::Internal(Message::of(what))
    }

    /// The folder is of another model, other settings or other input.
    pub(crate) fn mismatch(what: impl Into<String>) -> Error {
        Error::Mismatch(Message::as_it_is(what.into()))
    }

    /// Another process holds what this one needs.
    pub(crate) fn busy(what: impl Into<String>) -> Error {
        Error::Busy(Message::as_it_is(what.into()))
    }

    /// The device can't hold `what`.
    pub(crate) fn out_of_memory(what: impl Into<String>) -> Error {
        Error::OutOfMemory(Message::as_it_is(what.into()))
    }
}

/// What there is to say of a folder in the place of an output's file.
pub(crate) const FOLDER_IN_THE_WAY: &str =
    "it is a folder, where a file of the output belongs; move it away, then run `vqtok repair`";
/// The same of a file in the place of an output's folder.
pub(crate) const FILE_IN_THE_WAY: &str =
    "it is a file, where a folder of the output belongs; move it away, then run `vqtok repair`";
/// What there is to say of a plan that wasn't appended to those of its output.
pub(crate) const NO_PLAN_OF_OURS: &str =
    "no shard is of it: remove it, and append again what it was to add";

/// Whether a message is about a path, or about a file below it.
fn begins_with(text: &str, path: &str) -> bool {
    let rest = text.strip_prefix(path);
    rest.is_some_and(|rest| path.ends_with('/') || rest.starts_with([':', '/']))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&settings::plain(&self.message()))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Output(source) => Some(source),
            Error::Corrupt { source: Some(source), .. } => Some(source.as_ref()),
            Error::Tensor(source) => Some(source),
            _ => None,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Error {
        Error::Tensor(source)
    }
}

/// Where on its way an image was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Opening or reading the file.
    Read,
    /// From bytes to oriented RGB.
    Decode,
    /// From oriented RGB to the model's size.
    Resize,
    /// From pixels to codes.
    Encode,
    /// Anywhere: whoever worked on its partition died of it.
    Process,
}

impl Stage {
    /// The word written to `failures.stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decode => "decode",
            Stage::Resize => "resize",
            Stage::Encode => "encode",
            Stage::Process => "process",
        }
    }
}

/// Why one image gets a row in `failures` instead of tokens. The message is deterministic: no
/// addresses, times or temporary names, since failures are part of the byte-identical output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", stage.as_str())]
pub struct Reject {
    /// Where it was given up.
    pub stage: Stage,
    /// One line: what is wrong with the image.
    pub message: String,
    /// Whether nothing is wrong with the image: its store couldn't be reached. That ends a run.
    pub(crate) outage: bool,
}

impl Reject {
    /// A rejection at `stage`. Control characters of the message are escaped.
    pub fn new(stage: Stage, message: impl Into<String>) -> Reject {
        let message = error_text::plain(&message.into()).into_owned();
        Reject { stage, message: text::printable(&message).into_owned(), outage: false }
    }

    /// What ends a run where an image of this key has none of the fault.
    ///
    /// # Errors
    /// [`Error::Busy`] where its store couldn't be reached.
    pub(crate) fn refuse_outage(&self, key: &str) -> Result<()> {
        if !self.outage {
            return Ok(());
        }
        let (key, why) = (text::printable(key), &self.message);
        Err(Error::busy(format!("{key}: {why}; {GO_ON}")))
    }
}
