//! Owns the proof of one partition: its shard, row by row, against plan, companions and its own
//! metadata. Must not know: the writer, other partitions.

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::facts::FileFacts;
use super::integers::{self, Lists};
use super::levels::{self, Level};
use super::plan::{PlanFacts, Planned};
use crate::audit::code_counts::Fold;
use crate::audit::parquet_file::Sheet;
use crate::error::{Error, Result};
use crate::util::panics;
use crate::util::text;

/// The published description of a shard's columns.
const TOKENS_SCHEMA: &str = include_str!("../../schemas/tokens.v1.json");
/// The same of failures.
const FAILURES_SCHEMA: &str = include_str!("../../schemas/failures.v1.json");

/// What a partition holds, and what is wrong with it.
#[derive(Debug, Default)]
pub struct PartitionFacts {
    pub index: usize,
    pub first_ordinal: u64,
    pub planned: u64,
    pub written: u64,
    pub failed: u64,
    pub rows: u64,
    /// Shard, failures, codebook part, as far as they are there.
    pub files: Vec<FileFacts>,
    pub fold: Fold,
    pub problems: Vec<String>,
}

/// `tokens/part-00000.parquet`.
pub fn shard_name(index: usize) -> String {
    format!("tokens/part-{index:05}.parquet")
}

/// The partition that a file name is a companion's of: `part-00000-<16 hex digits>.parquet`.
pub fn companion_of(name: &str) -> Option<usize> {
    let (shard, hash) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    let index = shard.strip_prefix("part-")?.parse().ok()?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = hash.len() == 16 && hash.bytes().all(hex) && format!("part-{index:05}") == shard;
    fits.then_some(index)
}

/// The failures that belong to a shard, where they are there: the shard's own digest names them.
pub fn failures_of(dir: &Path, shard: &Path) -> Option<PathBuf> {
    let stem = shard.file_stem()?.to_str()?;
    let facts = FileFacts::of(dir, &format!("tokens/{stem}.parquet")).ok()?;
    let path = dir.join(format!("failures/{stem}-{}.parquet", &facts.sha256[..16]));
    path.is_file().then_some(path)
}

/// The highest partition among the shards of an output.
pub fn highest(dir: &Path) -> Option<usize> {
    let entries = std::fs::read_dir(dir.join("tokens")).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let index = |name: String| -> Option<usize> {
        let index = name.strip_prefix("part-")?.strip_suffix(".parquet")?.parse().ok()?;
        (shard_name(index) == format!("tokens/{name}")).then_some(index)
    };
    names
        .filter_map(index)
        .max()
        // A name is no proof: a folder of 2^40 partitions is not looked for.
        .filter(|&highest| highest < 1 << 24)
}

/// Verifies a partition that is there.
pub fn verify(dir: &Path, index: usize, plan: Option<&PlanFacts>) -> PartitionFacts {
    let mut facts = PartitionFacts { index, ..PartitionFacts::default() };
    let name = shard_name(index);
    let _at = panics::at("verify", Some(&name));
    let check = Check { dir, index, plan, facts: &mut facts };
    if let Err(problem) = check.run() {
        facts.problems.push(problem);
    }
    // Companions' problems name their own files.
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
    facts: &'a mut PartitionFacts,
}

