//! The formats, one file each. Must not know: where rows come from, splits, how files get their names.

mod flat;
mod headed;
mod jsonl;
mod litdata;
mod mds;
mod megatron;
mod webdataset;

use super::format::{Facts, Format};
use super::target::Target;
use crate::error::Result;

/// A format for these rows.
///
/// # Errors
/// What it has no place for, by the setting's name.
pub(super) fn of(target: Target, facts: &Facts) -> Result<Box<dyn Format>> {
    Ok(match target {
        Target::WebDataset => Box::new(webdataset::WebDataset::of(facts)),
        Target::Megatron => Box::new(megatron::Megatron::of(facts)?),
        Target::Jsonl => Box::new(jsonl::Jsonl::of(facts)),
        Target::Bin => Box::new(flat::Flat::of(facts, flat::Kind::Bin)),
        Target::Datatrove => Box::new(flat::Flat::of(facts, flat::Kind::Datatrove)),
        Target::LitData => Box::new(litdata::LitData::of(facts)?),
        Target::Mds => Box::new(mds::Mds::of(facts)),
    })
}
