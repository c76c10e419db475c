//! Owns what a tokenized data set is on disk: the plan, the shards with their sidecars, the
//! commit, the data set's summary. Must not know: models, images, threads.
//!
//! ```text
//! Plan::hold -> partition(i) -> PartitionWriter::push.. -> close -> Receipt -> finalize
//! ```
//!
//! # The commit protocol
//! A partition is a range of ordinals of the immutable plan. Its token shard is its commit record:
//! 1. rows are encoded into a hidden, locked temporary file; the digests of the two sidecars
//!    (`failures`, `codebook`) go into the shard's own metadata before it is closed;
//! 2. the sidecars are made durable under names that carry the start of the shard's sha256;
//! 3. the shard is synced and linked to its final name, which fails where the name exists, and the
//!    folder is synced. That link is the commit.
//!
//! A kill before step 3 leaves a hidden temporary file (removed by the next run once its lock is
//! free) and perhaps sidecars that no shard refers to (removed by [`finalize::finalize`]); a kill
//! after it leaves a whole partition. A worker that finds the name taken compares digests.
//!
//! Redoing a partition (`--retry-failed`) goes the same way, except that step 3 renames over the
//! old shard, and that the old sidecars go afterwards: whoever looks sees the old partition or
//! the new one, each whole. An image that has tokens keeps them: where it can't be read any more, or
//! has other content, the old partition stays. It holds the folder's lock exclusively and begins by
//! removing `dataset.json`, so that it never describes shards that have changed.
//!
//! A repair brings back shards that were recorded ([`recorded`]) as these: made again, one takes its place
//! where it has the sha256 that it had, and else nothing is changed, `dataset.json` least of all, so that
//! the images can be restored and the repair be tried again. It removes `dataset.json` where that is what
//! is damaged, or where nothing tells what a shard was.
//!
//! # Large outputs
//! No folder has more than 10,000 files, nobody lists a folder that grows with the data set, and no
//! process holds what grows with the images (`util::scale` has the limits). An output that has more
//! than 10,000 partitions when its plan is written is laid out for that, and its plan says so:
//! - its rows lie in several files of the plan, which a root names (`plan::root`); a process has two of
//!   their footers at a time, each as 32 bytes a column of a partition (`plan::footer`);
//! - the files of partitions lie in folders of a thousand by their numbers ([`files::ShardFolders`]):
//!   which there are is known from the plan, and each is listed by its name;
//! - finishing it folds the partitions of a folder into a list and a codebook part ([`folds`]), and then
//!   these: a tree of two levels. Any worker may make a fold, each has one content.
//!
//! Before there is a plan, workers may list containers of the input in shares ([`listing`]). The digest of
//! a plan is that of its rows, in whatever files they lie, so that it doesn't depend on who listed them or
//! on the layout; what is appended beyond 10,000 partitions lies in folders beside what was there.
//!
//! Appending adds one more plan, which stands upon the digest of the one before it. Its ordinals and
//! partitions go on behind, and nothing that is there changes; `dataset.json` describes the plans
//! before until [`finalize::finalize`] has folded all of them.

pub(crate) mod append;
mod arrangement;
mod arrivals;
pub(crate) mod changes;
mod classes;
mod cleanup;
mod columns;
pub(crate) mod commit;
pub(crate) mod commit_many;
pub(crate) mod dataset;
pub(crate) mod displaced;
mod duplicate_keys;
mod features;
pub(crate) mod files;
pub mod finalize;
pub(crate) mod folder_lock;
mod folds;
mod foreign_shards;
pub(crate) mod identity;
mod in_the_way;
mod level_layout;
mod levels;
pub(crate) mod listing;
mod lost_plan;
mod moved;
mod occupied;
pub(crate) mod plan;
mod present;
mod rebuild;
pub(crate) mod recorded;
pub(crate) mod repair;
mod rows;
pub(crate) mod schema;
pub(crate) mod shard;
mod shard_commit;
mod shard_contents;
mod sidecars;
pub(crate) mod stats;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod unplanned;
mod untrusted;
mod write_refusal;

pub(crate) use crate::tokens::foreign_shards::refuse_foreign;
pub use crate::tokens::shard_contents::contents;
pub(crate) use arrangement::must_lie_as_planned;
pub(crate) use arrivals::{Arrivals, Doubt, Verdict};
pub(crate) use classes::CLASSES_MAX;
pub(crate) use columns::TOKENS_MAX;
pub use finalize::{DatasetSummary, finalize};
pub use identity::{Identity, Preprocessing, TokenizerId};
pub use level_layout::LevelLayout;
pub(crate) use level_layout::{CODES_MAX, Scales};
pub(crate) use moved::Moved;
pub(crate) use plan::{ChangedContainers, FILE as PLAN_FILE, PlanFile};
pub use plan::{Container, ContainerFile, Held, Plan, Today};
pub(crate) use rows::Bucket;
pub use rows::{FailureRow, Outcome, PlanRow, TokenGrid, TokenRow};
pub use shard::PartitionWriter;
pub use shard_commit::{Commit, CommitMode, Receipt};
