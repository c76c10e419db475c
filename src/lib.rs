//! vqtok: image data sets to VQ token grids.

pub mod error;
mod guard;

pub mod checkpoint;
pub mod data;
pub mod engine;
pub mod model;

pub mod audit;
pub mod tokens;
pub mod train;

pub mod config;
pub mod pipeline;
pub mod progress;

pub mod cli;

#[cfg(test)]
mod testing;

pub use error::{Error, Reject, Result};
