//! Owns residual levels of codes (Zeghidour et al. 2021; Lee et al. 2022): each quantizes what the
//! levels before it left over, and the vectors of all of them add up. One level is a plain
//! quantizer, or one of several scales.

use super::config::QuantizerConfig;
use super::multiscale::{Convolution, Found, MultiScale};
use super::quantizer::VectorQuantizer;
use crate::error::{Error, Result};

/// The quantizers of all levels.
#[derive(Debug, Clone)]
pub(crate) struct ResidualQuantizer {
    config: QuantizerConfig,
    /// At least one.
    levels: Vec<VectorQuantizer>,
    /// What is around the only level, where it codes several scales.
    scales: Option<MultiScale>,
}

impl ResidualQuantizer {
    /// `codebook` holds the levels' codebooks concatenated, `[depth * K, D]`; otherwise as
    /// [`VectorQuantizer::new`].
    ///
    /// # Errors
    /// A depth that the rule doesn't have; those of [`VectorQuantizer::new`].
    pub(crate) fn new(
        config: &QuantizerConfig,
        codebook: Option<Vec<f32>>,
        projection: Option<(Vec<f32>, Vec<f32>)>,
    ) -> Result<ResidualQuantizer> {
        config.check_depth().map_err(Error::invalid)?;
        let of_level = config.of_level();
        let levels = match codebook {
            Some(codebook) if config.depth * config.books > 1 => {
                let length = config.code_length();
                if codebook.len() != config.all_codes() * length {
                    return Err(Error::invalid(format!(
                        "{} numbers for {} codes of length {}",
                        codebook.len(),
                        config.codes_in_words(),
                        length
                    )));
                }
                let books = codebook.chunks_exact(config.codes * length);
                let level =
                    |book: &[f32]| VectorQuantizer::new(&of_level, Some(book.to_vec()), None);
                books.map(level).collect::<Result<_>>()?
            }
            // Rules without a codebook, or one level of whatever kind.
            codebook => vec![VectorQuantizer::new(&of_level, codebook, projection)?],
        };
        Ok(ResidualQuantizer { config: config.clone(), levels, scales: None })
    }

    /// The same with the convolutions over scales, where the configuration has scales.
    ///
    /// # Errors
    /// Another number of convolutions than the configuration says.
    pub(crate) fn with_scales(self, convolutions: Vec<Convolution>) -> Result<ResidualQuantizer> {
        let scales = MultiScale::new(&self.config, convolutions)?;
        Ok(ResidualQuantizer { scales, ..self })
    }

    /// What is around the only level, where it codes several scales.
    pub(crate) fn scales(&self) -> Option<&MultiScale> {
        self.scales.as_ref()
    }

    /// What it does: K, D, depth.
    pub(crate) fn config(&self) -> &QuantizerConfig {
        &self.config
    }

    /// The quantizers, first level first.
    pub(crate) fn levels(&self) -> &[VectorQuantizer] {
        &self.levels
    }

    /// The first level alone: what it makes of latents by itself.
    pub(crate) fn first_level(&self) -> ResidualQuantizer {
        let levels = vec![self.levels[0].clone()];
        ResidualQuantizer { config: self.config.of_level(), levels, scales: None }
    }

    /// For each level the codes of the latents `z`, `[N * h * w, channels]` row-major with (h, w) =
    /// `size`, and the squared distances of what the levels before left over to them; of several
    /// scales, each image's one after another.
    ///
    /// # Errors
    /// Those of [`VectorQuantizer::quantize`]; a size without scales.
    pub(crate) fn quantize(
        &self,
        mut z: Vec<f32>,
        channels: usize,
        size: (usize, usize),
    ) -> Result<Vec<Found>> {
        if let Some(scales) = &self.scales {
            let book = &self.levels[0];
            let (mut codes, mut distances) = (Vec::new(), Vec::new());
            for image in z.chunks((size.0 * size.1 * channels).max(1)) {
                let mut find = |rows| book.quantize(rows, channels);
                let found = scales.quantize(image.to_vec(), size, book, &mut find)?;
                codes.extend(found.0);
                distances.extend(found.1);
            }
            return Ok(vec![(codes, distances)]);
        }
        if self.config.books > 1 {
            return self.quantize_parts(&z, channels);
        }
        let mut found = Vec::with_capacity(self.levels.len());
        for (index, level) in self.levels.iter().enumerate() {
            if index + 1 == self.levels.len() {
                found.push(level.quantize(std::mem::take(&mut z), channels)?);
                break;
            }
            let (codes, distances) = level.quantize(z.clone(), channels)?;
            z.iter_mut().zip(level.lookup(&codes)?).for_each(|(z, e)| *z -= e);
            found.push((codes, distances));
        }
        Ok(found)
    }

