//! Owns a network as the CPU engine runs it: `builder` makes the list of `steps` of a network's
//! layers, `bind` fits it to an image size, `run` runs it. Must not know: which networks there are.

mod bind;
pub(super) mod builder;
mod run;
mod steps;
mod tokens;

pub(super) use bind::BoundGraph;
pub(super) use run::Arena;
pub(super) use steps::Graph;
