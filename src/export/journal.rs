//! Owns `export.json`: what an export is made of, and which of its files are whole. The same command
//! goes on behind the last of them. Must not know: formats.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::commit;
use crate::util::text;

pub(super) const NAME: &str = "export.json";
const SCHEMA: &str = "export.v1";
/// Bytes of it at most.
const BYTES_MAX: u64 = 1 << 30;

/// What `export.json` says; `schemas/export.v1.json` describes each name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub schema: String,
    pub settings: Value,
    pub source_sha256: String,
    pub finished: bool,
    /// Rows of the source that were left out, where that was asked for.
    pub left_out: u64,
    pub splits: Vec<SplitRecord>,
}

/// The files of a split, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SplitRecord {
    /// None where there are no splits.
    pub name: Option<String>,
    pub rows: u64,
    pub ids: u64,
    pub parts: Vec<PartRecord>,
}

/// Files that were written together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    pub rows: u64,
    pub ids: u64,
    pub files: Vec<FileRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    /// Below the export's folder; of many files with their numbers in braces, `{0..9}.npy`.
    pub path: String,
    /// Of many files, how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of all of them.
    pub bytes: u64,
    pub sha256: String,
}

impl FileRecord {
    /// The names below the export's folder.
    fn names(&self) -> Vec<String> {
        let range = || {
            let (before, rest) = self.path.rsplit_once('{')?;
            let (range, after) = rest.split_once('}')?;
            let (first, last) = range.split_once("..")?;
            let digits = if first.starts_with('0') { first.len() } else { 1 };
            let numbers = first.parse::<u64>().ok()?..=last.parse().ok()?;
            Some(numbers.map(|n| format!("{before}{n:0digits$}{after}")).collect::<Vec<_>>())
        };
        self.count.and_then(|_| range()).unwrap_or_else(|| vec![self.path.clone()])
    }

    /// Whether files of these names and lengths are there.
    fn is_there(&self, folder: &Path) -> bool {
        let names = self.names();
        let bytes = names.par_iter().map(|name| {
            let facts = storage::facts(&folder.join(name)).ok();
            facts.filter(|facts| facts.is_file).map(|facts| facts.bytes)
        });
        names.len() as u64 == self.count.unwrap_or(1)
            && bytes.sum::<Option<u64>>() == Some(self.bytes)
    }
}

/// The record with its place.
pub(super) struct Journal {
    folder: PathBuf,
    pub record: Record,
    saved: Instant,
    /// How long the last save took.
    cost: Duration,
}

impl Journal {
    /// Goes on with the export that is there, or begins one.
    ///
    /// # Errors
    /// Another export's place, or anybody else's.
    pub(super) fn open(
        folder: &Path,
        settings: Value,
        source_sha256: &str,
        splits: impl Iterator<Item = Option<String>>,
    ) -> Result<Journal> {
        let new = Record {
            schema: SCHEMA.into(),
            settings,
            source_sha256: source_sha256.into(),
            finished: false,
            left_out: 0,
            splits: splits
                .map(|name| SplitRecord { name, rows: 0, ids: 0, parts: Vec::new() })
                .collect(),
        };
        let path = folder.join(NAME);
        let record = match storage::exists(&path).map_err(Error::io(&path))? {
            true => resumed(&path, &new)?,
            false => {
                refuse_foreign(folder)?;
                commit::create_folder(folder)?;
                new
            }
        };
        let (saved, cost) = (Instant::now(), Duration::ZERO);
        let mut journal = Journal { folder: folder.to_path_buf(), record, saved, cost };
        journal.forget_lost()?;
        Ok(journal)
    }

    /// Leaves out parts from the first on of which a file isn't there any more.
    fn forget_lost(&mut self) -> Result<()> {
        let mut lost = false;
        for split in &mut self.record.splits {
            let there =
                |part: &PartRecord| part.files.iter().all(|file| file.is_there(&self.folder));
            let kept = split.parts.iter().take_while(|part| there(part)).count();
            lost |= kept < split.parts.len();
            split.parts.truncate(kept);
            split.rows = split.parts.iter().map(|part| part.rows).sum();
            split.ids = split.parts.iter().map(|part| part.ids).sum();
        }
        self.record.finished &= !lost;
        Ok(())
    }

