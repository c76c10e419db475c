//! Owns reading `dataset.json` as `schemas/dataset.v1.json` and `dataset.v2.json` describe it, and what
//! it must say.
//! Must not know: the writer.

use crate::audit::hex::hex;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::classes::Classes;
use super::facts::{FileFacts, PartitionFacts, VerifyReport};
use super::plan::PlanFacts;
use crate::audit::code_counts::CodeCounts;
use crate::audit::level_size::LevelSize;
use crate::storage;
use crate::util::regular_file::ANY_SIZE;
use crate::util::text;

/// The data set's own file.
pub(super) const NAME: &str = "dataset.json";

/// A `dataset.json` whose digest of itself was found right.
pub(super) struct Dataset(Value);

/// Why there is none to go by, in one line.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is damaged, or can't be read.
    Damaged(String),
    /// It is whole, of a version that isn't known here.
    Later(String),
}

impl From<String> for Unread {
    fn from(words: String) -> Unread {
        Unread::Damaged(words)
    }
}

/// None where there is none.
pub(super) fn read(dir: &Path) -> Result<Option<Dataset>, Unread> {
    let bytes = match storage::read(&dir.join(NAME), ANY_SIZE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{NAME}: {error}").into()),
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| format!("{NAME}: {e}"))?;
    let claimed = value["self_sha256"].as_str().unwrap_or_default();
    let tail = format!("  \"self_sha256\": \"{claimed}\"\n}}\n");
    let body = bytes.strip_suffix(tail.as_bytes());
    let body = body.ok_or_else(|| format!("{NAME}: it does not end in its own digest"))?;
    if hex(&Sha256::digest(body)) != claimed {
        return Err(format!("{NAME}: its content does not give its own digest").into());
    }
    match value["schema"].as_str() {
        Some("dataset.v1" | "dataset.v2") => Ok(Some(Dataset(value))),
        schema => Err(Unread::Later(format!(
            "it is a '{}', of a later version of vqtok; use that one",
            text::shorten(schema.unwrap_or_default())
        ))),
    }
}

impl Dataset {
    /// A text by JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str()
    }

    /// Partitions it lists.
    pub(super) fn partitions(&self) -> usize {
        self.0["shards"].as_array().map_or(0, Vec::len)
    }

    /// Plans it names.
    pub(super) fn plans(&self) -> usize {
        1 + self.0["appended"].as_array().map_or(0, Vec::len)
    }

    /// A text of the plan with so many before it, by JSON pointer below that.
    pub(super) fn plan_text(&self, number: usize, pointer: &str) -> Option<&str> {
        match number.checked_sub(1) {
            None => self.text(&format!("/plan/{pointer}")),
            Some(appended) => self.text(&format!("/appended/{appended}/{pointer}")),
        }
    }

    /// Partitions of the plan with so many before it.
    pub(super) fn partitions_of(&self, number: usize) -> usize {
        let plan = match number.checked_sub(1) {
            None => &self.0["plan"],
            Some(appended) => &self.0["appended"][appended],
        };
        plan["partitions"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
    }

    /// Rows of a partition's shard.
    pub(super) fn shard_rows(&self, index: usize) -> u64 {
        self.0["shards"][index]["rows"].as_u64().unwrap_or(0)
    }

    /// A partition's files against the digests recorded for them.
    pub(super) fn compare_shard(&self, facts: &PartitionFacts) -> Option<String> {
        let recorded = &self.0["shards"][facts.index];
        for (file, kind) in facts.files.iter().zip(["tokens", "failures", "codebook"]) {
            let recorded = &recorded[kind];
            if recorded["path"] != file.path.as_str() || recorded["sha256"] != file.sha256.as_str()
            {
                return Some(format!("{}: its sha256 is not the one in {NAME}", file.path));
            }
        }
        None
    }

    /// `codebook.parquet` as it is recorded.
    pub(super) fn codebook(&self) -> Option<FileFacts> {
        let file = &self.0["codebook"]["file"];
        Some(FileFacts {
            path: file["path"].as_str()?.to_string(),
            bytes: file["bytes"].as_u64()?,
            sha256: file["sha256"].as_str()?.to_string(),
        })
    }

    /// The first value that isn't as computed.
    pub(super) fn compare(&self, expected: &Value) -> Option<String> {
        let mut value = self.0.clone();
        value.as_object_mut()?.remove("self_sha256");
        difference("", &value, expected)
    }
}

