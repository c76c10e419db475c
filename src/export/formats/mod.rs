//! The formats, one file each. Must not know: where rows come from, splits, how files get their names.

mod emu3;
mod flat;
mod four_m;
mod headed;
mod hf;
mod jsonl;
mod litdata;
mod llamagen;
mod mds;
mod megatron;
mod npy;
mod open_muse;
mod tfrecord;
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
        Target::Bin => Box::new(flat::Flat::of(facts, flat::Kind::Bin)?),
        Target::Datatrove => Box::new(flat::Flat::of(facts, flat::Kind::Datatrove)?),
        Target::LitData => Box::new(litdata::LitData::of(facts)?),
        Target::Mds => Box::new(mds::Mds::of(facts)),
        Target::LlamaGen => Box::new(llamagen::LlamaGen::of(facts)),
        Target::Emu3 => Box::new(emu3::Emu3::of(facts)),
        Target::FourM => Box::new(four_m::FourM::of(facts)?),
        Target::OpenMuse => Box::new(open_muse::OpenMuse::of(facts)?),
        Target::Npy => Box::new(npy::Npy::of(facts)),
        Target::Hf => Box::new(hf::Hf::of(facts)),
        Target::TfRecord => Box::new(tfrecord::TfRecord::of(facts)),
    })
}
