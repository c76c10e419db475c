//! vqtok turns image data sets into VQ token grids: it streams images through a trained VQGAN or
//! VQ-VAE encoder and writes tokens and codebook statistics to Parquet shards; where there is no
//! tokenizer yet, it trains one.
//!
//! # Tokenize a data set
//!
//! ```no_run
//! let mut tokenizer = vqtok::Tokenizer::open("model/")?;
//! let summary = vqtok::Tokenize::new(["photos/"], "tokens/").run(&mut tokenizer, &mut ())?;
//! println!("{} written, {} failed", summary.written, summary.failed);
//! # Ok::<(), vqtok::Error>(())
//! ```
//!
//! # Pictures to codes and back, in memory
//!
//! A model that trains in a blink, then codes without a file:
//!
//! ```
//! use vqtok::{RgbImage, Tokenizer, Train};
//!
//! # let dir = tempfile::tempdir()?;
//! # let (photos, model) = (dir.path().join("photos"), dir.path().join("model"));
//! # let recipe = dir.path().join("tiny.toml");
//! # std::fs::create_dir(&photos)?;
//! let picture = |shade: u8| RgbImage::from_fn(24, 20, |x, y| image::Rgb([shade, x as u8, y as u8]));
//! for shade in 0..8 {
//!     picture(32 * shade).save(photos.join(format!("{shade}.png")))?;
//! }
//! std::fs::write(&recipe, r#"
//!     name = "tiny"
//!     description = "4 steps of a VQ-VAE with 16 codes"
//!     model = { channels = 3, codes = 16, dim = 4, architecture = { kind = "vqvae", hidden = 8, downsamples = 2, res_blocks = 1, res_hidden = 4 } }
//!     data = { size = 16 }
//!     train = { steps = 4, batch_size = 4, codebook = { start_after = 1 } }
//! "#)?;
//! Train::new([&photos], &model).recipe(recipe.to_string_lossy().into_owned()).run(&mut ())?;
//!
//! let mut tokenizer = Tokenizer::open(&model)?;
//! let codes = tokenizer.encode(&[picture(1), picture(200)])?;
//! let grid = &codes[0].levels[0];
//! assert_eq!((grid.height, grid.width, grid.codes.len()), (4, 4, 16));
//! let pictures = tokenizer.decode(&codes)?;
//! assert_eq!(pictures[1].dimensions(), (16, 16));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Follow a job, and stop it
//!
//! Every job takes an [`Observer`]; `()` is one that hears nothing. A job that was stopped goes on
//! where it was, with byte-identical shards.
//!
//! ```no_run
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use vqtok::{Event, Observer, PipelineEvent, PixelSettings, Tokenize, TokenizerOptions};
//!
//! static STOP: AtomicBool = AtomicBool::new(false);
//!
//! struct Failures(u64);
//!
//! impl Observer for Failures {
//!     fn event(&mut self, event: &Event<'_>) {
//!         if let Event::Tokenizing(PipelineEvent::Image { failure: Some(row) }) = event {
//!             self.0 += 1;
//!             eprintln!("{}: {}", row.key, row.error);
//!         }
//!     }
//!
//!     fn interrupted(&self) -> bool {
//!         STOP.load(Ordering::Relaxed)
//!     }
//! }
//!
//! let pixels = PixelSettings::new().size(256);
//! let mut tokenizer = TokenizerOptions::new().pixels(pixels).open("vqgan_imagenet.ckpt")?;
//! let job = Tokenize::new(["train/", "val/"], "tokens/").shard_rows(10_000);
//! match job.run(&mut tokenizer, &mut Failures(0)) {
//!     Err(vqtok::Error::Interrupted) => eprintln!("stopped; the next run goes on"),
//!     done => println!("{} left to other workers", done?.missing),
//! }
//! # Ok::<(), vqtok::Error>(())
//! ```
//!
//! | what for | call |
//! |---|---|
//! | images to shards | [`Tokenize`], by a [`Tokenizer`]; its end, of several workers: [`finalize()`] |
//! | images that came later | [`Tokenize::append`] |
//! | single partitions, as a coordinator of many machines hands them out | [`Tokenize::write_plan`], [`PartitionWorker`] |
//! | what would be planned, and what has changed since | [`Survey`] |
//! | a model of one's own | [`Train`], by a [`Recipe`] |
//! | tokens to PNG files | [`Decode`] |
//! | tokens to what trainers read | [`Export`] |
//! | how well a model does | [`Reconstruct`]; several, over whole data sets: [`Evaluate`] |
//! | what is in it: duplicates, leaks, outliers | [`Audit`] |
//! | what two outputs have in common | [`Diff`] |
//! | is an output whole? | [`verify()`], then [`Repair`] |
//! | a published checkpoint, or one in ONNX files | [`TokenizerOptions`] |
//!
//! A job blocks its thread and computes on rayon's global pool; called from a thread of a pool, it
//! makes one of its own of the same size.
//!
//! What isn't named here can change with any version, public or not. Without default features
//! neither clap nor a progress bar is compiled.
//!
//! # Data flow
//!
//! ```text
//! Plan ---> Found ---> RGB, one size ---> PixelBatch ---> Encoded ---> TokenRow ---> shard ---> dataset
//! tokens::  data::     data::decode,      pipeline        engine::     pipeline      tokens::   tokens::
//! plan      source     data::resize                       Engine                     shard      finalize
//! ```
//!
//! `pipeline::run` is all of it: a reader thread walks the plan and hands files to a pool of
//! decoders, the engine's thread owns model and device, the calling thread writes. Bounded channels
//! join them. A decoder that exceeds its time limit is abandoned, and its image is recorded as a
//! failure. Failures go through the same ordered path as successes, so ordinals have no holes and
//! what a shard holds never depends on timing, threads, batch size or kills.
//!
//! # Where to find what
//!
//! | room | owns | must not know |
//! |---|---|---|
//! | `cli` | one file a command: parses, calls, prints; bars, JSON events | how anything works |
//! | `job` | this page: jobs with their builders, the tokenizer in memory | flags, who calls |
//! | `pipeline` | images to committed shards, on several threads | flags, where models come from |
//! | `config` | recipes: TOML to checked settings | I/O beyond the recipe file |
//! | `data` | inputs in order, bytes to oriented RGB, the reference resize rules, views | models |
//! | `engine` | inference behind one trait | files, shards |
//! | `train` | the training loop, codebook, losses, optimizer, exact resume | shards |
//! | `metrics` | PSNR, SSIM, use of codes | what is measured |
//! | `model` | the mathematics in candle, the configuration language of models | files, threads |
//! | `kernels` | the inner loops on the CPU, for each instruction set | models, threads |
//! | `nvidia` | errors of NVIDIA's libraries, cuDNN's graphs and which configurations may compute them | networks, memory |
//! | `weights` | a checkpoint's tensors where they lie, their digests | what they are for |
//! | `checkpoint` | published weights: containers, pickles, name maps, families | devices |
//! | `tokens` | plan, schemas, shards, the commit protocol, statistics | models |
//! | `audit` | reads and checks what was written, sharing no code with the writer | the writer |
//! | `findings` | what a data set holds, seen through its tokens: duplicates, leaks, outliers | models, who calls |
//! | `evaluate` | how alike images and reconstructions are, over whole data sets | models, where images come from |
//! | `export` | rows of tokens in the files that trainers read, read back and compared | models, who wrote the rows |
//! | `storage` | files by their addresses: the system's, object stores' | what files hold |
//! | `util` | numbers and messages as people read them, panics, file systems | rooms |
//! | `error` | [`Error`] ends a run, [`Reject`] costs one image | who raises them |
//!
//! Imports point one way: `cli -> job -> config, evaluate, export, findings -> audit, pipeline, train -> data, engine, tokens ->
//! checkpoint -> model -> metrics, weights -> kernels, nvidia, storage -> error, util`. A test holds them to it.
//!
//! Outside `src`: `pipelines/` holds complete recipes and the Python module, `schemas/` what is
//! written, `tests/` drives the binary as a user does, `benches/` measures and keeps its results,
//! peers beside them.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | latent | a vector that the encoder gives for one place of an image |
//! | code | an entry of the codebook, or its index; as part of an image's grid: a token |
//! | codebook | the vectors that latents are replaced by; also the statistics of its use |
//! | grid | the codes of an image in rows and columns, `height x width` |
//! | level | one grid of an image: resolutions of VQ-VAE-2, depths of a residual quantizer |
//! | factor | pixels a side that one token stands for |
//! | dead code | one that no latent is nearest to any more |
//! | perplexity | the exponential of the entropy of code use: as many codes seem to be in use |
//! | view | a part of an image, mirrored or not, that is a row of its own beside others |
//! | bucket | one of several sizes; an image goes to the one whose aspect ratio is nearest to its own |
//! | recipe | a TOML file: model, data, training, tokenizing |
//! | probe | fixed images that a training is judged by while it runs |
//! | family | a kind of published checkpoint, known by the names of its weights |
//! | identity | everything that the bytes of an output depend on, beside its images |
//! | container | a file that holds several images: a tar, a Parquet file, a zip |
//! | plan | the ordered list of input images, `plan.parquet` |
//! | append | to add images to an output: a plan of its own, `plan-00001.parquet`, with partitions behind those that are there |
//! | key | an image's path below its input: its name in the output |
//! | ordinal | an image's number in the plan |
//! | partition | a range of ordinals: the unit of work, of commits, and of sharing between workers |
//! | shard | the Parquet file of a partition's tokens |
//! | sidecar | a file beside a shard and named by its digest: failures, use of the codebook |
//! | commit | the exclusive step in which a shard appears under its final name |
//! | finalize | to merge the sidecars of all shards into `codebook.parquet` and `dataset.json` |
//! | class | a label that occurs in an output; its id is its place among the names that the plan records |
//! | failure | an image without tokens: a row that says why |
//!
//! # Invariants
//!
//! 1. planned = written + failed: asserted by the writer and, independently, by the audit.
//! 2. The same input, model and settings give byte-identical shards on one kind of device,
//!    whatever the threads, the batch size, the number of workers, how often the run was killed, or
//!    where its images were moved in between.
//! 3. A shard that can be seen is complete and correct.
//! 4. Bad input costs one row in `failures`, never the run; a bad checkpoint or setting is a clear
//!    error before any work.
//! 5. Memory does not grow with the data set.
//!
//! # Platforms
//!
//! Unix only, Linux and macOS: paths are bytes, and the commit protocol links, locks and syncs as
//! POSIX says.
//!
//! # Output
//!
//! ```text
//! out/
//!   plan.parquet                             ordinal, key, uri, bytes: the ordered input
//!   plan-00001.parquet                       the same of what was appended, if anything was
//!   tokens/part-00000.parquet                what everyone reads; tokens/*.parquet is always valid
//!   failures/part-00000-<hash>.parquet       images without tokens, and why
//!   codebook/part-00000-<hash>.parquet       code, count, distance sum of a shard
//!   codebook.parquet                         these, merged
//!   dataset.json                             identity, totals, shards with digests; written last
//! ```
//!
//! A partition is a range of ordinals of the plan; with buckets, of images of one of them. Its
//! sidecars are durable before its token shard appears under its final name, in one exclusive step:
//! that is the commit. Shards are of the schema that their plan says: `tokens.v2`, or `tokens.v1` in
//! outputs from before classes had ids. What is appended touches nothing that is there: `dataset.json` and
//! `codebook.parquet` describe the finished state before, until everything new is there too.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what is wrong with an input is an error that names it, never a panic"
)]
#![warn(unreachable_pub, reason = "the public interface is what this file re-exports")]
#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, unused_imports, reason = "the command line alone calls some of it")
)]
#![warn(clippy::wildcard_imports, reason = "a file says where its names come from")]

