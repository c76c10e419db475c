//! Owns making single partitions of a plan that stands, by one tokenizer that stays open: the unit
//! that engines with many machines hand out. Must not know: who asks, and how.
//!
//! # Who counts deaths
//! A partition whose images kill every process that works on it (a decoder's or driver's crash, more
//! memory than there is) must not go round for ever. The process that dies can't count, and a count
//! beside the plan would be a wrong one: nothing there tells such a death from a node that was
//! preempted, a worker that was killed on purpose, or the copy of a partition that came second. Who
//! started the worker can tell: it sees how its child ended, and outlives it. So the coordinator
//! counts, and says with each request how many workers this partition has ended; from [`DEATHS_MAX`]
//! on, every image of it becomes a failure, by the same exclusive commit as any other. Two
//! coordinators that count apart, or one that was started again, cost a few deaths more and nothing
//! else. `retry_failed` makes such a partition again.

use std::path::{Path, PathBuf};

use super::events::{Event, Observer};
use super::model_copy;
use super::repair::{preparation, same};
use super::tokenize::{check_batch_size, tokenize};
use super::tokenizer::Tokenizer;
use crate::config::Recipe;
use crate::error::{Error, Reject, Result, Stage};
use crate::pipeline::{self, OnError, Sizes, give_up};
use crate::storage;
use crate::tokens::{
    CommitMode, PLAN_FILE, Plan, Receipt, finalize, must_lie_as_planned, refuse_foreign,
};
use crate::util::settings::{MODEL, OUT, PLAN_ONLY};
use crate::util::text;

/// A partition that has ended so many workers is given up.
pub(super) const DEATHS_MAX: u32 = 3;

/// Makes partitions of one output, one after the other.
#[derive(Debug)]
pub struct PartitionWorker {
    out: PathBuf,
    tokenizer: Tokenizer,
    batch_size: Option<usize>,
    on_error: Option<OnError>,
    opened: Option<Opened>,
}

/// The plan, and how it is tokenized.
struct Opened {
    plan: Plan,
    settings: pipeline::Settings,
    /// Partitions that a finished state of the output has: one that is missing was lost.
    finished: usize,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("plan", &self.plan.digest()).finish_non_exhaustive()
    }
}

impl PartitionWorker {
    /// Of the output folder `out`, whose plan may still have to be written. What images become before
    /// the tokenizer sees them is as the plan says, whatever the tokenizer was opened with.
    pub fn new(out: impl Into<PathBuf>, tokenizer: Tokenizer) -> PartitionWorker {
        PartitionWorker {
            out: out.into(),
            tokenizer,
            batch_size: None,
            on_error: None,
            opened: None,
        }
    }

    /// Images per batch, or views; tokens don't depend on it. By default the recipe's, or what suits
    /// the device.
    pub fn batch_size(mut self, images: impl Into<Option<usize>>) -> PartitionWorker {
        self.batch_size = images.into();
        self
    }

    /// What a bad image costs: a row in `failures`, or its partition's request.
    pub fn on_error(mut self, on_error: impl Into<Option<OnError>>) -> PartitionWorker {
        self.on_error = on_error.into();
        self
    }

    /// Looks at the plan before any work, where there is one already.
    ///
    /// # Errors
    /// A setting out of bounds; a plan that was made with another model, or can't be read.
    pub fn check(&mut self) -> Result<()> {
        check_batch_size(self.batch_size)?;
        self.tokenizer.require_encoder()?;
        storage::opening(|| {
            let plan = self.out.join(PLAN_FILE);
            match storage::exists(&plan).map_err(Error::io(&plan))? {
                true => self.open(),
                false => Ok(()),
            }
        })
    }

    /// Partitions of the plan, as far as it is known by now; None where there was none to look at.
    pub fn partitions(&self) -> Option<usize> {
        self.opened.as_ref().map(|opened| opened.plan.partitions())
    }

    /// Images of a partition.
    ///
    /// # Errors
    /// No plan, or no such partition in it; those of [`PartitionWorker::check`].
    pub fn images(&mut self, partition: usize) -> Result<u64> {
        storage::resumable(|| {
            let known = |opened: &Opened| partition < opened.plan.partitions();
            if !self.opened.as_ref().is_some_and(known) {
                self.open()?; // Something may have been appended since.
            }
            let plan = &self.plan()?.plan;
            if partition >= plan.partitions() {
                return Err(Error::invalid(format!(
                    "partition {partition}: the plan of {} has {}, from 0",
                    text::path(&self.out),
                    plan.partitions()
                )));
            }
            Ok(plan.ordinals(partition)?.count() as u64)
        })
    }

