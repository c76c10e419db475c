//! Owns `vqtok tokenize`.

use super::common::{CheckpointFlags, Common, PixelFlags};
use super::inputs::{FactFlags, InputFlags};
use super::onnx::{OnnxFlags, RuntimeFlags};
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::signals::{end_in_time, stop_flag};
use crate::data::source::labels::LabelLevel;
use crate::data::{Buckets, Views};
use crate::error::Result;
use crate::job::{
    Inputs, ListedShare, PartitionToMake, RankFrom, Share, Tokenize, Train, WrittenPlan,
};
use crate::pipeline::OnError;
use crate::util::numbers;
use crate::util::numbers::counted;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Flags of `vqtok tokenize`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputFlags,
    #[command(flatten)]
    facts: FactFlags,
    /// Output folder: plan, token shards, failures, codebook statistics, dataset.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokenizer: a folder or checkpoint file; where it doesn't exist, it is trained first
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    /// Recipe to train with where PATH doesn't exist: a name or a TOML file (`vqtok recipe list`)
    /// [default: photos-vqvae-64]
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Whose arithmetic encodes: vqtok's own kernels, or candle's, the reference that they are tested
    /// against, slow and in f32
    #[arg(long, value_name = "vqtok|candle", default_value = "vqtok")]
    engine: String,
    #[command(flatten)]
    pixels: PixelFlags,
    /// Folder of a key that is its label: 0 is the first, 1 the second, ..., none for no labels
    /// [default: 0, or 1 where all first folders are splits such as train and val]
    #[arg(long, value_name = "N|none")]
    label_level: Option<LabelLevel>,
    /// Several rows for each image: flips (it and its mirror), ten-crop (LlamaGen's: corners and
    /// centre of a square 1.1 times the size, and the same mirrored; ten-crop=1.05 for another
    /// range), random-crops=N (torchvision's RandomResizedCrop and flips, drawn from the key)
    /// [default: one row]
    #[arg(long, value_name = "VIEWS")]
    views: Option<Views>,
    /// Aspect buckets: each image is brought to the size whose aspect ratio is nearest to its own,
    /// and shards are of one size each. Sizes (512x512,640x384,384x640), as many pixels as a square
    /// of a side at a ratio (256:1:1,256:4:3,256:3:4) or at every ratio from 1:2 to 2:1 (256)
    /// [default: one size]
    #[arg(long, value_name = "SIZES")]
    buckets: Option<Buckets>,
    /// Images per batch, or views; tokens don't depend on it [default: the recipe's, else what suits the
    /// device]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Images per shard: the most work a kill can lose, and the unit that workers share [default: the
    /// recipe's, else
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
    /// Number of workers, where the source of --rank-from doesn't say [default: what it says]
    #[arg(long, value_name = "N", requires = "rank_from", conflicts_with = "partition")]
    ranks: Option<usize>,
    /// Write the plan and stop there: `vqtok worker` makes the partitions; with --json each of them is
    /// listed
    #[arg(long)]
    plan_only: bool,
    /// List the tars, Parquet files, zips and lists of this worker's share into DIR and stop there: who
    /// writes the plan then needn't open them [default: they are listed when the plan is written]
    #[arg(long, conflicts_with_all = ["plan_only", "append", "retry_failed"])]
    list_only: bool,
    /// Rebuild the shards that hold failures, once the cause is fixed
    #[arg(long)]
    retry_failed: bool,
    /// Add the images that DIR doesn't have yet; its shards stay as they are, new ones go on behind
    #[arg(long)]
    append: bool,
    /// What happens on a bad image: it becomes a row in failures, or the run stops [default: the
    /// recipe's, else record]
    #[arg(long, value_name = "record|stop")]
    on_error: Option<OnError>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    let options = args.common.options(&args.checkpoint, &args.pixels)?;
    let options = options.engine(args.engine.parse()?);
    let options = args.runtime.over(args.onnx.over(options)).following(&args.out);
    options.check_device_for(&args.model)?;
    let inputs = args.facts.of(Inputs::from(args.inputs));
    let mut job = Tokenize::of(inputs.clone(), args.out.clone())
        .label_level(args.label_level)
        .views(args.views)
        .buckets(args.buckets)
        .batch_size(args.batch_size)
        .shard_rows(args.shard_rows)
        .retry_failed(args.retry_failed)
        .append(args.append)
        .on_error(args.on_error);
    job.check(&args.model)?;
    let share = match args.rank_from {
        Some(source) => source.share(args.ranks)?,
        None => args.partition.unwrap_or(Share::ALL),
    };
    job = job.share(share);
    let stop = stop_flag()?;
    let mut printer = ProgressPrinter::new(reporter, Arc::clone(&stop));
    let mut training = Train::of(inputs, args.model.clone()).pixels((&args.pixels).into());
    if let Some(recipe) = args.recipe {
        training = training.recipe(recipe);
    }
    if args.list_only {
        job.require_model(&args.model)?;
    }
    job.ensure_model(&training, &options, &mut printer)?;
    // A training saves itself when it is stopped, which may take longer.
    end_in_time(stop, *reporter)?;
    let mut tokenizer = options.open(&args.model)?;
    if args.list_only {
        listed(job.list_share(&mut tokenizer, share)?, reporter);
        return Ok(Finished::Clean);
    }
    if args.plan_only {
        written(&job.write_plan(&mut tokenizer, &mut printer)?, reporter);
        return Ok(Finished::Clean);
    }
    let summary = job.run(&mut tokenizer, &mut printer)?;
    printer.output(&args.out, &summary);
    Ok(Finished::of(summary.is_clean()))
}

/// What was listed for a plan.
fn listed(found: ListedShare, reporter: &Reporter) {
    let ListedShare { files, ours, listed, .. } = found;
    let text = format!(
        "listed: {} of {} in our share, {} among the inputs",
        numbers::count(listed),
        counted(ours, "file"),
        numbers::count(files)
    );
    let fields = json!({"files": files, "ours": ours, "listed": listed});
    reporter.result("listed", &text, fields);
}

/// What is to do of a plan.
fn written(plan: &WrittenPlan, reporter: &Reporter) {
    for PartitionToMake { partition, images, bytes, .. } in &plan.todo {
        let fields = json!({"partition": partition, "images": images, "bytes": bytes});
        reporter.event("todo", fields);
    }
    let text = format!(
        "planned: {} of {} to make",
        numbers::count(plan.todo.len() as u64),
        counted(plan.partitions, "partition")
    );
    let fields = json!({"images": plan.images, "partitions": plan.partitions,
                        "missing": plan.todo.len()});
    reporter.result("written-plan", &text, fields);
}
