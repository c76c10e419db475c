//! Owns what errors of a remote model's local copy say: whose copy it is, and what to do.

use std::path::Path;

use crate::data::prepare::Preparation;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pipeline;
use crate::storage;
use crate::tokens::Identity;
use crate::util::text;

/// An error of a remote model's copy says whose copy that is.
pub(super) fn of_a_copy(error: Error, model: &Path) -> Error {
    match error {
        Error::Corrupt { .. } | Error::Io { .. } => told(&error, model).unwrap_or(error),
        error => error,
    }
}

/// The error with the model whose copy it is of; None where the model is no copy.
fn told(error: &Error, model: &Path) -> Option<Error> {
    let (why, of) = (error.message(), text::path(model));
    let said = format!("{why}; that is a copy of {of}: remove it to fetch it again");
    storage::is_remote(model).then(|| Error::invalid(said))
}

/// The identity of outputs that the engine of a model makes; waits for the digests of its weights.
///
/// # Errors
/// Those of [`pipeline::identity`]; weights that aren't those that their configuration names.
pub(super) fn identity(
    engine: &dyn Engine,
    model: &Path,
    preparation: &Preparation,
    shard_rows: usize,
) -> Result<Identity> {
    let identity = pipeline::identity(engine, preparation, shard_rows);
    identity.map_err(|error| match error {
        // Of the digests, which another thread has taken.
        Error::Input(_) => told(&error, model).unwrap_or(error),
        error => of_a_copy(error, model),
    })
}
