//! Owns finding that an output is larger than its plans say: shards of its own settings behind their
//! partitions, whose plan was lost. Must not know: how that comes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::commit;
use super::files::{Sidecar, each_shard, folders_below, partition_of};
use super::foreign_shards::refuse_foreign;
use super::identity::Identity;
use super::plan::Plan;
use super::untrusted;
use crate::error::{Error, Result};
use crate::util::text;

/// Refuses to call an output whole that is larger than its plans say: what is behind would be lost.
///
/// # Errors
/// [`Error::Corrupt`] naming the plan that is missing; a folder that can't be listed.
pub(crate) fn refuse(plan: &Plan) -> Result<()> {
    let Some(path) = first(plan)? else { return Ok(()) };
    if has_grown(plan)? {
        return Ok(());
    }
    // Of another, larger output, all of them are.
    refuse_foreign(plan, plan.committed()?.iter().collect())?;
    Err(refusal(plan, &path))
}

/// The same where nothing has recorded how large the output is and the shards behind were lost as well: what
/// lies beside them is left.
///
/// # Errors
/// Those of [`refuse`].
pub(super) fn refuse_beside(plan: &Plan) -> Result<()> {
    match first_beside(plan)? {
        Some(path) if !has_grown(plan)? => Err(refusal(plan, &path)),
        _ => Ok(()),
    }
}

/// Whether another job has appended since.
fn has_grown(plan: &Plan) -> Result<bool> {
    Ok(Plan::open(plan.dir())?.files().len() > plan.files().len())
}

fn refusal(plan: &Plan, path: &Path) -> Error {
    let dir = plan.dir();
    let file = text::path(path.strip_prefix(dir).unwrap_or(path));
    Error::corrupt(
        dir.join(plan.last().next().name()),
        format!(
            "it is missing: {file} was made with the settings of this output, and none of its plans has \
             it; `vqtok repair` rebuilds that plan, or says how to get it back; where the file is \
             another output's, move it away"
        ),
    )
}

/// The first shard behind all plans that was made with the output's settings.
fn first(plan: &Plan) -> Result<Option<PathBuf>> {
    let mut behind = BTreeMap::new();
    each_shard(plan.dir(), |partition, path| {
        if partition >= plan.partitions() {
            behind.entry(partition).or_insert(path);
        }
    })?;
    let mut behind = behind.into_iter();
    let ours = behind.find(|(partition, path)| is_ours(plan.identity(), *partition, path));
    Ok(ours.map(|(_, path)| path))
}

/// A file beside a shard behind all plans that was made with the output's settings.
fn first_beside(plan: &Plan) -> Result<Option<PathBuf>> {
    let identity = plan.identity().digest();
    let behind = |path: &PathBuf| partition_of(path).is_some_and(|p| p >= plan.partitions());
    let ours = |path: &PathBuf| {
        let entry = |key: &str| untrusted::entry_of(path, key).ok();
        entry("vqtok.identity_sha256").as_ref() == Some(&identity)
            && entry("vqtok.partition").and_then(|text| text.parse().ok()) == partition_of(path)
    };
    for kind in Sidecar::ALL {
        let folder = plan.dir().join(kind.folder());
        let mut folders = vec![folder.clone()];
        folders.extend(folders_below(&folder)?.into_iter().map(|below| folder.join(below)));
        for folder in folders {
            let found = commit::list(&folder)?.into_iter().filter(behind).find(ours);
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// Whether a file is the shard that its name says, made with these settings.
pub(super) fn is_ours(identity: &Identity, partition: usize, path: &Path) -> bool {
    let entry = |key: &str| untrusted::entry_of(path, key).ok();
    let made =
        entry("vqtok.identity").and_then(|text| serde_json::from_str::<Identity>(&text).ok());
    entry("vqtok.partition").and_then(|text| text.parse().ok()) == Some(partition)
        && made.as_ref() == Some(identity)
}
