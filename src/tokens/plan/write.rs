//! Owns writing `plan.parquet`, and the files that it names where it has more partitions than one holds.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use super::columns::columns_of;
use super::containers::{Recorder, Today};
use super::file::Base;
use super::hasher::PlanHasher;
use super::layout::Layout;
use super::root::{self, Named};
use super::spool::Spool;
use super::written::{WholePieces, Written};
use crate::error::{Error, Result};
use crate::tokens::arrangement::Arrangement;
use crate::tokens::classes::{ClassCollector, Classes};
use crate::tokens::commit::{Sealed, TempFile};
use crate::tokens::identity::Identity;
use crate::tokens::rows::PlanRow;
use crate::tokens::schema;
use crate::util::label_level::LabelLevel;
use crate::util::text;

/// The longest key or uri, in bytes: longer than any path that a system takes.
const TEXT_BYTES_MAX: usize = 1 << 16;
/// The longest of the other texts, in bytes.
const FACT_BYTES_MAX: usize = 1 << 20;
/// Texts of a row group at most, in bytes: far below what Arrow's offsets count.
const GROUP_BYTES_MAX: usize = 1 << 30;
/// What a file system's times may be off by: some count in steps of two seconds.
const TIME_STEP: Duration = Duration::from_secs(2);

/// What a plan says beside its rows.
#[derive(Clone, Copy)]
pub(in crate::tokens) struct About<'a> {
    pub(in crate::tokens) identity: &'a Identity,
    /// What it stands upon.
    pub(in crate::tokens) base: &'a Base,
    /// What was taken of containers.
    pub(in crate::tokens) taken: &'a str,
    /// When listing the input began; None where it begins now.
    pub(in crate::tokens) listed_at: Option<SystemTime>,
    /// Whether its rows are sorted by their buckets, where its identity has some.
    pub(in crate::tokens) in_buckets: bool,
    /// The class names of the plans before, to which it adds its own; None where its shards have no ids
    /// of them.
    pub(in crate::tokens) classes: Option<&'a Classes>,
    /// How what belongs to it lies.
    pub(in crate::tokens) arrangement: Arrangement,
}

/// A plan on its way into a temporary file.
struct PlanWriter<'a> {
    path: &'a Path,
    about: About<'a>,
    layout: Layout,
    labels: LabelLevel,
    classes: Option<ClassCollector>,
    writer: ArrowWriter<TempFile>,
    hasher: PlanHasher,
    /// The ordinal of the next row.
    next: i64,
    group: Vec<PlanRow>,
    group_bytes: usize,
    /// For each file that is read forward, the partitions that it has: first and end.
    together: Vec<[usize; 2]>,
    /// Images of each partition so far.
    groups: Vec<u64>,
    /// Files that have all the partitions they hold.
    whole: WholePieces,
    containers: Recorder,
    /// When listing the input began.
    listed_at: Option<SystemTime>,
}

