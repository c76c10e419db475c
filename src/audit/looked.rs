//! Owns going through the partitions of an output, folder by folder where it is a large one. Must not
//! know: the writer, what is in a shard.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::dataset::Dataset;
use super::facts::{Part, PartitionFacts, VerifyReport};
use super::partition;
use super::plans::Plans;
use super::verify::Sums;
use crate::audit::code_counts::CodeCounts;

/// What the partitions of an output come to. Memory holds the counts of a few partitions and, of an
/// output in one folder or of one folder of a large output, what is said of each.
pub(super) struct Looked<'a> {
    pub(super) dir: &'a Path,
    pub(super) plans: &'a Plans,
    pub(super) dataset: Option<&'a Dataset>,
    /// Partitions that `dataset.json` describes.
    pub(super) described: usize,
    /// Over all.
    pub(super) sums: Sums,
    /// Over those that are described, where there are more.
    pub(super) then: Option<Sums>,
    /// Each, of an output in one folder.
    pub(super) shards: Vec<PartitionFacts>,
    /// What `dataset.json` must say of each of its parts.
    pub(super) parts: Vec<Value>,
    /// Of each, the start of its shard's sha256.
    pub(super) starts: BTreeMap<usize, u64>,
}

impl<'a> Looked<'a> {
    pub(super) fn new(
        dir: &'a Path,
        plans: &'a Plans,
        dataset: Option<&'a Dataset>,
        described: usize,
    ) -> Looked<'a> {
        Looked {
            dir,
            plans,
            dataset,
            described,
            sums: Sums::default(),
            then: None,
            shards: Vec::new(),
            parts: Vec::new(),
            starts: BTreeMap::new(),
        }
    }

    /// Goes through the partitions that are there, which ascend.
    pub(super) fn all(&mut self, present: &[usize], report: &mut VerifyReport) {
        let Some(together) = self.plans.together() else {
            for wave in present.chunks(wave()) {
                for facts in self.verify(wave) {
                    self.before(facts.index);
                    self.sums.take(report, &facts);
                    self.sums.code_counts.merge(&facts.code_counts);
                    self.keep(facts);
                }
            }
            return;
        };
        // What was described may end within a folder to which more was added.
        let described = self.dataset.map_or(0, |_| self.described);
        let group = |index: &usize| (index / together, *index >= described);
        for of_one in present.chunk_by(|a, b| group(a) == group(b)) {
            self.group(of_one, report);
        }
    }

    /// The partitions of a folder.
    fn group(&mut self, present: &[usize], report: &mut VerifyReport) {
        if let Some(&first) = present.first() {
            self.before(first);
        }
        let mut code_counts = CodeCounts::default();
        for wave in present.chunks(wave()) {
            for facts in self.verify(wave) {
                code_counts.merge(self.sums.take(report, &facts));
                self.keep(facts);
            }
        }
        self.sums.code_counts.merge(&code_counts);
        let shards = std::mem::take(&mut self.shards);
        let number = self.parts.len();
        let described = shards.first().is_some_and(|shard| shard.index < self.described);
        let Some(dataset) = self.dataset.filter(|data| described && number < data.parts()) else {
            return;
        };
        for facts in &shards {
            dataset.compare_shard(facts, report);
        }
        let bad = shards.iter().any(|shard| !shard.problems.is_empty())
            || report.missing > 0
            || !self.plans.are_whole();
        let plans = self.plans.digests_of(present);
        match dataset.verify_part(number, &shards, plans, &code_counts) {
            Ok(part) => {
                report.bytes += part.bytes;
                self.parts.push(part.value);
            }
            // What the part of a bad shard, or of a lost plan, must say isn't known, but by its digests.
            Err(_) if bad => {
                for problem in dataset.changed_files(number) {
                    report.find(Part::Dataset, problem);
                }
                self.parts.push(Value::Null);
            }
            Err(problem) => {
                report.find(Part::Dataset, problem);
                self.parts.push(Value::Null);
            }
        }
    }

    /// Ends the sums over what is described before partition `index` is taken.
    fn before(&mut self, index: usize) {
        if index >= self.described && self.then.is_none() && self.dataset.is_some() {
            self.then = Some(self.sums.clone());
        }
    }

    /// In waves, so that memory holds a few partitions' counts; merged in order, so that float sums are
    /// those of the definition.
    fn verify(&self, wave: &[usize]) -> Vec<PartitionFacts> {
        let (dir, plans) = (self.dir, self.plans);
        let verify = |&index: &usize| {
            partition::verify(dir, index, plans.of(index), plans.folders_of(index))
        };
        wave.par_iter().map(verify).collect()
    }

    fn keep(&mut self, mut facts: PartitionFacts) {
        facts.code_counts = CodeCounts::default();
        if let Some(shard) = facts.files.first() {
            let start = u64::from_str_radix(&shard.sha256[..16], 16).unwrap_or(0);
            self.starts.insert(facts.index, start);
        }
        self.shards.push(facts);
    }
}

fn wave() -> usize {
    rayon::current_num_threads().max(1) * 2
}
