//! Owns `vqtok reconstruct`: a contact sheet with numbers. Must not know: how pictures are
//! encoded, decoded or drawn.

use super::common::{CheckpointFlags, Common, PixelFlags, preparation};
use super::inputs::{Inputs, say_skipped};
use super::{Finished, places};
use crate::audit::sources;
use crate::cli::progress::Reporter;
use crate::data::prepare::{self, Preparation, Prepared};
use crate::data::{SourceFile, contact_sheet, subsample};
use crate::engine::{Engine, PixelBatch, oom_split};
use crate::error::{Error, Reject, Result, Stage};
use crate::metrics;
use crate::util::numbers::counted;
use crate::util::overwrite;
use crate::util::overwrite::Foreign;
use crate::util::text;
use image::RgbImage;
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// Replace a file of that name that vqtok didn't write
    #[arg(long)]
    pub(super) overwrite: bool,
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
    if args.count == 0 {
        return Err(Error::invalid("--count 0: the sheet shows at least one picture"));
    }
    let foreign = Foreign::overwritten(args.overwrite);
    places::check_png("--out", &args.out, foreign)?;
    refuse_tokens(&args.inputs.inputs)?;
    args.inputs.check_picture(&args.out)?;
    let mut engine = args.common.open_engine(&args.model, &args.checkpoint)?;
    let preparation = preparation(engine.config(), &args.pixels)?;
    let mut walk = args.inputs.walk()?;
    let chosen = subsample::evenly(walk.by_ref(), args.count)?;
    say_skipped(walk.skipped(), reporter);
    if chosen.is_empty() {
        return Err(Error::invalid("no image under the inputs: nothing to reconstruct"));
    }
    let mut pairs = Vec::new();
    let mut rows = Vec::new();
    let mut failed = 0;
    let together = engine.batch_images(preparation.size.map(|side| side as usize)).max(1);
    let mut images_max = together;
    for some in chosen.chunks(together) {
        let outcomes = reconstruct(some, &preparation, engine.as_mut(), &mut images_max)?;
        for (found, outcome) in some.iter().zip(outcomes) {
            match outcome {
                Ok((input, output)) => {
                    let (psnr, ssim) = likeness(&input, &output);
                    rows.push(json!({"key": found.key, "psnr_db": psnr, "ssim": ssim}));
                    pairs.push((input, output));
                }
                Err(reject) => {
                    failed += 1;
                    let text = format!("failed: {}: {reject}", text::printable(&found.key));
                    let fields = json!({"key": found.key, "error": reject.message});
                    reporter.say("failure", &text, fields);
                }
            }
        }
    }
    if pairs.is_empty() {
        return Err(Error::invalid(format!(
            "{} couldn't be reconstructed; see above why",
            if failed == 1 { "the only image".into() } else { format!("all {failed} images") }
        )));
    }
    let sheet = contact_sheet::png(&contact_sheet::contact_sheet(&pairs)?)?;
    overwrite::write(&args.out, &overwrite::mark_png(&sheet), foreign)?;
    // Over those that have one: equal pictures have no PSNR, small ones no SSIM.
    let mean = |field: &str| {
        let values: Vec<f64> = rows.iter().filter_map(|row| row[field].as_f64()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (psnr, ssim) = (mean("psnr_db"), mean("ssim"));
    let alike = psnr.map_or("the same pixels".into(), |psnr| format!("PSNR {psnr:.2} dB"));
    let structure = ssim.map_or("no SSIM under 11 pixels".into(), |ssim| format!("SSIM {ssim:.4}"));
    reporter.result(
        "reconstructed",
        &format!(
            "{} on {}: {alike}, {structure}",
            counted(pairs.len(), "picture"),
            text::path(&args.out)
        ),
        json!({"images": rows, "psnr_db": psnr, "ssim": ssim, "failed": failed, "out": text::lossy(&args.out)}),
    );
    Ok(if failed > 0 { Finished::WithFailures } else { Finished::Clean })
}

/// Tokens are no images: whoever gives an output of vqtok means `decode`.
fn refuse_tokens(inputs: &[PathBuf]) -> Result<()> {
    let parquet = |path: &Path| path.is_file() && path.extension().is_some_and(|e| e == "parquet");
    match inputs.iter().find(|path| parquet(path) || sources::output(path).is_some()) {
        Some(path) => Err(Error::invalid(format!(
            "{}: it holds tokens, and images are reconstructed: `vqtok decode` turns tokens into \
             pictures, and checks that the model is theirs",
            text::path(path)
        ))),
        None => Ok(()),
    }
}

/// A picture and what the model makes of it.
type Pair = (RgbImage, RgbImage);

/// Some images in their order; those of one size go through the engine together.
fn reconstruct(
    some: &[SourceFile],
    preparation: &Preparation,
    engine: &mut dyn Engine,
    images_max: &mut usize,
) -> Result<Vec<Result<Pair, Reject>>> {
    let prepared: Vec<Result<Prepared, Reject>> =
        some.par_iter().map(|found| prepare::prepare(&found.uri, preparation)).collect();
    let mut outcomes: Vec<Option<Result<Pair, Reject>>> = some.iter().map(|_| None).collect();
    let mut sizes: BTreeMap<(usize, usize), Vec<(usize, Vec<u8>)>> = BTreeMap::new();
    for (index, prepared) in prepared.into_iter().enumerate() {
        let fits = prepared.and_then(|p| match engine.grid(p.height, p.width) {
            Ok(_) => Ok(p),
            Err(reason) => Err(Reject::new(Stage::Encode, reason)),
        });
        match fits {
            Ok(p) => sizes.entry((p.height, p.width)).or_default().push((index, p.pixels)),
            Err(reject) => outcomes[index] = Some(Err(reject)),
        }
    }
    for ((height, width), images) in sizes {
        let (indices, pixels): (Vec<usize>, Vec<Vec<u8>>) = images.into_iter().unzip();
        let (count, channels) = (indices.len(), preparation.channels);
        let batch = PixelBatch { pixels: pixels.concat(), count, height, width, channels };
        let codes = oom_split::encode(engine, &batch, images_max)?;
        let decoded = oom_split::decode(engine, &codes, images_max)?;
        for (place, &index) in indices.iter().enumerate() {
            let pair = common(to_rgb(&batch, place), to_rgb(&decoded.pictures, place));
            outcomes[index] = Some(Ok(pair));
        }
        // What failed before it was decoded failed there.
        for (stage, failed) in [(Stage::Decode, decoded.failed), (Stage::Encode, codes.failed)] {
            for (place, reason) in failed {
                outcomes[indices[place]] = Some(Err(Reject::new(stage, reason)));
            }
        }
    }
    // Each image was refused or went into the batch of its size.
    Ok(outcomes.into_iter().flatten().collect())
}

/// Both cut to the area they share, from the top left: where a size isn't whole tokens, a model
/// covers fewer pixels than there are, or more.
fn common(input: RgbImage, output: RgbImage) -> Pair {
    let width = input.width().min(output.width());
    let height = input.height().min(output.height());
    let cut = |image: RgbImage| image::imageops::crop_imm(&image, 0, 0, width, height).to_image();
    (cut(input), cut(output))
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

/// An image of a batch, grey spread over three channels.
pub(super) fn to_rgb(batch: &PixelBatch, index: usize) -> RgbImage {
    let pixels = batch.image(index);
    RgbImage::from_fn(batch.width as u32, batch.height as u32, |x, y| {
        let at = (y as usize * batch.width + x as usize) * batch.channels;
        match batch.channels {
            1 => image::Rgb([pixels[at]; 3]),
            _ => image::Rgb([pixels[at], pixels[at + 1], pixels[at + 2]]),
        }
    })
}
