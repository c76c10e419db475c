//! Owns one partition on its way to disk: outcomes in order of their ordinals in, a committed
//! shard with its sidecars out. Must not know: how tokens were made.

use std::ops::Range;
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use super::classes::Classes;
use super::columns::{self, PendingRow};
use super::commit::{self, TempFile};
use super::files::{FOLDERS, ShardFolders, Sidecar, within};
use super::folder_lock::FolderLock;
use super::identity::{Identity, Preprocessing};
use super::level_layout::{LevelLayout, Scales};
use super::plan::Plan;
use super::rows::{FailureRow, Outcome, TokenRow};
use super::shard_commit::{CommitMode, Made, Receipt};
use super::stats::Statistics;
use super::{features, folds, levels, schema, sidecars};
use crate::error::{Error, Result};
use crate::util::hex::{hex, sha256_hex};

/// Rows and tokens converted to columns at a time: bounds what waits in memory as rows.
const BATCH_ROWS: usize = 256;
const BATCH_TOKENS: usize = 1 << 22;
/// Tokens to a row group at most. Larger groups compress better, and a shard's worth of a usual
/// grid fits; a group is held in memory until it is whole.
const GROUP_TOKENS: usize = 1 << 26;

/// Writes one partition. Dropped without [`PartitionWriter::close`], it leaves nothing.
pub struct PartitionWriter {
    dir: PathBuf,
    folders: ShardFolders,
    /// Where what was folded of this partition with others lies: it goes before the partition changes.
    fold: Option<PathBuf>,
    identity: Identity,
    /// Of the plan; None where its shards have no ids.
    classes: Option<Classes>,
    partition: usize,
    mode: CommitMode,
    ordinals: Range<i64>,
    next: i64,
    next_view: i32,
    writer: ArrowWriter<TempFile>,
    group_rows: usize,
    group_rows_max: usize,
    pending: Vec<PendingRow>,
    pending_tokens: usize,
    statistics: Statistics,
    failures: Vec<FailureRow>,
    rows: u64,
    written: u64,
    /// Keeps repairs away while partitions are added; who replaces holds the exclusive one.
    _lock: Option<FolderLock>,
}

impl PartitionWriter {
    /// Starts a partition of the plan; creates the folders it needs.
    ///
    /// # Errors
    /// No partition of that number; [`Error::Busy`] where a repair is at work; what the system
    /// refuses.
    pub fn create(plan: &Plan, partition: usize, mode: CommitMode) -> Result<PartitionWriter> {
        let ordinals = plan.ordinals(partition)?;
        let (dir, identity) = (plan.dir(), plan.identity());
        let lock = match mode {
            CommitMode::New | CommitMode::Restore(_) => Some(plan.lock_shared()?),
            CommitMode::Replace => None,
        };
        let folders = plan.folders_of(partition);
        for folder in FOLDERS {
            commit::create_folder(&within(&dir.join(folder), &folders.below(partition)))?;
        }
        let path = folders.shard(dir, partition);
        let entries = shard_entries(plan, partition, &ordinals);
        let classes = plan.classes_of(partition);
        let columns = schema_of(identity, classes, &entries);
        let properties = schema::properties(Some(entries), Some(&identity.levels));
        let temp = TempFile::create(&path)?;
        let writer = ArrowWriter::try_new(temp, columns, Some(properties))
            .map_err(schema::parquet_error(&path))?;
        // Where grids vary, a row is taken for 4096 tokens: a picture of 1024 at factor 16.
        let tokens = identity
            .levels
            .iter()
            .map(|l| l.row_values().unwrap_or(4096 * l.values()))
            .sum::<usize>();
        let group_rows_max = (GROUP_TOKENS / tokens.max(1)).max(BATCH_ROWS);
        Ok(PartitionWriter {
            dir: dir.to_path_buf(),
            folders,
            fold: folds::path_with(plan, partition),
            identity: identity.clone(),
            classes: classes.cloned(),
            partition,
            mode,
            next: ordinals.start,
            next_view: 0,
            ordinals,
            writer,
            group_rows: 0,
            group_rows_max,
            pending: Vec::with_capacity(BATCH_ROWS),
            pending_tokens: 0,
            statistics: Statistics::new(identity),
            failures: Vec::new(),
            rows: 0,
            written: 0,
            _lock: lock,
        })
    }

