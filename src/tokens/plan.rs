//! Owns the plans of an output: the ordered input of a data set, written once, one row group to a
//! partition. Must not know: where the rows come from, what becomes of them.

mod anew;
mod broken;
mod changed;
mod columns;
mod compare;
mod containers;
mod file;
mod footer;
mod hasher;
mod hold;
mod layout;
mod merged;
mod partitions;
mod pieces;
mod places;
mod plans;
mod root;
mod rows;
mod spool;
mod unrooted;
mod write;
mod written;

pub(crate) use anew::sha256_anew;
pub(crate) use changed::ChangedContainers;
pub(crate) use compare::difference_of_one;
pub use containers::{Container, ContainerFile, Today};
pub(super) use file::number_of;
pub(crate) use file::{Base, FILE, PlanFile, name};
pub use hold::Held;
pub use plans::Plan;
pub(super) use plans::{base, base_of_second};
pub(super) use unrooted::{Unrooted, parts};
pub(super) use write::{About, write};
pub(super) use written::Written;

#[cfg(test)]
mod tests;