impl Check<'_> {
    fn run(mut self) -> Result<(), String> {
        let told = |error: Error| error.to_string();
        let name = shard_name(self.index);
        let shard = FileFacts::of(self.dir, &name).map_err(told)?;
        self.facts.files.push(shard.clone());
        let index = self.index;
        let companion =
            |kind: &str| format!("{kind}/part-{index:05}-{}.parquet", &shard.sha256[..16]);
        // Looked for even where the shard is unreadable: they then name what it once was.
        let failures = self.companion(&companion("failures"));
        let codebook = self.companion(&companion("codebook"));
        let sheet = Sheet::open(&self.dir.join(&name), None).map_err(told)?;
        self.metadata(&sheet)?;
        let levels = levels::of(sheet.schema());
        if self.plan.is_some_and(|plan| levels::announced(&plan.identity) != levels) {
            return Err("its levels of tokens are not the plan's".into());
        }
        check_columns(&sheet, TOKENS_SCHEMA, &levels)?;
        let entry = |key: &str| sheet.entries.get(key).map(String::as_str).unwrap_or_default();
        let (failures, codebook) = (failures?, codebook?);
        for (file, key) in
            [(&failures, "vqtok.failures_sha256"), (&codebook, "vqtok.codebook_part_sha256")]
        {
            if file.sha256 != entry(key) {
                return Err(format!("{}: its sha256 is not the one in its shard", file.path));
            }
        }
        self.facts.fold = Fold::read(&self.dir.join(&codebook.path))
            .map_err(|problem| format!("{}: {problem}", codebook.path))?;
        let mut rows = RowCheck::new(self.facts, self.plan, &sheet, levels)?;
        let columns: Vec<String> =
            sheet.schema().fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        for batch in sheet.batches(&columns).map_err(told)? {
            rows.batch(&batch.map_err(told)?)?;
        }
        let counted = rows.finish(&self.dir.join(&failures.path))?;
        self.compare(&counted)
    }

    fn companion(&mut self, name: &str) -> Result<FileFacts, String> {
        if !self.dir.join(name).exists() {
            return Err(format!(
                "it has no companion {name}: either that is missing or the shard has changed"
            ));
        }
        let file = FileFacts::of(self.dir, name).map_err(|error| error.to_string())?;
        self.facts.files.push(file.clone());
        Ok(file)
    }

    /// The shard's metadata against plan and position.
    fn metadata(&mut self, sheet: &Sheet) -> Result<(), String> {
        let entry = |key: &str| sheet.entries.get(key).map(String::as_str).unwrap_or_default();
        let number = |key: &str| {
            let parsed = entry(key).parse::<u64>().ok();
            parsed.ok_or_else(|| format!("its metadata has no number {key}"))
        };
        if entry("vqtok.schema") != "tokens.v1" {
            return Err("its metadata doesn't say tokens.v1".into());
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
        if entry("vqtok.identity") != plan.identity_text {
            return Err("it was made with other settings than the plan".into());
        }
        if facts.first_ordinal != plan.first_ordinal(self.index) {
            return Err(format!("it starts at image {}", facts.first_ordinal));
        }
        Ok(())
    }

    /// What was counted in the rows against what the companions and the metadata count.
    fn compare(&self, counted: &Counted) -> Result<(), String> {
        let Counted { written, counts, measured, distance } = counted;
        let facts = &self.facts;
        if *written != facts.written {
            return Err(format!("it says {} images, its rows hold {written}", facts.written));
        }
        let levels = facts.fold.tokens();
        let counted: i64 = counts.iter().flatten().sum();
        let equal = counts.iter().enumerate().all(|(l, counts)| facts.fold.equals(l, counts));
        if !equal || levels != counted as u64 {
            return Err("its codebook part counts other tokens than its rows hold".into());
        }
        if let (Some(rows), Some(part)) = (*distance, facts.fold.distance(*measured))
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

/// The columns that a published description gives a file of these levels, and their names.
fn described<'a>(description: &'a Value, levels: &[&Level]) -> Vec<(String, &'a Value)> {
    let residual = levels.iter().filter(|level| level.residual).count();
    let top = levels.len().saturating_sub(residual + 1);
    let columns = description["columns"].as_array().map_or(&[][..], Vec::as_slice);
    let mut described = Vec::new();
    for group in columns.chunk_by(|a, b| a["only_with"] == b["only_with"]) {
        let numbers = match group[0]["only_with"].as_str() {
            None => 0..1,
            Some("a top level") => 0..top,
            Some(_) => 1..residual + 1,
        };
        for n in numbers {
            let name = |column: &Value| {
                column["name"].as_str().unwrap_or_default().replace("<n>", &n.to_string())
            };
            described.extend(group.iter().map(|column| (name(column), column)));
        }
    }
    described
}

/// Names, types and nullability of a file's columns against a published description.
fn check_columns(sheet: &Sheet, description: &str, levels: &[&Level]) -> Result<(), String> {
    let description: Value = serde_json::from_str(description).map_err(|e| e.to_string())?;
    let mut fields = sheet.schema().fields().iter();
    for (name, column) in described(&description, levels) {
        let field = fields.next().ok_or_else(|| format!("its column {name} is missing"))?;
        let kind = match field.data_type() {
            DataType::Utf8 => "utf8".to_string(),
            DataType::Boolean => "bool".to_string(),
            DataType::FixedSizeList(..) | DataType::List(_) => "tokens".to_string(),
            DataType::FixedSizeBinary(size) => format!("fixed_size_binary[{size}]"),
            other => other.to_string().to_lowercase(),
        };
        let fits = *field.name() == name
            && column["type"] == kind.as_str()
            && column["nullable"] == field.is_nullable();
        if !fits {
            return Err(format!("its column '{}' is not what {name} is", field.name()));
        }
    }
    match fields.next() {
        Some(field) => Err(format!("it has a column more: '{}'", text::printable(field.name()))),
        None => Ok(()),
    }
}

/// What a shard's rows hold.
struct Counted {
    /// Images.
    written: u64,
    /// Uses of each code, by level.
    counts: Vec<Vec<i64>>,
    /// The level that distances are of.
    measured: usize,
    /// Sum of its squared distances; None where a row has none.
    distance: Option<f64>,
}

/// The state of going through a shard's rows.
struct RowCheck<'a> {
    plan: Option<&'a PlanFacts>,
    levels: Vec<&'static Level>,
    planned: Option<Vec<Planned>>,
    first: i64,
    /// By place in the partition: 0 not seen, 1 written, 2 failed.
    seen: Vec<u8>,
    last: (i64, i64),
    counts: Vec<Vec<i64>>,
    stamps: Vec<u32>,
    stamp: u32,
    distance: Option<f64>,
    hash_input: Vec<u8>,
}

