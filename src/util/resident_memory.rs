//! Owns how much memory this process has taken.

/// Bytes of it that are in memory now; None where the system doesn't say.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: the call reads a number of the system's and takes none of our memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_touched_is_resident() {
        let before = resident_bytes().unwrap();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        let grown = resident_bytes().unwrap().saturating_sub(before);
        // Other tests of this process come and go.
        assert!(before > 1 << 20 && grown > 32 << 20, "{before} and {grown} more");
        drop(touched);
    }
}
