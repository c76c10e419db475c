//! Owns reading `dataset.json` as `schemas/dataset.v1.json` to `dataset.v3.json` describe it, with the
//! parts of the last (`shards.v1.json`), and what it must say.
//! Must not know: the writer.

use crate::audit::hex::hex;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::classes::Classes;
use super::difference::difference;
use super::facts::{FileFacts, Part as PartOf, PartitionFacts, VerifyReport};
use super::folders::Folders;
use super::plan::PlanFacts;
use crate::audit::code_counts::CodeCounts;
use crate::audit::level_size::LevelSize;
use crate::error::FOLDER_IN_THE_WAY;
use crate::storage;
use crate::util::regular_file::ANY_SIZE;
use crate::util::{error_text, text};

/// The data set's own file.
pub(super) const NAME: &str = "dataset.json";

/// A `dataset.json` whose digest of itself was found right.
pub(super) struct Dataset {
    value: Value,
    dir: PathBuf,
    /// The part that was read last, by its number.
    part: Mutex<Option<(usize, Value)>>,
}

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
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(why(NAME, error).into()),
    };
    let value = signed(&bytes).map_err(|problem| format!("{NAME}: {problem}"))?;
    match value["schema"].as_str() {
        Some("dataset.v1" | "dataset.v2" | "dataset.v3") => {
            Ok(Some(Dataset { value, dir: dir.to_path_buf(), part: Mutex::default() }))
        }
        schema => Err(Unread::Later(format!(
            "it is a '{}', of a later version of vqtok; use that one",
            text::shorten(schema.unwrap_or_default())
        ))),
    }
}

/// Why a file can't be read, behind its name.
fn why(name: &str, error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{name} is missing"),
        ErrorKind::IsADirectory => format!("{name}: {FOLDER_IN_THE_WAY}"),
        ErrorKind::NotADirectory => format!("{name}: a file stands where a folder is needed"),
        _ => format!("{name}: {}", error_text::reason(&error)),
    }
}

/// JSON that ends in its own digest.
fn signed(bytes: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let claimed = value["self_sha256"].as_str().unwrap_or_default();
    let tail = format!("  \"self_sha256\": \"{claimed}\"\n}}\n");
    let body = bytes.strip_suffix(tail.as_bytes());
    let body = body.ok_or_else(|| "it does not end in its own digest".to_string())?;
    match hex(&Sha256::digest(body)) == claimed {
        true => Ok(value),
        false => Err("its content does not give its own digest".into()),
    }
}

