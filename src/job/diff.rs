//! Owns comparing two outputs, as a job. Must not know: how rows are compared.

use std::path::PathBuf;

use super::events::{Observer, Relay};
#[cfg(feature = "cli")]
use super::places;
use crate::error::Result;
use crate::findings::{Difference, diff};

/// Two outputs side by side: which tokens differ and where, which images came, went or changed, which
/// settings aren't the same.
///
/// ```no_run
/// let difference = vqtok::Diff::new("before/", "after/").run(&mut ())?;
/// if !difference.equal {
///     let shared = &difference.shared;
///     println!("{} of {} tokens are equal", shared.equal_tokens, shared.tokens);
/// }
/// # Ok::<(), vqtok::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Diff {
    a: PathBuf,
    b: PathBuf,
}

impl Diff {
    /// Output folders of vqtok, or any Parquet files with a column of tokens.
    pub fn new(a: impl Into<PathBuf>, b: impl Into<PathBuf>) -> Diff {
        Diff { a: a.into(), b: b.into() }
    }

    /// Refuses a file in the place of what is read.
    #[cfg(feature = "cli")]
    pub(crate) fn refuse_inputs(&self, written: &[places::Written<'_>]) -> Result<()> {
        let tokens = vec![self.a.as_path(), self.b.as_path()];
        places::refuse_inputs(written, &places::Inputs { tokens, ..Default::default() })
    }

    /// Runs the job.
    ///
    /// # Errors
    /// An output that can't be read; no room for what has to wait for its counterpart in the folder
    /// for temporary files; [`Error::Interrupted`](crate::Error::Interrupted) where the observer says
    /// so.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Difference> {
        diff::run(&self.a, &self.b, &mut Relay(observer))
    }
}
