//! The `cli` room: the command line. One file a command: each parses, calls a job, prints.
//! Must not know: how anything works.

mod again;
mod audit;
mod audit_sample;
mod command;
mod common;
mod completions;
mod console;
mod convert;
mod decode;
mod diff;
mod entry;
mod evaluate;
mod export;
mod finalize;
mod flags;
mod inputs;
mod inspect;
mod man;
mod onnx;
mod outcome;
mod plan;
mod printer;
mod progress;
mod quantities;
mod quickstart;
mod recipe;
mod reconstruct;
mod repair;
mod report;
mod signals;
mod tokenize;
mod train;
mod verify;
mod worker;

pub use entry::{command_line, main};
