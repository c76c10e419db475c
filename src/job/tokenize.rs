//! Owns tokenizing data sets: settings, the plan, which partitions are ours, the run, the end.

use std::path::{Path, PathBuf};

use super::append;
use super::events::{Event, Observer, Pass, Relay};
use super::inputs::Inputs;
use super::model_copy;
use super::pixels::{self, PixelSettings};
use super::places;
use super::plan::{Labels, PlanOfJob, Planning};
use super::readable;
use super::share::Share;
use super::tokenize_summary::{Recorded, TokenizeSummary};
use super::tokenizer::Tokenizer;
use crate::config::{BATCH_SIZE_MAX, Recipe, TokenizeRecipe};
use crate::data::prepare::Preparation;
use crate::data::source::labels::LabelLevel;
use crate::data::{Buckets, Views};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pipeline::{self, OnError, Sizes};
use crate::storage;
use crate::tokens::files::DATASET_FILE;
use crate::tokens::{
    CommitMode, Identity, Plan, displaced, finalize, refuse_foreign, repair, unplanned,
};
use crate::util::scale::Scale;
use crate::util::settings::{BATCH_SIZE, OUT, SHARD_ROWS};

/// Rows a shard at most.
const SHARD_ROWS_MAX: usize = 1 << 24;

/// A data set on its way to token shards.
///
/// Running it again goes on where it was stopped, with byte-identical shards; several processes may
/// share the output folder, each with its own [`Share`].
#[derive(Debug, Clone)]
pub struct Tokenize {
    pub(super) inputs: Inputs,
    pub(super) out: PathBuf,
    label_level: Option<LabelLevel>,
    views: Option<Views>,
    buckets: Option<Buckets>,
    batch_size: Option<usize>,
    shard_rows: Option<usize>,
    share: Share,
    pub(super) retry_failed: bool,
    append: bool,
    on_error: Option<OnError>,
    /// What counts where the three above aren't given; None = by the recipe of the model.
    pub(super) recipe: Option<TokenizeRecipe>,
}

impl Tokenize {
    /// The images of `inputs` (folders, images, tars, Parquet files, zips, lists) into the folder
    /// `out`.
    pub fn new<P: Into<PathBuf>>(
        inputs: impl IntoIterator<Item = P>,
        out: impl Into<PathBuf>,
    ) -> Tokenize {
        Tokenize::of(Inputs::new(inputs), out.into())
    }

    pub(crate) fn of(inputs: Inputs, out: PathBuf) -> Tokenize {
        Tokenize {
            inputs,
            out,
            label_level: None,
            views: None,
            buckets: None,
            batch_size: None,
            shard_rows: None,
            share: Share::ALL,
            retry_failed: false,
            append: false,
            on_error: None,
            recipe: None,
        }
    }

    /// Takes hidden and system files and folders too.
    pub fn hidden(mut self, hidden: bool) -> Tokenize {
        self.inputs.hidden = hidden;
        self
    }

    /// The column of tables and lists, or the extension of tars' members, that is the image; found
    /// by type and name where it isn't given.
    pub fn image_column(mut self, name: impl Into<Option<String>>) -> Tokenize {
        self.inputs.fields.image = name.into();
        self
    }

    /// The column that names the images of tables and lists.
    pub fn key_column(mut self, name: impl Into<Option<String>>) -> Tokenize {
        self.inputs.fields.key = name.into();
        self
    }

    /// The column or tar field with the class.
    pub fn label_column(mut self, name: impl Into<Option<String>>) -> Tokenize {
        self.inputs.fields.label = name.into();
        self
    }

    /// The column or tar field with the text.
    pub fn caption_column(mut self, name: impl Into<Option<String>>) -> Tokenize {
        self.inputs.fields.caption = name.into();
        self
    }

    /// Further columns or tar fields, which go into `meta_json`.
    pub fn pass(mut self, names: impl IntoIterator<Item = String>) -> Tokenize {
        self.inputs.fields.pass = names.into_iter().collect();
        self
    }

