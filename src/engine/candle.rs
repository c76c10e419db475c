//! Owns the reference engine: every image of a batch goes through the candle model on its own, so
//! that its codes can't depend on the batch or on the number of threads.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::interface::{CodeGrid, Decoded, Encoded, Engine, PixelBatch, failed};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::opened::Opened;
use crate::model::{CodeLevel, EncodedLevel, Model, finite};
use crate::weights::digests::Digests;

/// The candle model behind the engine trait.
pub struct CandleEngine {
    model: Model,
    /// The float of every byte.
    table: [f32; 256],
}

impl CandleEngine {
    /// Of an opened model.
    ///
    /// # Errors
    /// Damaged weights, a network that they don't make.
    pub fn open(opened: Opened, device: &Device) -> Result<CandleEngine> {
        let Opened { config, weights, digests } = opened;
        digests.get()?;
        let model = Model::with_digests(config, &weights, Arc::new(digests), device)?;
        Ok(CandleEngine::new(model))
    }

    /// Wraps a loaded model.
    pub fn new(model: Model) -> CandleEngine {
        let table = model.config().pixels.input.table();
        CandleEngine { model, table }
    }

    /// The latents of each image and level, as they go into the quantizer: `[image][level]`,
    /// `[1, D, h, w]` each.
    ///
    /// # Errors
    /// A batch that the model can't take; a checkpoint without an encoder; a device without room
    /// for it.
    pub fn latents(&self, batch: &PixelBatch) -> Result<Vec<Vec<Tensor>>> {
        let images = self.encode_images(batch)?;
        Ok(images.into_iter().map(|l| l.into_iter().map(|l| l.latents).collect()).collect())
    }

    /// The codes of a batch, and the latents of each image and level as [`CandleEngine::latents`]
    /// gives them.
    ///
    /// # Errors
    /// As for [`CandleEngine::latents`].
    pub(super) fn encode_with_latents(
        &self,
        batch: &PixelBatch,
    ) -> Result<(Encoded, Vec<Vec<Tensor>>)> {
        self.gathered(batch, self.encode_images(batch)?)
    }

    /// The images of a batch as one.
    fn gathered(
        &self,
        batch: &PixelBatch,
        images: Vec<Vec<EncodedLevel>>,
    ) -> Result<(Encoded, Vec<Vec<Tensor>>)> {
        let grids = self.grid(batch.height, batch.width).map_err(Error::invalid)?;
        let values = self.config().quantizer.values();
        let mut levels: Vec<CodeGrid> = grids
            .into_iter()
            .map(|(height, width)| CodeGrid { codes: vec![], distances: vec![], height, width })
            .collect();
        let unusable = |image: &[EncodedLevel]| image.iter().find_map(|l| l.unusable.clone());
        let (mut reasons, mut latents) = (Vec::new(), Vec::new());
        for image in images {
            reasons.push(unusable(&image));
            latents.push(image.iter().map(|level| level.latents.clone()).collect());
            for (grid, level) in levels.iter_mut().zip(image) {
                if level.codes.len() != grid.height * grid.width * values {
                    return Err(Error::internal(format!(
                        "the model gave {} codes for a grid of {}x{}",
                        level.codes.len(),
                        grid.height,
                        grid.width
                    )));
                }
                grid.codes.extend(level.codes);
                grid.distances.extend(level.distances);
            }
        }
        Ok((Encoded { count: batch.count, levels, failed: failed(reasons) }, latents))
    }

    /// The decoder's output of each image before it becomes bytes, `[1, C, H, W]` each.
    ///
    /// # Errors
    /// Codes that don't match the sizes of their grids, or aren't below the model's number of
    /// codes; a checkpoint without a decoder.
    pub fn decode_floats(&self, codes: &Encoded) -> Result<Vec<Tensor>> {
        self.each(codes.count, |i| self.decode_image(codes, i))
    }

    /// `work` for every image in order; on the CPU the images share the threads.
    fn each<T: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        if self.model.device().is_cpu() {
            (0..count).into_par_iter().map(&work).collect()
        } else {
            (0..count).map(&work).collect()
        }
    }

    fn encode_images(&self, batch: &PixelBatch) -> Result<Vec<Vec<EncodedLevel>>> {
        batch.check(self.config())?;
        let batch = &*batch.padded(self.config());
        self.each(batch.count, |i| self.encode_image(batch, i))
    }

    fn encode_image(&self, batch: &PixelBatch, index: usize) -> Result<Vec<EncodedLevel>> {
        let PixelBatch { height, width, channels, .. } = *batch;
        let plane = height * width;
        let mut floats = vec![0.0f32; plane * channels];
        for (pixel, bytes) in batch.image(index).chunks_exact(channels).enumerate() {
            for (channel, &byte) in bytes.iter().enumerate() {
                floats[channel * plane + pixel] = self.table[byte as usize];
            }
        }
        let x = Tensor::from_vec(floats, (1, channels, height, width), self.model.device())?;
        self.model.encode(&x)
    }

    fn decode_image(&self, codes: &Encoded, index: usize) -> Result<Tensor> {
        let mut levels = Vec::with_capacity(codes.levels.len());
        for level in &codes.levels {
            let (height, width) = (level.height, level.width);
            let area = height * width * self.config().quantizer.values();
            if level.codes.len() != codes.count * area {
                return Err(Error::invalid("the codes don't match the sizes of their grid"));
            }
            levels.push(CodeLevel { codes: &level.codes[index * area..][..area], height, width });
        }
        self.model.decode(1, &levels)
    }
}

impl Engine for CandleEngine {
    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn digests(&self) -> Result<&Digests> {
        self.model.digests()
    }

    fn device_kind(&self) -> &'static str {
        match self.model.device() {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda",
            Device::Metal(_) => "metal",
        }
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.config().grid(height, width)
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        self.gathered(batch, self.encode_images(batch)?).map(|(encoded, _)| encoded)
    }

    fn decode(&mut self, codes: &Encoded) -> Result<Decoded> {
        let rule = self.config().pixels.output;
        let channels = self.config().pixels.channels;
        let images = self.each(codes.count, |i| {
            let image = self.decode_image(codes, i)?;
            let (_, _, height, width) = image.dims4()?;
            let floats: Vec<f32> = image.flatten_all()?.to_vec1()?;
            let reason = finite::pixels(self.config(), codes.grid(), &floats);
            Ok((rule.to_bytes(&floats, channels), [height, width], reason))
        })?;
        let [height, width] = images.first().map_or([0, 0], |(_, size, _)| *size);
        let failed = failed(images.iter().map(|(_, _, reason)| reason.clone()));
        let pixels = images.into_iter().flat_map(|(bytes, _, _)| bytes).collect();
        let pictures = PixelBatch { pixels, count: codes.count, height, width, channels };
        Ok(Decoded { pictures, failed })
    }
}
