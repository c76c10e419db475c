//! How the commands show jobs: each event as a line, a bar or a JSON object.
//! Must not know: how jobs are done.

mod decoding;
mod progress_printer;
mod tokenizing;
mod training;

pub(super) use progress_printer::{ProgressPrinter, skipped_fields};
pub(super) use tokenizing::{commit_word, unplanned_in_words};
