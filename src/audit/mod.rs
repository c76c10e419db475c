//! Owns reading what was written, by us or by anybody: grids for `decode`, and the proof that an
//! output is whole. Must not know: the writer. Nothing here imports `tokens`; what both sides must
//! agree on stands in `schemas/`, and is read here as it was written down, not as it was coded.

mod changed;
mod classes;
mod code_counts;
mod columns;
mod counts;
mod crops;
mod dataset;
mod description;
mod difference;
mod error_counts;
mod facts;
pub(crate) mod failures;
mod flat;
mod folders;
mod hex;
mod image_facts;
mod int_lists;
pub(crate) mod integers;
mod keys;
mod label_counts;
mod level_codes;
mod level_size;
mod levels;
mod looked;
mod nested;
mod origin;
pub(crate) mod parquet_file;
mod partition;
pub(crate) mod patterns;
mod plan;
mod plan_files;
mod plan_rows;
mod plans;
pub(crate) mod read;
pub mod report;
mod row_check;
mod rows;
pub(crate) mod sources;
mod strays;
pub(crate) mod verify;

pub use facts::{Finding, Part, VerifyReport};
pub use read::TokenFile;
pub(crate) use read::{Asked, Beside, Grid, GridRow, MadeBy};
pub use report::report;
pub use rows::BadRows;
pub(crate) use strays::of_finished as strays_of_finished;
pub(crate) use verify::verify;
