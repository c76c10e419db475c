//! The `export` room: rows of tokens into the files that trainers read. [`run`](run::run) is all of it:
//! the rows are read in order, made into the bytes of a format on all threads, and appended by one
//! writer a split. Whatever is written is read back by code of its own before it gets its name.
//! Must not know: the writer of tokens beyond its commits, models, flags.
//!
//! ```text
//! Source ---> Index ---> rows in order ---> Encoded ---> part ---> check ---> its name ---> Journal
//! source      index      order              formats      part      check      commit        journal
//! ```
//!
//! # Adding a format
//! A variant of [`Target`](target::Target), a file in `formats/` that implements
//! [`Format`](format::Format), and a reader in `check/` that shares no code with it; a golden file of
//! the real writer; the README's list.

mod check;
mod events;
mod fields;
mod format;
mod formats;
mod ids;
mod index;
mod journal;
mod json;
mod labels;
mod npy;
mod order;
mod part;
mod row;
mod run;
mod settings;
mod shuffle;
mod source;
mod split;
mod tar;
mod target;
#[cfg(test)]
mod testing;
mod torch;
mod whole;
mod write;

pub(crate) use events::{Event, Observer};
pub use fields::Fields;
pub use run::ExportSummary;
pub(crate) use run::run;
pub(crate) use settings::Settings;
pub use settings::{Header, LevelChoice, RowOrder};
pub use split::Splits;
pub use target::Target;
