//! Owns `vqtok repair`: from what the auditor finds to an output that is whole again.
//! Must not know: how badness looks, how partitions are made.

use super::Finished;
use super::common::{CheckpointFlags, Common, check_batch_size, stop_flag, told};
use super::{planning, tokenize};
use crate::audit::{Part, VerifyReport, verify};
use crate::cli::progress::Reporter;
use crate::data::prepare::Preparation;
use crate::data::resize::pillow::PillowVersion;
use crate::data::source::file;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pipeline::{self, OnError, Sizes};
use crate::tokens::identity::as_given;
use crate::tokens::repair::{self, Damage};
use crate::tokens::{CommitMode, Identity, Moved, Plan, committed};
use crate::util::numbers;
use crate::util::numbers::counted;
use crate::util::text;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Flags of `vqtok repair`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folder of `vqtok tokenize`
    dir: PathBuf,
    /// The tokenizer that made it; needed where shards have to be made anew [default: none]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Where the images lie now, if they moved since they were tokenized: the folder they were in
    /// and the one they are in [default: where they were]
    #[arg(long, value_name = "OLD=NEW")]
    moved: Option<Folders>,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    /// Images a batch [default: what suits the device]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    check_batch_size(args.batch_size)?;
    let stop = stop_flag()?;
    let report = verify(&args.dir)?;
    let damage = damage(&report);
    let text = format!(
        "{}: {}, {}, {} to make anew, {} missing",
        text::path(&args.dir),
        counted(report.findings.len(), "finding"),
        counted(report.strays.len(), "stray"),
        counted(damage.partitions.len(), "partition"),
        numbers::count(report.missing)
    );
    reporter.say("damage", &text, json!(report));
    let work = report.missing > 0 || !damage.partitions.is_empty();
    // Before anything is removed: another model, or none, must not cost what could still be read.
    let moved = args.moved.as_ref().map_or_else(|| Ok(Moved::default()), Folders::rule)?;
    let maker = if work { Some(maker(&args, &damage)?) } else { None };
    if work && !damage.plan {
        find_images(&Plan::open(&args.dir)?.with_moved(moved.clone()), &damage)?;
    }
    repair::clear(&args.dir, &damage, &|uri| file::size(&moved.place_of(0, uri)))?;
    let plan = Plan::open(&args.dir)?.with_moved(moved);
    let todo: Vec<usize> = (0..plan.partitions()).filter(|&p| !committed(&args.dir, p)).collect();
    let mut summary = pipeline::Summary::default();
    if let (Some((mut engine, preparation)), false) = (maker, todo.is_empty()) {
        let suits = engine.batch_images(preparation.size.map(|side| side as usize));
        let settings = pipeline::Settings {
            preparation,
            batch_size: args.batch_size.unwrap_or(suits),
            on_error: OnError::Record,
            mode: CommitMode::New,
            sizes: Sizes::Planned,
            decode_time_max: pipeline::DECODE_TIME_MAX,
        };
        let _lock = plan.lock_shared()?;
        summary = tokenize::tokenize(&settings, &plan, &todo, engine.as_mut(), reporter, &stop)?;
    }
    let finished = tokenize::fold(&plan, &summary, reporter)?;
    if report.strays.is_empty() {
        return Ok(finished);
    }
    let text = format!(
        "not removed here: {} that the output doesn't own; `vqtok verify` lists what",
        counted(report.strays.len(), "stray file")
    );
    reporter.say("strays", &text, json!({"paths": report.strays}));
    Ok(Finished::WithFailures)
}

/// Two folders.
#[derive(Debug, Clone)]
struct Folders {
    old: PathBuf,
    new: PathBuf,
}

impl FromStr for Folders {
    type Err = Error;

    fn from_str(text: &str) -> Result<Folders> {
        match text.split_once('=') {
            Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                Ok(Folders { old: old.into(), new: new.into() })
            }
            _ => Err(Error::invalid("give two folders as OLD=NEW")),
        }
    }
}

impl Folders {
    fn rule(&self) -> Result<Moved> {
        let uri = |folder: &Path| file::folder_uri(folder).map_err(Error::io(folder));
        Ok(Moved::everywhere(uri(&self.old)?, uri(&self.new)?))
    }
}

/// Refuses to make shards anew whose images are nowhere: all of them would become failures. Of a
/// few images of each shard one must be there.
fn find_images(plan: &Plan, damage: &Damage) -> Result<()> {
    const IMAGES: usize = 16;
    let bad = |p: &usize| damage.partitions.contains(p) || !committed(plan.dir(), *p);
    for partition in (0..plan.partitions()).filter(bad) {
        let rows = plan.partition(partition)?;
        let some = rows.iter().step_by(rows.len().div_ceil(IMAGES).max(1));
        if some.clone().all(|row| file::size(&plan.place(row)).is_none()) {
            let first = rows.first().map(|row| plan.place(row)).unwrap_or_default();
            return Err(Error::invalid(format!(
                "{}: the images of shard {partition} aren't at their place ({}); restore them, or \
                 pass --moved OLD=NEW with the folder they were in and the one they are in now",
                text::path(plan.dir()),
                text::printable(&first)
            )));
        }
    }
    if !plan.moved().is_empty() {
        planning::check_contents(plan, &damage.partitions)
    } else {
        Ok(())
    }
}

/// The engine that makes shards anew and the preparation for it, found to be those that made the
/// output.
fn maker(args: &Args, damage: &Damage) -> Result<(Box<dyn Engine>, Preparation)> {
    let Some(model) = &args.model else {
        return Err(Error::invalid(
            "shards have to be made anew: pass --model with the tokenizer that made them",
        ));
    };
    let identity = repair::identity(&args.dir, damage)?;
    let engine = args.common.open_engine(model, &args.checkpoint)?;
    let preparation = preparation(&identity, engine.config().pixels.channels)?;
    let ours = pipeline::identity(engine.as_ref(), &preparation, identity.shard_rows as usize)?;
    same(&args.dir, &identity, &ours)?;
    Ok((engine, preparation))
}

fn damage(report: &VerifyReport) -> Damage {
    let any = |part: Part| report.findings.iter().any(|finding| finding.part == part);
    Damage {
        plan: any(Part::Plan),
        aggregates: any(Part::Codebook) || any(Part::Dataset),
        partitions: report.bad_partitions(),
    }
}

/// The preparation that an output was made with.
fn preparation(identity: &Identity, channels: usize) -> Result<Preparation> {
    let made = &identity.preprocessing;
    Ok(Preparation {
        limits: Default::default(),
        alpha: made.alpha.parse()?,
        orientation: told(made.orientation.as_deref())?,
        pillow: made.pillow.map(PillowVersion::try_from).transpose()?.unwrap_or_default(),
        rule: made.rule.parse()?,
        size: made.size,
        channels,
    })
}

/// Refuses a model or program that would make other shards.
fn same(dir: &Path, made: &Identity, ours: &Identity) -> Result<()> {
    match made.difference(ours) {
        None => Ok(()),
        Some((name, was, now)) => Err(Error::Mismatch(format!(
            "{} was made with {}, this repair has {now}; use the model and program it was made with",
            text::path(dir),
            as_given(&name, &was)
        ))),
    }
}
