//! Owns `vqtok convert`: a published checkpoint into a model folder of ours.

use super::common::CheckpointFlags;
use super::outcome::Finished;
use crate::checkpoint::convert::convert;
use crate::checkpoint::model_card;
use crate::checkpoint::recognise::detect::DetectOptions;
use crate::cli::progress::Reporter;
use crate::error::{Error, Result};
use crate::job::{places, refuse_unfinished};
use crate::storage;
use crate::util::overwrite;
use crate::util::settings::OUT;
use std::path::PathBuf;

/// Flags of `vqtok convert`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint: a file or a folder
    model: PathBuf,
    /// Folder for config.json and model.safetensors
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    places::check_new(OUT, &args.out)?;
    overwrite::check_folders(&args.out)?;
    let model = storage::local_copy(&args.model).map_err(Error::io(&args.model))?;
    refuse_unfinished(&model)?;
    args.checkpoint.options().detect(|options| convert(&model, options, &args.out))?;
    super::inspect::model(&model_card::read(&args.out, &DetectOptions::default())?, reporter);
    Ok(Finished::Clean)
}
