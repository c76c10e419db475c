//! Owns one plan on disk: `plan.parquet`, or one that was appended to it. Must not know: the others,
//! where its rows come from, what becomes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::broken::broken;
use super::containers::{self, Container};
use super::hasher::PlanHasher;
use super::layout::Layout;
use super::merged::Planned;
use super::pieces::Pieces;
use super::root::{self, Named};
use super::rows::BATCH_ROWS;
use crate::error::{Error, Result};
use crate::storage::{self, Chunks};
use crate::tokens::classes::Classes;
use crate::tokens::files::{LISTED_FOLDER, ShardFolders, TOKENS_FOLDER};
use crate::tokens::identity::Identity;
use crate::tokens::rows::PlanRow;
use crate::tokens::{schema, untrusted};
use crate::util::text;

/// As long as listing the inputs may take until a plan is in a store: containers that were written in
/// this time before it are listed again each time.
const LISTING_MAX: Duration = Duration::from_secs(24 * 3600);

/// The first plan's name in an output folder.
pub(crate) const FILE: &str = "plan.parquet";

/// What a plan stands upon: nothing, where it is the first of its output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// How many plans are before it.
    pub number: usize,
    /// The digest of the last of them.
    pub after: String,
    /// Their images: its own ordinals go on behind.
    pub ordinal: u64,
    /// Their partitions: its own go on behind.
    pub partition: usize,
}

impl Base {
    /// The name of its plan: `plan.parquet`, `plan-00001.parquet`, ...
    pub(crate) fn name(&self) -> String {
        name(self.number)
    }
}

/// The name of an output's plan with so many before it.
pub(crate) fn name(number: usize) -> String {
    match number {
        0 => FILE.to_string(),
        number => format!("plan-{number:05}.parquet"),
    }
}

/// How many plans are before the one of that name; None for other names, and for the first plan's.
pub(in crate::tokens) fn number_of(path: &Path) -> Option<usize> {
    let text = path.file_name()?.to_str()?;
    let number = text.strip_prefix("plan-")?.strip_suffix(".parquet")?.parse().ok()?;
    (number > 0 && name(number) == text).then_some(number)
}

/// A plan on disk. Holds in memory where its partitions lie, not its rows.
pub(crate) struct PlanFile {
    path: PathBuf,
    pub(super) identity: Identity,
    pub(super) digest: String,
    pub(super) layout: Layout,
    pub(super) base: Base,
    /// The files that its rows lie in.
    pub(super) pieces: Arc<Pieces>,
    /// The same as its root names them; none where it is one file.
    named: Vec<Named>,
    /// How its shards lie.
    folders: ShardFolders,
    /// Partitions that one worker takes: first and end of each run of them, its own first being 0.
    together: Vec<[usize; 2]>,
    /// Files that hold several images, in order.
    pub(super) containers: Vec<Container>,
    /// What was taken of these.
    pub(super) taken: String,
    /// The class names of its images and of those before; None where its shards have no ids of them.
    classes: Option<Classes>,
    /// When it was written: as old as what it says.
    pub(super) written: Option<SystemTime>,
}

impl PlanFile {
    /// Opens the plan at `path`.
    pub(in crate::tokens) fn open(path: &Path, number: usize) -> Result<PlanFile> {
        PlanFile::open_at(path, number, &[])
    }

    /// The same where the files that it names lie at other `places`.
    pub(super) fn open_at(path: &Path, number: usize, places: &[PathBuf]) -> Result<PlanFile> {
        let broken = |reason: String| broken(path, &reason);
        let metadata = metadata_of(path, number)?;
        let known = |key: &str| untrusted::entry(&metadata, key);
        let lacks = |key: &str| broken(format!("its metadata has no {key}"));
        let entry = |key: &str| known(key).map(str::to_owned).ok_or_else(|| lacks(key));
        let (layout, is_root) = layout_of(&metadata).map_err(broken)?;
        let identity: Identity = serde_json::from_str(&entry("vqtok.identity")?)
            .map_err(|e| broken(format!("its identity can't be read: {e}")))?;
        identity.check()?;
        let digest = entry("vqtok.plan_sha256")?;
        let base = base_of(&metadata, number).map_err(broken)?;
        let facts = storage::facts(path).map_err(Error::io(path))?;
        let (named, pieces) = match is_root {
            false => (Vec::new(), Pieces::one(path, &metadata, identity.shard_rows, layout)),
            true => several(path, &metadata, &identity, layout, number, places).map_err(broken)?,
        };
        let pieces = pieces.map_err(broken)?;
        let behind = base.ordinal.checked_add(pieces.count());
        let behind = behind.filter(|&behind| i64::try_from(behind).is_ok());
        let behind = behind.ok_or_else(|| broken("its ordinals are out of range".into()))?;
        let containers = known("vqtok.containers").unwrap_or_default();
        let containers = containers::parse(containers, behind);
        let classes = known("vqtok.classes").map(Classes::parse);
        let together = known("vqtok.together").and_then(|text| serde_json::from_str(text).ok());
        let folders = known("vqtok.shards_a_folder").map(ShardFolders::parse).transpose();
        Ok(PlanFile {
            path: path.to_path_buf(),
            identity,
            digest,
            layout,
            base,
            pieces: Arc::new(pieces),
            named,
            folders: folders.map_err(broken)?.unwrap_or_default(),
            together: together.unwrap_or_default(),
            containers,
            taken: known("vqtok.taken").unwrap_or_default().to_string(),
            written: written(path, facts.written),
            classes: classes.transpose().map_err(broken)?,
        })
    }

