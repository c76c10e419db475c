//! Owns telling an image that can't be had for now, since its store can't be reached, from one that
//! can't be had. Must not know: how images are read.

use crate::error::{Reject, Stage};
use crate::storage;

/// What `read` gives; where it gives nothing and this thread met an outage meanwhile, for that reason.
pub(super) fn watched<T>(read: impl FnOnce() -> Result<T, Reject>) -> Result<T, Reject> {
    let (content, outage) = storage::watching(read);
    content.map_err(|reject| match outage {
        Some(why) => Reject { outage: true, ..Reject::new(Stage::Read, why) },
        None => reject,
    })
}
