//! Puts arbitrary bytes in the place of a finished output's plan, and reads and verifies it.
//! Must not know: Parquet.

#![no_main]

#[path = "../../tests/support/drive.rs"]
mod drive;
#[path = "../../tests/support/outputs.rs"]
mod outputs;

use std::sync::LazyLock;

/// One output a process.
static OUTPUT: LazyLock<drive::Output> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("vqtok-fuzz-plan-{}", std::process::id()));
    outputs::job(&dir, 25, 10).expect("an output to start from");
    drive::Output::at(&dir)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    OUTPUT.plan(data);
});