    /// What made its output.
    pub(in crate::tokens) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How the shards of its partitions lie.
    pub(in crate::tokens) fn folders(&self) -> ShardFolders {
        self.folders
    }

    /// The files that its root names; none where it is one file.
    pub(in crate::tokens) fn named(&self) -> &[Named] {
        &self.named
    }

    /// The class names of its images and of those before, with their ids; None in a plan from before
    /// there were any, whose shards go on without.
    pub(in crate::tokens) fn classes(&self) -> Option<&Classes> {
        self.classes.as_ref()
    }

    /// Its images.
    pub(crate) fn rows(&self) -> u64 {
        self.pieces.count()
    }

    /// Its partitions.
    pub(crate) fn partitions(&self) -> usize {
        self.pieces.partitions()
    }

    /// The numbers of its partitions.
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        self.base.partition..self.base.partition + self.partitions()
    }

    /// Whether its images may be parts of files, and have something beside them.
    pub(crate) fn has_parts(&self) -> bool {
        self.layout == Layout::Parts
    }

    /// Hex sha256 over the identity and all rows; see `schemas/plan.v1.json`.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// What it stands upon.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Files that hold several images, in order.
    pub(crate) fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// What was taken of these, as it was given.
    pub(crate) fn taken(&self) -> &str {
        &self.taken
    }

    /// When its input was listed, by the file system's clock: what was written to before then is what
    /// was planned.
    pub(crate) fn listed_at(&self) -> Option<SystemTime> {
        self.written
    }

    /// What stands upon it.
    pub(in crate::tokens) fn next(&self) -> Base {
        let Base { number, ordinal, partition, .. } = self.base;
        Base {
            number: number + 1,
            after: self.digest.clone(),
            ordinal: ordinal + self.rows(),
            partition: partition + self.partitions(),
        }
    }

    /// The ordinals of a partition of its own.
    pub(super) fn ordinals(&self, index: usize) -> std::ops::Range<i64> {
        let [start, end] = [index, index + 1]
            .map(|at| (self.base.ordinal + self.pieces.starts()[at - self.base.partition]) as i64);
        start..end
    }

    /// The partition that holds an image of its own.
    pub(super) fn partition_of(&self, ordinal: u64) -> usize {
        let within = ordinal.saturating_sub(self.base.ordinal);
        let starts = self.pieces.starts();
        let behind = starts.partition_point(|&start| start <= within).saturating_sub(1);
        self.base.partition + behind
    }

    /// The first of the partitions that one worker takes with this one.
    pub(super) fn taken_with(&self, index: usize) -> usize {
        let own = index - self.base.partition;
        let run = self.together.iter().find(|[first, end]| (first..end).contains(&&own));
        run.map_or(index, |[first, _]| self.base.partition + *first)
    }

    /// The rows of a partition of its own, in order.
    pub(in crate::tokens) fn partition(&self, index: usize) -> Result<Vec<PlanRow>> {
        let range = self.ordinals(index);
        let own = index - self.base.partition;
        let rows = self.pieces.rows(own..own + 1, BATCH_ROWS)?.collect::<Result<Vec<_>>>()?;
        let expected = range.clone().eq(rows.iter().map(|row| row.ordinal));
        if !expected {
            return Err(Error::corrupt(
                &self.path,
                format!("partition {index} does not hold {range:?}; `vqtok repair` rebuilds it"),
            ));
        }
        Ok(rows)
    }

    /// All rows in the order of the inputs: a plan of buckets has another one.
    pub(super) fn listed_rows(&self) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        Ok(Planned::of(&self.pieces, self.base.ordinal, self.layout)?.rows())
    }

    /// Reads all rows and holds them against the digest: what is to be built upon them, or said of images
    /// by them, must not come from a damaged plan or from a part of another output's.
    ///
    /// # Errors
    /// Rows that aren't those that were planned, or can't be read.
    pub(in crate::tokens) fn prove(&self) -> Result<()> {
        let mut hasher = PlanHasher::new(&self.identity, &self.base, self.layout);
        let mut begins = self.pieces.starts().iter().peekable();
        for (at, row) in (0..).zip(self.all_rows()?) {
            hasher.row(&row?, begins.next_if_eq(&&at).is_some());
        }
        match hasher.finish() == self.digest {
            true => Ok(()),
            false => Err(Error::corrupt(
                &self.path,
                "its rows aren't those that were planned: it is damaged, or another output's, in part \
                 at least; `vqtok repair` rebuilds it, or restore it",
            )),
        }
    }

    /// All rows, streaming.
    pub(crate) fn all_rows(&self) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        self.pieces.rows(0..self.partitions(), BATCH_ROWS)
    }
}

