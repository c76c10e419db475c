//! Aggregates committed partitions to a data set: `codebook.parquet`, then `dataset.json`.
//! Must not know: how partitions came about.

use std::path::Path;

use parquet::file::metadata::KeyValue;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::files::{CODEBOOK_FILE, DATASET_FILE, Sidecar, all_committed, shard_path};
use super::foreign_shards::refuse_foreign;
use super::identity::Identity;
use super::plan::{Plan, PlanFile};
use super::stats::{LevelStatistics, Statistics};
use super::{cleanup, commit, schema, untrusted};
use crate::error::{Error, Result};
use crate::storage::{self, Chunks};
use crate::util::hex::{hex, sha256_hex};
use crate::util::regular_file::ANY_SIZE;
use crate::util::{compute_pool, panics, text};

/// What `dataset.json` says. `schemas/dataset.v1.json` and `dataset.v2.json` describe each name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSummary {
    /// `dataset.v1`; `dataset.v2` where images were appended.
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
    /// Every partition, in order.
    pub shards: Vec<ShardSummary>,
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
    /// [`Plan::digest`].
    pub digest: String,
    /// Images.
    pub rows: u64,
    /// Row groups.
    pub partitions: u64,
    /// `plan.parquet`.
    pub file: FileSummary,
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
    fn sidecar(&self, kind: Sidecar) -> &FileSummary {
        match kind {
            Sidecar::Failures => &self.failures,
            Sidecar::Codebook => &self.codebook,
        }
    }
}

/// Aggregates a complete output and writes `dataset.json`, last. Doing it again changes no byte; where
/// `dataset.json` is there already and describes all plans, it is read and returned once every shard
/// is found to be the plan's. Who holds the folder's exclusive lock drops it first.
///
/// # Errors
/// [`Error::Busy`] where partitions are missing, naming how many; a shard or a file of the output's
/// that is damaged or of another plan.
pub fn finalize(dir: impl AsRef<Path>) -> Result<DatasetSummary> {
    let dir = dir.as_ref();
    compute_pool::check_environment()?;
    storage::complete(dir, || finalize_now(dir))
}

fn finalize_now(dir: &Path) -> Result<DatasetSummary> {
    let _at = panics::at("finalize", None);
    let plan = Plan::open(dir)?;
    if let Some(summary) = read(dir)?
        && describes_all(&summary, &plan)?
    {
        refuse_foreign(&plan, (0..plan.partitions()).collect())?;
        // A worker that was killed while another one finished leaves temporary files.
        cleanup::remove_orphans(dir)?;
        return Ok(summary);
    }
    let _lock = plan.lock_shared()?;
    let there = all_committed(dir)?;
    let missing: Vec<usize> = (0..plan.partitions()).filter(|p| !there.contains(p)).collect();
    if let Some(first) = missing.first() {
        return Err(Error::busy(format!(
            "{}: {} of {} partitions are not there yet, the first is {}; finish `vqtok tokenize` \
             first",
            text::path(dir),
            missing.len(),
            plan.partitions(),
            text::path(shard_path(Path::new(""), *first))
        )));
    }
    // In parallel, since every byte is hashed; `collect` keeps the order.
    let shards = (0..plan.partitions())
        .into_par_iter()
        .map(|partition| summarize(&plan, partition))
        .collect::<Result<Vec<_>>>()?;
    remove_unreferenced(dir, &shards)?;
    let summary = aggregate(&plan, shards)?;
    commit::replace_durably(&dir.join(DATASET_FILE), render(&summary).as_bytes())?;
    Ok(summary)
}

/// Whether a summary describes all plans, rather than what was finished before the last were appended.
///
/// # Errors
/// One of other plans.
fn describes_all(summary: &DatasetSummary, plan: &Plan) -> Result<bool> {
    let appended = summary.appended.iter().map(|appended| &appended.digest);
    let described: Vec<&String> = [&summary.plan.digest].into_iter().chain(appended).collect();
    let mut files = plan.files().iter();
    if !described.iter().all(|&digest| files.next().is_some_and(|file| file.digest() == digest)) {
        return Err(Error::damaged(plan.dir().join(DATASET_FILE), "it belongs to another plan"));
    }
    Ok(files.next().is_none())
}

/// How many of the first partitions the finished state of an output has: none where it has no such
/// state, all where that can't be told.
pub(crate) fn finished_partitions(dir: &Path) -> usize {
    read(dir).map_or(usize::MAX, |summary| summary.map_or(0, |summary| summary.shards.len()))
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
        Err(error) => return Err(Error::io(&path)(error)),
    };
    let broken = |reason: String| Error::damaged(&path, reason);
    // The last member is the digest of what stands before its line.
    let (body, tail) = text
        .rsplit_once("  \"self_sha256\": ")
        .ok_or_else(|| broken("it has no digest of itself".into()))?;
    if tail != format!("\"{}\"\n}}\n", sha256_hex(body.as_bytes())) {
        return Err(broken("its digest of itself is wrong".into()));
    }
    let body = format!("{}\n}}", body.trim_end().trim_end_matches(','));
    let summary: DatasetSummary = serde_json::from_str(&body).map_err(|e| broken(e.to_string()))?;
    match [schema::DATASET, schema::DATASET_OF_PLANS].contains(&&*summary.schema) {
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
    // Serializing strings, integers and finite floats has no failing case.
    let text = serde_json::to_string_pretty(summary).unwrap_or_default();
    let body = format!("{},\n", text.trim_end_matches('}').trim_end());
    format!("{body}  \"self_sha256\": \"{}\"\n}}\n", sha256_hex(body.as_bytes()))
}

