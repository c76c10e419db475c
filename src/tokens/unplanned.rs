//! Owns finding that an output is larger than its plans say: shards of its own settings behind their
//! partitions, whose plan was lost. Must not know: how that comes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::each_shard;
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
    let dir = plan.dir();
    // Another job may have appended since.
    if Plan::open(dir)?.files().len() > plan.files().len() {
        return Ok(());
    }
    // Of another, larger output, all of them are.
    refuse_foreign(plan, plan.committed()?.iter().collect())?;
    let shard = text::path(path.strip_prefix(dir).unwrap_or(&path));
    Err(Error::corrupt(
        dir.join(plan.last().next().name()),
        format!(
            "it is missing: {shard} was made with the settings of this output, and none of its plans has \
             it; `vqtok repair` rebuilds that plan, or says how to get it back; where the shard is \
             another output's, move it away"
        ),
    ))
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

/// Whether a file is the shard that its name says, made with these settings.
pub(super) fn is_ours(identity: &Identity, partition: usize, path: &Path) -> bool {
    let entry = |key: &str| untrusted::entry_of(path, key).ok();
    let made =
        entry("vqtok.identity").and_then(|text| serde_json::from_str::<Identity>(&text).ok());
    entry("vqtok.partition").and_then(|text| text.parse().ok()) == Some(partition)
        && made.as_ref() == Some(identity)
}