    /// Takes the outcome of the next ordinal, or a further view of the last one.
    ///
    /// # Errors
    /// An ordinal that is missing, doubled or foreign; a grid that doesn't fit the identity.
    pub fn push(&mut self, outcome: Outcome) -> Result<()> {
        let (ordinal, view) = match &outcome {
            Outcome::Written(row) => (row.ordinal, row.view),
            Outcome::Failed(row) => (row.ordinal, 0),
        };
        let further_view = self.next_view > 0
            && view == self.next_view
            && ordinal == self.next - 1
            && matches!(outcome, Outcome::Written(_));
        let fits = further_view || (view == 0 && ordinal == self.next);
        if !fits || !self.ordinals.contains(&ordinal) {
            return Err(Error::internal(format!(
                "partition {}: image {ordinal} (view {view}) came where {} of {:?} was due",
                self.partition, self.next, self.ordinals
            )));
        }
        self.next = ordinal + 1;
        match outcome {
            Outcome::Failed(row) => {
                self.next_view = 0;
                self.failures.push(row);
                Ok(())
            }
            Outcome::Written(row) => {
                self.next_view = view + 1;
                self.written += u64::from(!further_view);
                self.push_row(*row)
            }
        }
    }

    fn push_row(&mut self, row: TokenRow) -> Result<()> {
        let pending = PendingRow::new(row, &self.identity, self.classes.as_ref())?;
        for (level, grid) in self.statistics.levels.iter_mut().zip(&pending.row.levels) {
            level.add(&grid.codes, &grid.distances)?;
        }
        self.rows += 1;
        self.pending_tokens += pending.row.levels.iter().map(|g| g.codes.len()).sum::<usize>();
        self.pending.push(pending);
        if self.pending.len() >= BATCH_ROWS || self.pending_tokens >= BATCH_TOKENS {
            self.write_pending()?;
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batch = columns::batch(&self.pending, &self.identity, word(self.classes.as_ref()))?;
        let path = self.folders.shard(&self.dir, self.partition);
        self.writer.write(&batch).map_err(schema::parquet_error(&path))?;
        self.group_rows += self.pending.len();
        self.pending.clear();
        self.pending_tokens = 0;
        if self.group_rows >= self.group_rows_max {
            self.writer.flush().map_err(schema::parquet_error(&path))?;
            self.group_rows = 0;
        }
        Ok(())
    }

    /// Commits the partition.
    ///
    /// # Errors
    /// Where planned = written + failed doesn't hold; what the system refuses.
    pub fn close(mut self) -> Result<Receipt> {
        let planned = (self.ordinals.end - self.ordinals.start) as u64;
        let failed = self.failures.len() as u64;
        if self.next != self.ordinals.end || planned != self.written + failed {
            return Err(Error::internal(format!(
                "partition {}: {planned} images planned, {} written, {failed} failed",
                self.partition, self.written
            )));
        }
        self.write_pending()?;
        let shard = self.folders.shard(&self.dir, self.partition);
        let [of_failures, of_codebook] =
            Sidecar::ALL.map(|kind| sidecars::entries(kind, &self.identity, self.partition));
        let failures = columns::failures_file(&shard, &self.failures, of_failures)?;
        let codebook = self.statistics.encode(&shard, false, of_codebook)?;
        for (key, value) in [
            ("vqtok.rows", self.rows.to_string()),
            ("vqtok.written", self.written.to_string()),
            ("vqtok.failed", failed.to_string()),
            ("vqtok.failures_sha256", sha256_hex(&failures)),
            ("vqtok.codebook_part_sha256", sha256_hex(&codebook)),
        ] {
            self.writer.append_key_value_metadata(KeyValue::new(key.into(), value));
        }
        let sealed = schema::finish(self.writer, &shard)?.seal()?;
        let sha256 = hex(sealed.sha256);
        let made = Made {
            dir: &self.dir,
            folders: self.folders,
            partition: self.partition,
            fold: self.fold.as_deref(),
            sha256: &sha256,
            failed: &self.failures,
            sidecars: [&failures, &codebook],
        };
        let commit = made.commit(sealed, &self.mode)?;
        let (partition, rows, written) = (self.partition, self.rows, self.written);
        Ok(Receipt { partition, rows, written, failures: failed, sha256, commit })
    }
}

/// The schema word of a shard.
fn word(classes: Option<&Classes>) -> &'static str {
    if classes.is_some() { schema::TOKENS } else { schema::TOKENS_WITHOUT_IDS }
}

