//! Owns `vqtok reconstruct`.

use super::common::{CheckpointFlags, Common, PixelFlags};
use super::inputs::InputFlags;
use super::onnx::{OnnxFlags, RuntimeFlags};
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use crate::error::Result;
use crate::job::{Reconstruct, TokenizerOptions};
use crate::util::numbers::counted;
use crate::util::text;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Flags of `vqtok reconstruct`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputFlags,
    /// Tokenizer: a folder or checkpoint file with a decoder
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The contact sheet, a PNG file
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
    /// Replace a file of that name that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    /// Images on the sheet, taken evenly from the inputs
    #[arg(long, value_name = "N", default_value_t = 16)]
    count: usize,
    #[command(flatten)]
    pixels: PixelFlags,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    let job = Reconstruct::of(args.inputs.into(), args.out.clone())
        .count(args.count)
        .overwrite(args.overwrite);
    let options = args.common.options(&args.checkpoint, &args.pixels)?;
    let options = args.runtime.over(args.onnx.over(options));
    draw(&job, &args.model, &options, &args.out, reporter)
}

/// Draws a sheet and says what is on it.
pub(super) fn draw(
    job: &Reconstruct,
    model: &Path,
    options: &TokenizerOptions,
    out: &Path,
    reporter: &Reporter,
) -> Result<Finished> {
    job.check()?;
    let mut printer = ProgressPrinter::new(reporter, Arc::default());
    let summary = job.run(&mut options.open(model)?, &mut printer)?;
    let alike = summary.psnr_db.map_or("the same pixels".into(), |db| format!("PSNR {db:.2} dB"));
    let structure =
        summary.ssim.map_or("no SSIM under 11 pixels".into(), |ssim| format!("SSIM {ssim:.4}"));
    let pictures = counted(summary.images.len(), "picture");
    reporter.result(
        "reconstructed",
        &format!("{pictures} on {}: {alike}, {structure}", text::path(out)),
        json!({"images": summary.images, "psnr_db": summary.psnr_db, "ssim": summary.ssim,
               "failed": summary.failed, "out": text::lossy(out)}),
    );
    Ok(Finished::of(summary.failed == 0))
}
