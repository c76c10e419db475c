//! Outputs: appended, compared, exported, read by others, on file systems good and bad.

#[path = "../support/mod.rs"]
mod support;

mod append;
mod append_refused;
mod diff;
mod export;
mod export_formats;
mod foreign_pieces;
mod large_damage;
mod large_outputs;
mod listed_buckets;
mod lost_and_told;
mod lost_pieces;
mod older_outputs;
mod pairs_of_damages;
mod plans;
#[cfg(target_os = "linux")]
mod poor_file_systems;
mod python_interop;
mod unrecorded_damage;
mod written_places;
