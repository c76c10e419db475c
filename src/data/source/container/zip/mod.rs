//! Owns zip archives as sources of images. Must not know: what an image holds.
//!
//! A reader of our own, since the `zip` crate holds the whole directory, at several hundred bytes a
//! member, to read a single one. Here an image's [`Part`](crate::data::source::image::Part) is the
//! position of its line in the directory, which says all that reading it takes: sizes, method, sum,
//! where its content lies. Reading one is three small reads and the content, however many members
//! there are. Listing goes over the directory twice: to learn which names stand in it, and to give
//! images with what stands beside them. It keeps about 100 bytes a member.
//!
//! Where the format leaves room, Python's `zipfile` decides, which most archives of images were made
//! with or are read with elsewhere: names without the UTF-8 flag are cp437, of two members of a name
//! the last one counts, what lies before the archive is passed over.

mod bytes;
mod content;
mod directory;
mod entry;
mod index;
mod kind;
mod listing;
mod method;
mod name;
mod read;

pub(crate) use directory::{digest, is_zip};
pub(crate) use listing::list;
pub(crate) use read::ZipReader;

#[cfg(test)]
mod tests;