#[cfg(not(unix))]
compile_error!("vqtok runs on Unix only: Linux and macOS");

mod error;

mod util;

mod kernels;
mod nvidia;
mod storage;
mod weights;

mod checkpoint;
mod data;
mod engine;
mod metrics;
mod model;

mod audit;
mod tokens;
mod train;

mod config;
mod evaluate;
mod export;
mod findings;
mod pipeline;

mod job;

#[doc(hidden)]
pub mod internals;

#[cfg(feature = "cli")]
mod cli;

#[cfg(test)]
mod testing;

pub use error::{Error, Message, Reject, Result, Stage};
pub use job::{
    Appended, Audit, BucketCount, ChangedImages, Codes, DamageReport, DataLook, Decode,
    DecodeSummary, Diff, EngineChoice, Evaluate, Event, Export, Grid, InitFrom, InputChanges,
    Likeness, ListedShare, ModelIdentity, Observer, OtherGrid, OtherModel, PartitionToMake,
    PartitionWorker, Pass, PixelSettings, Planned, RankFrom, RecipeChoice, Reconstruct,
    ReconstructSummary, Repair, RepairSummary, Share, Suggest, Suggestion, Survey, SurveySummary,
    SurveyedImage, Tokenize, TokenizeSummary, Tokenizer, TokenizerOptions, Train, TrainPrecision,
    WrittenPlan, set_threads, verify,
};

