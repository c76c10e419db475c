//! Owns unpacking a compressed tar into a temporary file, for reading it in any order.

use std::io::{self, Write as _};
use std::sync::Arc;

use super::tar::{Compression, unpack};
use crate::storage::{BytesAt, LocalFile};
use crate::util::{error_text, nameless_file};

/// The stream that `bytes` unpacks to, in a file without a name. What is damaged ends it: whoever
/// reads behind that finds out.
///
/// # Errors
/// Why the file can't be written, in words.
pub(super) fn unpacked(
    bytes: Arc<dyn BytesAt>,
    compression: Compression,
) -> Result<Arc<dyn BytesAt>, String> {
    let folder = std::env::temp_dir();
    let failed = |error: io::Error| {
        format!(
            "a compressed tar is read in any order from a copy in {}, which can't be written: {}; \
             set TMPDIR to a folder with room, or unpack the tar",
            folder.display(),
            error_text::reason(&error)
        )
    };
    let mut file = nameless_file::create(&folder).map_err(&failed)?;
    let write = |some: &[u8]| file.write_all(some);
    unpack(bytes, compression, write).map_err(&failed)?;
    Ok(Arc::new(LocalFile::of(file).map_err(&failed)?))
}
