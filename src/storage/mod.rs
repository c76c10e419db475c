//! Owns files by their addresses: paths of the system, and places in object stores and on the web
//! (`s3://bucket/key`), which stand as paths too. Everybody who may be given either goes through
//! here. Must not know: what files hold.
//!
//! | address | what it is | how it's reached |
//! |---|---|---|
//! | a path | a file or folder of the system | as the system does |
//! | `s3://`, `gs://`, `az://` | an object, or all objects below a prefix | by the feature `stores` |
//! | `https://`, `http://` | one file, for reading | by the feature `stores` |
//!
//! Stores know no folders: one is there when an object lies below it. They can't be locked, and a
//! name is given once by conditional creation ([`create`]), which [`probe`] makes sure of.

mod address;
mod bytes_at;
mod chunks;
mod coming;
mod facts;
mod files;
mod long_paths;
mod model_cache;
mod outage;
#[cfg(any(feature = "stores", test))]
mod remote_file;
#[cfg(feature = "stores")]
mod store;
mod stores;

pub(crate) use address::{
    REACHES_STORES, absolute, is_on_the_web, is_remote, same_or_below, unknown_scheme,
    without_steps_up,
};
#[cfg(test)]
pub(crate) use bytes_at::Memory;
pub(crate) use bytes_at::{BytesAt, Cursor, LocalFile, open_without_waiting};
pub(crate) use chunks::Chunks;
pub(crate) use coming::Coming;
pub(crate) use facts::{Entry, Facts, Odd};
pub(crate) use files::{
    Created, arrived_head, begin, begin_head, create, exists, facts, list, list_all, open, probe,
    put, read, read_head, read_to_string, remove,
};
pub(crate) use long_paths::reach;
pub(crate) use model_cache::local_copy;
pub(crate) use outage::{complete, opening, resumable, watching};