pub use audit::{BadRows, Finding, Part, VerifyReport};
pub use checkpoint::onnx::OnnxSettings;
pub use config::{Recipe, TokenizeRecipe};
pub use data::resize::rules::ResizeRule;
pub use data::source::labels::LabelLevel;
pub use data::{Alpha, Buckets, Orientation, PillowVersion, Skipped, Views};
pub use engine::{DeviceChoice, EngineKind, Precision};
pub use export::{
    ExportSummary, Fields as ExportFields, Header as ExportHeader, LevelChoice, RowOrder, Splits,
    Target as ExportFormat,
};
pub use findings::{
    Below, CodePicture, CodePictures, Difference, Duplicates, Findings, Kind, Leak, LowInformation,
    Margins, Member, NotCompared, Outlier, PrecisionFindings, Reconstruction, Reconstructions,
    Remark, TokenPair,
};
pub use pipeline::{Event as PipelineEvent, OnError, Summary as PipelineSummary};
pub use tokens::finalize::finalize;
pub use tokens::{Commit, DatasetSummary, FailureRow, Receipt};
pub use train::{Evaluation, Event as TrainEvent, StepReport, TrainSummary};

/// What two outputs have in common: the parts of a [`Difference`].
pub mod difference {
    pub use crate::findings::diff::{
        ByShare, Images, LevelDifference, MendedImage, Place, SettingDifference, Sharing, Worst,
    };
}

