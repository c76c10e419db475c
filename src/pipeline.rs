//! Owns the main job: plan -> read and decode (a crew of threads) -> batch -> encode (one thread that owns
//! model and device) -> write, joined by bounded channels. Everything else is called from here.
//! Must not know: how any of the stages works, flags.
//!
//! An image that fails takes the same way as one that succeeds, so ordinals have no holes and what
//! a shard holds never depends on timing. Memory is bounded by the two channels: at most
//! `Settings::images_in_flight` prepared images exist at once, whatever the data set's size. Time is
//! bounded for each image by `Settings::decode_time_max`.

mod row;

use crate::data::prepare::{self, Preparation, Prepared};
use crate::data::source::file;
use crate::engine::{Encoded, Engine, PixelBatch, oom_split};
use crate::error::{Error, Reject, Result, Stage};
use crate::tokens::{
    Commit, CommitMode, FailureRow, Identity, LevelLayout, Outcome, PartitionWriter, Plan, PlanRow,
    Preprocessing, Receipt, TOKENS_MAX, Tokenizer, contents,
};
use crate::util::panics;
use crate::util::text;
use crate::util::worker_pool::{Crew, Ticket, Timer, Waited};
use crossbeam_channel::{Receiver, Sender, bounded};
use row::Rows;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one bad image costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(clap::ValueEnum)]
pub enum OnError {
    /// A row in `failures`; the run goes on.
    Record,
    /// The run: it stops with that image's error, the current partition unwritten.
    Stop,
}

/// Which size a file must have when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// The planned one: a file that changed since is a failure, not tokenized under another's facts.
    Planned,
    /// Any: `--retry-failed` takes files as they are.
    Present,
}

/// What a run needs beside its engine.
#[derive(Clone)]
pub struct Settings {
    /// From bytes to pixels.
    pub preparation: Preparation,
    /// Images a batch.
    pub batch_size: usize,
    /// What a bad image costs.
    pub on_error: OnError,
    /// Whether partitions are new or take the place of committed ones.
    pub mode: CommitMode,
    /// Which size a file must have.
    pub sizes: Sizes,
    /// After this long a decoder hangs, and its image is given up. Far beyond what any image within
    /// the limits takes, so that a slow machine fails nothing: [`DECODE_TIME_MAX`].
    pub decode_time_max: Duration,
    /// Raised by a signal: the current partition is dropped and the run ends.
    pub stop: Arc<AtomicBool>,
}

/// The largest PNG within the limits (179 million pixels) takes five seconds on one core, all 1,714
/// odd and hostile images of the test corpus together one (`benches/results/2026-11-faults.md`).
pub const DECODE_TIME_MAX: Duration = Duration::from_secs(300);

impl Settings {
    /// What a bad image costs: an error where that is the run.
    fn cost_of(&self, plan: &PlanRow, reject: &Reject) -> Result<()> {
        match self.on_error {
            OnError::Record => Ok(()),
            OnError::Stop => {
                let key = text::printable(&plan.key);
                Err(Error::invalid(format!("{key}: {reject} (--on-error stop)")))
            }
        }
    }

    /// Images read ahead of the engine: two batches, and enough to keep every core decoding.
    fn images_in_flight(&self) -> usize {
        (2 * self.batch_size).max(4 * rayon::current_num_threads())
    }
}

/// What a run did; images of partitions that were there already are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Token rows written.
    pub written: u64,
    /// Failure rows written.
    pub failed: u64,
    /// Partitions committed by this run.
    pub partitions: u64,
    /// Partitions that another worker committed first with the same bytes.
    pub already: u64,
    /// Partitions that another worker committed first with other bytes, which stay.
    pub lost: u64,
    /// Partitions that stay as they were, since making them anew would have lost tokens.
    pub kept: u64,
}