/// The embedded schema of a shard. What `datasets` looks for stands in it alone, and not among the
/// file's entries as well, since it may be long.
fn schema_of(identity: &Identity, classes: Option<&Classes>, entries: &[KeyValue]) -> SchemaRef {
    let schema = schema::tokens(&identity.levels, word(classes));
    let features = classes.map(|classes| features::features(&schema, classes));
    let features = features.map(|features| KeyValue::new(features::KEY.into(), features));
    let entries: Vec<KeyValue> = entries.iter().cloned().chain(features).collect();
    schema::with_entries(schema, &entries)
}

/// Metadata of a shard that is known from the start.
fn shard_entries(plan: &Plan, partition: usize, ordinals: &Range<i64>) -> Vec<KeyValue> {
    let identity = plan.identity();
    let (model, pixels) = (&identity.tokenizer, &identity.preprocessing);
    let grid = |level: &LevelLayout| match level.grid {
        Some([height, width]) => format!("{height}x{width}"),
        None => "variable".to_string(),
    };
    let names = levels::names(&identity.levels);
    let first = &names[0];
    let mut entries: Vec<(&str, String)> = vec![
        ("vqtok.schema", word(plan.classes_of(partition)).to_string()),
        ("vqtok.version", identity.version.clone()),
        ("vqtok.family", model.family.clone()),
        ("vqtok.weights_sha256", model.weights_sha256.clone()),
        ("vqtok.codebook_sha256", model.codebook_sha256.clone()),
        (first.codes_entry.as_str(), model.codes.to_string()),
        ("vqtok.dim", model.dim.to_string()),
        ("vqtok.factor", model.factor.to_string()),
        (first.grid_entry.as_str(), grid(&identity.levels[0])),
        ("vqtok.resize", pixels.rule.clone()),
        ("vqtok.size", size(pixels)),
        ("vqtok.alpha", pixels.alpha.clone()),
        ("vqtok.preprocessing_sha256", pixels.digest.clone()),
        ("vqtok.precision", identity.precision.clone()),
        ("vqtok.device", identity.device.clone()),
        ("vqtok.identity", identity.canonical()),
        ("vqtok.plan_sha256", plan.digest_of(partition).to_string()),
        ("vqtok.partition", partition.to_string()),
        ("vqtok.partitions", plan.partitions_beside(partition).to_string()),
        ("vqtok.first_ordinal", ordinals.start.to_string()),
        ("vqtok.planned", (ordinals.end - ordinals.start).to_string()),
    ];
    let optional = [
        ("vqtok.orientation", pixels.orientation.clone()),
        ("vqtok.pillow", pixels.pillow.map(|version| version.to_string())),
        ("vqtok.views", pixels.views.clone()),
        ("vqtok.buckets", pixels.buckets.clone()),
        ("vqtok.label_level", identity.label_level.clone()),
        ("vqtok.scales", identity.levels[0].scales.as_ref().map(scales)),
    ];
    entries.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let bits = names.iter().zip(&identity.levels);
    let bits =
        bits.filter_map(|(names, level)| Some((&*names.bits_entry, level.bits?.to_string())));
    entries.extend(bits);
    for (names, level) in names.iter().zip(&identity.levels).skip(1) {
        entries.push((&names.codes_entry, level.codes.to_string()));
        entries.push((&names.grid_entry, grid(level)));
    }
    entries.into_iter().map(|(key, value)| KeyValue::new(key.into(), value)).collect()
}

/// The scales of each grid, as JSON.
fn scales(scales: &Scales) -> String {
    serde_json::json!(scales).to_string()
}

/// What sizes images are brought to, in a word.
fn size(pixels: &Preprocessing) -> String {
    match (pixels.size, &pixels.buckets) {
        (Some(size), _) => size.to_string(),
        (None, Some(_)) => "buckets".to_string(),
        (None, None) => "source".to_string(),
    }
}

#[cfg(test)]
mod tests;
