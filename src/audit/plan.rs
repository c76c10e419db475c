//! Owns reading a plan as `schemas/plan.v1.json` to `plan.v4.json` describe it, and its digest. Must not know: the writer.

use std::path::Path;

use arrow::array::Array;
use sha2::{Digest, Sha256};

use super::classes::{self, Classes, Labels};
use super::facts::FileFacts;
use super::folders::Folders;
use super::hex::hex;
use super::level_size::LevelSize;
use super::plan_files::PlanFiles;
use super::plan_rows::{
    COLUMNS, COLUMNS_OF_FILES, COLUMNS_OF_PARTS, Planned, follows, hash, planned,
};
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, Result};

/// The first plan's name in an output.
pub(super) const NAME: &str = "plan.parquet";

/// The name of the plan with so many before it.
pub(super) fn name(number: usize) -> String {
    match number {
        0 => NAME.to_string(),
        number => format!("plan-{number:05}.parquet"),
    }
}

/// A plan whose digest was found right.
pub(super) struct PlanFacts {
    files: PlanFiles,
    /// `vqtok.identity`, as it stands there.
    pub identity_text: String,
    /// The same, parsed.
    pub identity: serde_json::Value,
    /// Hex.
    pub digest: String,
    /// Of the file.
    pub file: FileFacts,
    /// Of the files that it names.
    pub named: Vec<FileFacts>,
    /// How the files of its partitions lie.
    pub folders: Folders,
    /// The class names of its images and of those before; None where its shards have no ids of them.
    pub classes: Option<Classes>,
    /// Columns that it has.
    columns: usize,
    /// Behind how many images of its own each partition begins.
    starts: Vec<u64>,
    /// Images.
    rows: u64,
    /// How many images and partitions are in the plans before it.
    before: (u64, usize),
}

impl PlanFacts {
    pub(super) fn partitions(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The numbers of its partitions.
    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        self.before.1..self.before.1.saturating_add(self.partitions())
    }

    /// The ordinal of its first image.
    pub(super) fn start(&self) -> u64 {
        self.before.0
    }

    /// K of each level.
    pub(super) fn sizes(&self) -> Vec<LevelSize> {
        LevelSize::announced(&self.identity)
    }

    /// h and w of each level, None where grids vary.
    pub(super) fn grids(&self) -> Vec<Option<[i64; 2]>> {
        let levels = self.identity["levels"].as_array().into_iter().flatten();
        let side = |v: &serde_json::Value, i: usize| v["grid"][i].as_i64();
        levels.map(|level| Some([side(level, 0)?, side(level, 1)?])).collect()
    }

    /// Rows that each image with tokens has; None where the identity says it in words of another
    /// version.
    pub(super) fn views(&self) -> Option<i64> {
        match self.identity["preprocessing"]["views"].as_str() {
            None => Some(1),
            Some("flips") => Some(2),
            Some(words) => match words.split_once('=')? {
                ("ten-crop", _) => Some(10),
                ("random-crops", count) => count.parse().ok(),
                _ => None,
            },
        }
    }

    /// Whether all images of a partition have one size.
    pub(super) fn has_buckets(&self) -> bool {
        self.columns == COLUMNS.len()
    }

