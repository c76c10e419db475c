//! Drives the reader of recipes with arbitrary bytes. Must not know: what a recipe says.

#![no_main]

#[path = "../../tests/support/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    drive::recipe(data);
});
