//! Owns the plans of an output: the ordered input of a data set, written once, one row group to a
//! partition. Must not know: where the rows come from, what becomes of them.

mod broken;
mod changed;
mod compare;
mod containers;
mod file;
mod hasher;
mod hold;
mod layout;
mod merged;
mod partitions;
mod plans;
mod rows;
mod spool;
mod write;

pub(crate) use changed::ChangedContainers;
pub(crate) use compare::difference_of_one;
pub use containers::{Container, ContainerFile, Today};
pub(super) use file::number_of;
pub(crate) use file::{Base, FILE, PlanFile, name};
pub use hold::Held;
pub use plans::Plan;
pub(super) use plans::{base, base_of_second};
pub(super) use write::{About, write};

#[cfg(test)]
mod tests;
