//! Owns lists of images: text, CSV, TSV, JSON Lines, JSON arrays, the metadata files of Hugging
//! Face's ImageFolder. Must not know: what an image holds.
//!
//! A list names image files, one a row, and may say more of them. It is read from its beginning to
//! its end, a row at a time, and never held; a row that can't be understood is an image that fails,
//! called by the list and the row: `list.csv:7`. Rows are counted as an editor counts lines, those
//! of a JSON array as its values, both from 1.

mod columns;
mod dialect;
mod elements;
mod folder;
mod input;
mod lines;
mod listing;
mod names;
mod place;
mod records;
mod row;
mod rows;
mod table;

pub(crate) use folder::{FolderMetadata, is_metadata, metadata_of};
pub(crate) use listing::list;
pub(crate) use rows::is_list;
pub(crate) use table::list_table;

#[cfg(test)]
mod tests;
