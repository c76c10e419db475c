//! Owns copies of remote models on the local disk, made once for each state of the remote files.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::bytes_at::Cursor;
use super::facts::Facts;
use super::{files, is_remote};
use crate::util::hex::hex;

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
    let folder = cache_folder()?.join(&digest[..32]);
    let name = path.file_name().unwrap_or_default();
    let place = match facts.is_folder {
        true => folder.clone(),
        false => folder.join(name),
    };
    if !folder.is_dir() {
        let from = |name: &Path| match facts.is_folder {
            true => path.join(name),
            false => path.to_path_buf(),
        };
        fetch_all(&folder, found.iter().map(|(name, _)| (from(name), name.as_path())))?;
    }
    Ok(place)
}

/// `$XDG_CACHE_HOME/vqtok`, or where that isn't set `~/.cache/vqtok`.
fn cache_folder() -> io::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let text = "no folder for copies of remote models: set XDG_CACHE_HOME or HOME";
    Ok(folder.ok_or_else(|| io::Error::new(ErrorKind::NotFound, text))?.join("vqtok"))
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
    let fetched = (|| {
        for (from, name) in files {
            let place = unfinished.join(name);
            fs::create_dir_all(place.parent().unwrap_or(&unfinished))?;
            let mut file = fs::File::create(&place)?;
            io::copy(&mut Cursor::new(files::open(&from)?), &mut file)?;
            file.flush()?;
        }
        match fs::rename(&unfinished, folder) {
            // Another process was faster; its copy is the same.
            Err(_) if folder.is_dir() => Ok(()),
            renamed => renamed,
        }
    })();
    // After the renaming there is nothing of this name.
    let _ = fs::remove_dir_all(&unfinished);
    fetched
}
