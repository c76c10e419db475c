//! Owns the digest of what a container says of its images by itself, beside their bytes: a footer, a
//! directory, headers. Must not know: which formats have which.

use std::io;

use sha2::{Digest, Sha256};

use crate::storage::BytesAt;
use crate::util::hex::hex;

/// Bytes that are read at a time.
const STEP: u64 = 1 << 18;

/// A digest on its way.
#[derive(Debug, Default)]
pub(super) struct Description(Sha256);

impl Description {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Half of it, in hex: a change is looked for, not an attack.
    pub(super) fn finish(self) -> String {
        hex(&self.0.finalize()[..16])
    }

    /// Of the bytes from `start` up to `end`, where so many are there.
    ///
    /// # Errors
    /// As the system or the store says.
    pub(super) fn of(bytes: &dyn BytesAt, start: u64, end: u64) -> io::Result<Option<String>> {
        let mut description = Description::default();
        let mut at = start;
        while at < end {
            let mut some = vec![0; STEP.min(end - at) as usize];
            if bytes.fill_at(at, &mut some)? < some.len() {
                return Ok(None);
            }
            description.add(&some);
            at += some.len() as u64;
        }
        Ok(Some(description.finish()))
    }
}
