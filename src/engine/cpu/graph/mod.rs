//! Owns a network as the CPU engine runs it: `builder` makes the list of `steps` of a network's
//! layers, `bind` fits it to an image size, `run` runs it. Must not know: which networks there are.

mod bind;
pub mod builder;
mod run;
mod steps;

pub use bind::BoundGraph;
pub use run::Arena;
pub use steps::Graph;
