//! Owns pictures of tokens, and who makes them. Must not know: how.

use crate::audit::Grid;
use crate::error::Result;

/// 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// `height * width * 3` bytes: red, green, blue, row-major.
    pub rgb: Vec<u8>,
}

/// What makes pictures of tokens: a model's decoder, or something cheaper.
pub(crate) trait Draw {
    /// K of each level's codebook.
    fn codes(&self) -> u64;

    /// The picture of each row, whose levels are given; None where one can't be made.
    ///
    /// # Errors
    /// Those of a device.
    fn draw(&mut self, rows: &[&[Grid]]) -> Result<Vec<Option<Picture>>>;
}
