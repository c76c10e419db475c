//! Owns writing the plan of a job and nothing else: what is to do, for a coordinator that hands it out.

use super::events::Observer;
use super::tokenize::Tokenize;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::storage;
use crate::util::settings::{PLAN_ONLY, RETRY_FAILED};

/// A plan that stands, and what is still to do of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WrittenPlan {
    /// Images of the plan.
    pub images: u64,
    /// Partitions of the plan.
    pub partitions: u64,
    /// Those of our share that aren't there, ascending.
    pub todo: Vec<PartitionToMake>,
}

/// A partition that isn't there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionToMake {
    /// Its number.
    pub partition: u64,
    /// Images of it.
    pub images: u64,
    /// Bytes of their files, as they were planned: which of two takes longer.
    pub bytes: u64,
}

impl Tokenize {
    /// Lists the inputs into the plan, or holds them against the plan that is there, and makes no
    /// partition: that is for [`PartitionWorker`](crate::PartitionWorker)s. Reads the plan once more for
    /// the sizes, a small part of what listing takes.
    ///
    /// # Errors
    /// Those of [`Tokenize::run`].
    pub fn write_plan(
        &self,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<WrittenPlan> {
        if self.retry_failed {
            return Err(Error::setting(
                PLAN_ONLY,
                format!(
                    "can't be beside {RETRY_FAILED}, which replaces shards: run that on one machine"
                ),
            ));
        }
        self.check(&tokenizer.path)?;
        let (_, planned) = storage::opening(|| self.plan(tokenizer, observer))?;
        let plan = &planned.plan;
        storage::resumable(|| {
            self.refuse_foreign(plan)?;
            let todo = self.todo(plan)?;
            self.reopen(plan, &todo)?;
            let sized = |partition: usize| {
                let rows = plan.partition(partition)?;
                let bytes = rows.iter().map(|row| row.bytes.unsigned_abs()).sum();
                let (partition, images) = (partition as u64, rows.len() as u64);
                Ok(PartitionToMake { partition, images, bytes })
            };
            Ok(WrittenPlan {
                images: plan.rows(),
                partitions: plan.partitions() as u64,
                todo: todo.into_iter().map(sized).collect::<Result<_>>()?,
            })
        })
    }
}
