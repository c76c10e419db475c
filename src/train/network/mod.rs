//! What is trained: the network, its parameters, their initial values and their optimizer. Must not
//! know: the loop.

pub mod autoencoder;
pub mod checkpointing;
pub mod optimizer;
pub mod parameters;
pub mod random;
