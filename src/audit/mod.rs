//! Owns reading what was written, by us or by anybody: grids for `decode`, and the proof that an
//! output is whole. Must not know: the writer. Nothing here imports `tokens`; what both sides must
//! agree on stands in `schemas/`, and is read here as it was written down, not as it was coded.

pub mod integers;
pub mod read;
pub mod sheet;

pub use read::{Grid, GridRow, TokenFile};
