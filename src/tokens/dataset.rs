//! Owns `dataset.json`: what it says of an output, reading and rendering it. Must not know: how it is
//! computed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{DATASET_FILE, ShardFolders, Sidecar};
use super::identity::Identity;
use super::{commit, folds, schema};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::hex::{hex, sha256_hex};
use crate::util::regular_file::ANY_SIZE;
use crate::util::text;

/// What `dataset.json` says. `schemas/dataset.v1.json` and those after it describe each name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSummary {
    /// `dataset.v1`; `dataset.v2` where images were appended; `dataset.v3` where `parts` list the shards.
    pub schema: String,
    /// What made it.
    pub identity: Identity,
    /// The input.
    pub plan: PlanSummary,
    /// What was appended to it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub appended: Vec<AppendedSummary>,
    /// Class names: `label_id` of the shards is a place among them. None where classes have no ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Sums over the shards.
    pub totals: Totals,
    /// The use of the codebook.
    pub codebook: CodebookSummary,
    /// Every partition, in order; none where `parts` list them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardSummary>,
    /// Files that list the partitions of an output whose shards lie in folders, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartSummary>,
}

impl DatasetSummary {
    /// Partitions.
    pub fn partitions(&self) -> u64 {
        let appended: u64 = self.appended.iter().map(|plan| plan.partitions).sum();
        self.plan.partitions + appended
    }

    /// The digests of the plans, in order.
    pub(crate) fn plans(&self) -> Vec<String> {
        let appended = self.appended.iter().map(|plan| plan.digest.clone());
        std::iter::once(self.plan.digest.clone()).chain(appended).collect()
    }

    /// The digest and the file of the plan with so many before it.
    pub(super) fn plan_of(&self, number: usize) -> Option<(&str, &FileSummary)> {
        match number.checked_sub(1) {
            None => Some((&self.plan.digest, &self.plan.file)),
            Some(appended) => self.appended.get(appended).map(|plan| (&*plan.digest, &plan.file)),
        }
    }

    /// Where a partition's shard lies, below the output.
    pub(crate) fn shard_path(&self, partition: u64) -> PathBuf {
        let of = |plan: &&AppendedSummary| plan.first_partition <= partition;
        let size = match self.appended.iter().rev().find(of) {
            Some(plan) => plan.shards_a_folder,
            None => self.plan.shards_a_folder,
        };
        let folders = size.and_then(|size| ShardFolders::parse(&size.to_string()).ok());
        folders.unwrap_or_default().shard(Path::new(""), partition as usize)
    }

    /// Every partition of the output at `dir`, in order, a part of the list at a time.
    ///
    /// # Errors
    /// A part that can't be read, or isn't the one that was recorded, comes as an error of its own.
    pub(crate) fn all_shards(&self, dir: &Path) -> impl Iterator<Item = Result<ShardSummary>> {
        let parts = self.parts.iter().flat_map(move |part| match folds::read(dir, &part.shards) {
            Ok(fold) => fold.shards.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        self.shards.iter().cloned().map(Ok).chain(parts)
    }
}

/// Some partitions in the summary, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartSummary {
    /// The number of the first of them.
    pub first_partition: u64,
    /// How many there are.
    pub partitions: u64,
    /// Their sums.
    pub totals: Totals,
    /// The list of them, a `shards.v1`.
    pub shards: FileSummary,
    /// Their codebook counts.
    pub codebook: FileSummary,
}

/// A file of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSummary {
    /// Relative to the output folder, `/` between parts.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Hex, of its bytes.
    pub sha256: String,
}

/// The plan in the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSummary {
    /// The plan's, in hex: of its rows and their partitions.
    pub digest: String,
    /// Images.
    pub rows: u64,
    /// Row groups.
    pub partitions: u64,
    /// `plan.parquet`.
    pub file: FileSummary,
    /// Partitions whose files lie in one folder below; None where all lie in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_a_folder: Option<u64>,
}

/// A plan that was appended, in the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppendedSummary {
    /// Its digest.
    pub digest: String,
    /// Images.
    pub rows: u64,
    /// Row groups.
    pub partitions: u64,
    /// The ordinal of its first image.
    pub first_ordinal: u64,
    /// The number of its first partition.
    pub first_partition: u64,
    /// `plan-00001.parquet`, ...
    pub file: FileSummary,
    /// Partitions whose files lie in one folder below; None where all lie in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_a_folder: Option<u64>,
}

/// Sums over the shards: `planned = written + failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Images in the plan.
    pub planned: u64,
    /// Images with tokens.
    pub written: u64,
    /// Images given up.
    pub failed: u64,
    /// Rows of token shards: images times views.
    pub rows: u64,
    /// Tokens of all levels.
    pub tokens: u64,
}

