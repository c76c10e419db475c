//! What every room needs and no room owns: text for people, panics, threads, files. Must not know:
//! images, models, shards.

pub(crate) mod atomic_file;
pub(crate) mod cache_folder;
pub(crate) mod charts;
pub(crate) mod compute_pool;
pub(crate) mod error_text;
pub(crate) mod fail_point;
pub(crate) mod float_bits;
pub(crate) mod hex;
pub(crate) mod html;
pub(crate) mod json_diff;
pub(crate) mod label_level;
pub(crate) mod nameless_file;
pub(crate) mod numbers;
pub(crate) mod output_file;
pub(crate) mod overwrite;
pub(crate) mod pair;
pub(crate) mod panics;
pub(crate) mod parquet_errors;
pub(crate) mod parquet_guard;
pub(crate) mod portable_fs;
pub(crate) mod random;
pub(crate) mod regular_file;
pub(crate) mod resident_memory;
pub(crate) mod scale;
pub(crate) mod secrets;
pub(crate) mod settings;
pub(crate) mod text;
pub(crate) mod unique_json;
pub(crate) mod worker_pool;
