//! Owns the step from latents to codes on this engine: the blocked search where the rule is one,
//! the reference quantizer for the rest.

use candle_core::{DType, Device, Tensor};

use crate::engine::cpu::feature_map::MapShape;
use crate::error::{Error, Result};
use crate::kernels::{Buffer, Codebook, Isa, nearest};
use crate::model::config::{Architecture, ModelConfig, QuantizerRule};
use crate::model::multiscale::{Found, MultiScale};
use crate::model::quantizer::normalise_rows;
use crate::model::residual::ResidualQuantizer;
use crate::model::{finite, load_quantizer};
use crate::util::panics;
use crate::weights::store::Weights;

/// The quantizer of a model, packed for this engine.
pub(super) struct CpuQuantizer {
    reference: ResidualQuantizer,
    rule: QuantizerRule,
    codes: usize,
    /// One a residual level, or of those side by side; none where the reference searches.
    books: Vec<PackedCodebook>,
    /// Books side by side, each for its own part of every latent.
    per_latent: usize,
    /// What DALL-E's decoder starts with instead of a codebook, `[K, init]`.
    rows: Option<Vec<f32>>,
}

/// The codebook of a level.
struct PackedCodebook {
    search: Codebook,
    /// What distances are measured to, `[K, D]`; empty for rules without.
    measured: Vec<f32>,
}

/// Codes and squared distances of one level of one image.
pub(super) type LevelMut<'a> = (&'a mut [u32], &'a mut [f32]);

impl CpuQuantizer {
    /// Reads the codebook, and the projection where the rule has one.
    pub(super) fn new(isa: Isa, config: &ModelConfig, all: &Weights) -> Result<CpuQuantizer> {
        let vb = all.reader().var_builder(&Device::Cpu);
        let reference = load_quantizer(config, &vb)?;
        let rule = config.quantizer.rule;
        let dim = config.quantizer.code_length();
        let floats = |name: &str| -> Result<Vec<f32>> {
            let vb = vb.pp("quantize");
            Ok(vb.get_unchecked(name)?.flatten_all()?.to_vec1()?)
        };
        let books = match rule {
            QuantizerRule::L2 | QuantizerRule::L2Normalised | QuantizerRule::Dot => {
                let mut all = floats("embedding.weight")?;
                if rule == QuantizerRule::L2Normalised {
                    normalise_rows(&mut all, dim);
                }
                let book = |measured: &[f32]| PackedCodebook {
                    search: match rule {
                        QuantizerRule::Dot => Codebook::largest(isa, measured, dim, None),
                        _ => Codebook::nearest(isa, measured, dim),
                    },
                    measured: measured.to_vec(),
                };
                all.chunks_exact(config.quantizer.codes * dim).map(book).collect()
            }
            QuantizerRule::Projection if config.parts().encoder() => {
                let (weight, bias) = (floats("proj.weight")?, floats("proj.bias")?);
                let inputs = weight.len() / config.quantizer.codes;
                let search = Codebook::largest(isa, &weight, inputs, Some(&bias));
                vec![PackedCodebook { search, measured: Vec::new() }]
            }
            _ => Vec::new(),
        };
        let dalle = matches!(config.architecture, Architecture::Dalle(_));
        let rows = (dalle && config.parts().decoder()).then(|| dalle_rows(all));
        let (rows, codes) = (rows.transpose()?, config.quantizer.codes);
        let per_latent = config.quantizer.books;
        Ok(CpuQuantizer { reference, rule, codes, books, per_latent, rows })
    }

    /// The vectors of the levels' codes, in grids of size `grid`, as the decoder takes them,
    /// `[T, D]`.
    pub(super) fn lookup(&self, levels: &[&[u32]], grid: (usize, usize)) -> Result<Vec<f32>> {
        let Some(rows) = &self.rows else { return self.reference.lookup(levels, grid) };
        self.reference.check(levels)?;
        let length = rows.len() / self.codes.max(1);
        let row = |&code: &u32| &rows[code as usize * length..][..length];
        Ok(levels[0].iter().flat_map(row).copied().collect())
    }

