//! Owns finding shards that were moved out of their folders. Must not know: who moves them back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::each_shard;
use super::plan::Plan;
use super::untrusted;
use crate::error::{Error, Result};
use crate::util::text;

/// Refuses to go on where partitions that aren't in their places (`has` says which are) lie elsewhere
/// among the shards: they would be made again, and those would stay as strays.
///
/// # Errors
/// [`Error::Corrupt`] naming the first and where it belongs; a folder that can't be listed.
pub(crate) fn refuse(plan: &Plan, has: impl Fn(usize) -> bool) -> Result<()> {
    let mut elsewhere = BTreeMap::new();
    each_shard(plan.dir(), |partition, path| {
        if partition < plan.partitions() && !has(partition) {
            elsewhere.entry(partition).or_insert(path);
        }
    })?;
    elsewhere.retain(|&partition, path| is_of(plan, partition, path));
    match elsewhere.into_iter().next() {
        None => Ok(()),
        Some((partition, path)) => Err(told(plan, partition, path)),
    }
}

fn told(plan: &Plan, partition: usize, path: PathBuf) -> Error {
    let place = plan.shard_path(partition);
    Error::corrupt(
        path,
        format!(
            "it is shard {partition} of this output and lies in another folder than its own: move it to \
             {}; `vqtok verify` lists all such files",
            text::path(place)
        ),
    )
}

/// Whether a file is the shard of a partition, of the plan that has it.
fn is_of(plan: &Plan, partition: usize, path: &Path) -> bool {
    let entry = |key: &str| untrusted::entry_of(path, key).ok();
    entry("vqtok.plan_sha256").as_deref() == Some(plan.digest_of(partition))
        && entry("vqtok.partition").and_then(|text| text.parse().ok()) == Some(partition)
}