/// The tables of a [`Recipe`].
pub mod recipe {
    pub use crate::config::{DataRecipe, Expected, ModelRecipe, QuantizerRecipe};
    pub use crate::data::BucketSizes;
    pub use crate::data::Limits;
    pub use crate::data::prepare::Preparation;
    pub use crate::model::config::*;
    pub use crate::train::settings::adversarial::*;
    pub use crate::train::settings::augment::*;
    pub use crate::train::settings::codebook::*;
    pub use crate::train::settings::monitor::*;
    pub use crate::train::settings::perceptual::*;
    pub use crate::train::settings::training::*;
}

/// What an [`Audit`] finds: the parts of its [`Findings`].
pub mod found {
    pub use crate::audit::report::{
        AuditReport, BitsReport, ErrorReport, FailureReport, LabelReport, LevelReport,
    };
    pub use crate::findings::{
        BitUse, Codebook, Drift, FailuresFound, Listed, OddImage, Places, Sizes, Unreadable,
    };
}

/// What an [`Evaluate`] finds.
pub mod evaluation {
    pub use crate::evaluate::figures::{
        EvaluationReport, GroupFigures, ImageFigures, LevelFigures, Means, ModelFigures, WorstImage,
    };
}

/// What `dataset.json` says: the parts of a [`DatasetSummary`].
pub mod dataset {
    pub use crate::tokens::LevelLayout;
    pub use crate::tokens::dataset::{
        AppendedSummary, CodebookSummary, FileSummary, LevelSummary, PartSummary, PlanSummary,
        ShardSummary, Totals,
    };
    pub use crate::tokens::identity::{Identity, Preprocessing, TokenizerId};
}

pub use audit::sources::{Foreign as ForeignFile, Missing as MissingShards, Sources};
pub use data::source::labels::LabelLayout;
pub use metrics::LevelUse;
pub use model::config::PixelLayout;
pub use train::trainer::monitor::ProbeEvaluation;
pub use train::trainer::step_report::AdversarialReport;

/// The type of pictures in memory.
pub use image::RgbImage;
