//! Owns finding what lies in the way of a repair before it changes anything: folders in the places of
//! files that may have to be made again, files in those of folders. Must not know: what is damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::{
    CODEBOOK_FILE, DATASET_FILE, DATASET_FOLDER, FOLDERS, PLAN_FOLDER, folders_below, partition_of,
};
use super::{commit, plan};
use crate::error::{Error, FILE_IN_THE_WAY, FOLDER_IN_THE_WAY, Result};
use crate::storage;

/// Looks at the places of some plans and partitions, and of what is summed up of all.
///
/// # Errors
/// [`Error::Corrupt`] naming what is in the way; a folder that can't be listed.
pub(super) fn refuse(
    dir: &Path,
    plans: &BTreeSet<usize>,
    partitions: &BTreeSet<usize>,
) -> Result<()> {
    refuse_files(dir)?;
    let mut files = vec![dir.join(DATASET_FILE), dir.join(CODEBOOK_FILE)];
    files.extend(plans.iter().map(|&number| dir.join(plan::name(number))));
    for folder in [PLAN_FOLDER, DATASET_FOLDER].map(|name| dir.join(name)) {
        files.extend(commit::list(&folder)?.into_iter().filter(|path| is_part(path)));
    }
    for folder in FOLDERS.map(|name| dir.join(name)) {
        files.extend(of_partitions(&folder, partitions)?);
        for below in folders_below(&folder)? {
            files.extend(of_partitions(&folder.join(below), partitions)?);
        }
    }
    match files.into_iter().find(|path| is(path, true)) {
        None => Ok(()),
        Some(path) => Err(Error::corrupt(path, FOLDER_IN_THE_WAY)),
    }
}

/// Looks at the places of an output's folders.
///
/// # Errors
/// [`Error::Corrupt`] naming the file that is in the way of one.
pub(super) fn refuse_files(dir: &Path) -> Result<()> {
    if storage::is_remote(dir) {
        return Ok(()); // A store has no folders that a name could be in the way of.
    }
    let mut folders =
        FOLDERS.iter().chain(&[PLAN_FOLDER, DATASET_FOLDER]).map(|name| dir.join(name));
    match folders.find(|path| is(path, false)) {
        None => Ok(()),
        Some(path) => Err(Error::corrupt(path, FILE_IN_THE_WAY)),
    }
}

/// Whether something is a folder, or a file.
fn is(path: &Path, folder: bool) -> bool {
    storage::facts(path).is_ok_and(|facts| if folder { facts.is_folder } else { facts.is_file })
}

/// Whether a path has a name as files have that a plan or `dataset.json` names.
fn is_part(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(|first: char| first.is_ascii_digit() || "sc".contains(first))
        && [".parquet", ".json"].iter().any(|end| name.ends_with(end))
}

/// What has the name of a shard of one of the partitions, or of a file beside it.
fn of_partitions(folder: &Path, partitions: &BTreeSet<usize>) -> Result<Vec<PathBuf>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let of = |path: &PathBuf| partition_of(path).is_some_and(|of| partitions.contains(&of));
    Ok(commit::list(folder)?.into_iter().filter(of).collect())
}
