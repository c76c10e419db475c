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
    /// Hugging Face datasets' `save_to_disk`: Arrow streams.
    Hf,
    /// TFRecord files of `tf.train.Example`.
    TfRecord,
    /// One array of numpy, with a JSON line a row beside it.
    Npy,
    /// LlamaGen's arrays of numpy, two files an image.
    LlamaGen,
    /// Emu3's `.pth`, a file a row.
    Emu3,
    /// 4M's tars, a folder a modality.
    FourM,
    /// open-muse's tars of `.pth` and `.json`.
    OpenMuse,
}

/// What a format is like.
pub(super) struct Traits {
    /// What it is called.
    pub name: &'static str,
    /// Whether it holds grids of codes as they are; else sequences of ids, with offsets and special
    /// ids where they are asked for.
    pub grids: bool,
    /// Whether the views of an image are one row.
    pub stacked: bool,
    /// Whether all grids have to be alike.
    pub alike: bool,
    /// Whether a token may be a list of bits.
    pub bits: bool,
    pub files: Files,
}

/// How many files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// One, or a few, for all rows.
    One,
    /// One for so many rows, unless a setting says otherwise.
    Shards(u64),
    /// One or more for each row; so many rows are named and noted together.
    Each(u64),
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 14] = [
        Target::WebDataset,
        Target::Megatron,
        Target::Jsonl,
        Target::Bin,
        Target::Datatrove,
        Target::LitData,
        Target::Mds,
        Target::Hf,
        Target::TfRecord,
        Target::Npy,
        Target::LlamaGen,
        Target::Emu3,
        Target::FourM,
        Target::OpenMuse,
    ];

    pub(super) const fn traits(self) -> Traits {
        use Files::{Each, One, Shards};
        let (name, grids, files) = match self {
            Target::WebDataset => ("webdataset", true, Shards(10_000)),
            Target::Megatron => ("megatron", false, One),
            Target::Jsonl => ("jsonl", false, One),
            Target::Bin => ("bin", false, One),
            Target::Datatrove => ("datatrove", false, One),
            Target::LitData => ("litdata", false, Shards(10_000)),
            Target::Mds => ("mds", true, Shards(10_000)),
            Target::Hf => ("hf", false, Shards(100_000)),
            Target::TfRecord => ("tfrecord", false, Shards(10_000)),
            Target::Npy => ("npy", true, One),
            Target::LlamaGen => ("llamagen", true, Each(1024)),
            Target::Emu3 => ("emu3", true, Each(1024)),
            Target::FourM => ("4m", true, Shards(10_000)),
            Target::OpenMuse => ("open-muse", true, Shards(10_000)),
        };
        let stacked = matches!(self, Target::LlamaGen | Target::FourM);
        let alike = stacked || matches!(self, Target::Npy | Target::OpenMuse);
        let bits = matches!(self, Target::WebDataset | Target::Hf | Target::Npy);
        Traits { name, grids, stacked, alike, bits, files }
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
