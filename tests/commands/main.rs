//! The command line, the library's door, launchers and workers.

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod door;
mod door_errors;
mod environment;
mod evaluate;
mod finished_trainings;
mod launch;
mod output_streams;
#[cfg(target_os = "linux")]
mod progress_bars;
mod settings_audit;
mod settings_outputs;
mod settings_tokenizing;
mod settings_training;
mod shells;
mod train_budget;
mod trainings;
mod worker;