fn file(f: &FileFacts) -> Value {
    json!({"path": f.path, "bytes": f.bytes, "sha256": f.sha256})
}

fn shard(s: &PartitionFacts) -> Value {
    json!({
        "partition": s.index,
        "first_ordinal": s.first_ordinal,
        "planned": s.planned,
        "written": s.written,
        "failed": s.failed,
        "rows": s.rows,
        "tokens": s.files.first().map(file),
        "failures": s.files.get(1).map(file),
        "codebook": s.files.get(2).map(file),
    })
}

/// What it must say.
pub(super) fn expected(
    report: &VerifyReport,
    (plan, appended): (&PlanFacts, &[PlanFacts]),
    code_counts: &CodeCounts,
    shards: &[PartitionFacts],
    codebook: &FileFacts,
) -> Value {
    let round = |x: f64| (x * 1e6).round() / 1e6;
    let level = |(index, size): (usize, LevelSize)| {
        let entropy = code_counts.entropy_bits(index);
        let (codes, tokens) = (size.codes, code_counts.tokens_of(index));
        match size.bits {
            None => json!({
                "codes": codes,
                "tokens": tokens,
                "used": code_counts.used(index),
                "entropy_bits": round(entropy),
                "perplexity": round(entropy.exp2()),
            }),
            Some(bits) => json!({
                "codes": codes,
                "tokens": tokens,
                "bits": bits,
                "bits_varying": code_counts.bits_varying(index),
                "bits_entropy_sum": round(entropy),
            }),
        }
    };
    let mut expected = json!({
        "schema": if appended.is_empty() { "dataset.v1" } else { "dataset.v2" },
        "identity": plan.identity,
        "plan": {
            "digest": plan.digest,
            "rows": plan.rows(),
            "partitions": plan.partitions(),
            "file": file(&plan.file),
        },
        "totals": {
            "planned": report.planned,
            "written": report.written,
            "failed": report.failed,
            "rows": report.rows,
            "tokens": report.tokens,
        },
        "codebook": {
            "file": file(codebook),
            "levels": plan.sizes().into_iter().enumerate().map(level).collect::<Vec<_>>(),
        },
        "shards": shards.iter().map(shard).collect::<Vec<_>>(),
    });
    if let Some(names) = appended.last().unwrap_or(plan).classes.as_ref().and_then(Classes::names) {
        expected["classes"] = names.into();
    }
    if !appended.is_empty() {
        expected["appended"] = appended.iter().map(appended_plan).collect();
    }
    expected
}

fn appended_plan(plan: &PlanFacts) -> Value {
    json!({
        "digest": plan.digest,
        "rows": plan.rows(),
        "partitions": plan.partitions(),
        "first_ordinal": plan.start(),
        "first_partition": plan.numbers().start,
        "file": file(&plan.file),
    })
}

fn difference(place: &str, a: &Value, b: &Value) -> Option<String> {
    if a == b {
        return None;
    }
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let null = Value::Null;
            names
                .filter_map(|name| {
                    let (a, b) = (a.get(name).unwrap_or(&null), b.get(name).unwrap_or(&null));
                    difference(&format!("{place}/{name}"), a, b)
                })
                .next()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.filter_map(|(i, (a, b))| difference(&format!("{place}/{i}"), a, b)).next()
        }
        // Logarithms differ in their last bit between systems; the rest is exact.
        (Value::Number(a), Value::Number(b))
            if a.is_f64()
                && b.is_f64()
                && a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= 2e-6) =>
        {
            None
        }
        _ => Some(format!("{place} says {a}, the output {b}")),
    }
}
