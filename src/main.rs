//! vqtok binary
fn main() {}
