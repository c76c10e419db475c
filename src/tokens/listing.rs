//! Owns what is listed of one file of an input before there is a plan: its images, as planned rows in a
//! file of their own. Must not know: where that lies, who lists.

use std::path::Path;

use super::arrangement::Arrangement;
use super::commit;
use super::identity::Identity;
use super::plan::{About, Base, PlanFile, Today, write};
use super::rows::PlanRow;
use crate::error::Result;

/// Writes the images of a file, numbered from 0, to `path`, unless that is there already; how many.
///
/// # Errors
/// The first of `rows`; one that no plan takes; what the system refuses.
pub(crate) fn write_rows(
    path: &Path,
    identity: &Identity,
    rows: &mut dyn Iterator<Item = Result<PlanRow>>,
) -> Result<u64> {
    if let Some(folder) = path.parent() {
        commit::create_folder(folder)?;
    }
    let about = About {
        identity,
        base: &Base::default(),
        taken: "",
        listed_at: None,
        in_buckets: false,
        classes: None,
        arrangement: Arrangement::ONE,
    };
    let written = write(path, about, rows.map(|row| row.map(Today::Image)))?;
    let images = written.open(0)?.rows();
    // What another worker lists of the same file is the same.
    written.publish(path.parent().unwrap_or(path), 0)?;
    Ok(images)
}

/// Opens what was written.
///
/// # Errors
/// What isn't there, or can't be read.
pub(crate) fn open(path: &Path) -> Result<PlanFile> {
    PlanFile::open(path, 0)
}
