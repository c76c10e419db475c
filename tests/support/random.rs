//! Owns chance that repeats: a small generator for damage, and how many rounds of it a test makes.
//! Must not know: what is damaged.

/// xorshift64: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to below `n`; 0 where there is no such number.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// `VQTOK_FAULT_ROUNDS`, else what a usual run of the tests has time for.
pub fn rounds(usual: usize) -> usize {
    std::env::var("VQTOK_FAULT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
