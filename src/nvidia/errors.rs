//! Owns how errors and versions of NVIDIA's libraries read. Must not know: which library.

use crate::error::Error;
use crate::util::settings::DEVICE;

/// An error of a library's, in one line.
#[cfg(feature = "cuda")]
pub(crate) fn failed(library: &str, what: &str, reason: &str) -> Error {
    refused(format!("{library}: {what}: {}", reason.replace('\n', " ")))
}

/// A version as people write it.
#[cfg(feature = "cuda")]
pub(crate) fn dotted(version: &[usize]) -> String {
    version.iter().map(usize::to_string).collect::<Vec<_>>().join(".")
}

/// Why the GPU isn't used.
pub(crate) fn refused(reason: String) -> Error {
    Error::setting(DEVICE, format!("cuda: {reason}"))
}