    /// Which folder of a key is its label; by default the first, or the second where all first
    /// folders are splits such as `train` and `val`.
    pub fn label_level(mut self, level: impl Into<Option<LabelLevel>>) -> Tokenize {
        self.label_level = level.into();
        self
    }

    /// Several rows for each image, one for each of its views; by default one row. The rule for
    /// resizing must have a size.
    pub fn views(mut self, views: impl Into<Option<Views>>) -> Tokenize {
        self.views = views.into();
        self
    }

    /// Brings each image to the one of several sizes whose aspect ratio is nearest to its own: scaled
    /// until it covers it, its middle cut out. Shards are of one size each. Of views, flips alone
    /// can be beside them.
    pub fn buckets(mut self, buckets: impl Into<Option<Buckets>>) -> Tokenize {
        self.buckets = buckets.into();
        self
    }

    /// Images per batch, or views; tokens don't depend on it. By default the recipe's, or what suits the
    /// device.
    pub fn batch_size(mut self, images: impl Into<Option<usize>>) -> Tokenize {
        self.batch_size = images.into();
        self
    }

    /// Images a shard: what a kill can cost, and the unit that workers share. By default the
    /// recipe's, else 4096.
    pub fn shard_rows(mut self, rows: impl Into<Option<usize>>) -> Tokenize {
        self.shard_rows = rows.into();
        self
    }

    /// Takes a share of the shards, where several workers write into one folder.
    pub fn share(mut self, share: Share) -> Tokenize {
        self.share = share;
        self
    }

    /// Makes the shards again that hold failures, once the reason is gone.
    pub fn retry_failed(mut self, retry: bool) -> Tokenize {
        self.retry_failed = retry;
        self
    }

    /// Adds the images that the output doesn't have yet, in shards behind those that are there; makes
    /// the output where there is none. Inputs that were tokenized before may be left out.
    pub fn append(mut self, append: bool) -> Tokenize {
        self.append = append;
        self
    }

    /// What a bad image costs: a row in `failures`, or the run.
    pub fn on_error(mut self, on_error: impl Into<Option<OnError>>) -> Tokenize {
        self.on_error = on_error.into();
        self
    }

    /// Refuses what can't work with the model at `model`, before any work.
    ///
    /// # Errors
    /// Settings out of bounds; an output folder that can't be written, or where other things lie.
    pub fn check(&self, model: &Path) -> Result<()> {
        if let Some(rows) = self.shard_rows
            && !(1..=SHARD_ROWS_MAX).contains(&rows)
        {
            return Err(Error::setting(
                SHARD_ROWS,
                format!("is 1 to {SHARD_ROWS_MAX}, not {rows}"),
            ));
        }
        check_batch_size(self.batch_size)?;
        Scale::check_environment()?;
        self.views.map_or(Ok(()), Views::check)?;
        pixels::check_views(self.buckets.as_ref(), self.views)?;
        places::refuse_empty(OUT, &self.out)?;
        storage::opening(|| {
            self.inputs.check_folder(&self.out)?;
            places::check_output(&self.out, model)?;
            if self.is_finished() {
                return Ok(()); // Nothing is written.
            }
            places::writable_folder(OUT, &self.out)
        })
    }

    /// Whether there is nothing to do but to look.
    fn is_finished(&self) -> bool {
        !self.retry_failed
            && !self.append
            && storage::exists(&self.out.join(DATASET_FILE)).unwrap_or(false)
    }