impl<'a> PlanWriter<'a> {
    fn create(path: &'a Path, about: About<'a>, layout: Layout) -> Result<PlanWriter<'a>> {
        let About { identity, base, .. } = about;
        let temp = TempFile::create(path)?;
        let begun = temp.modified().and_then(|time| time.checked_sub(TIME_STEP));
        Ok(PlanWriter {
            path,
            about,
            layout,
            labels: LabelLevel::recorded(identity.label_level.as_deref())?,
            classes: about.classes.map(ClassCollector::new),
            writer: rows_writer(temp, path, first_entries(about, layout.word()), layout)?,
            hasher: PlanHasher::new(identity, base, layout),
            next: base.ordinal as i64,
            group: Vec::new(),
            group_bytes: 0,
            together: Vec::new(),
            groups: Vec::new(),
            whole: WholePieces::default(),
            containers: Recorder::default(),
            listed_at: about.listed_at.or(begun),
        })
    }

    fn push(&mut self, row: PlanRow) -> Result<()> {
        if row.ordinal != self.next {
            let due = self.next;
            return Err(Error::invalid(format!(
                "planned image {} where {due} was due",
                row.ordinal
            )));
        }
        let bytes = bytes_of(&row).ok_or_else(|| {
            Error::invalid(format!("image {} has an impossible name or size", row.ordinal))
        })?;
        let full = self.group.len() as u64 == self.about.identity.shard_rows
            || self.group_bytes + bytes > GROUP_BYTES_MAX;
        // Images of one bucket lie in many files, each of which has images of many buckets: one that
        // is read forward is gone through for each bucket, by whoever has a partition of it.
        let buckets = self.layout == Layout::Buckets;
        let apart = self.group.last().is_some_and(|last| match buckets {
            true => last.bucket_size() != row.bucket_size(),
            false => (last.forward || row.forward) && last.uri != row.uri,
        });
        if full || apart {
            let same = !buckets && !apart && row.forward;
            self.write_group(same)?;
        }
        self.hasher.row(&row, self.group.is_empty());
        if let Some(classes) = &mut self.classes {
            let label = self.labels.label_beside(row.label.as_deref(), &row.key);
            label.into_iter().for_each(|label| classes.take(label));
        }
        if !buckets {
            self.containers.row(&row);
        }
        self.next += 1;
        self.group_bytes += bytes;
        self.group.push(row);
        Ok(())
    }

    /// Ends a partition; `continued`: the next one is of the same file, which is read forward.
    fn write_group(&mut self, continued: bool) -> Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        if self.groups.len() - self.whole.partitions == self.about.arrangement.together {
            let (temp, entries) =
                (TempFile::create(self.path)?, first_entries(self.about, self.layout.word()));
            let next = rows_writer(temp, self.path, entries, self.layout)?;
            let whole = std::mem::replace(&mut self.writer, next);
            self.whole.push(whole, self.path, self.groups.len())?;
        }
        let columns = columns_of(&self.group, self.layout);
        let write = || -> parquet::errors::Result<()> {
            self.writer.write(&RecordBatch::try_new(self.layout.columns(), columns)?)?;
            self.writer.flush()
        };
        write().map_err(schema::parquet_error(self.path))?;
        self.groups.push(self.group.len() as u64);
        self.group.clear();
        self.group_bytes = 0;
        let groups = self.groups.len();
        if continued {
            match self.together.last_mut() {
                Some([_, end]) if *end == groups => *end += 1,
                _ => self.together.push([groups - 1, groups + 1]),
            }
        }
        Ok(())
    }

    /// Ends the plan, whose time of writing becomes that of its listing: what is written to later
    /// may have changed.
    fn finish(mut self) -> Result<Written> {
        self.write_group(false)?;
        let digest = self.hasher.finish();
        let entries = self.last_entries(&digest);
        let (path, listed_at) = (self.path, self.listed_at);
        if self.whole.pieces.is_empty() {
            let mut writer = self.writer;
            entries.into_iter().for_each(|entry| writer.append_key_value_metadata(entry));
            let root = sealed_as_of(schema::finish(writer, path)?, listed_at)?;
            return Ok(Written { root, pieces: Vec::new(), digest });
        }
        self.whole.push(self.writer, path, self.groups.len())?;
        let pieces = self.whole.pieces;
        let named: Vec<&Named> = pieces.iter().map(|(named, _)| named).collect();
        let mut first = first_entries(self.about, schema::PLAN_ROOT);
        first.extend([
            KeyValue::new("vqtok.rows_schema".into(), self.layout.word().to_string()),
            KeyValue::new("vqtok.files".into(), serde_json::json!(named).to_string()),
        ]);
        first.extend(entries);
        let root = sealed_as_of(root::write(path, &self.groups, first)?, listed_at)?;
        Ok(Written { root, pieces, digest })
    }

    /// What is known of the plan once all its rows are.
    fn last_entries(&mut self, digest: &str) -> Vec<KeyValue> {
        let mut entries = Vec::new();
        let mut entry = |key: &str, value: String| entries.push(KeyValue::new(key.into(), value));
        // Whoever looks for a plan looks at its end: the longest entry comes first.
        if let Some(containers) = std::mem::take(&mut self.containers).finish() {
            entry("vqtok.containers", containers);
            entry("vqtok.taken", self.about.taken.to_string());
        }
        if let Some(classes) = self.classes.take() {
            entry("vqtok.classes", classes.finish().text());
        }
        entry("vqtok.plan_sha256", digest.to_string());
        if !self.together.is_empty() {
            let together = serde_json::json!(self.together).to_string();
            entry("vqtok.together", together);
        }
        let partitions = self.about.base.partition + self.groups.len();
        if let Some(size) = self.about.arrangement.folders(partitions).size() {
            entry("vqtok.shards_a_folder", size.to_string());
        }
        entries
    }

    /// The same rows in the layout that has columns for more.
    fn of_parts(mut self) -> Result<PlanWriter<'a>> {
        let path = self.path;
        let mut wider = PlanWriter::create(path, self.about, Layout::Parts)?;
        wider.listed_at = self.listed_at;
        // The one whose first image it is; there was none before.
        let containers = std::mem::take(&mut self.containers);
        if self.next == self.about.base.ordinal as i64 {
            return Ok(PlanWriter { containers, ..wider });
        }
        let number = self.about.base.number;
        let narrow = self.finish()?;
        for row in narrow.open(number)?.all_rows()? {
            wider.push(row?)?;
        }
        Ok(PlanWriter { containers, ..wider })
    }
}