/// What an output is made with: engine, preparation and layout; labels are first folders. Equal identities and inputs give
/// equal shards.
///
/// # Errors
/// A size that doesn't suit the model.
pub fn identity(
    engine: &dyn Engine,
    preparation: &Preparation,
    shard_rows: usize,
) -> Result<Identity> {
    let config = engine.config();
    let digests = engine.digests()?;
    let grids = match preparation.size {
        Some(size) => {
            let side = size as usize;
            let grids = engine.grid(side, side).map_err(|reason| {
                Error::invalid(format!("--size {size} doesn't suit the model: {reason}"))
            })?;
            grids.into_iter().map(|(h, w)| Some([h as u32, w as u32])).collect()
        }
        None => vec![None; config.levels()],
    };
    Ok(Identity {
        tokenizer: Tokenizer {
            family: config.family.clone(),
            weights_sha256: digests.weights_sha256.clone(),
            codebook_sha256: digests.codebook_sha256.clone(),
            codes: config.quantizer.codes as u64,
            dim: config.quantizer.dim as u64,
            factor: config.factor()[0] as u64,
        },
        preprocessing: Preprocessing {
            rule: preparation.rule.to_string(),
            size: preparation.size,
            alpha: preparation.alpha.to_string(),
            orientation: Some(preparation.orientation.to_string()),
            pillow: Some(preparation.pillow.into()),
            digest: preparation.digest(),
        },
        label_level: None,
        levels: grids
            .into_iter()
            .enumerate()
            .map(|(index, grid)| LevelLayout {
                residual: index > 0 && config.quantizer.depth > 1,
                ..LevelLayout::new(config.quantizer.codes as u64, grid)
            })
            .collect(),
        precision: engine.precision().as_str().into(),
        device: engine.device_kind().into(),
        shard_rows: shard_rows as u64,
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// What the caller hears while the run goes on.
pub trait Observer {
    /// One image has its outcome.
    fn image(&mut self, failure: Option<&FailureRow>);
    /// A partition is committed, by us or by someone faster.
    fn partition(&mut self, receipt: &Receipt);
    /// A partition that was to be replaced stays as it was, for this reason.
    fn kept(&mut self, partition: usize, reason: &str);
    /// The device ran out of memory: from now on it gets so many images at a time.
    fn batch_halved(&mut self, images: usize);
}

/// An image on its way: its place, and its pixels or why it has none.
struct Item {
    partition: usize,
    plan: PlanRow,
    prepared: Result<Prepared, Reject>,
}

/// An image in line: its place, and where its pixels will be.
struct Awaited {
    partition: usize,
    plan: PlanRow,
    prepared: Ticket<PlanRow, Result<Prepared, Reject>>,
}

/// What reaches the writer.
enum Done {
    Image { partition: usize, outcome: Outcome },
    BatchHalved(usize),
}

/// Tokenizes `partitions` (ascending, none of them committed) of `plan`.
///
/// # Errors
/// The first real error of any stage; [`Error::Interrupted`] where `stop` was raised. Whatever was
/// committed before stays and is right; the partition in work leaves nothing behind.
pub fn run(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    engine: &mut dyn Engine,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let in_flight = settings.images_in_flight();
    let (items_in, items) = bounded::<Awaited>(in_flight);
    let (done_in, done) = bounded::<Done>(2 * settings.batch_size);
    let crew = &decoders(settings)?;
    let rows = Rows::of(settings, plan)?;
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("vqtok-reader".into())
            .spawn_scoped(scope, move || read(settings, plan, partitions, crew, items_in))
            .map_err(Error::io("thread vqtok-reader"))?;
        let encoder = std::thread::Builder::new()
            .name("vqtok-engine".into())
            .spawn_scoped(scope, move || encode(settings, &rows, engine, items, done_in))
            .map_err(Error::io("thread vqtok-engine"))?;
        // The writer is this thread. Where it fails, dropping `done` ends the engine, which ends
        // the reader; where one of these fails, `done` runs dry here. Its error is the real one.
        let written = write(settings, plan, partitions, done, observer);
        crew.close();
        // The threads return their errors and don't panic; if one does, that is a bug and goes on
        // to the command's end, which tells it.
        let encoded = encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        first_error(read, encoded, written)
    })
}

/// The writer's summary, unless a stage before it failed: what is downstream of a failure only
/// sees that its input ended early.
fn first_error(read: Result<()>, encoded: Result<()>, written: Result<Summary>) -> Result<Summary> {
    read?;
    encoded?;
    written
}

/// The threads that read and decode: as many as the rayon pool has, which the engine may fill.
fn decoders(settings: &Settings) -> Result<Crew<PlanRow, Result<Prepared, Reject>>> {
    let (preparation, sizes) = (settings.preparation.clone(), settings.sizes);
    let work = move |row: PlanRow, timer: &Timer| {
        let limits = &preparation.limits;
        let reading = panics::at("read", Some(&row.key));
        let bytes = match sizes {
            Sizes::Planned => file::read_planned(&row.uri, row.bytes.unsigned_abs(), limits)?,
            Sizes::Present => file::read(&row.uri, limits)?,
        };
        drop(reading);
        let _decoding = panics::at("decode", Some(&row.key));
        timer.start();
        prepare::from_bytes(&bytes, &preparation)
    };
    let threads = rayon::current_num_threads();
    Crew::new(threads, settings.images_in_flight(), settings.decode_time_max, work)
}

/// Sends every image of the partitions in order. The channel holds places in line; each place is
/// filled by its decoder, in any order.
fn read(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    crew: &Crew<PlanRow, Result<Prepared, Reject>>,
    items: Sender<Awaited>,
) -> Result<()> {
    let _at = panics::at("read the plan", None);
    for &partition in partitions {
        for row in plan.partition(partition)? {
            if settings.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let prepared = crew.give(PlanRow { uri: plan.place(&row), ..row.clone() });
            if items.send(Awaited { partition, plan: row, prepared }).is_err() {
                return Ok(()); // the engine ended; its error is the one to report
            }
        }
    }
    Ok(())
}

/// Owns model and device: collects batches of one size, encodes, passes outcomes on in order.
fn encode(
    settings: &Settings,
    rows: &Rows,
    engine: &mut dyn Engine,
    items: Receiver<Awaited>,
    done: Sender<Done>,
) -> Result<()> {
    let mut batch =
        Batch { items: Vec::with_capacity(settings.batch_size), images_max: usize::MAX };
    let mut size = None;
    for awaited in items {
        if settings.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let Some(item) = arrive(settings, awaited)? else {
            return Ok(()); // the writer ended; its error is the one to report
        };
        let item = check_grid(engine, item);
        if let Err(reject) = &item.prepared {
            settings.cost_of(&item.plan, reject)?;
        }
        let item_size = item.prepared.as_ref().ok().map(|p| (p.width, p.height));
        let differs = item_size.is_some() && size.is_some() && item_size != size;
        if differs || batch.items.len() == settings.batch_size {
            if !flush(engine, &mut batch, settings, rows, &done)? {
                return Ok(());
            }
            size = None;
        }
        size = size.or(item_size);
        batch.items.push(item);
    }
    flush(engine, &mut batch, settings, rows, &done)?;
    Ok(())
}

/// Waits for an image's pixels; None where the run is over.
fn arrive(settings: &Settings, awaited: Awaited) -> Result<Option<Item>> {
    let Awaited { partition, plan, prepared } = awaited;
    let prepared = match prepared.wait(&settings.stop)? {
        Waited::Done(prepared) => prepared,
        Waited::Stopped => return Err(Error::Interrupted),
        Waited::Closed => return Ok(None),
        Waited::GivenUp => {
            let seconds = settings.decode_time_max.as_secs_f64();
            let text = format!("not decoded after {seconds} s: given up");
            Err(Reject::new(Stage::Decode, text))
        }
    };
    Ok(Some(Item { partition, plan, prepared }))
}

/// Images of one size, and those without pixels between them.
struct Batch {
    items: Vec<Item>,
    /// As many go to the device at a time.
    images_max: usize,
}

/// Rejects an image whose size the model can't take, or whose tokens are too many for a row.
fn check_grid(engine: &dyn Engine, mut item: Item) -> Item {
    if let Ok(Prepared { height, width, .. }) = item.prepared {
        let reason = match engine.grid(height, width) {
            Err(reason) => Some(reason),
            Ok(grids) => {
                grids.into_iter().find(|(h, w)| h * w > TOKENS_MAX as usize).map(|(h, w)| {
                    format!(
                        "{width}x{height} pixels give a grid of {w}x{h} tokens, more than the \
                     {TOKENS_MAX} of a row; take a --size"
                    )
                })
            }
        };
        if let Some(reason) = reason {
            item.prepared = Err(Reject::new(Stage::Encode, reason));
        }
    }
    item
}

/// Encodes what is in `batch` and sends the outcomes; false where the writer is gone.
fn flush(
    engine: &mut dyn Engine,
    batch: &mut Batch,
    settings: &Settings,
    rows: &Rows,
    done: &Sender<Done>,
) -> Result<bool> {
    let mut pixels = Vec::new();
    let (mut count, mut height, mut width) = (0, 0, 0);
    for prepared in batch.items.iter().filter_map(|item| item.prepared.as_ref().ok()) {
        pixels.extend_from_slice(&prepared.pixels);
        (count, height, width) = (count + 1, prepared.height, prepared.width);
    }
    let encoded = if count == 0 {
        Encoded { count: 0, levels: Vec::new(), failed: Vec::new() }
    } else {
        let channels = settings.preparation.channels;
        let pixels = PixelBatch { pixels, count, height, width, channels };
        let before = batch.images_max;
        let first = batch.items.iter().find(|item| item.prepared.is_ok());
        let _at = panics::at("encode", first.map(|item| item.plan.key.as_str()));
        let encoded = oom_split::encode(engine, &pixels, &mut batch.images_max)?;
        if batch.images_max < before && done.send(Done::BatchHalved(batch.images_max)).is_err() {
            return Ok(false);
        }
        encoded
    };
    let mut failed: BTreeMap<usize, String> = encoded.failed.iter().cloned().collect();
    let mut index = 0;
    for mut item in batch.items.drain(..) {
        if item.prepared.is_ok() {
            if let Some(reason) = failed.remove(&index) {
                let reject = Reject::new(Stage::Encode, reason);
                settings.cost_of(&item.plan, &reject)?;
                item.prepared = Err(reject);
            }
            index += 1;
        }
        let outcome = match item.prepared {
            Ok(prepared) => {
                let row = rows.row(item.plan, &prepared, &encoded, index - 1);
                Outcome::Written(Box::new(row))
            }
            Err(reject) => Outcome::Failed(FailureRow {
                ordinal: item.plan.ordinal,
                key: item.plan.key,
                uri: item.plan.uri,
                stage: reject.stage.as_str().to_string(),
                error: reject.message,
            }),
        };
        if done.send(Done::Image { partition: item.partition, outcome }).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes outcomes partition by partition and commits each as soon as it is whole.
fn write(
    settings: &Settings,
    plan: &Plan,
    partitions: &[usize],
    done: Receiver<Done>,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let mut summary = Summary::default();
    for &partition in partitions {
        let _at = panics::at("write", Some(&format!("shard {partition}")));
        let mut writer = PartitionWriter::create(plan, partition, settings.mode)?;
        let before = match settings.mode {
            CommitMode::New => BTreeMap::new(),
            CommitMode::Replace => contents(plan.dir(), partition)?,
        };
        let mut loss = None;
        for _ in plan.ordinals(partition)? {
            let outcome = next_outcome(partition, &done, observer)?;
            observer.image(match &outcome {
                Outcome::Failed(failure) => Some(failure),
                Outcome::Written(_) => None,
            });
            loss = loss.or_else(|| lost_by(&before, &outcome));
            if loss.is_none() {
                writer.push(outcome)?;
            }
        }
        if let Some(reason) = loss {
            summary.kept += 1;
            observer.kept(partition, &reason);
            continue; // Dropped, the writer leaves nothing.
        }
        let committing = panics::at("commit", Some(&format!("shard {partition}")));
        let receipt = writer.close()?;
        drop(committing);
        summary.written += receipt.written;
        summary.failed += receipt.failures;
        match receipt.commit {
            Commit::Committed => summary.partitions += 1,
            Commit::Already => summary.already += 1,
            Commit::Lost { .. } => summary.lost += 1,
        }
        observer.partition(&receipt);
    }
    Ok(summary)
}

/// The next image's outcome, which is of `partition`.
fn next_outcome(
    partition: usize,
    done: &Receiver<Done>,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    loop {
        match done.recv() {
            // A stage before this one ended: see `first_error`.
            Err(_) => return Err(Error::Interrupted),
            Ok(Done::BatchHalved(images)) => observer.batch_halved(images),
            Ok(Done::Image { partition: of, outcome }) => {
                debug_assert_eq!(of, partition);
                return Ok(outcome);
            }
        }
    }
}

/// Why an outcome must not take the place of what is committed (`before`: contents of the images
/// with tokens, by ordinal): an image that has tokens would lose them, or get another's.
fn lost_by(before: &BTreeMap<i64, [u8; 32]>, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Failed(row) if before.contains_key(&row.ordinal) => Some(format!(
            "'{}' has tokens, and now fails ({}: {})",
            text::printable(&row.key),
            row.stage,
            row.error
        )),
        Outcome::Written(row) if before.get(&row.ordinal)? != &row.content_sha256 => {
            Some(format!("'{}' has changed since it was tokenized", text::printable(&row.key)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