impl<'a> RowCheck<'a> {
    fn new(
        facts: &PartitionFacts,
        plan: Option<&'a PlanFacts>,
        sheet: &Sheet,
        levels: Vec<&'static Level>,
    ) -> Result<RowCheck<'a>, String> {
        let planned = plan.map(|plan| plan.partition(facts.index)).transpose();
        let planned = planned.map_err(|error| error.to_string())?;
        if planned.as_ref().is_some_and(|rows| rows.len() as u64 != facts.planned) {
            return Err(format!("it says {} images were planned", facts.planned));
        }
        let number = |key: &str| sheet.entries.get(key).and_then(|text| text.parse::<usize>().ok());
        let codes = levels.iter().filter_map(|level| number(&format!("vqtok.{}", level.codes)));
        let counts: Vec<Vec<i64>> = codes.map(|codes| vec![0; codes.min(1 << 24)]).collect();
        let stamps = vec![0; counts.first().map_or(0, Vec::len)];
        Ok(RowCheck {
            plan,
            levels,
            planned,
            first: facts.first_ordinal as i64,
            seen: vec![0; facts.planned as usize],
            last: (-1, 0),
            counts,
            stamps,
            stamp: 0,
            distance: Some(0.0),
            hash_input: Vec::new(),
        })
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let get = |name: &str| -> Result<&ArrayRef, String> {
            batch.column_by_name(name).ok_or_else(|| format!("it has no column {name}"))
        };
        let told = |name: &str| {
            let name = name.to_string();
            move |reason: String| format!("column {name} {reason}")
        };
        let int = |name: &str| integers::column(get(name)?).map_err(told(name));
        let mut levels = Vec::new();
        for level in &self.levels {
            let lists = integers::lists(get(&level.tokens)?).map_err(told(&level.tokens))?;
            levels.push((lists, int(&level.grid_height)?, int(&level.grid_width)?));
        }
        if levels.len() != self.counts.len() {
            return Err(format!("it has {} grids a row", levels.len()));
        }
        let required = ["key", "uri", "color_mode", "flip", "content_sha256", "grid_hash"];
        if required.iter().any(|name| get(name).is_ok_and(|column| column.null_count() > 0)) {
            return Err("it has missing values".into());
        }
        let (ordinals, views, unique) = (int("ordinal")?, int("view")?, int("unique_codes")?);
        let keys: &arrow::array::StringArray = get("key")?.as_string();
        let uris: &arrow::array::StringArray = get("uri")?.as_string();
        let hashes = get("grid_hash")?.as_fixed_size_binary();
        let errors = get("quantization_error")?.as_primitive::<Float32Type>();
        for i in 0..batch.num_rows() {
            let key = keys.value(i);
            let row = || format!("image {} ('{}')", ordinals[i], text::printable(key));
            self.place(ordinals[i], views[i]).map_err(|why| format!("{}: {why}", row()))?;
            self.planned_as(ordinals[i], key, uris.value(i))?;
            self.grids(&levels, i, hashes.value(i), unique[i])
                .map_err(|why| format!("{}: {why}", row()))?;
            let tokens = levels[levels::measured(&self.levels)].0.get(i).len() as f64;
            let error = errors.is_valid(i).then(|| f64::from(errors.value(i)) * tokens);
            self.distance = self.distance.zip(error).map(|(sum, error)| sum + error);
        }
        Ok(())
    }

    /// Ordinals ascend; the views of one ordinal count from 0.
    fn place(&mut self, ordinal: i64, view: i64) -> Result<(), String> {
        let fits = (ordinal > self.last.0 && view == 0)
            || (ordinal == self.last.0 && view == self.last.1 + 1);
        let place = usize::try_from(ordinal - self.first).ok();
        let seen = place.and_then(|place| self.seen.get_mut(place));
        match seen {
            Some(seen) if fits => {
                *seen = 1;
                self.last = (ordinal, view);
                Ok(())
            }
            _ => Err(format!("it stands after image {} (view {view})", self.last.0)),
        }
    }

    fn planned_as(&self, ordinal: i64, key: &str, uri: &str) -> Result<(), String> {
        let Some(planned) = &self.planned else { return Ok(()) };
        let fits = usize::try_from(ordinal - self.first)
            .ok()
            .and_then(|place| planned.get(place))
            .is_some_and(|p| p.ordinal == ordinal && p.key == key && p.uri == uri);
        if fits { Ok(()) } else { Err(format!("image {ordinal} is not the one that was planned")) }
    }

    fn grids(
        &mut self,
        levels: &[(Lists, Vec<i64>, Vec<i64>)],
        row: usize,
        hash: &[u8],
        unique: i64,
    ) -> Result<(), String> {
        self.hash_input.clear();
        let fixed = self.plan.map(PlanFacts::grids);
        for (level, (lists, heights, widths)) in levels.iter().enumerate() {
            let (codes, height, width) = (lists.get(row), heights[row], widths[row]);
            let fixed = fixed.as_ref().and_then(|grids| grids.get(level).copied().flatten());
            // What is left over of the first level has a place for each of its tokens.
            let first = self.levels[level].residual.then(|| [levels[0].1[row], levels[0].2[row]]);
            let expected = fixed.or(first);
            if height <= 0
                || width <= 0
                || height.checked_mul(width) != Some(codes.len() as i64)
                || expected.is_some_and(|grid| grid != [height, width])
            {
                return Err(format!("{} tokens in a grid of {height} x {width}", codes.len()));
            }
            let counts = &mut self.counts[level];
            for &code in codes {
                let count = counts.get_mut(code as usize);
                *count.ok_or_else(|| format!("code {code} is not in the codebook"))? += 1;
                self.hash_input.extend(code.to_le_bytes());
            }
            self.hash_input.extend((height as u32).to_le_bytes());
            self.hash_input.extend((width as u32).to_le_bytes());
        }
        if Sha256::digest(&self.hash_input)[..16] != *hash {
            return Err("its tokens don't give its grid_hash".into());
        }
        self.stamp = self.stamp.wrapping_add(1);
        let mut different = 0;
        for &code in levels[0].0.get(row) {
            different += i64::from(self.stamps[code as usize] != self.stamp);
            self.stamps[code as usize] = self.stamp;
        }
        if different != unique {
            return Err(format!("it has {different} unique codes, not {unique}"));
        }
        Ok(())
    }

    /// Takes the failures; then every planned image must have been seen once.
    fn finish(mut self, failures: &Path) -> Result<Counted, String> {
        let written = self.seen.iter().filter(|&&seen| seen == 1).count() as u64;
        let sheet = Sheet::open(failures, None).map_err(|error| error.to_string())?;
        let name = text::path(failures);
        let told = |reason: String| format!("{name}: {reason}");
        check_columns(&sheet, FAILURES_SCHEMA, &[]).map_err(told)?;
        let columns = ["ordinal", "key", "uri", "stage", "error"];
        let mut last = -1;
        for batch in sheet.batches(&columns).map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            if batch.columns().iter().any(|column| column.null_count() > 0) {
                return Err(told("it has missing values".into()));
            }
            let ordinals = integers::column(batch.column(0)).map_err(told)?;
            let keys: &arrow::array::StringArray = batch.column(1).as_string();
            let uris: &arrow::array::StringArray = batch.column(2).as_string();
            for (i, &ordinal) in ordinals.iter().enumerate() {
                let place = usize::try_from(ordinal - self.first).ok();
                match place.and_then(|place| self.seen.get_mut(place)) {
                    Some(seen) if *seen == 0 && ordinal > last => *seen = 2,
                    _ => return Err(told(format!("image {ordinal} is in it, against all order"))),
                }
                last = ordinal;
                self.planned_as(ordinal, keys.value(i), uris.value(i)).map_err(told)?;
            }
        }
        if let Some(lost) = self.seen.iter().position(|&seen| seen == 0) {
            let ordinal = self.first + lost as i64;
            return Err(format!("image {ordinal} was planned, but is neither written nor failed"));
        }
        let measured = levels::measured(&self.levels);
        Ok(Counted { written, counts: self.counts, measured, distance: self.distance })
    }
}
