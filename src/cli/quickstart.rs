//! Owns `vqtok quickstart`: the whole tour without a file of the user's.

use super::common::{CheckpointFlags, Common, PixelFlags};
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::reconstruct;
use super::signals::stop_flag;
use crate::data::synthetic;
use crate::error::Result;
use crate::job::{Reconstruct, Tokenize, Train};
use crate::util::text;
use serde_json::json;
use std::path::{Path, PathBuf};

/// The recipe that the tour trains with.
const RECIPE: &str = "quickstart";
/// 8 motifs times this many pictures.
const PICTURES_PER_MOTIF: u32 = 64;
/// Side of a picture, in pixels.
const SIDE: u32 = 64;

/// Flags of `vqtok quickstart`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder for everything that the tour makes
    #[arg(long, value_name = "DIR", default_value = "vqtok-quickstart")]
    out: PathBuf,
    /// Seed of the pictures
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let [images, model, tokens, sheet] =
        ["images", "model", "tokens", "reconstructions.png"].map(|name| args.out.join(name));
    let text = format!("drawing {} pictures in {}", PICTURES_PER_MOTIF * 8, text::path(&images));
    reporter.say(
        "pictures",
        &text,
        json!({"folder": text::lossy(&images), "pictures": PICTURES_PER_MOTIF * 8}),
    );
    synthetic::draw(&images, PICTURES_PER_MOTIF, SIDE, args.seed)?;

    args.common.start_threads()?;
    let options = args.common.options(&CheckpointFlags::default(), &PixelFlags::default())?;
    options.check_device()?;
    let mut job = Tokenize::new([&images], &tokens);
    job.check(&model)?;
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    let training = Train::new([&images], &model).recipe(RECIPE);
    job.ensure_model(&training, &options, &mut printer)?;
    let summary = job.run(&mut options.open(&model)?, &mut printer)?;
    printer.output(&tokens, &summary);
    let job = Reconstruct::new([&images], &sheet).count(32);
    let drawn = reconstruct::draw(&job, &model, &options, &sheet, reporter)?;
    let places = json!({"images": text::lossy(&images), "model": text::lossy(&model),
                       "tokens": text::lossy(&tokens), "sheet": text::lossy(&sheet)});
    reporter.result("quickstart", &next_steps(&images, &model, &tokens, &sheet), places);
    Ok(if summary.is_clean() { drawn } else { Finished::WithFailures })
}

fn next_steps(images: &Path, model: &Path, tokens: &Path, sheet: &Path) -> String {
    let [images, model, tokens, sheet] = [images, model, tokens, sheet].map(text::path);
    format!(
        "
Everything is there:
  pictures         {images}
  tokenizer        {model}   (how it was trained: {model}/training.html)
  token shards     {tokens}/tokens/*.parquet
  reconstructions  {sheet}   (inputs above what {tokens} remembers of them)

Next:
  vqtok inspect {tokens}
  vqtok decode {tokens} --model {model} --out decoded
  vqtok tokenize YOUR_IMAGES --out YOUR_TOKENS --model YOUR_MODEL   (trains YOUR_MODEL if it isn't there)
  python -c \"import pyarrow.parquet as pq; print(pq.read_table('{tokens}/tokens').schema)\"
"
    )
}
