//! Owns finding, before any image becomes a failure, that a store lets nobody read what it lists: by
//! looking at a few images, one where all is well. Must not know: how images are read.

use std::io::ErrorKind;

use crate::data::source::uri;
use crate::error::{Error, GO_ON, Result};
use crate::storage;
use crate::tokens::Plan;
use crate::util::{error_text, text};

/// Images that are looked at, spread over all that are to do: those of one folder may be forbidden
/// for good. Fewer images than these become failures one by one.
const LOOKED_AT: u64 = 20;

/// Refuses a store that refuses every image which is looked at; `images`: of all `todo`.
///
/// # Errors
/// [`Error::Busy`] where it does; a plan that can't be read.
pub(super) fn check(plan: &Plan, todo: &[usize], images: u64) -> Result<()> {
    if !storage::REACHES_STORES || images < LOOKED_AT {
        return Ok(());
    }
    let (mut before, mut step, mut last) = (0, 0, None);
    for &partition in todo {
        let count = plan.ordinals(partition)?.count() as u64;
        let mut rows = Vec::new();
        while step < LOOKED_AT && step * images / LOOKED_AT < before + count {
            if rows.is_empty() {
                rows = plan.partition(partition)?;
            }
            let index = (step * images / LOOKED_AT - before) as usize;
            let Some(row) = rows.get(index) else { return Ok(()) };
            let Some(why) = refusal(&plan.place(row)) else { return Ok(()) };
            last = Some((row.key.clone(), why));
            step += 1;
        }
        before += count;
    }
    match last {
        Some((key, why)) => Err(Error::busy(format!(
            "{}: its store lists it but doesn't give it, nor {} others that were looked at: {why}; \
             {GO_ON}",
            text::printable(&key),
            LOOKED_AT - 1
        ))),
        None => Ok(()),
    }
}

/// Why the file at this uri isn't given, where the reason is who asks.
fn refusal(uri: &str) -> Option<String> {
    let path = uri::to_path(uri)?;
    if !storage::is_remote(&path) || storage::is_on_the_web(&path) {
        return None;
    }
    match storage::read_head(&path, 1) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Some(error_text::reason(&error))
        }
        _ => None,
    }
}
