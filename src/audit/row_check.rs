//! Owns going through a shard's rows and its failures: order, plan, grids, codes, hashes.
//! Must not know: other files.

use std::collections::HashSet;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use sha2::{Digest, Sha256};

use super::classes::Classes;
use super::description::{FAILURES, check_columns};
use super::facts::PartitionFacts;
use super::integers::{self, Lists};
use super::level_size::{CODES_MAX, LevelSize, each_bit};
use super::levels::{self, Level};
use super::plan::PlanFacts;
use super::plan_rows::Planned;
use crate::audit::parquet_file::ParquetFile;
use crate::util::text;

/// What a shard's rows hold.
pub(super) struct Counted {
    /// Images.
    pub(super) written: u64,
    /// Uses of each code, or of the values of each bit, by level.
    pub(super) counts: Vec<Vec<i64>>,
    /// The level that distances are of.
    pub(super) measured: usize,
    /// Sum of its squared distances; None where a row has none.
    pub(super) distance: Option<f64>,
}

/// The columns of what stands beside the images.
struct Beside<'a> {
    member: &'a StringArray,
    label: &'a StringArray,
    caption: &'a StringArray,
    /// None in a shard without ids of classes.
    label_id: Option<&'a Int64Array>,
}

impl<'a> Beside<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Beside<'a>, String> {
        let text = |name: &str| {
            let column =
                batch.column_by_name(name).ok_or_else(|| format!("it has no column {name}"));
            column.map(|column| column.as_string())
        };
        Ok(Beside {
            member: text("member")?,
            label: text("label")?,
            caption: text("caption")?,
            label_id: batch.column_by_name("label_id").map(|column| column.as_primitive()),
        })
    }

    /// Whether row `i` has the id of its label; `classes`, where they are known.
    fn check_id(&self, i: usize, classes: Option<&Classes>) -> Result<(), String> {
        let Some(ids) = self.label_id else { return Ok(()) };
        let id = ids.is_valid(i).then(|| ids.value(i));
        let label = self.label.is_valid(i).then(|| self.label.value(i));
        let due = match (label, classes) {
            (None, _) => None,
            (Some(label), Some(classes)) => classes.id(label)?,
            (Some(_), None) => return Ok(()),
        };
        match id == due {
            true => Ok(()),
            false => Err("its label_id isn't the place of its label".into()),
        }
    }

    /// Whether row `i` says what the plan says: where that knows no label, the key's folders may.
    fn check(&self, i: usize, planned: Option<&Planned>) -> Result<(), String> {
        let text = |column: &StringArray| column.is_valid(i).then(|| column.value(i).to_string());
        let Some(part) = planned.and_then(|planned| planned.part.as_ref()) else { return Ok(()) };
        if part.fault.is_some() {
            return Err("it has tokens, where the plan says that it can't be read".into());
        }
        for (name, is, was) in [
            ("member", text(self.member), &part.member),
            ("caption", text(self.caption), &part.caption),
            ("label", text(self.label), &part.label),
        ] {
            // A label that is empty is none, and where none is planned the key's folders may say one.
            let free =
                name == "label" && (was.is_none() || was.as_deref() == Some("") && is.is_none());
            if is != *was && !free {
                return Err(format!("its {name} isn't the one that was planned"));
            }
        }
        Ok(())
    }
}

/// A column of digests, whatever their type says of their length.
fn bytes(column: &ArrayRef) -> Result<ArrayRef, String> {
    cast(column, &DataType::Binary).map_err(|error| error.to_string())
}

fn is_sha256(digest: &[u8]) -> Result<(), String> {
    match digest.len() {
        32 => Ok(()),
        bytes => Err(format!("its content_sha256 has {bytes} bytes, not 32")),
    }
}

/// Counts the codes of a row, or their bits.
fn count(counts: &mut [i64], codes: &[u32], size: LevelSize) -> Result<(), String> {
    let beyond = |code: u32| format!("code {code} is not in the codebook");
    let Some(bits) = size.bits else {
        for &code in codes {
            *counts.get_mut(code as usize).ok_or_else(|| beyond(code))? += 1;
        }
        return Ok(());
    };
    for token in codes.chunks_exact(size.values()) {
        if let Some(&code) = token.iter().find(|&&code| u64::from(code) >= size.codes) {
            return Err(beyond(code));
        }
        // Below K, a list holds bits.
        each_bit(token, bits, |place| counts[place] += 1).ok_or("a list of other than bits")?;
    }
    Ok(())
}

