//! Owns the proof of one partition: its shard, row by row, against plan, sidecars and its own
//! metadata. Must not know: the writer, other partitions.

use std::path::Path;

use super::description::{TOKENS_V1, TOKENS_V2, check_columns};
use super::facts::{FileFacts, PartitionFacts};
use super::folders::{self, Folders};
use super::levels::{self, Level};
use super::plan::PlanFacts;
use super::row_check::{Counted, RowCheck};
use crate::audit::code_counts::CodeCounts;
use crate::audit::parquet_file::ParquetFile;
use crate::error::Error;
use crate::storage;
use crate::util::{error_text, panics};

/// Schema words of a shard: without ids of classes, and with them.
const V1: &str = "tokens.v1";
const V2: &str = "tokens.v2";

/// The partition that a file name is a sidecar's of: `part-00000-<16 hex digits>.parquet`.
pub(super) fn sidecar_of(name: &str) -> Option<usize> {
    let (shard, hash) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    let index = shard.strip_prefix("part-")?.parse().ok()?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = hash.len() == 16 && hash.bytes().all(hex) && format!("part-{index:05}") == shard;
    fits.then_some(index)
}

/// Verifies a partition that is there.
pub(super) fn verify(
    dir: &Path,
    index: usize,
    plan: Option<&PlanFacts>,
    folders: Folders,
) -> PartitionFacts {
    let mut facts = PartitionFacts { index, ..PartitionFacts::default() };
    let name = folders.shard(index);
    let _at = panics::at("verify", Some(&name));
    let check = Check { dir, index, plan, folders, facts: &mut facts };
    if let Err(problem) = check.run() {
        facts.problems.push(problem);
    }
    // Sidecars' problems name their own files.
    for problem in &mut facts.problems {
        if !problem.contains(".parquet") {
            *problem = format!("{name}: {problem}");
        }
    }
    facts
}

struct Check<'a> {
    dir: &'a Path,
    index: usize,
    plan: Option<&'a PlanFacts>,
    folders: Folders,
    facts: &'a mut PartitionFacts,
}

