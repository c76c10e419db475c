//! Object stores and the web, served by moto.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod inputs;
mod outputs;