/// The footer of the plan at `path`.
pub(super) fn metadata_of(path: &Path, number: usize) -> Result<ArrowReaderMetadata> {
    let broken = |reason: String| broken(path, &reason);
    let file = match storage::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(match number {
                0 => no_plan(path.parent().unwrap_or(path)),
                _ => broken("it is missing among the plans of this output".into()),
            });
        }
        file => Chunks(file.map_err(Error::of_output(path))?),
    };
    untrusted::metadata(&file, "not a readable plan: ").map_err(broken)
}

/// The layout of a plan's rows, and whether they lie in files that it names.
fn layout_of(metadata: &ArrowReaderMetadata) -> Result<(Layout, bool), String> {
    let word =
        untrusted::entry(metadata, "vqtok.schema").ok_or("its metadata has no vqtok.schema")?;
    if word == schema::PLAN_ROOT {
        let rows = untrusted::entry(metadata, "vqtok.rows_schema").and_then(Layout::of_word);
        let layout = rows.ok_or("its metadata doesn't say what its files are")?;
        return Ok((layout, true));
    }
    let layout = Layout::of(metadata.schema().fields());
    let layout = layout.ok_or("its columns are not those of a plan")?;
    match word == layout.word() {
        true => Ok((layout, false)),
        false => Err(format!("not a {}", layout.word())),
    }
}

/// The files of a plan whose root is at `path`.
fn several(
    path: &Path,
    metadata: &ArrowReaderMetadata,
    identity: &Identity,
    layout: Layout,
    number: usize,
    places: &[PathBuf],
) -> Result<(Vec<Named>, Result<Pieces, String>), String> {
    let list = untrusted::entry(metadata, "vqtok.files").unwrap_or_default();
    let (named, mut pieces) = root::pieces(list, path.parent().unwrap_or(path), number)?;
    for (piece, place) in pieces.iter_mut().zip(places) {
        piece.path.clone_from(place);
    }
    let starts = root::starts(path, identity.shard_rows)?;
    let partitions: usize = named.iter().map(|file| file.partitions).sum();
    if partitions + 1 != starts.len() {
        return Err(format!("its files have {partitions} partitions of {}", starts.len() - 1));
    }
    Ok((named, Ok(Pieces::several(layout, pieces, starts))))
}

/// When a plan's input was listed, by the time when its file was written. A store says when it was
/// sent, which is later than what it says was seen.
fn written(path: &Path, written: Option<SystemTime>) -> Option<SystemTime> {
    match storage::is_remote(path) {
        true => written?.checked_sub(LISTING_MAX),
        false => written,
    }
}

/// A folder without a plan.
fn no_plan(dir: &Path) -> Error {
    if storage::exists(&dir.join(TOKENS_FOLDER)).unwrap_or(false) {
        return Error::corrupt(
            dir.join(FILE),
            "it is missing from an output that has shards; `vqtok repair` rebuilds it, or says how to \
             get it back",
        );
    }
    if storage::exists(&dir.join(LISTED_FOLDER)).unwrap_or(false) {
        return Error::only_listed(dir);
    }
    Error::invalid(format!(
        "{}: no output of `vqtok tokenize`: there is no {FILE} in it",
        text::path(dir)
    ))
}

/// What a plan says that it stands upon.
fn base_of(metadata: &ArrowReaderMetadata, number: usize) -> Result<Base, String> {
    let Some(after) = untrusted::entry(metadata, "vqtok.after") else {
        return match number {
            0 => Ok(Base::default()),
            _ => Err("its metadata doesn't say what it was appended to".into()),
        };
    };
    let whole = |key: &str| {
        let number = untrusted::entry(metadata, key).and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| format!("its metadata has no number {key}"))
    };
    let (ordinal, partition) = (whole("vqtok.first_ordinal")?, whole("vqtok.first_partition")?);
    // Names of shards count partitions by five digits or a few more.
    let partition = usize::try_from(partition).ok().filter(|&partition| partition < 1 << 40);
    let partition = partition.ok_or("its partitions are out of range")?;
    Ok(Base { number, after: after.to_string(), ordinal, partition })
}
