//! Owns sharing a reader that goes forward among threads.

use std::sync::{Mutex, PoisonError};

use super::listing::{ReadForward, ReadPart};
use crate::data::formats::raw_image::Limits;
use crate::data::source::image::Part;
use crate::error::Reject;

/// A reader that goes forward, shared: one thread at a time.
pub(crate) struct Shared(Mutex<Box<dyn ReadForward>>);

impl Shared {
    pub(crate) fn new(reader: Box<dyn ReadForward>) -> Shared {
        Shared(Mutex::new(reader))
    }
}

impl ReadPart for Shared {
    fn read(&self, part: &Part, bytes: u64, limits: &Limits) -> Result<Vec<u8>, Reject> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(part, bytes, limits)
    }
}
