//! Owns where a user's copies and findings are kept that can be had again.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/vqtok`, or where that isn't set `~/.cache/vqtok`; None where there is neither.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Some(folder?.join("vqtok"))
}
