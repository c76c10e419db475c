//! The `job` room: what another program calls, and the command line is one. A job is made by its
//! builder and run with an [`Observer`]; a [`Tokenizer`] turns pictures into codes and back in
//! memory. Must not know: who calls, how results are shown.

mod codes;
mod decode;
mod decode_rows;
mod ensure_model;
mod events;
mod inputs;
mod picture_names;
mod pixels;
pub(crate) mod places;
mod plan;
mod reconstruct;
mod repair;
mod resume;
mod same_model;
mod share;
mod threads;
mod tokenize;
mod tokenizer;
mod train;

pub use codes::{Codes, Grid};
pub use decode::{Decode, DecodeSummary};
pub use decode_rows::OtherGrid;
pub use events::{Event, Observer};
pub use pixels::PixelSettings;
pub use plan::Planned;
pub use reconstruct::{Likeness, Reconstruct, ReconstructSummary};
pub use repair::{DamageReport, Repair, RepairSummary};
pub use same_model::{ModelIdentity, OtherModel};
pub use share::{RankFrom, Share};
pub use threads::set_threads;
pub use tokenize::{Pass, Tokenize, TokenizeSummary};
pub use tokenizer::{Tokenizer, TokenizerOptions};
pub use train::{InitFrom, Train};

pub(crate) use inputs::Inputs;
pub(crate) use tokenizer::refuse_unfinished;
