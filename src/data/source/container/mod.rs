//! Files that hold many images: what is listed of them, and how their images are read. Must not know:
//! which inputs hold them, what an image holds.

mod digest;
pub(crate) mod fields;
pub(crate) mod listing;
pub(crate) mod odd;
pub(crate) mod open;
pub(crate) mod parquet_table;
mod shared;
mod spool;
pub(crate) mod tar;
pub(crate) mod zip;
