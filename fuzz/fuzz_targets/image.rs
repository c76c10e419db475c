//! Drives the way from an image file to pixels with arbitrary bytes. Must not know: formats.

#![no_main]

#[path = "../../tests/support/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    drive::image(data);
});
