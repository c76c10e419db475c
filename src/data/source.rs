//! Owns finding the images under the inputs, in one order that depends on names alone, and reading
//! one. Must not know: what an image holds beyond its first bytes.
//!
//! Order: the inputs as given; within a folder, names by their bytes, folders and files together.
//! Memory is one listing for each folder on the way down to the current one.
//!
//! Symbolic links: one that leads outside every input is followed, to a file or a folder. One that
//! leads to something inside an input is skipped and counted, since that is read at its own place
//! and nothing may be tokenized twice. A link to a folder that holds an input, or to a folder that
//! another link led to already, would never end or read twice and is skipped too.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::samples::Limits;
use super::sniff::{self, Sniffed};
use super::uri;
use crate::error::{Error, Reject, Result, Stage};

/// One file that is an input: by its extension, or by its first bytes where it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path relative to its INPUT, `/` between parts, extension kept; the file's name where
    /// the INPUT is the file. Bytes that are not UTF-8 are percent-encoded. Unique within an INPUT.
    pub key: String,
    /// `file:///...`: the absolute path, percent-encoded reversibly, links not resolved.
    pub uri: String,
    /// The file's size; 0 where a link leads nowhere (reading it says so).
    pub bytes: u64,
}

/// The label by ImageFolder's convention: the first folder of a key, if it has one.
pub fn label(key: &str) -> Option<&str> {
    key.split_once('/').map(|(folder, _)| folder)
}

/// What a walk passed over, by reason. Images that can't be used are not among these: they are
/// found, fail, and get a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Files with an extension that no image format has.
    pub other_extension: u64,
    /// Files without extension whose first bytes are no image's (or can't be read).
    pub no_extension: u64,
    /// FIFOs, sockets, devices.
    pub not_regular: u64,
    /// Links to files and folders that are read at their own place inside an input.
    pub links_inside: u64,
    /// Links to folders that hold an input, or that another link led to already.
    pub link_loops: u64,
    /// Links without an image extension that lead nowhere.
    pub broken_links: u64,
    /// Folders that can't be listed.
    pub unreadable_folders: u64,
    /// The first of those, up to [`Skipped::NAMED_MAX`], each with its reason.
    pub unreadable: Vec<(String, String)>,
}

impl Skipped {
    /// How many unreadable folders are kept by name.
    pub const NAMED_MAX: usize = 100;

    /// Each reason with its count, zeros included, in a fixed order.
    pub fn reasons(&self) -> [(&'static str, u64); 7] {
        [
            ("other extension", self.other_extension),
            ("no extension and no image inside", self.no_extension),
            ("not a regular file", self.not_regular),
            ("link to something inside an input", self.links_inside),
            ("link that would loop", self.link_loops),
            ("broken link", self.broken_links),
            ("unreadable folder", self.unreadable_folders),
        ]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.reasons().iter().map(|(_, count)| count).sum()
    }
}

impl std::fmt::Display for Skipped {
    /// `3 skipped (2 other extension, 1 broken link)`, or `none skipped`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reasons: Vec<String> = self
            .reasons()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        match reasons.is_empty() {
            true => f.write_str("none skipped"),
            false => write!(f, "{} skipped ({})", self.total(), reasons.join(", ")),
        }
    }
}

/// The stream of [`Found`], made by [`walk`].
#[derive(Debug)]
pub struct Walk {
    inputs: std::vec::IntoIter<Input>,
    /// Every input, links resolved.
    roots: Vec<PathBuf>,
    /// Every folder outside the inputs that a link led to, links resolved.
    followed: BTreeSet<PathBuf>,
    stack: Vec<Folder>,
    skipped: Skipped,
}

#[derive(Debug)]
struct Input {
    path: PathBuf,
    is_folder: bool,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The key of the folder with a `/` behind it; empty for an INPUT.
    prefix: String,
    names: std::vec::IntoIter<OsString>,
}

