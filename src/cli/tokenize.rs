//! Owns `vqtok tokenize`: settings, the plan, which partitions are ours, the run, the fold.
//! Must not know: how images become tokens.

use super::Finished;
use super::common::{
    CheckpointFlags, Common, PixelFlags, check_batch_size, preparation, recipe, stop_flag,
    with_pixels, writable_folder,
};
use super::inputs::Inputs;
use super::places;
use super::planning::{self, Labels};
use super::rank::{RankFrom, Share};
use super::training;
use crate::checkpoint::named_as_weights;
use crate::cli::progress::{Meter, Reporter};
use crate::config::{Recipe, TokenizeRecipe};
use crate::data::source::labels::LabelLevel;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pipeline::{self, OnError, Sizes};
use crate::tokens::{
    Commit, CommitMode, FailureRow, PLAN_FILE, Plan, Receipt, committed, finalize, refuse_foreign,
    repair,
};
use crate::train;
use crate::util::numbers;
use crate::util::numbers::counted;
use crate::util::text;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flags of `vqtok tokenize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Output folder: plan, token shards, failures, codebook statistics, dataset.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokenizer: a folder or checkpoint file; where it doesn't exist, it is trained first
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    /// Recipe to train with where PATH doesn't exist: a name or a TOML file (`vqtok recipe list`)
    /// [default: photos-vqvae-64]
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    #[command(flatten)]
    pixels: PixelFlags,
    /// Folder of a key that is its label: 0 is the first, 1 the second, ..., none for no labels
    /// [default: 0, or 1 where all first folders are splits such as train and val]
    #[arg(long, value_name = "N|none")]
    label_level: Option<LabelLevel>,
    /// Images a batch; tokens don't depend on it [default: the recipe's, else what suits the device]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Rows a shard: what a kill can cost, and the unit workers share [default: the recipe's, else
    /// 4096]
    #[arg(long, value_name = "N")]
    shard_rows: Option<usize>,
    /// Take every N-th shard, from the I-th (0 to N-1; N/N is 0/N); several workers may share DIR
    /// [default: 0/1, every shard]
    #[arg(long, value_name = "I/N", conflicts_with = "rank_from")]
    partition: Option<Share>,
    /// Take I/N from the environment: slurm, kubernetes or torch [default: from --partition]
    #[arg(long, value_name = "SOURCE")]
    rank_from: Option<RankFrom>,
    /// Number of workers, where --rank-from's source doesn't tell [default: what it tells]
    #[arg(long, value_name = "N", requires = "rank_from")]
    ranks: Option<usize>,
    /// Make the shards that hold failures anew, once the reason is mended
    #[arg(long)]
    retry_failed: bool,
    /// What a bad image costs: a row in failures, or the run [default: the recipe's, else record]
    #[arg(long, value_name = "record|stop")]
    on_error: Option<OnError>,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Args {
    /// What `vqtok quickstart` runs.
    pub(super) fn tour(
        inputs: Inputs,
        out: PathBuf,
        model: PathBuf,
        recipe: &str,
        common: Common,
    ) -> Args {
        Args {
            inputs,
            out,
            model,
            recipe: Some(recipe.to_string()),
            common,
            checkpoint: CheckpointFlags::default(),
            pixels: PixelFlags::default(),
            label_level: None,
            batch_size: None,
            shard_rows: None,
            partition: None,
            rank_from: None,
            ranks: None,
            on_error: None,
            retry_failed: false,
        }
    }
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    args.common.require_device()?;
    args.check()?;
    let labels = Labels::choose(args.label_level, &args.inputs, &args.out);
    let share = match args.rank_from {
        Some(source) => source.share(args.ranks)?,
        None => args.partition.unwrap_or(Share::ALL),
    };
    let stop = stop_flag()?;
    let settings = args.ensure_model(reporter, &stop)?;
    let mut engine = args.common.open_engine(&args.model, &args.checkpoint)?;
    let preparation = preparation(engine.config(), &args.pixels)?;
    let shard_rows = args.shard_rows.unwrap_or(settings.shard_rows);
    let finished = args.out.join(finalize::FILE).exists() && !args.retry_failed;
    if let (Some(side), false) = (preparation.size, finished) {
        // While the weights are still being hashed, whose digests the identity waits for.
        engine.prepare(side as usize, side as usize);
    }
    let mut identity = pipeline::identity(engine.as_ref(), &preparation, shard_rows)?;
    identity.label_level = labels.recorded();
    let (plan, unseen) = planning::plan(&args.inputs, &args.out, &identity, &labels, reporter)?;
    let suits = engine.batch_images(preparation.size.map(|side| side as usize));
    let settings = pipeline::Settings {
        preparation,
        batch_size: args.batch_size.or(settings.batch_size).unwrap_or(suits),
        on_error: args.on_error.unwrap_or(settings.on_error),
        mode: CommitMode::New,
        sizes: if args.retry_failed { Sizes::Present } else { Sizes::Planned },
        decode_time_max: pipeline::DECODE_TIME_MAX,
    };
    let there = (0..plan.partitions()).filter(|&p| share.has(p) && committed(&args.out, p));
    refuse_foreign(&plan, there.collect())?;
    let retried = match args.retry_failed {
        true => retry(&settings, &plan, share, engine.as_mut(), reporter, &stop)?,
        false => pipeline::Summary::default(),
    };
    let todo: Vec<usize> =
        (0..plan.partitions()).filter(|&p| share.has(p) && !committed(&args.out, p)).collect();
    if !todo.is_empty() && args.out.join(finalize::FILE).exists() {
        // A shard was lost from a finished output, and what is made anew may differ from it.
        repair::reopen(&args.out, &plan.lock_exclusive()?)?;
    }
    let lock = plan.lock_shared()?;
    let summary = tokenize(&settings, &plan, &todo, engine.as_mut(), reporter, &stop)?;
    drop(lock);
    let finished = fold(&plan, &summary, reporter)?;
    Ok(if retried.kept + unseen > 0 { Finished::WithFailures } else { finished })
}

impl Args {
    /// Refuses what can't work, before any work: a wrong flag must not cost a training.
    fn check(&self) -> Result<()> {
        if let Some(rows) = self.shard_rows
            && !(1..=SHARD_ROWS_MAX).contains(&rows)
        {
            return Err(Error::invalid(format!(
                "--shard-rows is 1 to {SHARD_ROWS_MAX}, not {rows}"
            )));
        }
        check_batch_size(self.batch_size)?;
        self.inputs.check_folder(&self.out)?;
        places::check_output(&self.out, &self.model)?;
        // What is finished needs no writing.
        if self.out.join(finalize::FILE).exists() && !self.retry_failed {
            return Ok(());
        }
        writable_folder("--out", &self.out)
    }

    /// Trains the model where there is none yet. Returns what is said about tokenizing with it: by
    /// the recipe named, else by the one that it was trained by.
    fn ensure_model(&self, reporter: &Reporter, stop: &Arc<AtomicBool>) -> Result<TokenizeRecipe> {
        let resume = train::unfinished(&self.model);
        if let Some(error) = train::failed(&self.model).filter(|_| resume) {
            return Err(error);
        }
        if !resume && self.model.exists() {
            return self.settings_beside_a_model();
        }
        places::check_new("--model", &self.model)?;
        if !resume {
            refuse_to_train(&self.model, &self.checkpoint)?;
        }
        if self.out.join(PLAN_FILE).exists() {
            return Err(Error::Mismatch(format!(
                "--out {}: it holds tokens of another model, as {} is still to be trained; give \
                 another --out",
                text::path(&self.out),
                text::path(&self.model)
            )));
        }
        let stored = if resume { Recipe::of_model(&self.model)? } else { None };
        let asked = match (&self.recipe, &stored) {
            (None, Some(stored)) => with_pixels(stored.clone(), &self.pixels)?,
            (named, _) => recipe(named.as_deref(), &self.pixels)?,
        };
        let recipe = match &stored {
            Some(stored) if train::begun(&self.model) => {
                let (named, given) = (self.recipe.as_deref(), self.pixels.given());
                training::resumed(&self.model, stored, asked, named, &given)?
            }
            _ => asked,
        };
        super::train::train(&self.inputs, &self.model, &recipe, resume, reporter, stop)?;
        Ok(recipe.tokenize)
    }

    /// The pixel flags are not the recipe's here: a model that stands has rules of its own.
    fn settings_beside_a_model(&self) -> Result<TokenizeRecipe> {
        let Some(name) = &self.recipe else {
            return Ok(Recipe::of_model(&self.model)?.map(|r| r.tokenize).unwrap_or_default());
        };
        let named = Recipe::load(name)?;
        // The same command again, behind the training that it began with.
        let again = with_pixels(named.clone(), &self.pixels);
        if !again.is_ok_and(|again| training::refuse_another(&self.model, &again, name).is_ok()) {
            training::refuse_another(&self.model, &named, name)?;
        }
        Ok(named.tokenize)
    }
}

/// Rows a shard at most.
const SHARD_ROWS_MAX: usize = 1 << 24;

/// A mistyped checkpoint must not cost a training: one is only made where a model is asked for in
/// words that fit a new one.
fn refuse_to_train(model: &Path, flags: &CheckpointFlags) -> Result<()> {
    let told = flags.family.is_some() || flags.model_config.is_some() || flags.weights.is_some();
    let reason = if told {
        "--family, --model-config and --weights are for one that exists"
    } else if named_as_weights(model) {
        "to train one first, give the name of a folder"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("--model {}: no such checkpoint; {reason}", text::path(model))))
}

/// Makes the committed partitions of our share that hold failures anew, each replaced whole.
fn retry(
    settings: &pipeline::Settings,
    plan: &Plan,
    share: Share,
    engine: &mut dyn Engine,
    reporter: &Reporter,
    stop: &Arc<AtomicBool>,
) -> Result<pipeline::Summary> {
    let lock = plan.lock_exclusive()?;
    let mut again = repair::with_failures(plan)?;
    again.retain(|&partition| share.has(partition));
    if again.is_empty() {
        return Ok(pipeline::Summary::default());
    }
    repair::reopen(plan.dir(), &lock)?;
    let settings = pipeline::Settings { mode: CommitMode::Replace, ..settings.clone() };
    tokenize(&settings, plan, &again, engine, reporter, stop)
}

/// Runs the pipeline over the partitions that are to do.
pub(super) fn tokenize(
    settings: &pipeline::Settings,
    plan: &Plan,
    todo: &[usize],
    engine: &mut dyn Engine,
    reporter: &Reporter,
    stop: &Arc<AtomicBool>,
) -> Result<pipeline::Summary> {
    if todo.is_empty() {
        return Ok(pipeline::Summary::default());
    }
    let mut images = 0;
    for &partition in todo {
        images += plan.ordinals(partition)?.count() as u64;
    }
    let mut watch = Watch {
        meter: reporter.meter("tokenize", "images", images),
        failures: 0,
        stop: Arc::clone(stop),
    };
    let summary = pipeline::run(settings, plan, todo, engine, &mut watch)?;
    let (rate, seconds) = (watch.meter.rate(), watch.meter.seconds());
    watch.meter.close();
    reporter.say(
        "tokenized",
        &format!(
            "{} in {} ({})",
            counted(images, "image"),
            numbers::seconds(seconds),
            numbers::rate(rate, " images")
        ),
        json!({"images": images, "written": summary.written, "failed": summary.failed,
               "partitions": summary.partitions, "already": summary.already,
               "lost": summary.lost, "kept": summary.kept, "seconds": seconds, "images_per_second": rate}),
    );
    if summary.lost > 0 {
        let text = format!(
            "{} had been committed by another worker with other tokens before; the other worker's \
             tokens stay",
            counted(summary.lost, "partition")
        );
        reporter.say("lost", &text, json!({"partitions": summary.lost}));
    }
    Ok(summary)
}

/// Folds the output where it is whole, and says what it is.
pub(super) fn fold(
    plan: &Plan,
    summary: &pipeline::Summary,
    reporter: &Reporter,
) -> Result<Finished> {
    let missing = (0..plan.partitions()).filter(|&p| !committed(plan.dir(), p)).count();
    let failed = if missing == 0 {
        let dataset = finalize(plan.dir())?;
        super::finalize::report(plan.dir(), &dataset, reporter);
        dataset.totals.failed
    } else {
        let text = format!(
            "{} of {} left to other workers; the last one to finish folds",
            numbers::count(missing),
            counted(plan.partitions(), "partition")
        );
        reporter.say(
            "waiting",
            &text,
            json!({"missing": missing, "partitions": plan.partitions()}),
        );
        summary.failed
    };
    Ok(if failed > 0 { Finished::WithFailures } else { Finished::Clean })
}

/// Follows the pipeline.
struct Watch {
    meter: Meter,
    failures: u64,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Failures that are told one by one: all of them are in `failures/`, and a log must not grow
    /// with the data set.
    const FAILURES_TOLD: u64 = 100;
}

impl pipeline::Observer for Watch {
    fn event(&mut self, event: &pipeline::Event<'_>) {
        use pipeline::Event;
        match event {
            Event::Image { failure } => self.image(*failure),
            Event::Partition(receipt) => self.partition(receipt),
            Event::Kept { partition, reason } => {
                let text = format!(
                    "shard {partition} stays as it was: {reason}; restore the file to retry"
                );
                self.meter.line("kept", &text, json!({"partition": partition, "reason": reason}));
            }
            Event::BatchHalved { images } => {
                let text = format!(
                    "the device is out of memory: going on with {} at a time",
                    counted(*images, "image")
                );
                self.meter.line("batch-halved", &text, json!({"images": images}));
            }
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watch {
    fn image(&mut self, failure: Option<&FailureRow>) {
        self.meter.step(failure.is_some());
        let Some(failure) = failure else { return };
        self.failures += 1;
        let FailureRow { key, stage, error, .. } = failure;
        if self.failures <= Watch::FAILURES_TOLD {
            self.meter.line(
                "failure",
                &format!("failed: {}: {stage}: {error}", text::printable(key)),
                json!({"key": key, "stage": stage, "error": error}),
            );
        } else if self.failures == Watch::FAILURES_TOLD + 1 {
            let text = "more than 100 failures: further ones are counted, and told in failures/";
            self.meter.line("failures-untold", text, json!({"told": Watch::FAILURES_TOLD}));
        }
    }

    fn partition(&mut self, receipt: &Receipt) {
        let commit = match receipt.commit {
            Commit::Committed => "committed",
            Commit::Already => "already",
            Commit::Lost { .. } => "lost",
        };
        self.meter.event(
            "partition",
            json!({"partition": receipt.partition, "rows": receipt.rows,
                   "failures": receipt.failures, "sha256": receipt.sha256, "commit": commit}),
        );
    }
}
