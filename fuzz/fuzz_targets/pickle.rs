//! Drives the readers of checkpoints with arbitrary bytes. Must not know: what they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vqtok::internals::checkpoint::probe(data);
});