/// Checks the inputs and starts the walk; nothing below them is touched yet.
///
/// # Errors
/// An input that does not exist, is neither a file nor a folder, is given twice, or lies inside
/// another one.
pub fn walk(inputs: &[PathBuf]) -> Result<Walk> {
    if inputs.is_empty() {
        return Err(Error::invalid("no input given; name at least one folder or image"));
    }
    let mut roots: Vec<PathBuf> = Vec::with_capacity(inputs.len());
    let mut checked = Vec::with_capacity(inputs.len());
    for input in inputs {
        let root = fs::canonicalize(input).map_err(Error::io(input))?;
        let kind = fs::metadata(&root).map_err(Error::io(input))?;
        if !kind.is_dir() && !kind.is_file() {
            return Err(Error::invalid(format!(
                "{}: neither a folder nor a regular file; images are read from those only",
                input.display()
            )));
        }
        for (earlier, other) in roots.iter().zip(inputs) {
            let (input, other) = (input.display(), other.display());
            if *earlier == root {
                return Err(Error::invalid(format!(
                    "{input} and {other} are the same place: its images would be tokenized twice"
                )));
            }
            let nested = |inner, outer| {
                Error::invalid(format!(
                    "{inner} lies inside {outer}: its images would be tokenized twice"
                ))
            };
            if root.starts_with(earlier) {
                return Err(nested(input, other));
            }
            if earlier.starts_with(&root) {
                return Err(nested(other, input));
            }
        }
        roots.push(root);
        let path = std::path::absolute(input).map_err(Error::io(input))?;
        checked.push(Input { path, is_folder: kind.is_dir() });
    }
    Ok(Walk {
        inputs: checked.into_iter(),
        roots,
        followed: BTreeSet::new(),
        stack: Vec::new(),
        skipped: Skipped::default(),
    })
}

impl Iterator for Walk {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Result<Found>> {
        loop {
            let Some(folder) = self.stack.last_mut() else {
                match self.open_input(self.inputs.as_slice().first()?.is_folder) {
                    Ok(None) => continue,
                    Ok(Some(found)) => return Some(Ok(found)),
                    Err(error) => return Some(Err(error)),
                }
            };
            let Some(name) = folder.names.next() else {
                self.stack.pop();
                continue;
            };
            let path = folder.path.join(&name);
            let key = format!("{}{}", folder.prefix, uri::readable(name.as_bytes()));
            if let Some(found) = self.visit(path, key) {
                return Some(Ok(found));
            }
        }
    }
}

impl Walk {
    /// What was passed over so far; complete once the iterator has ended.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Takes the next input. A folder goes on the stack, a file is found whatever its extension,
    /// since it was named.
    fn open_input(&mut self, is_folder: bool) -> Result<Option<Found>> {
        let Some(Input { path, .. }) = self.inputs.next() else { return Ok(None) };
        if is_folder {
            let names = list(&path).map_err(Error::io(&path))?;
            self.stack.push(Folder { path, prefix: String::new(), names });
            return Ok(None);
        }
        let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
        let name = path.file_name().unwrap_or(path.as_os_str());
        let key = uri::readable(name.as_bytes());
        Ok(Some(Found { key, uri: uri::of_path(&path), bytes }))
    }

    fn visit(&mut self, path: PathBuf, key: String) -> Option<Found> {
        // A file that vanished since the listing is treated like a link that leads nowhere.
        let Ok(own) = fs::symlink_metadata(&path) else { return self.broken(&path, key) };
        let target = if own.is_symlink() {
            let Ok(real) = fs::canonicalize(&path) else { return self.broken(&path, key) };
            let Ok(target) = fs::metadata(&real) else { return self.broken(&path, key) };
            if !self.may_follow(&real, target.is_dir()) {
                return None;
            }
            target
        } else {
            own
        };
        if target.is_dir() {
            match list(&path) {
                Ok(names) => self.stack.push(Folder { prefix: format!("{key}/"), path, names }),
                Err(error) => self.unreadable(&key, &error),
            }
            return None;
        }
        self.file(&path, key, &target)
    }

    fn file(&mut self, path: &Path, key: String, target: &Metadata) -> Option<Found> {
        if !target.is_file() {
            self.skipped.not_regular += 1;
            return None;
        }
        match path.extension().filter(|extension| !extension.is_empty()) {
            Some(extension) if sniff::is_image_extension(extension.as_bytes()) => {}
            Some(_) => {
                self.skipped.other_extension += 1;
                return None;
            }
            None if holds_an_image(path) => {}
            None => {
                self.skipped.no_extension += 1;
                return None;
            }
        }
        Some(Found { key, uri: uri::of_path(path), bytes: target.len() })
    }

    /// A link that leads nowhere is an input where its name says image: losing it must show.
    fn broken(&mut self, path: &Path, key: String) -> Option<Found> {
        let extension = path.extension().unwrap_or(OsStr::new(""));
        if sniff::is_image_extension(extension.as_bytes()) {
            return Some(Found { key, uri: uri::of_path(path), bytes: 0 });
        }
        self.skipped.broken_links += 1;
        None
    }

