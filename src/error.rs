//! Owns the two kinds of failure: [`Error`] ends the run, [`Reject`] costs one image.
//! Must not know: who raises them.

use std::path::{Path, PathBuf};

use crate::util::error_text;
use crate::util::text;

/// What ends a run. Every message is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, recipe, model or file that can't be used as asked.
    #[error("{0}")]
    Invalid(String),
    /// The operating system refused a file operation.
    #[error("{}: {}", text::path(path), error_text::reason(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file whose content is broken or hostile.
    #[error("{}: {reason}", text::path(path))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The output folder belongs to another model, other settings or other input.
    #[error("{0}")]
    Mismatch(String),
    /// Another process holds what this one needs; trying again later can succeed.
    #[error("{0}")]
    Busy(String),
    /// The device can't hold what it was asked to work on; a smaller batch may fit.
    #[error("the device is out of memory: {0}; use a smaller --size, model or --device")]
    OutOfMemory(String),
    /// Stopped by SIGINT or SIGTERM after leaving everything consistent.
    #[error("interrupted; run the same command again to go on")]
    Interrupted,
    /// Not everything that was meant for stdout could be written there.
    #[error("stdout: {}; not everything was written there", error_text::reason(.0))]
    Output(std::io::Error),
    /// A tensor operation failed: a shape or device problem inside vqtok.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// The exit code of a panic, which is a bug of vqtok's.
pub const INTERNAL_ERROR: u8 = 70;

/// The result of anything that can end the run.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The process's exit code: 2 fatal, 75 try again, 130 interrupted. A panic's is
    /// [`INTERNAL_ERROR`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Busy(_) => 75,
            Error::Interrupted => 130,
            _ => 2,
        }
    }

    /// For `map_err`: an I/O error with the path it happened at.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// A file whose content can't be used, with the reason.
    pub fn corrupt(path: impl AsRef<Path>, reason: impl Into<String>) -> Error {
        let reason = error_text::plain(&reason.into()).into_owned();
        Error::Corrupt { path: path.as_ref().to_path_buf(), reason }
    }

    /// Shorthand for [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid(error_text::plain(&message.into()).into_owned())
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
}

impl Stage {
    /// The word written to `failures.stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decode => "decode",
            Stage::Resize => "resize",
            Stage::Encode => "encode",
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
}

impl Reject {
    /// A rejection at `stage`.
    pub fn new(stage: Stage, message: impl Into<String>) -> Reject {
        Reject { stage, message: error_text::plain(&message.into()).into_owned() }
    }
}
