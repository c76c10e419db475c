//! Owns reading one image file.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::uri;
use crate::data::formats::raw_image::Limits;
use crate::data::formats::sniff;
use crate::error::{Reject, Stage};
use crate::storage::{self, Coming, Cursor};
use crate::util::error_text;

/// What the uris of all files in a folder begin with.
///
/// # Errors
/// Where the working folder is needed and can't be told.
pub(crate) fn folder_uri(folder: &Path) -> std::io::Result<String> {
    let uri = uri::of_path(&storage::absolute(folder)?);
    Ok(format!("{}/", uri.trim_end_matches('/')))
}

/// Whether two uris lead to one place, by other words for the path or by links.
pub(crate) fn same_place(a: &str, b: &str) -> bool {
    let real = |uri| uri::to_path(uri)?.canonicalize().ok(); // None of a store's: there words are places
    real(a).is_some_and(|place| real(b) == Some(place))
}

/// Bytes of the regular file that `uri` names; None where there is none.
pub(crate) fn size(uri: &str) -> Option<u64> {
    let facts = storage::facts(&uri::to_path(uri)?).ok()?;
    facts.is_file.then_some(facts.bytes)
}

/// When the file that `uri` names was last written; None where that can't be told.
pub(crate) fn written(uri: &str) -> Option<SystemTime> {
    storage::facts(&uri::to_path(uri)?).ok()?.written
}

/// [`written`] in nanoseconds since 1970.
pub(crate) fn modified(uri: &str) -> Option<i64> {
    let since = written(uri)?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// sha256 of the regular file that `uri` names; None where there is none that can be read.
pub(crate) fn digest(uri: &str) -> Option<[u8; 32]> {
    let mut file = Cursor::new(storage::open(&uri::to_path(uri)?).ok()?);
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Some(hasher.finalize().into()),
            Ok(count) => hasher.update(&block[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// [`read`], for a file that had `planned` bytes when it was planned.
///
/// # Errors
/// Those of [`read`]; another size, before or after.
pub(crate) fn read_planned(uri: &str, planned: u64, limits: &Limits) -> Result<Vec<u8>, Reject> {
    as_planned(read(uri, limits)?, planned)
}

/// Bytes of a file that had `planned` of them when it was planned.
fn as_planned(bytes: Vec<u8>, planned: u64) -> Result<Vec<u8>, Reject> {
    if bytes.len() as u64 != planned {
        return Err(Reject::new(
            Stage::Read,
            format!(
                "the file has changed since it was planned: it had {planned} bytes and now has {}; \
                 retrying failed images takes it as it is",
                bytes.len()
            ),
        ));
    }
    Ok(bytes)
}

/// Asks for the first bytes of the file behind `uri`, `max` at most, where that lies in a store.
///
/// # Errors
/// By name alone, as [`read`].
pub(crate) fn begin_head(uri: &str, max: usize) -> Result<Option<Coming>, Reject> {
    let path = path_of(uri)?;
    Ok(storage::is_remote(&path).then(|| storage::begin_head(&path, max as u64)))
}

/// The first bytes that were asked for.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn arrived_head(coming: Coming) -> Result<Vec<u8>, Reject> {
    storage::arrived_head(coming).map_err(|error| reject(error_text::reason(&error)))
}

/// The first bytes of the file behind `uri`, `max` at most.
///
/// # Errors
/// Those of [`read`].
pub(crate) fn head(uri: &str, max: usize, limits: &Limits) -> Result<Vec<u8>, Reject> {
    let path = path_of(uri)?;
    if storage::is_remote(&path) {
        return storage::read_head(&path, max as u64).map_err(|e| reject(error_text::reason(&e)));
    }
    let (file, size) = opened(&path, limits)?;
    let mut bytes = Vec::with_capacity(max.min(size as usize));
    file.take(max as u64).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The content of the file behind `uri` (as in [`SourceFile::uri`](crate::data::SourceFile::uri)).
///
/// # Errors
/// Rejections of [`Stage::Read`]: no such file, no permission, not a regular file, larger than
/// `limits.file_bytes_max`; and by name alone, cameras' raw files, whose TIFF-like content would
/// decode to a thumbnail.
pub fn read(uri: &str, limits: &Limits) -> Result<Vec<u8>, Reject> {
    let path = path_of(uri)?;
    if storage::is_remote(&path) {
        return arrived(storage::begin(&path, limits.file_bytes_max), 0);
    }
    let (file, size) = opened(&path, limits)?;
    // A file that grows while it is read must not grow past the limit either.
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(limits.file_bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limits.file_bytes_max {
        return Err(too_large(bytes.len() as u64, limits));
    }
    Ok(bytes)
}

/// Asks for the content of the file behind `uri`, where that lies in a store: [`arrived`] waits for it.
///
/// # Errors
/// By name alone, as [`read`].
pub(crate) fn begin(uri: &str, limits: &Limits) -> Result<Option<Coming>, Reject> {
    let path = path_of(uri)?;
    Ok(storage::is_remote(&path).then(|| storage::begin(&path, limits.file_bytes_max)))
}

/// The content of a remote file that had `planned` bytes when it was planned; 0 where that isn't known.
///
/// # Errors
/// Those of [`read_planned`].
pub(crate) fn arrived(coming: Coming, planned: u64) -> Result<Vec<u8>, Reject> {
    let bytes = coming.wait().map_err(|error| reject(error_text::reason(&error)))?.into();
    if planned == 0 { Ok(bytes) } else { as_planned(bytes, planned) }
}

/// The path or address behind `uri`.
fn path_of(uri: &str) -> Result<PathBuf, Reject> {
    let path = uri::to_path(uri)
        .ok_or_else(|| reject(format!("{uri:?} is no file:// URI with an absolute path")))?;
    if let Some(extension) = path.extension().filter(|e| sniff::is_raw_extension(e.as_bytes())) {
        let name = uri::readable(extension.as_bytes()).to_uppercase();
        return Err(reject(format!(
            "camera raw ({name}) is not supported; develop it to JPEG, PNG or TIFF first"
        )));
    }
    Ok(path)
}

/// A regular file of the system, open, and its size.
fn opened(path: &Path, limits: &Limits) -> Result<(File, u64), Reject> {
    let file = storage::open_without_waiting(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(reject("not a regular file".into()));
    }
    match facts.len() > limits.file_bytes_max {
        true => Err(too_large(facts.len(), limits)),
        false => Ok((file, facts.len())),
    }
}

fn reject(message: String) -> Reject {
    Reject::new(Stage::Read, message)
}

fn failed(error: std::io::Error) -> Reject {
    reject(error.to_string())
}

fn too_large(bytes: u64, limits: &Limits) -> Reject {
    let max = limits.file_bytes_max;
    reject(format!("the file has {bytes} bytes, more than the limit of {max}"))
}

#[cfg(test)]
mod tests;
