//! Lists arbitrary bytes as a tar, a Parquet file, a zip or a list, as the first byte says, and reads
//! what it holds. Must not know: any of the formats.

#![no_main]

#[path = "../../tests/support/drive.rs"]
mod drive;

use std::path::PathBuf;
use std::sync::LazyLock;

const NAMES: [&str; 6] = ["x.tar", "x.parquet", "x.zip", "x.csv", "x.jsonl", "x.json"];

/// One folder a process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("vqtok-fuzz-container-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder of our own");
    dir
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((which, bytes)) = data.split_first() {
        drive::container(&FOLDER, NAMES[usize::from(*which) % NAMES.len()], bytes);
    }
});