    /// The codes of each book for its part of the latents, `[T, channels]`.
    fn quantize_parts(&self, z: &[f32], channels: usize) -> Result<Vec<Found>> {
        let length = self.config.code_length();
        if channels != self.config.dim {
            return Err(Error::invalid(format!(
                "the encoder gives {channels} channels where the quantizer takes {}",
                self.config.dim
            )));
        }
        let part = |(book, level): (usize, &VectorQuantizer)| {
            let rows = z.chunks_exact(channels);
            let part = rows.flat_map(|row| &row[book * length..][..length]).copied().collect();
            level.quantize(part, length)
        };
        self.levels.iter().enumerate().map(part).collect()
    }

    /// The vectors of each book's codes side by side, `[T, D]`.
    fn lookup_parts(&self, books: &[&[u32]]) -> Result<Vec<f32>> {
        let (length, dim) = (self.config.code_length(), self.config.dim);
        let tokens = books.first().map_or(0, |codes| codes.len());
        let mut vectors = vec![0.0; tokens * dim];
        for (book, (level, codes)) in self.levels.iter().zip(books).enumerate() {
            let parts = level.lookup(codes)?;
            for (row, part) in vectors.chunks_exact_mut(dim).zip(parts.chunks_exact(length)) {
                row[book * length..][..length].copy_from_slice(part);
            }
        }
        Ok(vectors)
    }

    /// Why latents, `[T, stride]`, can't be quantized: [`VectorQuantizer::unusable`] of the first level,
    /// which looks at all channels.
    /// What later levels measure tells of overflow in them.
    pub(crate) fn unusable(&self, latents: &[f32], stride: usize) -> Option<String> {
        self.levels[0].unusable(latents, stride)
    }

    /// Errors where there are not as many levels, of equal lengths, or a code isn't below K.
    pub(crate) fn check(&self, levels: &[&[u32]]) -> Result<()> {
        if levels.len() != self.levels.len() {
            return Err(Error::invalid(format!(
                "{} levels of codes where the model has {}",
                levels.len(),
                self.levels.len()
            )));
        }
        if levels.iter().any(|codes| codes.len() != levels[0].len()) {
            return Err(Error::invalid("residual levels of codes differ in their lengths"));
        }
        levels.iter().zip(&self.levels).try_for_each(|(codes, level)| level.check(codes))
    }

