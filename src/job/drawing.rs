//! Owns a decoder as what makes pictures of tokens. Must not know: what the pictures are for.

use super::codes::{Codes, Grid};
use super::tokenizer::Tokenizer;
use crate::audit;
use crate::error::Result;
use crate::findings::{Draw, Picture};

/// A model with a decoder.
pub(super) struct Drawing<'a> {
    pub(super) tokenizer: &'a mut Tokenizer,
}

impl Draw for Drawing<'_> {
    fn codes(&self) -> u64 {
        self.tokenizer.engine.config().quantizer.codes as u64
    }

    fn draw(&mut self, rows: &[&[audit::Grid]]) -> Result<Vec<Option<Picture>>> {
        let grid = |grid: &audit::Grid| Grid {
            codes: grid.codes.clone(),
            distances: Vec::new(),
            height: grid.height,
            width: grid.width,
        };
        let codes: Vec<Codes> =
            rows.iter().map(|levels| Codes { levels: levels.iter().map(grid).collect() }).collect();
        let pictures = self.tokenizer.decode_each(&codes)?.into_iter().map(|picture| {
            let picture = picture.ok()?;
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            Some(Picture { width, height, rgb: picture.into_raw() })
        });
        Ok(pictures.collect())
    }
}
