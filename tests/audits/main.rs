//! Audits and their pages.

#[path = "../support/mod.rs"]
mod support;

mod against;
mod content;
mod contract;
mod findings;
mod keys;
mod lost_failures;
mod model;
mod page;
