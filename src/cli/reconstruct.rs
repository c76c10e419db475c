//! Owns `vqtok reconstruct`: a contact sheet with numbers. Must not know: how pictures are
//! encoded, decoded or drawn.

use super::Finished;
use super::common::{CheckpointFlags, Common, Inputs, PixelFlags, preparation};
use crate::data::prepare::{self, Preparation};
use crate::data::{sample, sheet, source};
use crate::engine::{Engine, PixelBatch};
use crate::error::{Error, Reject, Result, Stage};
use crate::progress::Reporter;
use crate::train::metrics;
use image::RgbImage;
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok reconstruct`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) inputs: Inputs,
    /// Tokenizer: a folder or checkpoint file with a decoder
    #[arg(long, value_name = "PATH")]
    pub(super) model: PathBuf,
    /// The contact sheet, a PNG file
    #[arg(long, value_name = "FILE.png")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) checkpoint: CheckpointFlags,
    /// Pictures on the sheet, taken evenly from the inputs
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(super) count: usize,
    #[command(flatten)]
    pub(super) pixels: PixelFlags,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    sheet_of(&args, reporter)
}

/// The command without its process-wide settings, as `quickstart` calls it.
pub(super) fn sheet_of(args: &Args, reporter: &Reporter) -> Result<Finished> {
    let mut engine = args.common.open_engine(&args.model, &args.checkpoint)?;
    let preparation = preparation(engine.config(), &args.pixels)?;
    let chosen = sample::evenly(source::walk(&args.inputs.inputs)?, args.count)?;
    if chosen.is_empty() {
        return Err(Error::invalid("no image under the inputs: nothing to reconstruct"));
    }
    let mut pairs = Vec::new();
    let mut rows = Vec::new();
    let mut failed = 0;
    for found in &chosen {
        match reconstruct(found, &preparation, engine.as_mut())? {
            Ok((input, output)) => {
                let (psnr, ssim) = likeness(&input, &output);
                rows.push(json!({"key": found.key, "psnr_db": psnr, "ssim": ssim}));
                pairs.push((input, output));
            }
            Err(reject) => {
                failed += 1;
                let text = format!("failed: {}: {reject}", found.key);
                reporter.say("failure", &text, json!({"key": found.key, "error": reject.message}));
            }
        }
    }
    if let Some(folder) = args.out.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let sheet = sheet::contact_sheet(&pairs);
    let batch = PixelBatch {
        count: 1,
        width: sheet.width() as usize,
        height: sheet.height() as usize,
        channels: 3,
        pixels: Vec::new(),
    };
    super::decode::save_png(&args.out, &sheet, &batch)?;
    let mean = |field: &str| {
        rows.iter().filter_map(|row| row[field].as_f64()).sum::<f64>() / rows.len().max(1) as f64
    };
    let (psnr, ssim) = (mean("psnr_db"), mean("ssim"));
    reporter.result(
        "reconstructed",
        &format!(
            "{} pictures on {}: PSNR {psnr:.2} dB, SSIM {ssim:.4}",
            pairs.len(),
            args.out.display()
        ),
        json!({"images": rows, "psnr_db": psnr, "ssim": ssim, "failed": failed, "out": args.out}),
    );
    Ok(if failed > 0 { Finished::WithFailures } else { Finished::Clean })
}

fn reconstruct(
    found: &source::Found,
    preparation: &Preparation,
    engine: &mut dyn Engine,
) -> Result<Result<(RgbImage, RgbImage), Reject>> {
    let prepare::Prepared { pixels, width, height, .. } =
        match prepare::prepare(&found.uri, preparation) {
            Ok(prepared) => prepared,
            Err(reject) => return Ok(Err(reject)),
        };
    let channels = preparation.channels;
    let batch = PixelBatch { pixels, count: 1, height, width, channels };
    if let Err(reason) = engine.grid(height, width) {
        return Ok(Err(Reject::new(Stage::Encode, reason)));
    }
    let codes = engine.encode(&batch)?;
    let decoded = engine.decode(&codes)?;
    Ok(Ok((to_rgb(&batch), to_rgb(&decoded))))
}

/// PSNR in dB and SSIM (None under 11 pixels a side) of two pictures of one size.
fn likeness(a: &RgbImage, b: &RgbImage) -> (f64, Option<f64>) {
    let planes = |image: &RgbImage| -> Vec<f32> {
        (0..3).flat_map(|c| image.pixels().map(move |pixel| f32::from(pixel[c]))).collect()
    };
    let (x, y) = (planes(a), planes(b));
    let (width, height) = (a.width() as usize, a.height() as usize);
    let ssim = metrics::ssim(&x, &y, 3, height, width, 255.0).ok();
    (metrics::psnr(&x, &y, 255.0), ssim)
}

/// The first image of a batch, grey spread over three channels.
fn to_rgb(batch: &PixelBatch) -> RgbImage {
    RgbImage::from_fn(batch.width as u32, batch.height as u32, |x, y| {
        let at = (y as usize * batch.width + x as usize) * batch.channels;
        match batch.channels {
            1 => image::Rgb([batch.pixels[at]; 3]),
            _ => image::Rgb([batch.pixels[at], batch.pixels[at + 1], batch.pixels[at + 2]]),
        }
    })
}