    /// Runs the job.
    ///
    /// # Errors
    /// Those of [`Tokenize::check`]; inputs or settings that differ from those that the output was
    /// begun with; [`Error::Interrupted`] where the observer says so; anything that can't be read
    /// or written, images aside.
    pub fn run(
        &self,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<TokenizeSummary> {
        self.check(&tokenizer.path)?;
        tokenizer.say_device(observer);
        let (settings, planned) = storage::opening(|| self.plan(tokenizer, observer))?;
        storage::resumable(|| self.run_planned(&settings, planned, tokenizer, observer))
    }

    /// What is planned, and how it is tokenized.
    pub(super) fn plan(
        &self,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<(pipeline::Settings, PlanOfJob)> {
        let (labels, settings, identity) = self.prepared(tokenizer)?;
        let (inputs, out, preparation) = (&self.inputs, &self.out, &settings.preparation);
        let planning = Planning { inputs, out, labels: &labels, preparation };
        let planned = append::plan(&planning, &identity, self.append, observer)?;
        Ok((settings, planned))
    }

    /// How images are tokenized, and what makes the output the same.
    pub(super) fn prepared(
        &self,
        tokenizer: &mut Tokenizer,
    ) -> Result<(Labels, pipeline::Settings, Identity)> {
        let labels = Labels::choose(self.label_level, &self.inputs, &self.out);
        let recipe = match &self.recipe {
            Some(recipe) => recipe.clone(),
            None => Recipe::of_model(&tokenizer.path)?.map(|r| r.tokenize).unwrap_or_default(),
        };
        let settings = self.settings(tokenizer, &recipe)?;
        // The plan refuses a size beyond it, in words.
        let fits = tokenizer.bounded_preparation().is_ok();
        let shard_rows = self.shard_rows.unwrap_or(recipe.shard_rows);
        if let (Some(side), true) = (settings.preparation.size, fits && !self.is_finished()) {
            // While the weights are still being hashed, whose digests the identity waits for.
            tokenizer.engine.prepare(side as usize, side as usize);
        }
        let (engine, preparation) = (tokenizer.engine.as_ref(), &settings.preparation);
        let mut identity = model_copy::identity(engine, &tokenizer.model, preparation, shard_rows)?;
        identity.label_level = labels.recorded();
        Ok((labels, settings, identity))
    }

    /// What is still to do of a plan.
    fn run_planned(
        &self,
        settings: &pipeline::Settings,
        planned: PlanOfJob,
        tokenizer: &mut Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<TokenizeSummary> {
        let PlanOfJob { ref plan, unseen, appended } = planned;
        let out = &self.out;
        self.refuse_foreign(plan)?;
        let retried = match self.retry_failed {
            true => self.retry(settings, plan, tokenizer.engine.as_mut(), observer)?,
            false => pipeline::Summary::default(),
        };
        let todo = self.todo(plan)?;
        let before = self.reopen(plan, &todo)?;
        let mut others = tokenizer.other_engines(todo.len())?;
        let others = others.iter_mut().map(|engine| engine.as_mut() as &mut dyn Engine);
        let mut engines: Vec<&mut dyn Engine> =
            std::iter::once(tokenizer.engine.as_mut() as &mut dyn Engine).chain(others).collect();
        let lock = plan.lock_shared()?;
        let done = tokenize(settings, plan, &todo, &mut engines, observer)?;
        drop(lock);
        let mut summary = TokenizeSummary::of(out, done, retried, unseen)?.compared(out, &before);
        summary.appended = appended;
        Ok(summary)
    }

    /// The partitions of our share.
    fn ours<'a>(&self, plan: &'a Plan) -> impl Iterator<Item = usize> + Clone + use<'a> {
        let share = self.share;
        (0..plan.partitions()).filter(move |&p| share.has(plan.taken_with(p)))
    }

    /// Refuses shards of other outputs in the places of ours, and those of a plan that was lost.
    pub(super) fn refuse_foreign(&self, plan: &Plan) -> Result<()> {
        unplanned::refuse(plan)?;
        let there = plan.committed()?;
        refuse_foreign(plan, self.ours(plan).filter(|&p| there.has(p)).collect())
    }

    /// The partitions of our share that aren't there, ascending.
    pub(super) fn todo(&self, plan: &Plan) -> Result<Vec<usize>> {
        let there = plan.committed()?;
        let todo: Vec<usize> = self.ours(plan).filter(|&p| !there.has(p)).collect();
        if !todo.is_empty() {
            displaced::refuse(plan, |partition| there.has(partition))?;
        }
        Ok(todo)
    }

    /// Opens a finished output again that has lost a shard: what is made again may differ from it, as is
    /// meant where failures are retried. Gives what was recorded of it.
    pub(super) fn reopen(&self, plan: &Plan, todo: &[usize]) -> Result<Recorded> {
        let mut before = Recorded::default();
        // The first is the one that a finished state would have.
        if todo.first().is_some_and(|&first| first < finalize::finished_partitions(&self.out)) {
            if !self.retry_failed {
                before = Recorded::before(&self.out);
            }
            repair::reopen(&self.out, &plan.lock_exclusive()?)?;
        }
        Ok(before)
    }

    /// Refuses pixel settings that can't be beside buckets, as far as they say it themselves.
    pub(super) fn check_pixels(&self, pixels: PixelSettings) -> Result<()> {
        self.buckets.as_ref().map_or(Ok(()), |_| pixels.check_beside_buckets())
    }

    fn settings(
        &self,
        tokenizer: &Tokenizer,
        recipe: &TokenizeRecipe,
    ) -> Result<pipeline::Settings> {
        tokenizer.require_encoder()?;
        let preparation = match &self.buckets {
            None => pixels::with_views(tokenizer.preparation()?, self.views)?,
            Some(buckets) => {
                let bucketed = tokenizer.pixels.bucketed(tokenizer.config(), buckets)?;
                Preparation { views: self.views, ..bucketed }
            }
        };
        let suits = tokenizer.images_together(&preparation);
        Ok(pipeline::Settings {
            preparation,
            batch_size: self.batch_size.or(recipe.batch_size).unwrap_or(suits),
            on_error: self.on_error.unwrap_or(recipe.on_error),
            mode: CommitMode::New,
            sizes: if self.retry_failed { Sizes::Present } else { Sizes::Planned },
            decode_time_max: pipeline::DECODE_TIME_MAX,
        })
    }

    /// Makes the committed partitions of our share that hold failures again, each replaced whole.
    fn retry(
        &self,
        settings: &pipeline::Settings,
        plan: &Plan,
        engine: &mut dyn Engine,
        observer: &mut dyn Observer,
    ) -> Result<pipeline::Summary> {
        let lock = plan.lock_exclusive()?;
        let mut again = repair::with_failures(plan)?;
        again.retain(|&partition| self.share.has(plan.taken_with(partition)));
        if again.is_empty() {
            return Ok(pipeline::Summary::default());
        }
        repair::reopen(plan.dir(), &lock)?;
        let settings = pipeline::Settings { mode: CommitMode::Replace, ..settings.clone() };
        tokenize(&settings, plan, &again, &mut [engine], observer)
    }
}

/// Refuses a number of images that is no batch.
pub(super) fn check_batch_size(images: Option<usize>) -> Result<()> {
    match images {
        Some(images) if !(1..=BATCH_SIZE_MAX).contains(&images) => {
            Err(Error::setting(BATCH_SIZE, format!("is 1 to {BATCH_SIZE_MAX}, not {images}")))
        }
        _ => Ok(()),
    }
}

/// Runs the pipeline over the partitions that are to do.
pub(super) fn tokenize(
    settings: &pipeline::Settings,
    plan: &Plan,
    todo: &[usize],
    engines: &mut [&mut dyn Engine],
    observer: &mut dyn Observer,
) -> Result<pipeline::Summary> {
    if todo.is_empty() {
        return Ok(pipeline::Summary::default());
    }
    let mut images = 0;
    for &partition in todo {
        images += plan.ordinals(partition)?.count() as u64;
    }
    readable::check(plan, todo, images)?;
    observer.event(&Event::Begin { stage: "tokenize", images });
    let summary = pipeline::run_on(settings, plan, todo, engines, &mut Relay(observer))?;
    observer.event(&Event::Tokenized(&Pass { images, summary }));
    Ok(summary)
}
