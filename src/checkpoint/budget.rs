//! Owns the limit on what one reading may allocate.

/// What a reading may still allocate, in bytes, over all copies it makes.
#[derive(Debug)]
pub(crate) struct Budget(pub usize);

impl Budget {
    /// Takes `bytes` before they are allocated.
    ///
    /// # Errors
    /// Where fewer are left.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.0 = self.0.checked_sub(bytes).ok_or(
            "its content is many times larger than the file; nothing published is like that",
        )?;
        Ok(())
    }
}