impl Dataset {
    /// A text by JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer)?.as_str()
    }

    /// Partitions it lists.
    pub(super) fn partitions(&self) -> usize {
        match self.value["parts"].as_array() {
            None => self.value["shards"].as_array().map_or(0, Vec::len),
            Some(_) => (0..self.plans()).map(|plan| self.partitions_of(plan)).sum(),
        }
    }

    /// Plans it names.
    pub(super) fn plans(&self) -> usize {
        1 + self.value["appended"].as_array().map_or(0, Vec::len)
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
            None => &self.value["plan"],
            Some(appended) => &self.value["appended"][appended],
        };
        plan["partitions"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
    }

    /// How the files of the plan's partitions lie that has so many before it.
    pub(super) fn folders_of(&self, number: usize) -> Folders {
        let plan = match number.checked_sub(1) {
            None => &self.value["plan"],
            Some(appended) => &self.value["appended"][appended],
        };
        Folders::of(plan["shards_a_folder"].as_u64())
    }

    /// Rows of a partition's shard.
    pub(super) fn shard_rows(&self, index: usize) -> u64 {
        self.shard(index).map_or(0, |shard| shard["rows"].as_u64().unwrap_or(0))
    }

    /// Where the shard of a partition and its failures lie, and their digests as recorded.
    pub(super) fn recorded(&self, index: usize) -> Vec<(String, String)> {
        let shard = self.shard(index).unwrap_or_default();
        let text = |kind: &str, name: &str| shard[kind][name].as_str().map(str::to_string);
        let files = ["tokens", "failures"].into_iter();
        files.filter_map(|kind| Some((text(kind, "path")?, text(kind, "sha256")?))).collect()
    }

    /// Where the files beside a partition's shard lie.
    pub(super) fn beside(&self, index: usize) -> Vec<String> {
        let shard = self.shard(index).unwrap_or_default();
        let paths =
            ["failures", "codebook"].map(|kind| shard[kind]["path"].as_str().map(String::from));
        paths.into_iter().flatten().collect()
    }

    /// The start of the sha256 of a partition's shard, as recorded.
    pub(super) fn shard_start(&self, index: usize) -> Option<u64> {
        let shard = self.shard(index).ok()?;
        u64::from_str_radix(shard["tokens"]["sha256"].as_str()?.get(..16)?, 16).ok()
    }

    /// A partition's files against the digests recorded for them: the first that isn't as recorded is a
    /// finding.
    pub(super) fn compare_shard(&self, facts: &PartitionFacts, report: &mut VerifyReport) {
        // Of a part that can't be read it was told.
        let Ok(recorded) = self.shard(facts.index) else { return };
        for file in &facts.files {
            let kind = file.path.split('/').next().unwrap_or_default();
            let recorded = &recorded[kind];
            if recorded["path"] != file.path.as_str() || recorded["sha256"] != file.sha256.as_str()
            {
                if kind == "tokens" {
                    report.whole_shards.remove(&facts.index);
                }
                let problem = format!("{}: its sha256 is not the one in {NAME}", file.path);
                return report.find(PartOf::Partition(facts.index), problem);
            }
        }
    }

    /// What it says of a partition.
    ///
    /// # Errors
    /// A part that can't be read, in one line.
    fn shard(&self, index: usize) -> Result<Value, String> {
        let Some(parts) = self.value["parts"].as_array() else {
            return Ok(self.value["shards"][index].clone());
        };
        let first = |part: &Value| part["first_partition"].as_u64().unwrap_or(u64::MAX);
        let number = parts.partition_point(|part| first(part) <= index as u64);
        let number = number.checked_sub(1).ok_or_else(|| format!("{NAME}: its parts are wrong"))?;
        let within = index - first(&parts[number]) as usize;
        // A thread that panicked left nothing half done here.
        let mut read = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        if read.as_ref().is_none_or(|(known, _)| *known != number) {
            *read = Some((number, self.part(number)?));
        }
        let shards = read.as_ref().map_or(&Value::Null, |(_, part)| &part["shards"]);
        Ok(shards[within].clone())
    }

    /// How many parts it has.
    pub(super) fn parts(&self) -> usize {
        self.value["parts"].as_array().map_or(0, Vec::len)
    }

    /// The files that it names beside those of partitions.
    pub(super) fn named(&self) -> Vec<String> {
        let parts = self.value["parts"].as_array().into_iter().flatten();
        let files = parts.flat_map(|part| ["shards", "codebook"].map(|kind| &part[kind]["path"]));
        files.filter_map(|path| path.as_str().map(str::to_string)).collect()
    }

    /// The list of some partitions, found to be the one that it names.
    ///
    /// # Errors
    /// In one line.
    pub(super) fn part(&self, number: usize) -> Result<Value, String> {
        let file = &self.value["parts"][number]["shards"];
        let name = file["path"].as_str().filter(|name| is_part(name)).unwrap_or_default();
        let bytes = storage::read(&self.dir.join(name), ANY_SIZE);
        let bytes = bytes.map_err(|error| why(name, error))?;
        if hex(&Sha256::digest(&bytes)) != file["sha256"].as_str().unwrap_or_default() {
            return Err(format!("{name}: its sha256 is not the one in {NAME}"));
        }
        signed(&bytes).map_err(|problem| format!("{name}: {problem}"))
    }

    /// The files of a part that aren't those which it names, in one line each.
    pub(super) fn changed_files(&self, number: usize) -> Vec<String> {
        let files = ["shards", "codebook"].map(|kind| &self.value["parts"][number][kind]);
        let problem = |file: &Value| {
            let name = file["path"].as_str().filter(|name| is_part(name)).unwrap_or_default();
            match FileFacts::of(&self.dir, name) {
                Ok(facts) if file["sha256"] == facts.sha256.as_str() => None,
                Ok(_) => Some(format!("{name}: its sha256 is not the one in {NAME}")),
                Err(error) => Some(error.to_string()),
            }
        };
        files.into_iter().filter_map(problem).collect()
    }

    /// What isn't as it must be of a part: its list against the shards, its codebook counts against
    /// theirs. Gives what must be said of it, where that is known.
    pub(super) fn verify_part(
        &self,
        number: usize,
        shards: &[PartitionFacts],
        plans: Vec<String>,
        code_counts: &CodeCounts,
    ) -> Result<Part, String> {
        let part = self.part(number)?;
        let name = self.value["parts"][number]["codebook"]["path"].as_str();
        let name = name.filter(|name| is_part(name)).unwrap_or_default();
        let told = |error: crate::error::Error| error.to_string();
        let codebook = FileFacts::of(&self.dir, name).map_err(told)?;
        let counted = CodeCounts::read(&self.dir.join(name)).map_err(|p| format!("{name}: {p}"))?;
        if !counted.is(code_counts) {
            return Err(format!("{name}: it counts other tokens than its partitions do"));
        }
        let sum = |of: fn(&PartitionFacts) -> u64| shards.iter().map(of).sum::<u64>();
        let totals = json!({
            "planned": sum(|s| s.planned), "written": sum(|s| s.written),
            "failed": sum(|s| s.failed), "rows": sum(|s| s.rows), "tokens": code_counts.tokens(),
        });
        let first = shards.first().map(|shard| shard.index);
        let due = json!({
            "schema": "shards.v1",
            "plans": plans,
            "first_partition": first,
            "partitions": shards.len(),
            "totals": totals,
            "codebook": file(&codebook),
            "shards": shards.iter().map(shard).collect::<Vec<_>>(),
            "self_sha256": part["self_sha256"],
        });
        let list = self.value["parts"][number]["shards"].clone();
        if let Some(problem) = difference("", &part, &due) {
            let name = list["path"].as_str().unwrap_or_default();
            return Err(format!("{name}: {problem}"));
        }
        let bytes = codebook.bytes + list["bytes"].as_u64().unwrap_or(0);
        let value = json!({
            "first_partition": first, "partitions": shards.len(), "totals": totals,
            "shards": list, "codebook": file(&codebook),
        });
        Ok(Part { value, bytes })
    }

    /// `codebook.parquet` as it is recorded.
    pub(super) fn codebook(&self) -> Option<FileFacts> {
        let file = &self.value["codebook"]["file"];
        Some(FileFacts {
            path: file["path"].as_str()?.to_string(),
            bytes: file["bytes"].as_u64()?,
            sha256: file["sha256"].as_str()?.to_string(),
        })
    }

    /// The first value that isn't as computed.
    pub(super) fn compare(&self, expected: &Value) -> Option<String> {
        let mut value = self.value.clone();
        value.as_object_mut()?.remove("self_sha256");
        difference("", &value, expected)
    }
}