    /// The vectors of the codes of grids of size `grid` as the decoder takes them, `[T, D]`: summed
    /// over the levels, first level first; of several scales, over these.
    ///
    /// # Errors
    /// As for [`ResidualQuantizer::check`] and [`VectorQuantizer::lookup`]; a sequence that no scales
    /// make.
    pub(crate) fn lookup(&self, levels: &[&[u32]], grid: (usize, usize)) -> Result<Vec<f32>> {
        self.check(levels)?;
        if self.config.books > 1 {
            return self.lookup_parts(levels);
        }
        if let Some(scales) = &self.scales {
            let images = levels[0].chunks((grid.0 * grid.1 * self.config.values()).max(1));
            let maps = images.map(|codes| scales.lookup(codes, grid, &self.levels[0]));
            return Ok(maps.collect::<Result<Vec<_>>>()?.concat());
        }
        let mut vectors = self.levels[0].lookup(levels[0])?;
        for (level, codes) in self.levels.iter().zip(levels).skip(1) {
            vectors.iter_mut().zip(level.lookup(codes)?).for_each(|(sum, e)| *sum += e);
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::QuantizerRule;
    use super::*;

    fn config(rule: QuantizerRule, depth: usize) -> QuantizerConfig {
        QuantizerConfig { depth, ..QuantizerConfig::new(rule, 2, 1) }
    }

    #[test]
    fn each_level_quantizes_what_the_ones_before_left_over() {
        let book = vec![0.0, 8.0, -1.0, 1.0, 0.0, 0.25];
        let quantizer =
            ResidualQuantizer::new(&config(QuantizerRule::L2, 3), Some(book), None).unwrap();
        let found = quantizer.quantize(vec![9.25, -0.75, 7.0], 1, (1, 3)).unwrap();
        let (codes, distances): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        assert_eq!(codes, [[1, 0, 1], [1, 0, 0], [1, 1, 0]]);
        assert_eq!(distances, [[1.5625, 0.5625, 1.0], [0.0625, 0.0625, 0.0], [0.0, 0.0, 0.0]]);
        let levels: Vec<&[u32]> = codes.iter().map(Vec::as_slice).collect();
        assert_eq!(quantizer.lookup(&levels, (1, 3)).unwrap(), [9.25, -0.75, 7.0]);
        let refused = |levels: &[&[u32]]| quantizer.lookup(levels, (1, 3)).unwrap_err().to_string();
        assert!(refused(&levels[..2]).contains("2 levels of codes where the model has 3"));
        assert!(refused(&[&[0], &[0, 1], &[0]]).contains("lengths"));
        assert!(refused(&[&[0], &[2], &[0]]).contains("code 2"));
    }

    #[test]
    fn each_book_codes_its_own_part_of_a_latent() {
        let books =
            QuantizerConfig { books: 2, ..QuantizerConfig::new(QuantizerRule::L2Normalised, 2, 4) };
        let book = vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -2.0];
        let quantizer = ResidualQuantizer::new(&books, Some(book), None).unwrap();
        let z = vec![0.1, 3.0, -2.0, 0.1, 5.0, 1.0, 0.2, -0.3];
        let found = quantizer.quantize(z.clone(), 4, (1, 2)).unwrap();
        let codes: Vec<Vec<u32>> = found.into_iter().map(|(codes, _)| codes).collect();
        assert_eq!(codes, [[1, 0], [0, 1]]);
        let levels: Vec<&[u32]> = codes.iter().map(Vec::as_slice).collect();
        let vectors = quantizer.lookup(&levels, (1, 2)).unwrap();
        assert_eq!(vectors, [0.0, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0, -1.0]);
        assert!(quantizer.quantize(z, 8, (1, 1)).is_err());
        for wrong in [
            QuantizerConfig { books: 3, ..books.clone() },
            QuantizerConfig { books: 0, ..books.clone() },
            QuantizerConfig { rule: QuantizerRule::L2, ..books.clone() },
            QuantizerConfig { depth: 2, ..books },
        ] {
            assert!(wrong.check_depth().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_has_no_residual_levels_is_refused_in_one_line() {
        let book = |n: usize| Some(vec![0.5; n]);
        for (config, words) in [
            (config(QuantizerRule::L2Normalised, 2), "\"l2-normalised\""),
            (config(QuantizerRule::Sign, 3), "depth 3"),
            (config(QuantizerRule::L2, 0), "must be 1 to 16"),
            (config(QuantizerRule::L2, 17), "must be 1 to 16"),
            (QuantizerConfig { decode_normalised: true, ..config(QuantizerRule::L2, 2) }, "decode"),
            (config(QuantizerRule::L2, 2), "3 numbers for 2 x 2 codes"),
        ] {
            let said = ResidualQuantizer::new(&config, book(3), None).unwrap_err().to_string();
            assert!(said.contains(words) && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn a_depth_of_one_is_not_written() {
        let plain = serde_json::to_string(&config(QuantizerRule::L2, 1)).unwrap();
        assert!(!plain.contains("depth"), "{plain}");
        let deep = serde_json::to_string(&config(QuantizerRule::L2, 3)).unwrap();
        assert!(deep.ends_with("\"depth\":3}"), "{deep}");
        for (text, depth) in [(plain, 1), (deep, 3)] {
            assert_eq!(serde_json::from_str::<QuantizerConfig>(&text).unwrap().depth, depth);
        }
    }
}