/// Begins a file of rows for `path`.
pub(super) fn rows_writer<W: Write + Send>(
    temp: W,
    path: &Path,
    entries: Vec<KeyValue>,
    layout: Layout,
) -> Result<ArrowWriter<W>> {
    let columns = schema::with_entries(layout.columns(), &entries);
    let properties = schema::properties(Some(entries), None);
    ArrowWriter::try_new(temp, columns, Some(properties)).map_err(schema::parquet_error(path))
}

/// What is known of a plan before its rows are.
fn first_entries(About { identity, base, .. }: About<'_>, word: &str) -> Vec<KeyValue> {
    let mut entries = vec![
        KeyValue::new("vqtok.schema".into(), word.to_string()),
        KeyValue::new("vqtok.identity".into(), identity.canonical()),
    ];
    if base.number > 0 {
        entries.extend([
            KeyValue::new("vqtok.after".into(), base.after.clone()),
            KeyValue::new("vqtok.first_ordinal".into(), base.ordinal.to_string()),
            KeyValue::new("vqtok.first_partition".into(), base.partition.to_string()),
        ]);
    }
    entries
}

/// Makes a file durable that says what was seen at a time.
pub(super) fn sealed_as_of(temp: TempFile, listed_at: Option<SystemTime>) -> Result<Sealed> {
    if let Some(time) = listed_at {
        temp.set_modified(time);
    }
    temp.seal()
}

/// Streams what is found into sealed temporary files. Where every image is a
/// file the plan is a `plan.v1`, as it always was.
pub(in crate::tokens) fn write(
    path: &Path,
    about: About<'_>,
    items: impl Iterator<Item = Result<Today>>,
) -> Result<Written> {
    if let Some(buckets) = about.identity.buckets()?.filter(|_| about.in_buckets) {
        return write_by_buckets(path, about, items, &buckets);
    }
    let mut plan = PlanWriter::create(path, about, Layout::Files)?;
    for item in items {
        let row = match item? {
            Today::Image(row) => PlanRow { bucket: None, ..row },
            Today::Opened(file) => {
                plan.containers.open(file);
                continue;
            }
            Today::Ended(digest) => {
                plan.containers.ended(digest);
                continue;
            }
            Today::Unchanged(..) => return Err(removed(path)),
        };
        if plan.layout == Layout::Files && row.is_more_than_a_file() {
            plan = plan.of_parts()?;
        }
        plan.push(row)?;
    }
    plan.finish()
}

/// The same where images go into `buckets`: those of the first come first, each bucket in the order
/// of the inputs.
fn write_by_buckets(
    path: &Path,
    about: About<'_>,
    items: impl Iterator<Item = Result<Today>>,
    buckets: &[(u32, u32)],
) -> Result<Written> {
    let mut plan = PlanWriter::create(path, about, Layout::Buckets)?;
    let mut spool = Spool::new(buckets)?;
    for item in items {
        match item? {
            Today::Image(row) => {
                plan.containers.row(&row);
                spool.push(&row)?;
            }
            Today::Opened(file) => plan.containers.open(file),
            Today::Ended(digest) => plan.containers.ended(digest),
            Today::Unchanged(..) => return Err(removed(path)),
        }
    }
    for (row, ordinal) in spool.rows().zip(about.base.ordinal as i64..) {
        plan.push(PlanRow { ordinal, ..row? })?;
    }
    plan.finish()
}

fn removed(path: &Path) -> Error {
    Error::invalid(format!(
        "{}: it was removed while the input was held against it; run again",
        text::path(path)
    ))
}

/// Bytes of its texts; None where a text or number can't be.
fn bytes_of(row: &PlanRow) -> Option<usize> {
    let names = [Some(&row.key), Some(&row.uri), row.member.as_ref()];
    let facts = [&row.label, &row.caption, &row.meta_json, &row.fault].map(Option::as_ref);
    let longest = |texts: &[Option<&String>]| {
        texts.iter().flatten().map(|text| text.len()).max().unwrap_or(0)
    };
    let fits = !row.key.is_empty()
        && longest(&names) <= TEXT_BYTES_MAX
        && longest(&facts) <= FACT_BYTES_MAX
        && row.bytes >= 0
        && row.offset.is_none_or(|offset| offset >= 0);
    fits.then(|| names.iter().chain(&facts).flatten().map(|text| text.len()).sum())
}
