//! vqtok turns image data sets into VQ token grids: images in, Parquet shards of tokens and
//! codebook statistics out, with a trainer for when there is no tokenizer yet.
//!
//! # The way of the data
//!
//! ```text
//! Plan ---> Found ---> RGB, one size ---> PixelBatch ---> Encoded ---> TokenRow ---> shard ---> dataset
//! tokens::  data::     data::decode,      pipeline        engine::     pipeline      tokens::   tokens::
//! plan      source     data::resize                       Engine                     shard      finalize
//! ```
//!
//! [`pipeline::run`] is all of it: a reader thread walks the plan and hands files to a pool of
//! decoders, the engine's thread owns model and device, the calling thread writes. Bounded channels
//! join them. A decoder that hangs is given up after minutes and costs its image. An image that fails takes the same way as one that succeeds, so ordinals have no
//! holes and what a shard holds never depends on timing, threads, batch size or kills.
//!
//! # Where to find what
//!
//! | room | owns | must not know |
//! |---|---|---|
//! | [`cli`] | one file a command: parses, calls, prints | how anything works |
//! | [`pipeline`] | the main job | flags |
//! | [`config`] | recipes: TOML and flags to checked settings | I/O beyond the recipe file |
//! | [`data`] | inputs in order, bytes to oriented RGB, the reference resize rules | models |
//! | [`engine`] | inference behind one trait | files, shards |
//! | [`model`] | the mathematics in candle, the configuration language of models | files, threads |
//! | [`checkpoint`] | published weights: containers, pickles, name maps, families | devices |
//! | [`train`] | the training loop, codebook, optimizer, exact resume | shards |
//! | [`tokens`] | plan, schemas, shards, the commit protocol, statistics | models |
//! | [`audit`] | reads and checks what was written, sharing no code with the writer | the writer |
//! | [`error`] | [`Error`] ends a run, [`Reject`] costs one image | who raises them |
//! | `console`, `words`, `messages` | stdout and stderr, numbers and messages as people read them | what is told |
//! | `guard`, `failpoint` | panics: one line and exit code 70, and tests that cause them | where they happen |
//! | `durable` | what file systems refuse, and what is done instead | what the files mean |
//!
//! Imports point one way: `cli -> pipeline, train, audit -> data, engine, tokens -> model,
//! checkpoint -> error`.
//!
//! Outside `src`: `pipelines/` holds complete recipes, `schemas/` what is written, `tests/` drives
//! the binary as a user does, `benches/` measures and keeps its results, peers beside them.
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
//!   tokens/part-00000.parquet                what everyone reads; tokens/*.parquet is always valid
//!   failures/part-00000-<hash>.parquet       images without tokens, and why
//!   codebook/part-00000-<hash>.parquet       code, count, distance sum of a shard
//!   codebook.parquet                         the sum of these
//!   dataset.json                             identity, totals, shards with digests; written last
//! ```
//!
//! A partition is a range of ordinals of the plan. Its sidecars are durable before its token
//! shard appears under its final name, in one exclusive step: that is the commit.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what is wrong with an input is an error that names it, never a panic"
)]
#![warn(clippy::wildcard_imports, reason = "a file says where its names come from")]

#[cfg(not(unix))]
compile_error!("vqtok runs on Unix only: Linux and macOS");

pub mod error;

#[doc(hidden)]
pub mod util;
#[doc(hidden)]
pub mod weights;

#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod model;

#[doc(hidden)]
pub mod audit;
#[doc(hidden)]
pub mod tokens;
#[doc(hidden)]
pub mod train;

#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod pipeline;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

#[cfg(test)]
mod testing;

pub use error::{Error, Reject, Result};
