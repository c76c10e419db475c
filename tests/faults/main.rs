//! Kills, full disks, reads and writes that fail.

#[path = "../support/mod.rs"]
mod support;

mod disk_full;
mod internal_errors;
mod io_faults;
mod kill_sources;
mod kill_tokenize;
mod kill_train;
mod train_faults;