    /// Whether a link's target, links resolved, is followed; counts it where not.
    fn may_follow(&mut self, real: &Path, is_folder: bool) -> bool {
        if self.roots.iter().any(|root| real.starts_with(root)) {
            self.skipped.links_inside += 1;
            return false;
        }
        let seen = self.followed.iter().any(|seen| real.starts_with(seen));
        let holds = |place: &PathBuf| place.starts_with(real);
        if seen || is_folder && (self.roots.iter().any(holds) || self.followed.iter().any(holds)) {
            self.skipped.link_loops += 1;
            return false;
        }
        if is_folder {
            self.followed.insert(real.to_path_buf());
        }
        true
    }

    fn unreadable(&mut self, key: &str, error: &std::io::Error) {
        self.skipped.unreadable_folders += 1;
        if self.skipped.unreadable.len() < Skipped::NAMED_MAX {
            self.skipped.unreadable.push((key.to_string(), error.to_string()));
        }
    }
}

/// The names in a folder, sorted by their bytes.
fn list(path: &Path) -> std::io::Result<std::vec::IntoIter<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    Ok(names.into_iter())
}

fn holds_an_image(path: &Path) -> bool {
    let mut head = Vec::with_capacity(sniff::HEAD_BYTES);
    let Ok(file) = open(path) else { return false };
    if file.take(sniff::HEAD_BYTES as u64).read_to_end(&mut head).is_err() {
        return false;
    }
    // TGA is only a guess and "an archive" no image: without extension, only images by signature.
    matches!(sniff::sniff(&head), Sniffed::Known(_))
        || matches!(
            sniff::sniff(&head),
            Sniffed::Named("HEIC" | "HEIF" | "AVIF" | "JPEG XL" | "JPEG 2000")
        )
}

/// Opens without ever waiting, even if the file became a FIFO since it was found.
fn open(path: &Path) -> std::io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Bytes of the regular file that `uri` names; None where there is none.
pub fn size(uri: &str) -> Option<u64> {
    let path = uri::to_path(uri)?;
    std::fs::metadata(path).ok().filter(|m| m.is_file()).map(|m| m.len())
}

/// When the file that `uri` names was last written, in nanoseconds since 1970; None where that can't
/// be told.
pub fn modified(uri: &str) -> Option<i64> {
    let modified = fs::metadata(uri::to_path(uri)?).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// sha256 of the regular file that `uri` names; None where there is none that can be read.
pub fn digest(uri: &str) -> Option<[u8; 32]> {
    let file = open(&uri::to_path(uri)?).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut hasher = Sha256::new();
    let mut file = file;
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
pub fn read_planned(uri: &str, planned: u64, limits: &Limits) -> Result<Vec<u8>, Reject> {
    let bytes = read(uri, limits)?;
    if bytes.len() as u64 != planned {
        return Err(Reject::new(
            Stage::Read,
            format!(
                "the file has changed since it was planned: it had {planned} bytes and now has {}; \
                 --retry-failed takes it as it is",
                bytes.len()
            ),
        ));
    }
    Ok(bytes)
}

/// The content of the file behind `uri` (as in [`Found::uri`]).
///
/// # Errors
/// Rejections of [`Stage::Read`]: no such file, no permission, not a regular file, larger than
/// `limits.file_bytes_max`; and by name alone, cameras' raw files, whose TIFF-like content would
/// decode to a thumbnail.
pub fn read(uri: &str, limits: &Limits) -> Result<Vec<u8>, Reject> {
    let reject = |message: String| Reject::new(Stage::Read, message);
    let path = uri::to_path(uri)
        .ok_or_else(|| reject(format!("{uri:?} is no file:// URI with an absolute path")))?;
    if let Some(extension) = path.extension().filter(|e| sniff::is_raw_extension(e.as_bytes())) {
        let name = uri::readable(extension.as_bytes()).to_uppercase();
        return Err(reject(format!(
            "camera raw ({name}) is not supported; develop it to JPEG, PNG or TIFF first"
        )));
    }
    let failed = |error: std::io::Error| reject(error.to_string());
    let file = open(&path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(reject("not a regular file".into()));
    }
    let too_large = |bytes: u64| {
        let max = limits.file_bytes_max;
        reject(format!("the file has {bytes} bytes, more than the limit of {max}"))
    };
    if facts.len() > limits.file_bytes_max {
        return Err(too_large(facts.len()));
    }
    // A file that grows while it is read must not grow past the limit either.
    let mut bytes = Vec::with_capacity(facts.len() as usize);
    file.take(limits.file_bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limits.file_bytes_max {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