/// A part of the list of shards that was found right.
pub(super) struct Part {
    /// What `dataset.json` must say of it.
    pub value: Value,
    /// Its files' lengths.
    pub bytes: u64,
}

/// Whether a path can be that of a part: nothing else is looked at.
fn is_part(path: &str) -> bool {
    path.strip_prefix("dataset/").is_some_and(|name| !name.contains('/') && !name.contains(".."))
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

/// What it must say of a level.
fn level(code_counts: &CodeCounts, index: usize, size: LevelSize) -> Value {
    let round = |x: f64| (x * 1e6).round() / 1e6;
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
}

/// What it must say.
pub(super) fn expected(
    report: &VerifyReport,
    (plan, appended): (&PlanFacts, &[PlanFacts]),
    code_counts: &CodeCounts,
    (shards, parts): (&[PartitionFacts], Option<Vec<Value>>),
    codebook: &FileFacts,
) -> Value {
    let level = |(index, size)| level(code_counts, index, size);
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
    });
    match parts {
        None => expected["shards"] = shards.iter().map(shard).collect(),
        Some(parts) => {
            expected["schema"] = "dataset.v3".into();
            expected["parts"] = parts.into();
        }
    }
    if let Some(names) = appended.last().unwrap_or(plan).classes.as_ref().and_then(Classes::names) {
        expected["classes"] = names.into();
    }
    if let Some(size) = plan.folders.size() {
        expected["plan"]["shards_a_folder"] = size.into();
    }
    if !appended.is_empty() {
        expected["appended"] = appended.iter().map(appended_plan).collect();
    }
    expected
}

fn appended_plan(plan: &PlanFacts) -> Value {
    let mut value = json!({
        "digest": plan.digest,
        "rows": plan.rows(),
        "partitions": plan.partitions(),
        "first_ordinal": plan.start(),
        "first_partition": plan.numbers().start,
        "file": file(&plan.file),
    });
    if let Some(size) = plan.folders.size() {
        value["shards_a_folder"] = size.into();
    }
    value
}
