//! Owns the names of the formats and what each one can hold. Must not know: their bytes.

use std::fmt;
use std::str::FromStr;

/// A format that trainers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Tars of `.tokens.npy`, `.cls`, `.txt` and `.json`.
    WebDataset,
    /// Megatron-Core's `IndexedDataset`: `.bin` and `.idx`.
    Megatron,
    /// JSON lines, as 1d-tokenizer's RAR reads them; fields and their names can be chosen.
    Jsonl,
    /// Bare ids, as nanoGPT reads them.
    Bin,
    /// datatrove's `.ds`, as nanotron reads it.
    Datatrove,
    /// LitData's chunks of ids, as litgpt reads them.
    LitData,
    /// MosaicML Streaming's shards.
    Mds,
}

/// What a format is like.
pub(super) struct Traits {
    /// What it is called.
    pub name: &'static str,
    /// Whether it holds grids of codes as they are; else sequences of ids, with offsets and special
    /// ids where they are asked for.
    pub grids: bool,
    /// Rows of a file, where there are many of them.
    pub shard_rows: Option<u64>,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 7] = [
        Target::WebDataset,
        Target::Megatron,
        Target::Jsonl,
        Target::Bin,
        Target::Datatrove,
        Target::LitData,
        Target::Mds,
    ];

    pub(super) const fn traits(self) -> Traits {
        let (name, grids, shard_rows) = match self {
            Target::WebDataset => ("webdataset", true, Some(10_000)),
            Target::Megatron => ("megatron", false, None),
            Target::Jsonl => ("jsonl", false, None),
            Target::Bin => ("bin", false, None),
            Target::Datatrove => ("datatrove", false, None),
            Target::LitData => ("litdata", false, Some(10_000)),
            Target::Mds => ("mds", true, Some(10_000)),
        };
        Traits { name, grids, shard_rows }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traits().name)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let found = Target::ALL.into_iter().find(|target| target.traits().name == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Target::ALL.iter().map(Target::to_string).collect();
            format!("one of {}", names.join(", "))
        })
    }
}
