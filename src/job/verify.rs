//! Owns verifying outputs, as a job: the auditor's proof, with the writer's word on the files of plans. Must
//! not know: what is proven.

use std::path::Path;

use crate::audit::{self, VerifyReport};
use crate::error::Result;
use crate::tokens::plan;

/// Verifies an output folder. Damage is in the report.
///
/// # Errors
/// What can't be looked at: a folder that isn't there or holds no output, an output of a later
/// version, a file that the system doesn't let us read.
pub fn verify(dir: impl AsRef<Path>) -> Result<VerifyReport> {
    audit::verify(dir.as_ref(), &plan::sha256_anew)
}
