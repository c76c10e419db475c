//! Owns refusing shards of other outputs in the places of an output's own: whoever goes on with them
//! would call finished what isn't. Must not know: how they are replaced.

use rayon::prelude::*;

use super::plan::Plan;
use super::untrusted;
use crate::error::{Error, Result};

/// Looks at the footers of some partitions' shards.
///
/// # Errors
/// The first shard that is of another plan, can't be read, or isn't there.
pub(crate) fn refuse_foreign(plan: &Plan, partitions: Vec<usize>) -> Result<()> {
    let own = |&partition: &usize| -> Result<()> {
        let path = plan.shard_path(partition);
        let broken = |what: &str| Error::damaged(&path, what);
        match () {
            () if !plan.has(partition) => Err(broken("it is missing")),
            () if untrusted::entry_of(&path, "vqtok.plan_sha256")? == plan.digest_of(partition) => {
                Ok(())
            }
            () => Err(broken("it belongs to another output")),
        }
    };
    let looked_at: Vec<Result<()>> = partitions.par_iter().map(own).collect();
    looked_at.into_iter().collect()
}