    /// Codes and squared distances of the latents `[h, w, stride]` (NaN for rules without one), for
    /// each residual level of what the levels before it left over. Why they mean nothing where
    /// something isn't finite.
    pub(super) fn quantize(
        &self,
        latents: &[f32],
        shape: MapShape,
        levels: &mut [LevelMut<'_>],
        scratch: &mut Buffer,
    ) -> Result<Option<String>> {
        let latents = &latents[..shape.height * shape.width * shape.stride];
        if let Some(reason) = self.reference.unusable(latents, shape.stride) {
            return Ok(Some(reason));
        }
        self.find(latents, shape, levels, scratch)?;
        Ok(levels.iter().find_map(|(_, distances)| finite::distances(self.rule, distances)))
    }

    /// [`CpuQuantizer::quantize`] of latents that are finite.
    fn find(
        &self,
        latents: &[f32],
        shape: MapShape,
        levels: &mut [LevelMut<'_>],
        scratch: &mut Buffer,
    ) -> Result<()> {
        let MapShape { channels, stride, .. } = shape;
        let _at = panics::at("quantize", None);
        let rows = || latents.chunks_exact(stride).flat_map(|row| &row[..channels]).copied();
        let Some(first) = self.books.first() else {
            let size = (shape.height, shape.width);
            let found = self.reference.quantize(rows().collect(), channels, size)?;
            for ((codes, distances), (found, measured)) in levels.iter_mut().zip(found) {
                codes.copy_from_slice(&found);
                distances.copy_from_slice(&measured);
            }
            return Ok(());
        };
        let per_latent = self.per_latent;
        if first.search.dim() * per_latent != channels {
            return Err(Error::invalid(format!(
                "the encoder gives {channels} channels where the quantizer takes {}: this checkpoint can decode only",
                first.search.dim() * per_latent
            )));
        }
        if per_latent > 1 {
            return self.find_in_books(&rows().collect::<Vec<_>>(), channels, levels, scratch);
        }
        if let Some(scales) = self.reference.scales() {
            let found = self.find_at_scales(scales, rows().collect(), shape, scratch)?;
            levels[0].0.copy_from_slice(&found.0);
            levels[0].1.copy_from_slice(&found.1);
            return Ok(());
        }
        if self.rule == QuantizerRule::L2Normalised {
            let mut normalised: Vec<f32> = rows().collect();
            normalise_rows(&mut normalised, channels);
            return self.search(0, &normalised, channels, &mut levels[0], scratch);
        }
        self.search(0, latents, stride, &mut levels[0], scratch)?;
        let mut rest: Vec<f32> = if levels.len() > 1 { rows().collect() } else { Vec::new() };
        for index in 1..levels.len() {
            let vectors = self.reference.levels()[index - 1].lookup(levels[index - 1].0)?;
            rest.iter_mut().zip(vectors).for_each(|(z, e)| *z -= e);
            self.search(index, &rest, channels, &mut levels[index], scratch)?;
        }
        Ok(())
    }

    /// The codes of every book, each for its own part of the latents `[T, channels]`.
    fn find_in_books(
        &self,
        rows: &[f32],
        channels: usize,
        levels: &mut [LevelMut<'_>],
        scratch: &mut Buffer,
    ) -> Result<()> {
        let length = channels / self.per_latent;
        for (index, level) in levels.iter_mut().enumerate() {
            let parts =
                rows.chunks_exact(channels).flat_map(|row| &row[index * length..][..length]);
            let mut parts: Vec<f32> = parts.copied().collect();
            normalise_rows(&mut parts, length);
            self.search(index, &parts, length, level, scratch)?;
        }
        Ok(())
    }

    /// The codes of one image, scale after scale.
    fn find_at_scales(
        &self,
        scales: &MultiScale,
        rows: Vec<f32>,
        MapShape { height, width, channels, .. }: MapShape,
        scratch: &mut Buffer,
    ) -> Result<Found> {
        let mut find = |rows: Vec<f32>| {
            let tokens = rows.len() / channels;
            let (mut codes, mut distances) = (vec![0; tokens], vec![0.0; tokens]);
            let mut level: LevelMut = (&mut codes, &mut distances);
            self.search(0, &rows, channels, &mut level, scratch)?;
            Ok((codes, distances))
        };
        scales.quantize(rows, (height, width), &self.reference.levels()[0], &mut find)
    }

    /// One level of `[T, stride]`.
    fn search(
        &self,
        index: usize,
        latents: &[f32],
        stride: usize,
        (codes, distances): &mut LevelMut<'_>,
        scratch: &mut Buffer,
    ) -> Result<()> {
        let book = self.books.get(index);
        let PackedCodebook { search, measured } =
            book.ok_or_else(|| Error::internal("a level too many"))?;
        nearest(search, latents, stride, codes, scratch);
        debug_assert!(codes.iter().all(|&code| (code as usize) < self.codes));
        if measured.is_empty() {
            distances.fill(f32::NAN);
            return Ok(());
        }
        let dim = search.dim();
        for ((z, distance), code) in
            latents.chunks_exact(stride).zip(&mut **distances).zip(&**codes)
        {
            let e = &measured[*code as usize * dim..][..dim];
            let square = |(z, e): (&f32, &f32)| f64::from(z - e) * f64::from(z - e);
            *distance = z.iter().zip(e).map(square).sum::<f64>() as f32;
        }
        Ok(())
    }
}

/// Row `code` of `[K, init]`: DALL-E's decoder starts with a 1x1 convolution of one-hot codes.
fn dalle_rows(weights: &Weights) -> Result<Vec<f32>> {
    let tensor = |name: &str| -> Result<Tensor> {
        let missing = || Error::invalid(format!("the checkpoint has no tensor `{name}`"));
        Ok(weights.get(name).ok_or_else(missing)?.tensor()?.to_dtype(DType::F32)?)
    };
    let columns = tensor("decoder.blocks.input.w")?;
    let (init, codes, _, _) = columns.dims4()?;
    let rows = columns.reshape((init, codes))?.t()?.contiguous()?;
    Ok(rows.broadcast_add(&tensor("decoder.blocks.input.b")?)?.flatten_all()?.to_vec1()?)
}
