//! What is trained: the network, its parameters, their initial values and their optimizer. Must not
//! know: the loop.

pub(crate) mod autoencoder;
pub(crate) mod checkpointing;
mod in_place;
pub(crate) mod optimizer;
pub(crate) mod parameters;
pub(crate) mod random;
pub(crate) mod reductions;