    /// The images of a partition of its own.
    pub(super) fn partition(&self, index: usize) -> Result<Vec<Planned>> {
        let mut rows = Vec::new();
        self.each(Some(index.saturating_sub(self.before.1)), |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first ordinal of a partition of its own.
    pub(super) fn first_ordinal(&self, index: usize) -> u64 {
        let within = self.starts.get(index.saturating_sub(self.before.1));
        self.before.0 + within.copied().unwrap_or_default()
    }

    /// The digest of its rows, which must be in order, under its schema's word, and of what it stands
    /// upon; and the labels of its images.
    fn computed_digest(&self, word: &str, after: &str) -> Result<(String, Labels)> {
        let (first_ordinal, first_partition) = self.before;
        let mut hasher = Sha256::new();
        hasher.update(format!("{word}\n{}\n", self.identity_text));
        if first_partition > 0 {
            hasher.update(format!("{after}\n{first_partition}\n"));
        }
        let (mut within, mut last) = (0, None);
        let (mut labels, level) = (Labels::default(), classes::label_level(&self.identity));
        self.each(None, |row| {
            let due = first_ordinal.saturating_add(within) as i64;
            if row.ordinal != due {
                return Err(format!("image {} stands where {due} is due", row.ordinal));
            }
            let begins = self.starts.binary_search(&within).is_ok();
            within += 1;
            let bucket = row.bucket.as_ref().map(|bucket| (bucket.size, bucket.position));
            if !begins && !follows(last, bucket) {
                return Err(format!("image {due} isn't where its bucket is"));
            }
            last = bucket;
            hash(&mut hasher, &row, begins);
            let known = row.part.as_ref().and_then(|part| part.label.as_deref());
            let label = classes::label(known, &row.key, level).filter(|_| self.classes.is_some());
            label.into_iter().for_each(|label| labels.take(label));
            Ok(())
        })?;
        Ok((hex(&hasher.finalize()), labels))
    }

    /// What of its rows isn't as it says; `earlier` are the class names of the plan before it, where
    /// that is known.
    fn problem(
        &self,
        word: &str,
        after: &str,
        earlier: Option<Option<&Classes>>,
    ) -> Result<Option<&'static str>> {
        let (digest, labels) = self.computed_digest(word, after)?;
        if digest != self.digest {
            return Ok(Some("its rows and identity don't give its digest"));
        }
        let wrong = match (&self.classes, earlier) {
            (Some(classes), Some(earlier)) => !labels.give(classes, earlier),
            _ => false,
        };
        Ok(wrong.then_some("its rows don't give its class names"))
    }

    fn each(
        &self,
        group: Option<usize>,
        mut take: impl FnMut(Planned) -> Result<(), String>,
    ) -> Result<()> {
        if let Some(partition) = group {
            let (sheet, group) = self.files.of(partition)?;
            return self.each_of(&sheet, Some(group), &mut take);
        }
        for number in 0..self.files.count() {
            self.each_of(&*self.files.sheet(number)?, None, &mut take)?;
        }
        Ok(())
    }

    fn each_of(
        &self,
        sheet: &ParquetFile,
        group: Option<usize>,
        take: &mut dyn FnMut(Planned) -> Result<(), String>,
    ) -> Result<()> {
        let broken = |reason: String| Error::corrupt(sheet.path(), reason);
        let columns = &COLUMNS[..self.columns];
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        for batch in sheet.batches_of(&names, group)? {
            let batch = batch?;
            let nullable = |index: usize| (COLUMNS_OF_FILES..COLUMNS_OF_PARTS - 1).contains(&index);
            let mut fields = batch.columns().iter().zip(columns).enumerate();
            let fits = batch.num_columns() == columns.len()
                && fields.all(|(i, (column, (_, kind)))| {
                    column.data_type() == kind && (nullable(i) || column.null_count() == 0)
                });
            if !fits {
                return Err(broken("its columns are not those of its schema".into()));
            }
            (0..batch.num_rows()).try_for_each(|i| take(planned(&batch, i))).map_err(broken)?;
        }
        Ok(())
    }
}

/// Reads the plan with so many before it and proves its digest, its order, its partitions and, where
/// the one before it is known, that it stands upon that.
pub(super) fn read(dir: &Path, number: usize, earlier: Option<&PlanFacts>) -> Result<PlanFacts> {
    let path = dir.join(name(number));
    let broken = |reason: &str| Error::corrupt(&path, reason);
    let file = FileFacts::of(dir, &name(number))?;
    let sheet = ParquetFile::open(&path, None)?;
    let entry = |key: &str| sheet.entries.get(key).cloned().unwrap_or_default();
    let is_root = entry("vqtok.schema") == "plan.v4";
    let word = entry(if is_root { "vqtok.rows_schema" } else { "vqtok.schema" });
    let columns = columns_of(&word)
        .ok_or_else(|| broken("its metadata doesn't say plan.v1, plan.v2, plan.v3 or plan.v4"))?;
    let identity_text = entry("vqtok.identity");
    let identity = serde_json::from_str(&identity_text);
    let identity: serde_json::Value = identity.map_err(|_| broken("its identity is no JSON"))?;
    let shard_rows = identity["shard_rows"].as_u64().filter(|&rows| rows > 0);
    let shard_rows = shard_rows.ok_or_else(|| broken("its identity has no shard_rows"))?;
    let folders = Folders::of(entry("vqtok.shards_a_folder").parse().ok());
    let digest = entry("vqtok.plan_sha256");
    let before = before(&sheet, number).ok_or_else(|| broken("what it was appended to is lost"))?;
    let after = entry("vqtok.after");
    let classes = sheet.entries.get("vqtok.classes").map(|text| Classes::parse(text));
    let unreadable = || broken("its class names can't be read");
    let classes = classes.map(|classes| classes.ok_or_else(unreadable)).transpose()?;
    let (files, groups, named) = files_of(dir, number, sheet, is_root)?;
    let starts = starts(&groups, shard_rows, columns).map_err(broken)?;
    let facts = PlanFacts {
        identity_text,
        identity,
        digest,
        file,
        classes,
        columns,
        starts,
        before,
        files,
        named,
        folders,
        rows: groups.iter().sum(),
    };
    if let Some(earlier) = earlier
        && (after != earlier.digest
            || facts.before != (earlier.start() + earlier.rows(), earlier.numbers().end)
            || facts.identity_text != earlier.identity_text)
    {
        return Err(broken("it wasn't appended to the plan before it"));
    }
    let known = number == 0 || earlier.is_some();
    let earlier = earlier.and_then(|earlier| earlier.classes.as_ref());
    match facts.problem(&word, &after, known.then_some(earlier))? {
        None => Ok(facts),
        Some(problem) => Err(broken(problem)),
    }
}

/// How many columns a plan of rows has, by its schema's word.
fn columns_of(word: &str) -> Option<usize> {
    match word {
        "plan.v1" => Some(COLUMNS_OF_FILES),
        "plan.v2" => Some(COLUMNS_OF_PARTS),
        "plan.v3" => Some(COLUMNS.len()),
        _ => None,
    }
}

/// The files that a plan's rows lie in, the images of each partition, and the files that it names.
fn files_of(
    dir: &Path,
    number: usize,
    sheet: ParquetFile,
    is_root: bool,
) -> Result<(PlanFiles, Vec<u64>, Vec<FileFacts>)> {
    if is_root {
        return PlanFiles::named(dir, number, &sheet);
    }
    let groups = sheet.group_rows();
    Ok((PlanFiles::one(sheet), groups, Vec::new()))
}

/// Behind how many images each partition begins, by their images.
fn starts(groups: &[u64], shard_rows: u64, columns: usize) -> Result<Vec<u64>, &'static str> {
    let (last, full) = groups.split_last().ok_or("it is empty")?;
    let of_files = columns == COLUMNS_OF_FILES;
    if of_files && full.iter().any(|&rows| rows != shard_rows)
        || groups.iter().any(|&rows| rows == 0 || rows > shard_rows)
        || *last == 0
    {
        return Err("its partitions are not of shard_rows images");
    }
    let start = |sum: &mut u64, rows: &u64| {
        *sum += rows;
        Some(*sum - rows)
    };
    Ok(groups.iter().scan(0, start).collect())
}

/// How many images and partitions are before a plan, as it says; None where it doesn't, or where the
/// first one says that it isn't the first.
fn before(sheet: &ParquetFile, number: usize) -> Option<(u64, usize)> {
    let entry = |key: &str| sheet.entries.get(key);
    if number == 0 {
        return entry("vqtok.after").is_none().then_some((0, 0));
    }
    let ordinal: u64 = entry("vqtok.first_ordinal")?.parse().ok()?;
    let partition: usize = entry("vqtok.first_partition")?.parse().ok()?;
    (ordinal < 1 << 62 && (1..1 << 40).contains(&partition)).then_some((ordinal, partition))
}
