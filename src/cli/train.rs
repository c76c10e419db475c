//! Owns `vqtok train`.

use super::common::{Common, PixelFlags};
use super::inputs::InputFlags;
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::quantities::{bytes_of, time_of};
use super::signals::stop_flag;
use crate::error::Result;
use crate::job::{InitFrom, Train};
use std::path::PathBuf;
use std::time::Duration;

/// Flags of `vqtok train`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputFlags,
    /// Folder for the model: config.json, model.safetensors, the training record
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// What to train: the name of a recipe or a TOML file (`vqtok recipe list`) [default:
    /// photos-vqvae-64]
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Updates [default: the recipe's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Time for the whole training, as 30m or 8h: a few steps are timed, and as many are done as
    /// fit, the learning rate with them; a resumed training keeps their number [default: as long as
    /// --steps take]
    #[arg(long, value_name = "TIME", value_parser = time_of, conflicts_with = "steps")]
    budget: Option<Duration>,
    /// Images per update [default: the recipe's]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Images per forward and backward pass; fewer take less memory [default: the recipe's, else
    /// all of an update]
    #[arg(long, value_name = "N")]
    micro_batch: Option<usize>,
    /// Recompute each block's activations in the backward pass instead of keeping them (gradient
    /// checkpointing): much less memory, a third more time, the same result
    #[arg(long)]
    recompute: bool,
    /// File or folder with the weights of LPIPS: torchvision's VGG16 and the heads of lpips
    /// [default: the recipe's, else trained without]
    #[arg(long, value_name = "PATH")]
    perceptual_weights: Option<String>,
    /// Begin with the weights of a checkpoint, published or vqtok's own, of the recipe's
    /// architecture; a codebook of another size or length starts afresh [default: the recipe's, else
    /// random weights]
    #[arg(long, value_name = "PATH")]
    init_from: Option<String>,
    /// Family of the checkpoint to begin with, where it is ambiguous [default: detected]
    #[arg(long, value_name = "FAMILY", requires = "init_from")]
    init_family: Option<String>,
    /// Which of several sets of weights in the checkpoint to begin with: the start of their names
    /// [default: the only one]
    #[arg(long, value_name = "PREFIX", requires = "init_from")]
    init_weights: Option<String>,
    /// Keep decoded crops on the disk, in at most SIZE (as 20GB) of a hidden file beside the model's folder,
    /// where they don't fit into memory: each is decoded once instead of in every epoch; the result is
    /// the same [default: none are kept there]
    #[arg(long, value_name = "SIZE", value_parser = bytes_of)]
    cache_crops: Option<u64>,
    /// Seed of everything random [default: the recipe's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Resume the training in PATH with its own recipe; --steps extends it, even a finished one
    #[arg(long)]
    pub(super) resume: bool,
    #[command(flatten)]
    pixels: PixelFlags,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    let device = args.common.device_for_training()?;
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    let init = args.init_from.map(|path| {
        InitFrom::new(path)
            .family(args.init_family.unwrap_or_default())
            .weights(args.init_weights.unwrap_or_default())
    });
    let mut job = Train::of(args.inputs.into(), args.model)
        .steps(args.steps)
        .budget(args.budget)
        .cache_crops(args.cache_crops)
        .batch_size(args.batch_size)
        .micro_batch(args.micro_batch)
        .recompute(args.recompute)
        .init_from(init)
        .seed(args.seed)
        .resume(args.resume)
        .device(device)
        .precision(args.common.machine.precision)
        .pixels((&args.pixels).into());
    if let Some(weights) = args.perceptual_weights {
        job = job.perceptual_weights(weights);
    }
    if let Some(recipe) = args.recipe {
        job = job.recipe(recipe);
    }
    job.run(&mut printer)?;
    Ok(Finished::Clean)
}
