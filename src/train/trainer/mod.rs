//! One step of training and all that it changes. Must not know: files, threads, where batches come
//! from.
//!
//! | file | owns |
//! |---|---|
//! | `trainer` | everything that a step changes |
//! | `step`, `step_report` | the step; what it reports |
//! | `codes` | start, learning and revival of the codes |
//! | `monitor`, `probe` | what a training notices about itself; the images that it is noticed on |
//! | `skips` | steps that are not finite |
//! | `cost`, `timing` | time and memory beforehand |
//! | `state` | the checkpoint |

mod codes;
pub(crate) mod cost;
pub(crate) mod monitor;
mod probe;
pub(crate) mod skips;
pub(crate) mod state;
pub(crate) mod step;
pub(crate) mod step_report;
pub(crate) mod timing;
#[allow(clippy::module_inception, reason = "the room is named by what is in its main file")]
mod trainer;

pub use trainer::Trainer;