    /// Notes a part whose files have their names. The file is written now and then: what it doesn't
    /// tell is made again, and found to be the same.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn add(&mut self, split: usize, part: PartRecord) -> Result<()> {
        let split = &mut self.record.splits[split];
        split.rows += part.rows;
        split.ids += part.ids;
        split.parts.push(part);
        match self.saved.elapsed() > self.cost * 20 {
            true => self.save(),
            false => Ok(()),
        }
    }

    /// # Errors
    /// What the system refuses.
    pub(super) fn save(&mut self) -> Result<()> {
        let begun = Instant::now();
        let path = self.folder.join(NAME);
        let mut bytes = serde_json::to_vec_pretty(&self.record)
            .map_err(|error| Error::internal(format!("{NAME}: {error}")))?;
        bytes.push(b'\n');
        commit::replace_durably(&path, &bytes)?;
        (self.saved, self.cost) = (Instant::now(), begun.elapsed());
        Ok(())
    }
}

/// The record that is there, where it is of the same export.
fn resumed(path: &Path, new: &Record) -> Result<Record> {
    let bytes = storage::read(path, BYTES_MAX).map_err(Error::io(path))?;
    let record: Record = serde_json::from_slice(&bytes)
        .ok()
        .filter(|record: &Record| record.schema == SCHEMA)
        .ok_or_else(|| Error::corrupt(path, "no record of an export; name another folder"))?;
    let named = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (old, asked) = (named(&record.settings), named(&new.settings));
    if let Some((name, value)) = asked.iter().find(|(name, value)| old.get(*name) != Some(value)) {
        let old = old.get(name).cloned().unwrap_or_default();
        return Err(Error::mismatch(format!(
            "{}: an export with {name} {old}, where {value} is asked for; name another folder",
            text::path(path)
        )));
    }
    if record.source_sha256 != new.source_sha256 {
        return Err(Error::mismatch(format!(
            "{}: an export of other token files, or of these before they changed; name another folder",
            text::path(path)
        )));
    }
    Ok(record)
}

/// Refuses a folder that has something in it.
fn refuse_foreign(folder: &Path) -> Result<()> {
    let foreign = commit::list(folder)?.into_iter().find(|path| {
        // What a killed export left before its first file.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !(name.starts_with('.') && name.ends_with(".tmp"))
    });
    match foreign {
        None => Ok(()),
        Some(path) => Err(Error::invalid(format!(
            "{} isn't of an export: nothing is written among other files; name a folder that is new \
             or empty",
            text::path(path)
        ))),
    }
}

/// The ids of labels, beside it.
pub(super) const LABELS: &str = "labels.json";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_path_with_a_range_is_many_names() {
        let names = |path: &str, count| {
            let path = path.to_string();
            FileRecord { path, count, bytes: 1, sha256: String::new() }.names()
        };
        assert_eq!(names("a{b/{8..10}.npy", Some(3)), ["a{b/8.npy", "a{b/9.npy", "a{b/10.npy"]);
        assert_eq!(names("f/{000..001}.pth", Some(2)), ["f/000.pth", "f/001.pth"]);
        assert_eq!(names("{0..1}.npy", None), ["{0..1}.npy"]);
    }

    #[test]
    fn its_description_names_what_it_holds() {
        let schema = include_str!("../../schemas/export.v1.json");
        let schema: Value = serde_json::from_str(schema).unwrap();
        assert_eq!(schema["schema"], SCHEMA);
        let file = FileRecord { path: "a".into(), count: Some(1), bytes: 1, sha256: "0".into() };
        let part = PartRecord { rows: 1, ids: 1, files: vec![file] };
        let split = SplitRecord { name: None, rows: 1, ids: 1, parts: vec![part] };
        let record = Record {
            schema: SCHEMA.into(),
            settings: Value::Null,
            source_sha256: "0".into(),
            finished: true,
            left_out: 0,
            splits: vec![split],
        };
        let record = serde_json::to_value(record).unwrap();
        let (split, defs) = (&record["splits"][0], &schema["$defs"]);
        let part = &split["parts"][0];
        for (value, described) in [
            (&record, &schema),
            (split, &defs["split"]),
            (part, &defs["part"]),
            (&part["files"][0], &defs["file"]),
        ] {
            let keys = |value: &Value| -> BTreeSet<String> {
                value.as_object().unwrap().keys().cloned().collect()
            };
            assert_eq!(keys(value), keys(&described["properties"]));
            let required: BTreeSet<String> =
                serde_json::from_value(described["required"].clone()).unwrap();
            // `count` stands there only where a path names many files.
            let always: BTreeSet<String> =
                keys(value).into_iter().filter(|key| key != "count").collect();
            assert_eq!(always, required);
        }
    }
}
