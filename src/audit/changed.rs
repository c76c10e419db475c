//! Owns finding files of a finished output that aren't those which its `dataset.json` recorded. Must not
//! know: the writer, what is in them.

use std::path::Path;

use rayon::prelude::*;

use super::dataset::{self, Dataset};
use super::facts::FileFacts;
use crate::storage;

/// The shards and failures that are there and differ from what was recorded of them, in one line each.
pub(super) fn changed(dir: &Path) -> Vec<String> {
    let Ok(Some(dataset)) = dataset::read(dir) else { return Vec::new() };
    let partitions: Vec<usize> = (0..dataset.partitions()).collect();
    let mut problems = Vec::new();
    // Memory holds what is recorded of a few hundred shards.
    for some in partitions.chunks(512) {
        let recorded = some.iter().flat_map(|&partition| dataset.recorded(partition));
        let recorded: Vec<(String, String)> = recorded.collect();
        let found: Vec<_> = recorded.par_iter().filter_map(|file| problem(dir, file)).collect();
        problems.extend(found);
    }
    problems.extend(unread_parts(&dataset));
    problems
}

/// None where a file is as recorded, or isn't there, which is told elsewhere.
fn problem(dir: &Path, (path, sha256): &(String, String)) -> Option<String> {
    if !storage::exists(&dir.join(path)).unwrap_or(true) {
        return None;
    }
    match FileFacts::of(dir, path) {
        Ok(file) if file.sha256 == *sha256 => None,
        Ok(_) => Some(format!(
            "{path}: its sha256 is not the one in {}; `vqtok verify` tells what is wrong",
            dataset::NAME
        )),
        Err(error) => Some(error.to_string()),
    }
}

fn unread_parts(dataset: &Dataset) -> Vec<String> {
    (0..dataset.parts()).filter_map(|part| dataset.part(part).err()).collect()
}
