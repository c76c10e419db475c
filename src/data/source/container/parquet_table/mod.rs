//! Image data sets in Parquet: those of Hugging Face, img2dataset's, and tables made of webdatasets.
//! Must not know: which inputs hold them, what an image holds.
//!
//! A column's pages are read one after the other, at most one at a time, by their Parquet types
//! alone: what Arrow would call the column plays no part. Planning reads the columns that stand
//! beside the images, and of lists of images the leaf that is cheapest.
//!
//! | taken for | where no setting names a column |
//! |---|---|
//! | image | what `huggingface` metadata calls `Image`; else a struct with binary `bytes`; else binary `image`, `img`, `jpg`, `jpeg`, `png`, `webp`, `images`, `image_bytes`, `bytes`, `content`; else `NAME.bytes` |
//! | key | `__key__`, `key`; else the file's name without `.parquet`, `/`, the row's number |
//! | label | `label`, `labels`, `cls`, `class`, `class_name`, `fine_label` |
//! | caption | `caption`, `text`, `txt`, `prompt`, `TEXT`, `description` |
//! | meta_json | `json`, and what is passed |
//!
//! Folders called `NAME=VALUE` are columns of every file in them.

mod delta;
mod detect;
mod facts;
mod features;
mod hive;
mod json;
mod kind;
mod leaf;
mod listing;
mod pages;
mod read;
mod side;
mod table;
mod text_rows;
mod tree;

pub(crate) use kind::{TableKind, is_parquet, kind, why_none};
pub(crate) use listing::list;
pub(crate) use read::TableReader;
pub(crate) use table::digest;
pub(crate) use text_rows::{TextRows, text_columns, text_rows};

#[cfg(test)]
mod tests;
