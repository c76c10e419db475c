//! Owns what is said of a plan that can't be used. Must not know: how it is read.

use std::path::Path;

use crate::error::Error;

/// A plan that can't be used, for this reason.
pub(super) fn broken(path: &Path, reason: &str) -> Error {
    Error::corrupt(path, format!("{reason}; `vqtok repair` rebuilds it, or says what to do"))
}