impl Check<'_> {
    fn run(mut self) -> Result<(), String> {
        let told = |error: Error| error.to_string();
        let name = self.folders.shard(self.index);
        let shard = FileFacts::of(self.dir, &name).map_err(told)?;
        self.facts.files.push(shard.clone());
        let index = self.index;
        let sidecar = |kind: &str| self.folders.sidecar(kind, index, &shard.sha256);
        let names = ["failures", "codebook"].map(sidecar);
        // Looked for even where the shard is unreadable: they then name what it once was.
        let failures = self.sidecar(&names[0]);
        let codebook = self.sidecar(&names[1]);
        let sheet = ParquetFile::open(&self.dir.join(&name), None).map_err(told)?;
        self.metadata(&sheet)?;
        let levels = levels::of(sheet.schema());
        if self.plan.is_some_and(|plan| levels::announced(&plan.identity) != levels) {
            return Err("its levels of tokens are not the plan's".into());
        }
        let entry = |key: &str| sheet.entries.get(key).map(String::as_str).unwrap_or_default();
        let description = if entry("vqtok.schema") == V2 { TOKENS_V2 } else { TOKENS_V1 };
        check_columns(&sheet, description, &levels)?;
        let named = ["vqtok.failures_sha256", "vqtok.codebook_part_sha256"].map(entry);
        match self.beside([failures, codebook], named) {
            Ok(failures) => {
                let counted = self.rows(&sheet, levels)?.finish(&self.dir.join(failures.path))?;
                self.compare(&counted)
            }
            Err(problem) => {
                let right = self.rows(&sheet, levels).is_ok() && !self.has_changed(named);
                self.facts.shard_is_right = right;
                Err(problem)
            }
        }
    }

    /// Takes the files beside the shard, which must be those of the digests that it names; gives the
    /// failures.
    fn beside(
        &mut self,
        files: [Result<FileFacts, String>; 2],
        named: [&str; 2],
    ) -> Result<FileFacts, String> {
        let [failures, codebook] = files;
        let files = [failures?, codebook?];
        for (file, sha256) in files.iter().zip(named) {
            if file.sha256 != sha256 {
                return Err(format!("{}: its sha256 is not the one in its shard", file.path));
            }
        }
        let [failures, codebook] = files;
        self.facts.code_counts = CodeCounts::read(&self.dir.join(&codebook.path))
            .map_err(|problem| format!("{}: {problem}", codebook.path))?;
        Ok(failures)
    }

    /// Whether a file that the shard names, by these digests, lies under the name of a shard of another
    /// content: the one that this shard was.
    fn has_changed(&self, named: [&str; 2]) -> bool {
        let own = self.facts.files.first().map_or("", |shard| &shard.sha256);
        let (of_shard, own) = (format!("part-{:05}-", self.index), format!("-{:.16}.parquet", own));
        ["failures", "codebook"].into_iter().zip(named).any(|(kind, sha256)| {
            let others = folders::entries(self.dir, kind).into_iter().filter(|entry| {
                !entry.is_dir && entry.name.starts_with(&of_shard) && !entry.name.ends_with(&own)
            });
            let mut others = others.filter_map(|entry| FileFacts::of(self.dir, &entry.path).ok());
            others.any(|other| other.sha256 == sha256)
        })
    }

    /// Goes through the rows of the shard.
    fn rows(
        &self,
        sheet: &ParquetFile,
        levels: Vec<&'static Level>,
    ) -> Result<RowCheck<'_>, String> {
        let told = |error: Error| error.to_string();
        let mut rows = RowCheck::new(self.facts, self.plan, sheet, levels)?;
        let columns: Vec<String> =
            sheet.schema().fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        for batch in sheet.batches(&columns).map_err(told)? {
            rows.batch(&batch.map_err(told)?)?;
        }
        Ok(rows)
    }

    fn sidecar(&mut self, name: &str) -> Result<FileFacts, String> {
        if !storage::exists(&self.dir.join(name)).map_err(|error| error_text::reason(&error))? {
            return Err(format!(
                "it has no sidecar {name}: either that is missing or the shard has changed"
            ));
        }
        let file = FileFacts::of(self.dir, name).map_err(|error| error.to_string())?;
        self.facts.files.push(file.clone());
        Ok(file)
    }

    /// The shard's metadata against plan and position.
    fn metadata(&mut self, sheet: &ParquetFile) -> Result<(), String> {
        let entry = |key: &str| sheet.entries.get(key).map(String::as_str).unwrap_or_default();
        let number = |key: &str| {
            let parsed = entry(key).parse::<u64>().ok();
            parsed.ok_or_else(|| format!("its metadata has no number {key}"))
        };
        let word = entry("vqtok.schema");
        if ![V1, V2].contains(&word) {
            return Err(format!("its metadata doesn't say {V1} or {V2}"));
        }
        if number("vqtok.partition")? != self.index as u64 {
            return Err(format!("it is partition {}", entry("vqtok.partition")));
        }
        self.facts.first_ordinal = number("vqtok.first_ordinal")?;
        self.facts.planned = number("vqtok.planned")?;
        self.facts.written = number("vqtok.written")?;
        self.facts.failed = number("vqtok.failed")?;
        self.facts.rows = number("vqtok.rows")?;
        let facts = &self.facts;
        if facts.written.checked_add(facts.failed) != Some(facts.planned) {
            return Err(format!(
                "{} planned, but {} written and {} failed",
                facts.planned, facts.written, facts.failed
            ));
        }
        if facts.planned > 1 << 24 || facts.rows != sheet.rows {
            return Err(format!("it counts {} rows of {}", facts.rows, sheet.rows));
        }
        let Some(plan) = self.plan else { return Ok(()) };
        if entry("vqtok.plan_sha256") != plan.digest {
            return Err("it belongs to another plan".into());
        }
        let due = if plan.classes.is_some() { V2 } else { V1 };
        if word != due {
            return Err(format!("it is a {word}, where its plan's shards are {due}"));
        }
        if entry("vqtok.identity") != plan.identity_text {
            return Err("it was made with other settings than the plan".into());
        }
        if facts.first_ordinal != plan.first_ordinal(self.index) {
            return Err(format!("it starts at image {}", facts.first_ordinal));
        }
        Ok(())
    }

    /// What was counted in the rows against what the sidecars and the metadata count.
    fn compare(&self, counted: &Counted) -> Result<(), String> {
        let Counted { written, counts, measured, distance } = counted;
        let facts = &self.facts;
        if *written != facts.written {
            return Err(format!("it says {} images, its rows hold {written}", facts.written));
        }
        let levels = facts.code_counts.all();
        let counted: i64 = counts.iter().flatten().sum();
        let equal =
            counts.iter().enumerate().all(|(l, counts)| facts.code_counts.equals(l, counts));
        if !equal || levels != counted as u64 {
            return Err("its codebook part counts other tokens than its rows hold".into());
        }
        if let (Some(rows), Some(part)) = (*distance, facts.code_counts.distance(*measured))
            && rows.is_finite()
            && part.is_finite()
            // Each row's mean was rounded once to float32: a relative error of 2^-24 at most, and
            // the two sums differ in order.
            && (rows - part).abs() > part.abs() * f64::from(f32::EPSILON) + 1e-30
        {
            return Err(format!(
                "its rows' distances sum to {rows}, its codebook part's to {part}"
            ));
        }
        Ok(())
    }
}
