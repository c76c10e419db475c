//! Owns what checking an output gives: findings, sums, a file's length and digest. Must not know:
//! what is checked, and how.

use crate::audit::hex::hex;
use crate::storage::{self, Cursor};
use crate::util::error_text;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::audit::code_counts::CodeCounts;
use crate::error::{Error, FILE_IN_THE_WAY, FOLDER_IN_THE_WAY, Result};

/// Which part of an output a finding is about: what `repair` has to rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// `plan.parquet`.
    Plan,
    /// The plan with so many before it: `plan-00001.parquet`, ...
    AppendedPlan(usize),
    /// A shard or one of its sidecars.
    Partition(usize),
    /// `codebook.parquet`.
    Codebook,
    /// `dataset.json`.
    Dataset,
}

impl Part {
    pub(crate) fn is_plan(self) -> bool {
        self.plan().is_some()
    }

    /// How many plans are before it, where it is one.
    pub(crate) fn plan(self) -> Option<usize> {
        match self {
            Part::Plan => Some(0),
            Part::AppendedPlan(number) => Some(number),
            _ => None,
        }
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What has to be rebuilt.
    pub part: Part,
    /// One line.
    pub problem: String,
}

/// What was checked and found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VerifyReport {
    /// Whether there is a `dataset.json` that describes all plans.
    pub finished: bool,
    /// Partitions of the plan.
    pub partitions: u64,
    /// Partitions that are not there; no finding where the output is unfinished.
    pub missing: u64,
    /// Images of the partitions that are there.
    pub planned: u64,
    /// Images with tokens.
    pub written: u64,
    /// Images given up.
    pub failed: u64,
    /// Rows of shards.
    pub rows: u64,
    /// Tokens of all levels.
    pub tokens: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Files and folders (with a `/` after them) that are not the output's own: copies, somebody
    /// else's. Whoever reads `tokens/*.parquet` reads copies too.
    pub strays: Vec<String>,
    /// Files of workers that were killed or are at work.
    pub leftovers: Vec<String>,
    /// Of the bad partitions, those whose shards are right, and that lack files beside them.
    #[serde(skip)]
    pub whole_shards: BTreeSet<usize>,
}

impl VerifyReport {
    /// Nothing is wrong with what is there, and there is nothing else.
    pub fn clean(&self) -> bool {
        self.findings.is_empty() && self.strays.is_empty()
    }

    /// Whether something has to be moved away before a repair.
    pub fn is_in_the_way(&self) -> bool {
        let words = [FOLDER_IN_THE_WAY, FILE_IN_THE_WAY];
        let says = |finding: &Finding| words.iter().any(|word| finding.problem.contains(word));
        self.findings.iter().any(says)
    }

    /// It is clean and finished.
    pub fn complete(&self) -> bool {
        self.clean() && self.finished
    }

    /// The partitions that have to be rebuilt.
    pub fn bad_partitions(&self) -> BTreeSet<usize> {
        let partition = |finding: &Finding| match finding.part {
            Part::Partition(index) => Some(index),
            _ => None,
        };
        self.findings.iter().filter_map(partition).collect()
    }

    pub(super) fn find(&mut self, part: Part, problem: impl Into<String>) {
        self.findings.push(Finding { part, problem: problem.into() });
    }
}

/// Length and hex sha256 of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// Relative to the output folder.
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

impl FileFacts {
    /// Reads `path` under `dir`.
    pub(super) fn of(dir: &Path, path: &str) -> Result<FileFacts> {
        let full = dir.join(path);
        let mut file = Cursor::new(storage::open(&full).map_err(|error| unread(&full, error))?);
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 18];
        let mut bytes = 0;
        loop {
            let count = match file.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io(&full)(error)),
            };
            hasher.update(&block[..count]);
            bytes += count as u64;
        }
        Ok(FileFacts { path: path.to_string(), bytes, sha256: hex(&hasher.finalize()) })
    }
}

/// Why there are no facts of a file.
fn unread(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::corrupt(path, "it is missing"),
        ErrorKind::IsADirectory => Error::corrupt(path, FOLDER_IN_THE_WAY),
        // A pipe, a device: repaired as what is damaged is.
        ErrorKind::InvalidInput => Error::corrupt(path, error_text::reason(&error)),
        _ => Error::io(path)(error),
    }
}

/// What a partition holds, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct PartitionFacts {
    pub index: usize,
    pub first_ordinal: u64,
    pub planned: u64,
    pub written: u64,
    pub failed: u64,
    pub rows: u64,
    /// Shard, failures, codebook part, as far as they are there.
    pub files: Vec<FileFacts>,
    pub code_counts: CodeCounts,
    pub problems: Vec<String>,
    /// Whether its rows were found right where a file beside the shard is lost.
    pub shard_is_right: bool,
}