/// The state of going through a shard's rows.
pub(super) struct RowCheck<'a> {
    plan: Option<&'a PlanFacts>,
    levels: Vec<&'static Level>,
    planned: Option<Vec<Planned>>,
    first: i64,
    /// By place in the partition: 0 not seen, 1 written, 2 failed.
    seen: Vec<u8>,
    last: (i64, i64),
    sizes: Vec<LevelSize>,
    counts: Vec<Vec<i64>>,
    stamps: Vec<u32>,
    stamp: u32,
    distance: Option<f64>,
    hash_input: Vec<u8>,
    /// The first grid of all rows, where they are of one bucket.
    grid: Option<[i64; 2]>,
}

impl<'a> RowCheck<'a> {
    pub(super) fn new(
        facts: &PartitionFacts,
        plan: Option<&'a PlanFacts>,
        sheet: &ParquetFile,
        levels: Vec<&'static Level>,
    ) -> Result<RowCheck<'a>, String> {
        let planned = plan.map(|plan| plan.partition(facts.index)).transpose();
        let planned = planned.map_err(|error| error.to_string())?;
        if planned.as_ref().is_some_and(|rows| rows.len() as u64 != facts.planned) {
            return Err(format!("it says {} images were planned", facts.planned));
        }
        let entry = |key: &str| sheet.entries.get(&format!("vqtok.{key}")).map(String::as_str);
        let sizes = levels.iter().filter_map(|level| LevelSize::of(level, entry));
        let sizes: Vec<LevelSize> = sizes.collect();
        let counters = sizes.iter().map(|size| size.counters().min(CODES_MAX) as usize);
        let counts: Vec<Vec<i64>> = counters.map(|counters| vec![0; counters]).collect();
        if sizes.iter().any(|size| size.bits.is_some() != facts.code_counts.of_bits()) {
            return Err(
                "its codebook part counts codes where it has bits, or bits for codes".into()
            );
        }
        let of_codes = counts.first().filter(|_| !facts.code_counts.of_bits());
        let stamps = vec![0; of_codes.map_or(0, Vec::len)];
        Ok(RowCheck {
            plan,
            levels,
            sizes,
            planned,
            first: facts.first_ordinal as i64,
            seen: vec![0; facts.planned as usize],
            last: (-1, 0),
            counts,
            stamps,
            stamp: 0,
            distance: Some(0.0),
            hash_input: Vec::new(),
            grid: None,
        })
    }

    /// Takes the next rows.
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<(), String> {
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
        let keys: &StringArray = get("key")?.as_string();
        let uris: &StringArray = get("uri")?.as_string();
        let (contents, hashes) = (bytes(get("content_sha256")?)?, bytes(get("grid_hash")?)?);
        let (contents, hashes) = (contents.as_binary::<i32>(), hashes.as_binary::<i32>());
        let errors = get("quantization_error")?.as_primitive::<Float32Type>();
        let beside = Beside::of(batch)?;
        let classes = self.plan.and_then(|plan| plan.classes.as_ref());
        for i in 0..batch.num_rows() {
            let key = keys.value(i);
            let row = || format!("image {} ('{}')", ordinals[i], text::printable(key));
            self.place(ordinals[i], views[i]).map_err(|why| format!("{}: {why}", row()))?;
            let planned = self.planned_as(ordinals[i], key, uris.value(i))?;
            beside.check(i, planned).map_err(|why| format!("{}: {why}", row()))?;
            beside.check_id(i, classes).map_err(|why| format!("{}: {why}", row()))?;
            is_sha256(contents.value(i)).map_err(|why| format!("{}: {why}", row()))?;
            self.one_grid([levels[0].1[i], levels[0].2[i]])
                .map_err(|why| format!("{}: {why}", row()))?;
            self.grids(&levels, i, hashes.value(i), unique[i])
                .map_err(|why| format!("{}: {why}", row()))?;
            let measured = levels::measured(&self.levels);
            let values = levels[measured].0.get(i).len();
            let tokens = (values / self.sizes[measured].values()) as f64;
            let error = errors.is_valid(i).then(|| f64::from(errors.value(i)) * tokens);
            self.distance = self.distance.zip(error).map(|(sum, error)| sum + error);
        }
        Ok(())
    }

    /// Every view of the last image must have been seen.
    fn all_views(&self) -> Result<(), String> {
        let (ordinal, view) = self.last;
        match self.plan.and_then(PlanFacts::views) {
            Some(views) if ordinal >= 0 && view + 1 != views => {
                Err(format!("image {ordinal} has {} rows, where its views are {views}", view + 1))
            }
            _ => Ok(()),
        }
    }

    /// Ordinals ascend; the views of one ordinal count from 0.
    fn place(&mut self, ordinal: i64, view: i64) -> Result<(), String> {
        if ordinal != self.last.0 {
            self.all_views()?;
        }
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

    /// The planned image that a row says it is of; None where there is no plan to ask.
    fn planned_as(&self, ordinal: i64, key: &str, uri: &str) -> Result<Option<&Planned>, String> {
        let Some(planned) = &self.planned else { return Ok(None) };
        let place = usize::try_from(ordinal - self.first).ok();
        let planned = place.and_then(|place| planned.get(place));
        let fits = planned.filter(|p| p.ordinal == ordinal && p.key == key && p.uri == uri);
        let fits =
            fits.ok_or_else(|| format!("image {ordinal} is not the one that was planned"))?;
        Ok(Some(fits))
    }

    /// Rows of one bucket have one grid.
    fn one_grid(&mut self, grid: [i64; 2]) -> Result<(), String> {
        let [height, width] = *self.grid.get_or_insert(grid);
        match self.plan.is_some_and(PlanFacts::has_buckets) && grid != [height, width] {
            true => Err(format!(
                "a grid of {} x {} in the shard of a bucket of {height} x {width}",
                grid[0], grid[1]
            )),
            false => Ok(()),
        }
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
            // What is left over of the first level has a place for each of its tokens, as have books.
            let beside = self.levels[level].has_first_grid();
            let first = beside.then(|| [levels[0].1[row], levels[0].2[row]]);
            let expected = fixed.or(first);
            let size = self.sizes[level];
            let all =
                height.checked_mul(width).and_then(|all| all.checked_mul(size.values() as i64));
            if height <= 0
                || width <= 0
                || all != Some(codes.len() as i64)
                || expected.is_some_and(|grid| grid != [height, width])
            {
                let what = if size.values() > 1 { "bits" } else { "tokens" };
                return Err(format!("{} {what} in a grid of {height} x {width}", codes.len()));
            }
            count(&mut self.counts[level], codes, size)?;
            codes.iter().for_each(|code| self.hash_input.extend(code.to_le_bytes()));
            self.hash_input.extend((height as u32).to_le_bytes());
            self.hash_input.extend((width as u32).to_le_bytes());
        }
        if Sha256::digest(&self.hash_input)[..16] != *hash {
            return Err("its tokens don't give its grid_hash".into());
        }
        let different = self.different(levels[0].0.get(row));
        if different != unique {
            return Err(format!("it has {different} unique codes, not {unique}"));
        }
        Ok(())
    }

    /// Different tokens of the first level.
    fn different(&mut self, codes: &[u32]) -> i64 {
        if self.stamps.is_empty() {
            let tokens = codes.chunks(self.sizes[0].values());
            return tokens.collect::<HashSet<_>>().len() as i64;
        }
        self.stamp = self.stamp.wrapping_add(1);
        let mut different = 0;
        for &code in codes {
            different += i64::from(self.stamps[code as usize] != self.stamp);
            self.stamps[code as usize] = self.stamp;
        }
        different
    }

    /// Takes the failures; then every planned image must have been seen once.
    pub(super) fn finish(mut self, failures: &Path) -> Result<Counted, String> {
        self.all_views()?;
        let written = self.seen.iter().filter(|&&seen| seen == 1).count() as u64;
        let sheet = ParquetFile::open(failures, None).map_err(|error| error.to_string())?;
        let name = text::path(failures);
        let told = |reason: String| format!("{name}: {reason}");
        check_columns(&sheet, FAILURES, &[]).map_err(told)?;
        let columns = ["ordinal", "key", "uri", "stage", "error"];
        let mut last = -1;
        for batch in sheet.batches(&columns).map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            if batch.columns().iter().any(|column| column.null_count() > 0) {
                return Err(told("it has missing values".into()));
            }
            let ordinals = integers::column(batch.column(0)).map_err(told)?;
            let keys: &StringArray = batch.column(1).as_string();
            let uris: &StringArray = batch.column(2).as_string();
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
