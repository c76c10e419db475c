//! Owns `vqtok convert`: a published checkpoint into a model folder of ours.

use super::common::CheckpointFlags;
use super::outcome::Finished;
use crate::checkpoint::convert::convert;
use crate::checkpoint::model_card;
use crate::checkpoint::onnx::write::{self, Floats};
use crate::checkpoint::recognise::detect::DetectOptions;
use crate::cli::progress::Reporter;
use crate::error::{Error, Result};
use crate::job::{places, refuse_unfinished};
use crate::storage;
use crate::util::overwrite;
use crate::util::settings::{OUT, PRECISION};
use std::path::PathBuf;

/// Flags of `vqtok convert`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint: a file or a folder
    model: PathBuf,
    /// Folder for config.json and model.safetensors; with --to onnx for encoder.onnx, decoder.onnx and
    /// tokenizer.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What it becomes: a model folder of vqtok's, or ONNX files, bytes in and bytes out, for families of
    /// convolutions alone
    #[arg(long, value_name = "model|onnx", default_value = "model")]
    to: Target,
    /// What the layers of ONNX files compute in: f32 for the reference's tokens, f16 for half the size;
    /// quantizers and norms are in f32 in any case [default: f32]
    #[arg(long, value_name = "f32|f16")]
    precision: Option<Floats>,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// What a checkpoint becomes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Target {
    Model,
    Onnx,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    places::check_new(OUT, &args.out)?;
    overwrite::check_folders(&args.out)?;
    let model = storage::local_copy(&args.model).map_err(Error::io(&args.model))?;
    refuse_unfinished(&model)?;
    let options = args.checkpoint.options();
    match (args.to, args.precision) {
        (Target::Onnx, floats) => {
            let floats = floats.unwrap_or_default();
            options.detect(|options| write::write(&model, options, &args.out, floats))?;
        }
        (Target::Model, None) => {
            options.detect(|options| convert(&model, options, &args.out))?;
        }
        (Target::Model, Some(_)) => {
            return Err(Error::setting(PRECISION, "is for ONNX files: weights stay as they are"));
        }
    }
    super::inspect::model(&model_card::read(&args.out, &DetectOptions::default())?, reporter);
    Ok(Finished::Clean)
}
