//! Owns giving up a whole partition: every image of it becomes a failure, and none is looked at.

use super::encode::failure;
use super::settings::Settings;
use crate::error::{Reject, Result};
use crate::tokens::{CommitMode, Outcome, PartitionWriter, Plan, Receipt};
use crate::util::panics;

/// Commits a partition of failures, each for the same reason.
///
/// # Errors
/// What a bad image costs, where that is the run; what the system refuses.
pub(crate) fn give_up(
    settings: &Settings,
    plan: &Plan,
    partition: usize,
    reject: &Reject,
) -> Result<Receipt> {
    let _at = panics::at("give up", Some(&format!("shard {partition}")));
    let mut writer = PartitionWriter::create(plan, partition, CommitMode::New)?;
    for row in plan.partition(partition)? {
        settings.cost_of(&row, reject)?;
        writer.push(Outcome::Failed(failure(row, reject.clone())))?;
    }
    writer.close()
}
