//! Owns copies of remote models on the local disk, made once for each state of the remote files.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::bytes_at::Cursor;
use super::facts::Facts;
use super::{files, is_remote};
use crate::util::cache_folder::cache_folder;
use crate::util::hex::hex;
use crate::util::{error_text, text};

/// Files of a model folder at most, folders in it included.
const FILES_MAX: usize = 1000;

/// A local path to what lies at `path`: itself where it is local; else a copy in the user's cache,
/// which is as it was remotely when this was called.
///
/// # Errors
/// Nothing there; as the store or the system says.
pub(crate) fn local_copy(path: &Path) -> io::Result<PathBuf> {
    if !is_remote(path) {
        return Ok(path.to_path_buf());
    }
    let facts = files::facts(path)?;
    let mut found = Vec::new();
    match facts.is_folder {
        true => collect(path, Path::new(""), &mut found)?,
        false => found.push((PathBuf::from(path.file_name().unwrap_or_default()), facts)),
    }
    // What is the same in all of this is the same model.
    let mut hasher = Sha256::new();
    hasher.update(path.as_os_str().as_encoded_bytes());
    for (name, Facts { bytes, written, .. }) in &found {
        hasher.update(format!("\n{} {bytes} {written:?}", name.display()));
    }
    let digest = hex(hasher.finalize());
    let folder = folder_for_copies()?.join(&digest[..32]);
    let name = path.file_name().unwrap_or_default();
    let place = match facts.is_folder {
        true => folder.clone(),
        false => folder.join(name),
    };
    // A copy that somebody has cut or thinned out is made anew.
    let is_whole = |(name, facts): &(PathBuf, Facts)| {
        folder.join(name).metadata().is_ok_and(|local| local.len() == facts.bytes)
    };
    if folder.is_dir() && !found.iter().all(is_whole) {
        fs::remove_dir_all(&folder).map_err(|error| unusable(&folder, &error))?;
    }
    if !folder.is_dir() {
        let from = |name: &Path| match facts.is_folder {
            true => path.join(name),
            false => path.to_path_buf(),
        };
        let files = found.iter().map(|(name, _)| (from(name), name.as_path()));
        fetch_all(&folder, files)?;
    }
    Ok(place)
}

/// Where copies are kept.
fn folder_for_copies() -> io::Result<PathBuf> {
    let text = "no folder for copies of remote models: set XDG_CACHE_HOME or HOME";
    cache_folder().ok_or_else(|| io::Error::new(ErrorKind::NotFound, text))
}

/// Why there is no copy of a model.
fn unusable(folder: &Path, error: &io::Error) -> io::Error {
    let text = format!(
        "its copy can't be kept in {}: {}; set XDG_CACHE_HOME to a folder with room",
        text::path(folder),
        error_text::reason(error)
    );
    io::Error::new(error.kind(), text)
}

/// The files below a remote folder, by their names in it.
fn collect(root: &Path, below: &Path, found: &mut Vec<(PathBuf, Facts)>) -> io::Result<()> {
    let folder = if below.as_os_str().is_empty() { root.to_path_buf() } else { root.join(below) };
    for entry in files::list(&folder)? {
        let name = below.join(&entry.name);
        match entry.facts {
            Some(facts) if facts.is_folder => collect(root, &name, found)?,
            Some(facts) => found.push((name, facts)),
            None => {}
        }
        if found.len() > FILES_MAX {
            let text = format!("more than {FILES_MAX} files lie there: that is no model");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
    }
    Ok(())
}

/// Fetches files into a new folder, which appears when it is whole.
fn fetch_all<'a>(
    folder: &Path,
    files: impl Iterator<Item = (PathBuf, &'a Path)>,
) -> io::Result<()> {
    let unfinished = folder.with_extension(format!("{}.partial", std::process::id()));
    let unusable = |error: io::Error| unusable(folder, &error);
    let fetched = (|| {
        for (from, name) in files {
            let place = unfinished.join(name);
            fs::create_dir_all(place.parent().unwrap_or(&unfinished)).map_err(unusable)?;
            let mut file = fs::File::create(&place).map_err(unusable)?;
            let mut bytes = Cursor::new(files::open(&from)?);
            io::copy(&mut bytes, &mut file)?;
            file.flush().map_err(unusable)?;
        }
        match fs::rename(&unfinished, folder) {
            // Another process was faster; its copy is the same.
            Err(_) if folder.is_dir() => Ok(()),
            renamed => renamed.map_err(unusable),
        }
    })();
    // After the renaming there is nothing of this name.
    let _ = fs::remove_dir_all(&unfinished);
    fetched
}