    /// Makes a partition that has ended `deaths` workers; None where it was there already.
    ///
    /// # Errors
    /// Those of [`PartitionWorker::images`]; a partition that was lost of a finished output;
    /// [`Error::Interrupted`] where the observer says so, which drops the partition; anything that
    /// can't be read or written, images aside.
    pub fn make(
        &mut self,
        partition: usize,
        deaths: u32,
        observer: &mut dyn Observer,
    ) -> Result<Option<Receipt>> {
        self.images(partition)?;
        storage::resumable(|| self.make_planned(partition, deaths, observer))
    }

    fn make_planned(
        &mut self,
        partition: usize,
        deaths: u32,
        observer: &mut dyn Observer,
    ) -> Result<Option<Receipt>> {
        let Some(Opened { plan, settings, finished }) = &self.opened else {
            return Err(Error::internal("a partition is made of a plan that isn't open"));
        };
        if plan.has(partition) {
            return refuse_foreign(plan, vec![partition]).map(|()| None);
        }
        // Somebody may have opened it again since.
        if partition < *finished && partition < finalize::finished_partitions(&self.out) {
            return Err(Error::mismatch(format!(
                "{}: it was finished and has lost shard {partition}; run `vqtok tokenize` with \
                 {PLAN_ONLY} again, which opens it",
                text::path(&self.out)
            )));
        }
        if deaths >= DEATHS_MAX {
            let text = format!("its partition ended {DEATHS_MAX} workers: given up");
            let reject = Reject::new(Stage::Process, text);
            return give_up(settings, plan, partition, &reject).map(Some);
        }
        let _lock = plan.lock_shared()?;
        let mut listener = Listener { inner: observer, receipt: None };
        let engine = self.tokenizer.engine.as_mut();
        tokenize(settings, plan, &[partition], &mut [engine], &mut listener)?;
        match listener.receipt {
            Some(receipt) => Ok(Some(receipt)),
            None => Err(Error::internal(format!("partition {partition} ended without a receipt"))),
        }
    }

    fn plan(&self) -> Result<&Opened> {
        self.opened.as_ref().ok_or_else(|| Error::internal("the plan isn't open"))
    }

    /// Opens the plan, and finds the tokenizer to be the one that it was made for.
    fn open(&mut self) -> Result<()> {
        let out = &self.out;
        let file = out.join(PLAN_FILE);
        if !storage::exists(&file).map_err(Error::io(&file))? {
            return Err(Error::invalid(format!(
                "{}: there is no plan; `vqtok tokenize INPUT...` with this {OUT}, {MODEL} and \
                 {PLAN_ONLY} writes one",
                text::path(out)
            )));
        }
        let plan = Plan::open(out)?;
        must_lie_as_planned(&plan)?;
        let settings = self.settings(&plan)?;
        let finished = finalize::finished_partitions(&self.out);
        self.opened = Some(Opened { plan, settings, finished });
        Ok(())
    }

    fn settings(&mut self, plan: &Plan) -> Result<pipeline::Settings> {
        let identity = plan.identity();
        let tokenizer = &mut self.tokenizer;
        let preparation = preparation(identity, tokenizer.config().pixels.channels)?;
        if let Some(side) = preparation.size {
            // While the weights are still being hashed, whose digests the identity waits for.
            tokenizer.engine.prepare(side as usize, side as usize);
        }
        let (engine, rows) = (tokenizer.engine.as_ref(), identity.shard_rows as usize);
        let ours = model_copy::identity(engine, &tokenizer.model, &preparation, rows)?;
        same(&self.out, identity, ours, "worker")?;
        let recipe = recipe(&tokenizer.path)?;
        let suits = tokenizer.images_together(&preparation);
        Ok(pipeline::Settings {
            batch_size: self.batch_size.or(recipe.batch_size).unwrap_or(suits),
            on_error: self.on_error.unwrap_or(recipe.on_error),
            mode: CommitMode::New,
            sizes: Sizes::Planned,
            decode_time_max: pipeline::DECODE_TIME_MAX,
            preparation,
        })
    }
}

/// What the recipe of a model says of tokenizing.
fn recipe(model: &Path) -> Result<crate::config::TokenizeRecipe> {
    Ok(Recipe::of_model(model)?.map(|recipe| recipe.tokenize).unwrap_or_default())
}

/// Passes everything on, and keeps the receipt.
struct Listener<'a> {
    inner: &'a mut dyn Observer,
    receipt: Option<Receipt>,
}

impl Observer for Listener<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Tokenizing(pipeline::Event::Partition(receipt)) = event {
            self.receipt = Some((*receipt).clone());
        }
        self.inner.event(event);
    }

    fn interrupted(&self) -> bool {
        self.inner.interrupted()
    }
}
