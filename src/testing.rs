//! Owns what unit tests share: finding the reference data beside the checkout, reading npz files.
//! Must not know: anything of the product.

use std::path::PathBuf;

/// A path under `../shared`, or None after saying so on stderr.
///
/// # Panics
/// Where the data is missing and `VQTOK_REQUIRE_SHARED=1`, as CI sets it.
pub fn shared(path: &str) -> Option<PathBuf> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if full.exists() {
        return Some(full);
    }
    if std::env::var("VQTOK_REQUIRE_SHARED").is_ok_and(|v| v == "1") {
        panic!("VQTOK_REQUIRE_SHARED=1 but ../shared/{path} is not there");
    }
    eprintln!("skipped: ../shared is not there ({path})");
    None
}
