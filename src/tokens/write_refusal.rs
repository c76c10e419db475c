//! Owns remembering why the system refused a write, for those who get that from a library as text
//! alone. Must not know: what was written.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The reason of the last write into a file that was refused; clones are of the same file.
#[derive(Clone, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<io::Error>>>);

impl Refusal {
    /// The reason, where a write was refused.
    pub(crate) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps a reason and gives an equal one.
    pub(crate) fn keep(&self, error: io::Error) -> io::Error {
        let number = error.raw_os_error();
        let same = number.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        // Whoever writes tries again after an interrupt.
        if error.kind() != io::ErrorKind::Interrupted {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        same
    }
}
