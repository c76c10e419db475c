//! WebDataset tars, plain and compressed: their samples, and how their images are read. Must not
//! know: what an image holds.
//!
//! Samples are those of the `webdataset` package (1.0.2): a member's name up to the first dot of its
//! last part is the key, the rest is the field, and members of one key that stand side by side are
//! one sample. Unlike there, nothing that is damaged is lost without a word, and several images none
//! of whose fields is an extension alone (`frame.0000.png`) are samples of their own.

mod facts;
mod header;
mod listing;
mod member;
mod name;
mod notes;
mod pax;
mod read;
mod sample;
mod sparse;
mod stream;
mod unpack;
mod walker;

pub(crate) use header::{first_name, is_tar};
pub(crate) use listing::list;
pub(crate) use read::{TarReader, TarStream};
pub(crate) use stream::holds_tar;
pub(crate) use unpack::{Compression, compression, unpack};

#[cfg(test)]
mod tests;
