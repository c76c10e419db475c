//! Owns small reads at a place and the little-endian numbers in them. Must not know: which records
//! an archive has.

use std::io;

use crate::storage::BytesAt;

/// What a place that a cut or lying archive promised gets.
pub(super) const CUT: &str = "the archive is cut or damaged here";

/// Why something of an archive can't be had.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The system's reason.
    System(io::Error),
    /// What is wrong with the archive: one line.
    Content(String),
}

impl Trouble {
    /// In one line.
    pub(super) fn message(self) -> String {
        match self {
            Trouble::System(error) => error.to_string(),
            Trouble::Content(reason) => reason,
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::System(error)
    }
}

impl From<&str> for Trouble {
    fn from(reason: &str) -> Trouble {
        Trouble::Content(reason.into())
    }
}

impl From<String> for Trouble {
    fn from(reason: String) -> Trouble {
        Trouble::Content(reason)
    }
}

/// Exactly `N` bytes at a place.
///
/// # Errors
/// The system's; the file ends before.
pub(super) fn array_at<const N: usize>(
    bytes: &dyn BytesAt,
    offset: u64,
) -> Result<[u8; N], Trouble> {
    let mut array = [0; N];
    if offset >= bytes.size() || bytes.fill_at(offset, &mut array)? < N {
        return Err(CUT.into());
    }
    Ok(array)
}

/// Exactly `count` bytes at a place.
///
/// # Errors
/// The system's; the file ends before.
pub(super) fn vec_at(bytes: &dyn BytesAt, offset: u64, count: u16) -> Result<Vec<u8>, Trouble> {
    let mut vec = vec![0; count.into()];
    if offset > bytes.size() || bytes.fill_at(offset, &mut vec)? < vec.len() {
        return Err(CUT.into());
    }
    Ok(vec)
}

/// The number at `at`, which lies inside `bytes`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The number at `at`, which lies inside `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The number at `at`, which lies inside `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