impl Totals {
    /// Adds a partition; its tokens aren't known here.
    pub(super) fn take(&mut self, shard: &ShardSummary) {
        self.planned += shard.planned;
        self.written += shard.written;
        self.failed += shard.failed;
        self.rows += shard.rows;
    }

    /// Adds the sums over others.
    pub(super) fn add(&mut self, other: &Totals) {
        self.planned += other.planned;
        self.written += other.written;
        self.failed += other.failed;
        self.rows += other.rows;
        self.tokens += other.tokens;
    }
}

/// The use of the codebook in the summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodebookSummary {
    /// `codebook.parquet`.
    pub file: FileSummary,
    /// One entry a level.
    pub levels: Vec<LevelSummary>,
}

/// The use of one level's codes; where these are too many to be counted, of their bits.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelSummary {
    /// K; 2 where a token is a list of bits.
    pub codes: u64,
    /// Tokens.
    pub tokens: u64,
    /// Codes used at least once. None where bits are counted, as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Entropy H of their use, to a millionth of a bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_bits: Option<f64>,
    /// 2^H, to a millionth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// D, where bits are counted. None where codes are, as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u64>,
    /// Bits that are 0 in some tokens and 1 in others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_varying: Option<u64>,
    /// The bits' entropies, summed, to a millionth of a bit: codes have at most as much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_entropy_sum: Option<f64>,
}

/// One partition in the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSummary {
    /// Its number.
    pub partition: u64,
    /// The ordinal of its first image.
    pub first_ordinal: u64,
    /// Images.
    pub planned: u64,
    /// Images with tokens.
    pub written: u64,
    /// Images given up.
    pub failed: u64,
    /// Rows.
    pub rows: u64,
    /// The token shard.
    pub tokens: FileSummary,
    /// Its failures.
    pub failures: FileSummary,
    /// Its codebook counts.
    pub codebook: FileSummary,
}

impl ShardSummary {
    pub(super) fn sidecar(&self, kind: Sidecar) -> &FileSummary {
        match kind {
            Sidecar::Failures => &self.failures,
            Sidecar::Codebook => &self.codebook,
        }
    }
}

/// How many of the first partitions the finished state of an output has: none where it has no such
/// state, all where that can't be told.
pub(crate) fn finished_partitions(dir: &Path) -> usize {
    read(dir)
        .map_or(usize::MAX, |summary| summary.map_or(0, |summary| summary.partitions() as usize))
}

/// The summary of a finished output, or of what was finished before more was appended; None where it isn't finished.
///
/// # Errors
/// A file that can't be read, or whose digest of itself is wrong.
pub fn read(dir: &Path) -> Result<Option<DatasetSummary>> {
    let path = dir.join(DATASET_FILE);
    let text = match storage::read_to_string(&path, ANY_SIZE) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::of_output(&path)(error)),
    };
    let broken = |reason: String| Error::damaged(&path, reason);
    let body = signed(&text).map_err(broken)?;
    let summary: DatasetSummary = serde_json::from_str(&body).map_err(|e| broken(e.to_string()))?;
    let known = [schema::DATASET, schema::DATASET_OF_PLANS, schema::DATASET_OF_PARTS];
    match known.contains(&&*summary.schema) {
        true => Ok(Some(summary)),
        false => Err(Error::corrupt(&path, later(&summary.schema))),
    }
}

/// What there is to say of an output that this version doesn't know.
fn later(schema: &str) -> String {
    format!("it is a '{}', of a later version of vqtok; use that one", text::shorten(schema))
}

/// The bytes of `dataset.json`.
pub fn render(summary: &DatasetSummary) -> String {
    with_digest(summary)
}

/// A value as JSON whose last member is the digest of what stands before its line.
pub(super) fn with_digest(value: &impl Serialize) -> String {
    // Serializing strings, integers and finite floats has no failing case.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let body = format!("{},\n", text.trim_end_matches('}').trim_end());
    format!("{body}  \"self_sha256\": \"{}\"\n}}\n", sha256_hex(body.as_bytes()))
}

/// The JSON of what [`with_digest`] gives, without the digest.
///
/// # Errors
/// In a few words: a digest that is wrong, or none.
pub(super) fn signed(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once("  \"self_sha256\": ");
    let (body, tail) = parts.ok_or_else(|| "it has no digest of itself".to_string())?;
    if tail != format!("\"{}\"\n}}\n", sha256_hex(body.as_bytes())) {
        return Err("its digest of itself is wrong".into());
    }
    Ok(format!("{}\n}}", body.trim_end().trim_end_matches(',')))
}

/// A file of an output, hashed.
///
/// # Errors
/// What can't be read.
pub(super) fn file_summary(dir: &Path, path: &Path) -> Result<FileSummary> {
    let (sha256, bytes) = commit::digest_file(path)?;
    let relative = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    Ok(FileSummary { path: parts.join("/"), bytes, sha256: hex(sha256) })
}
