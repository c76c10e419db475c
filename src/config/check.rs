//! Owns what a recipe's settings may be, as far as types don't say it already.

use super::recipe::Recipe;
use crate::data::resize::rules::ResizeRule;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, DEPTH_MAX};
use crate::train::refuse_ineffective;
use crate::train::settings::BATCH_SIZE_MAX;
use crate::util::{numbers, text};

impl Recipe {
    /// Checks what types can't: sizes that fit the network, counts above zero.
    ///
    /// # Errors
    /// The first impossible setting, in one line.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::invalid(text));
        if self.name.trim().is_empty() || self.name.contains(text::is_steering) {
            return wrong("name is a recipe's name, on one line of plain text".into());
        }
        if !matches!(self.model.channels, 1 | 3) {
            return wrong(format!(
                "model.channels is {}: 1 (grey) or 3 (RGB)",
                self.model.channels
            ));
        }
        if self.data.resize.varies() {
            return wrong(format!(
                "data.resize is {}: training needs one size for all images",
                self.data.resize
            ));
        }
        self.data.resize.check(self.data.pillow)?;
        if self.data.resize == ResizeRule::Pad && self.train.augment.crop.is_some() {
            return wrong("train.augment.crop doesn't go with data.resize = \"pad\"".into());
        }
        if self.tokenize.batch_size == Some(0) || self.tokenize.shard_rows == 0 {
            return wrong("tokenize.batch_size and tokenize.shard_rows must be at least 1".into());
        }
        self.check_expected()?;
        self.check_bounds()?;
        let model = self.model_config();
        self.train.check(&model)?;
        refuse_ineffective(&self.train, &model)
    }

    /// Refuses figures that no run gives.
    fn check_expected(&self) -> Result<()> {
        let Some(run) = &self.expected else { return Ok(()) };
        let figures = [("psnr", run.psnr), ("usage", run.usage), ("cpu_seconds", run.cpu_seconds)];
        match figures.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            None => Ok(()),
            Some((name, value)) => Err(Error::invalid(format!(
                "expected.{name} is {}; it must be a finite number from 0 on",
                numbers::number(*value)
            ))),
        }
    }

    /// Refuses sizes far beyond any tokenizer, before anything of such a size is allocated.
    fn check_bounds(&self) -> Result<()> {
        const WIDTH_MAX: usize = 1 << 13;
        const BLOCKS_MAX: usize = 1 << 10;
        const CODEBOOK_VALUES_MAX: usize = 1 << 30;
        let mut sizes = vec![
            ("model.codes", self.model.codes, 1 << 24),
            ("model.dim", self.model.dim, 1 << 16),
            ("model.depth", self.model.depth, DEPTH_MAX),
            ("data.size", self.data.size as usize, 1 << 14),
            ("train.batch_size", self.train.batch_size, BATCH_SIZE_MAX),
            ("tokenize.batch_size", self.tokenize.batch_size.unwrap_or(1), BATCH_SIZE_MAX),
            ("tokenize.shard_rows", self.tokenize.shard_rows, 1 << 24),
        ];
        match &self.model.architecture {
            Architecture::Vqvae(c) => sizes.extend([
                ("model.architecture.hidden", c.hidden, WIDTH_MAX),
                ("model.architecture.res_hidden", c.res_hidden, WIDTH_MAX),
                ("model.architecture.res_blocks", c.res_blocks, BLOCKS_MAX),
            ]),
            Architecture::Vqgan(c) => {
                let decoder = c.decoder();
                let widths = c.widths.iter().chain(&decoder.widths);
                sizes.extend(widths.map(|&w| ("model.architecture.widths", w, WIDTH_MAX)));
                sizes.extend([
                    ("model.architecture.ch", c.ch, WIDTH_MAX),
                    ("model.architecture.z_channels", c.z_channels, WIDTH_MAX),
                    ("model.architecture.res_blocks", c.res_blocks, BLOCKS_MAX),
                    ("model.architecture.decoder.blocks", decoder.blocks, BLOCKS_MAX),
                ]);
            }
            _ => {}
        }
        if let Some((name, size, max)) = sizes.into_iter().find(|(_, size, max)| size > max) {
            return Err(Error::invalid(format!("{name} is {size}; it must be at most {max}")));
        }
        let values = self.model.depth * self.model.codes * self.model.dim;
        if values > CODEBOOK_VALUES_MAX {
            return Err(Error::invalid(format!(
                "model.codes times model.dim, and times model.depth, is {values}; it must be at \
                 most {CODEBOOK_VALUES_MAX}"
            )));
        }
        Ok(())
    }
}
