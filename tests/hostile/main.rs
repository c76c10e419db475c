//! Files that were made to break a reader.

#[path = "../support/mod.rs"]
mod support;

mod containers;
mod files;
mod images;
mod names;