/// Hashes a partition's three files and checks that they belong together and to the plan.
fn summarize(plan: &Plan, partition: usize) -> Result<ShardSummary> {
    let _at = panics::at("hash shards", Some(&format!("shard {partition}")));
    let dir = plan.dir();
    let path = shard_path(dir, partition);
    let broken = |reason: String| Error::damaged(&path, reason);
    let tokens = file_summary(dir, &path)?;
    let sidecars = Sidecar::ALL.map(|kind| kind.path(dir, partition, &tokens.sha256));
    for sidecar in &sidecars {
        if !storage::exists(sidecar).map_err(Error::io(sidecar))? {
            return Err(broken(format!("its sidecar {} is missing", text::path(sidecar))));
        }
    }
    let [failures, codebook] = sidecars;
    let file = Chunks(storage::open(&path).map_err(Error::io(&path))?);
    let metadata = untrusted::metadata(&file, "").map_err(broken)?;
    let entry = |key: &str| untrusted::entry(&metadata, key).unwrap_or_default();
    let number =
        |key: &str| entry(key).parse::<u64>().map_err(|_| broken(format!("it has no {key}")));
    let summary = ShardSummary {
        partition: partition as u64,
        first_ordinal: number("vqtok.first_ordinal")?,
        planned: number("vqtok.planned")?,
        written: number("vqtok.written")?,
        failed: number("vqtok.failed")?,
        rows: number("vqtok.rows")?,
        tokens,
        failures: file_summary(dir, &failures)?,
        codebook: file_summary(dir, &codebook)?,
    };
    let named = number("vqtok.partition")?;
    let rows = metadata.metadata().file_metadata().num_rows();
    let ordinals = plan.ordinals(partition)?;
    let checks = [
        (entry("vqtok.plan_sha256") == plan.digest_of(partition), "it belongs to another plan"),
        (named == summary.partition, "it is another partition"),
        (summary.first_ordinal as i64 == ordinals.start, "it starts at another image"),
        (summary.planned as i64 == ordinals.end - ordinals.start, "it planned other images"),
        (summary.planned == summary.written + summary.failed, "planned = written + failed fails"),
        (rows == summary.rows as i64, "its footer counts other rows"),
        (entry("vqtok.failures_sha256") == summary.failures.sha256, "its failures are damaged"),
        (
            entry("vqtok.codebook_part_sha256") == summary.codebook.sha256,
            "its codebook part is damaged",
        ),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, reason)) => Err(broken(reason.to_string())),
        None => Ok(summary),
    }
}

/// Merges the codebook parts, writes `codebook.parquet`, sums up.
fn aggregate(plan: &Plan, shards: Vec<ShardSummary>) -> Result<DatasetSummary> {
    let (dir, identity) = (plan.dir(), plan.identity());
    let mut statistics = Statistics::new(identity);
    let mut totals = Totals::default();
    for shard in &shards {
        statistics.merge_file(&dir.join(&shard.codebook.path))?;
        totals.planned += shard.planned;
        totals.written += shard.written;
        totals.failed += shard.failed;
        totals.rows += shard.rows;
    }
    totals.tokens = statistics.levels.iter().map(|level| level.tokens() as u64).sum();
    if totals.planned != plan.rows() {
        return Err(Error::corrupt(dir, "the shards don't add up to the plan"));
    }
    let path = dir.join(CODEBOOK_FILE);
    let entries = vec![
        KeyValue::new("vqtok.schema".into(), Sidecar::Codebook.schema(identity).to_string()),
        KeyValue::new("vqtok.identity_sha256".into(), identity.digest()),
        KeyValue::new("vqtok.plan_sha256".into(), plan.digest().to_string()),
    ];
    commit::replace_durably(&path, &statistics.encode(&path, true, entries)?)?;
    let levels = statistics.levels.iter().map(LevelStatistics::summary);
    let (first, appended) = plans(plan)?;
    let schema = if appended.is_empty() { schema::DATASET } else { schema::DATASET_OF_PLANS };
    Ok(DatasetSummary {
        schema: schema.to_string(),
        identity: identity.clone(),
        plan: first,
        appended,
        classes: plan.classes().map(<[String]>::to_vec),
        totals,
        codebook: CodebookSummary { levels: levels.collect(), file: file_summary(dir, &path)? },
        shards,
    })
}

/// The first plan, and those that were appended to it.
fn plans(plan: &Plan) -> Result<(PlanSummary, Vec<AppendedSummary>)> {
    let dir = plan.dir();
    let summary = |file: &PlanFile| -> Result<AppendedSummary> {
        Ok(AppendedSummary {
            digest: file.digest().to_string(),
            rows: file.rows(),
            partitions: file.partitions() as u64,
            first_ordinal: file.base().ordinal,
            first_partition: file.base().partition as u64,
            file: file_summary(dir, &dir.join(file.base().name()))?,
        })
    };
    let mut plans = plan.files().iter().map(summary).collect::<Result<Vec<_>>>()?;
    let AppendedSummary { digest, rows, partitions, file, .. } = plans.remove(0);
    Ok((PlanSummary { digest, rows, partitions, file }, plans))
}

/// Removes what dead or beaten workers left: orphaned temporary files and unreferenced sidecars.
/// Every partition is committed, so nobody can still come to need them.
fn remove_unreferenced(dir: &Path, shards: &[ShardSummary]) -> Result<()> {
    cleanup::remove_orphans(dir)?;
    cleanup::remove_sidecars(dir, |kind, partition, path| {
        shards.get(partition).is_some_and(|shard| path != dir.join(&shard.sidecar(kind).path))
    })
}

fn file_summary(dir: &Path, path: &Path) -> Result<FileSummary> {
    let (sha256, bytes) = commit::digest_file(path)?;
    let relative = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    Ok(FileSummary { path: parts.join("/"), bytes, sha256: hex(sha256) })
}
