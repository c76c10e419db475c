//! Owns what may be an INPUT: folders and files that are there, each once, none inside another, and
//! nothing that vqtok wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::data::source::own;
use crate::error::{Error, Result};
use crate::storage;
use crate::util::text;

#[derive(Debug)]
pub(super) struct Input {
    pub path: PathBuf,
    pub is_folder: bool,
}

/// Inputs that may be walked.
pub(super) struct Checked {
    /// As given, their paths made absolute.
    pub inputs: Vec<Input>,
    /// Every input, links resolved.
    pub roots: BTreeSet<PathBuf>,
}

/// Checks inputs, of which those that vqtok wrote pass where `take_own`; nothing below them is
/// touched.
pub(super) fn check(inputs: &[PathBuf], take_own: bool) -> Result<Checked> {
    if inputs.is_empty() {
        return Err(Error::invalid("no input given; name at least one folder or image"));
    }
    // By resolved path, and folders by identity as well: one may be mounted in several places.
    let mut roots: BTreeMap<PathBuf, &PathBuf> = BTreeMap::new();
    let mut folders: BTreeMap<(u64, u64), &PathBuf> = BTreeMap::new();
    let mut remote = Vec::new();
    let mut checked = Vec::with_capacity(inputs.len());
    for input in inputs {
        if let Some(scheme) = storage::unknown_scheme(input).filter(|_| !input.exists()) {
            return Err(Error::invalid(format!(
                "{}: {scheme}:// is nothing that vqtok reads; it reads paths, s3://, gs://, az:// and \
                 https://",
                text::path(input)
            )));
        }
        if storage::is_remote(input) {
            checked.push(check_remote(input, take_own, &mut remote)?);
            roots.insert(input.clone(), input);
            continue;
        }
        let root = fs::canonicalize(input).map_err(Error::io(input))?;
        let kind = fs::metadata(&root).map_err(Error::io(input))?;
        if !kind.is_dir() && !kind.is_file() {
            return Err(Error::invalid(format!(
                "{}: neither a folder nor a regular file; images are read from those only",
                text::path(input)
            )));
        }
        let own = if kind.is_dir() && !take_own { own::kind_of(&root) } else { None };
        if let Some(what) = own {
            return Err(of_vqtok(input, what));
        }
        refuse_overlap(input, &root, &kind, &roots, &folders)?;
        roots.insert(root, input);
        if kind.is_dir() {
            folders.insert((kind.dev(), kind.ino()), input);
        }
        let path = std::path::absolute(input).map_err(Error::io(input))?;
        checked.push(Input { path, is_folder: kind.is_dir() });
    }
    Ok(Checked { inputs: checked, roots: roots.into_keys().collect() })
}

/// An INPUT in a store, beside those before it.
fn check_remote<'a>(
    input: &'a PathBuf,
    take_own: bool,
    others: &mut Vec<&'a PathBuf>,
) -> Result<Input> {
    let is_folder = storage::facts(input).map_err(Error::io(input))?.is_folder;
    // Below a file nothing is looked for: a busy server would be asked for minutes.
    if is_folder
        && !take_own
        && let Some(what) = own::kind_of(input)
    {
        return Err(of_vqtok(input, what));
    }
    for other in others.iter() {
        for (inner, outer) in [(input, *other), (*other, input)] {
            if storage::same_or_below(inner, outer) {
                return Err(inside(inner, outer));
            }
        }
    }
    others.push(input);
    let path = match input.to_str() {
        Some(text) => PathBuf::from(text.trim_end_matches('/')),
        None => input.clone(),
    };
    Ok(Input { path, is_folder })
}

fn of_vqtok(input: &Path, what: &str) -> Error {
    Error::invalid(format!(
        "{} is {what} of vqtok: what it wrote is no input; name the folder of your images",
        text::path(input)
    ))
}

fn inside(inner: &Path, outer: &Path) -> Error {
    Error::invalid(format!(
        "{} lies inside {}: its images would be tokenized twice",
        text::path(inner),
        text::path(outer)
    ))
}

/// Refuses an INPUT that is, holds or lies inside another one.
fn refuse_overlap(
    input: &PathBuf,
    root: &Path,
    kind: &Metadata,
    roots: &BTreeMap<PathBuf, &PathBuf>,
    folders: &BTreeMap<(u64, u64), &PathBuf>,
) -> Result<()> {
    let same = roots.get(root).copied();
    let mounted = || folders.get(&(kind.dev(), kind.ino())).copied().filter(|_| kind.is_dir());
    if let Some(other) = same.or_else(mounted) {
        return Err(Error::invalid(format!(
            "{} and {} are the same place: its images would be tokenized twice",
            text::path(input),
            text::path(other)
        )));
    }
    let outer = root.ancestors().find_map(|outer| roots.get(outer)).map(|outer| (input, *outer));
    let nested = outer.or_else(|| first_inside(roots, root).map(|inner| (*inner, input)));
    if let Some((inner, outer)) = nested {
        return Err(inside(inner, outer));
    }
    Ok(())
}

/// What lies inside `outer` among places in order; paths are ordered by their parts, so what lies
/// inside one follows it directly.
fn first_inside<'a, T>(places: &'a BTreeMap<PathBuf, T>, outer: &Path) -> Option<&'a T> {
    let behind = (Bound::Included(outer), Bound::Unbounded);
    let (first, value) = places.range::<Path, _>(behind).next()?;
    first.starts_with(outer).then_some(value)
}
