//! Owns codes at several scales (VAR, Tian et al. 2024; Infinity, Han et al. 2024): each scale codes the
//! mean of what the scales before it left over of the latents, and what its codes spread out to is
//! taken off. Must not know: how the nearest code is found.

mod convolution;
mod resample;

pub(crate) use convolution::Convolution;

use super::config::{QuantizerConfig, ScalesConfig, Spread};
use super::quantizer::VectorQuantizer;
use crate::error::{Error, Result};

/// Codes of some latents, `[T, D]`, and their squared distances.
pub(crate) type Found = (Vec<u32>, Vec<f32>);

/// What stands around a plain quantizer.
#[derive(Debug, Clone)]
pub(crate) struct MultiScale {
    config: ScalesConfig,
    dim: usize,
    /// Of a token.
    values: usize,
    /// Factor of the vectors of codes.
    length: f32,
    /// Each scale has the nearest by its place.
    convolutions: Vec<Convolution>,
}

impl MultiScale {
    /// Of a quantizer's configuration; None where it has no scales.
    ///
    /// # Errors
    /// Another number of convolutions than it says.
    pub(crate) fn new(
        quantizer: &QuantizerConfig,
        convolutions: Vec<Convolution>,
    ) -> Result<Option<MultiScale>> {
        let Some(config) = quantizer.scales.clone() else { return Ok(None) };
        if convolutions.len() != config.convolutions {
            return Err(Error::internal("another number of convolutions over scales"));
        }
        let (dim, values) = (quantizer.dim, quantizer.values());
        let length = match config.spread {
            Spread::Bicubic => 1.0,
            // Signs, as a vector of length one.
            Spread::Bilinear => (1.0 / (dim as f64).sqrt()) as f32,
        };
        Ok(Some(MultiScale { config, dim, values, length, convolutions }))
    }

    /// The codes of one image's latents, `[h * w, D]`, scale after scale; `find` codes rows, and `book`
    /// has the vectors.
    ///
    /// # Errors
    /// A size of latents without scales; those of `find`.
    pub(crate) fn quantize(
        &self,
        mut rest: Vec<f32>,
        size: (usize, usize),
        book: &VectorQuantizer,
        find: &mut dyn FnMut(Vec<f32>) -> Result<Found>,
    ) -> Result<Found> {
        let scales = self.config.of_latents(size).map_err(Error::invalid)?;
        let (mut codes, mut distances) = (Vec::new(), Vec::new());
        for (place, &[height, width]) in scales.iter().enumerate() {
            let grid = (height, width);
            // The last scale is that of the latents.
            let (found, measured) = if place + 1 == scales.len() {
                find(std::mem::take(&mut rest))?
            } else {
                let (found, measured) = find(resample::mean(&rest, size, grid, self.dim))?;
                let spread = self.spread(&found, (place, scales.len()), (grid, size), book)?;
                rest.iter_mut().zip(spread).for_each(|(rest, taken)| *rest -= taken);
                (found, measured)
            };
            codes.extend(found);
            distances.extend(measured);
        }
        Ok((codes, distances))
    }

    /// What a decoder takes, `[h * w, D]`, for an image's sequence of codes, `[height, width]`.
    ///
    /// # Errors
    /// A sequence that no scales make.
    pub(crate) fn lookup(
        &self,
        codes: &[u32],
        sequence: (usize, usize),
        book: &VectorQuantizer,
    ) -> Result<Vec<f32>> {
        let scales = self.config.of_sequence(sequence).map_err(Error::invalid)?;
        let Some(&[height, width]) = scales.last() else { return Ok(Vec::new()) };
        let size = (height, width);
        let mut sum = vec![0.0; height * width * self.dim];
        let mut codes = codes;
        for (place, &[height, width]) in scales.iter().enumerate() {
            let (own, others) = codes.split_at(codes.len().min(height * width * self.values));
            codes = others;
            let grid = (height, width);
            let spread = self.spread(own, (place, scales.len()), (grid, size), book)?;
            sum.iter_mut().zip(spread).for_each(|(sum, part)| *sum += part);
        }
        Ok(sum)
    }

    /// A scale's codes as a map of the latents' size, `[h * w, D]`.
    fn spread(
        &self,
        codes: &[u32],
        (place, of): (usize, usize),
        (grid, size): ((usize, usize), (usize, usize)),
        book: &VectorQuantizer,
    ) -> Result<Vec<f32>> {
        let mut vectors = book.lookup(codes)?;
        if self.length != 1.0 {
            vectors.iter_mut().for_each(|x| *x *= self.length);
        }
        if grid != size {
            vectors = resample::spread(&vectors, grid, size, self.dim, self.config.spread);
        }
        let Some(convolution) = self.convolution(place, of) else { return Ok(vectors) };
        let share = self.config.share as f32;
        let mut map = convolution.forward(&vectors, size);
        map.iter_mut().zip(&vectors).for_each(|(y, x)| *y = x * (1.0 - share) + *y * share);
        Ok(map)
    }

    /// The convolution whose place is nearest to that of scale `place` of `of`.
    fn convolution(&self, place: usize, of: usize) -> Option<&Convolution> {
        let count = self.convolutions.len();
        let at = place as f64 / (of.max(2) - 1) as f64;
        // As the reference has it, the places begin a third of a step in where there are four.
        let margin = if count == 4 { 1.0 / 3.0 } else { 0.5 } / count as f64;
        let step = ((1.0 - margin) - margin) / (count.max(2) - 1) as f64;
        let far = |k: usize| (margin + step * k as f64 - at).abs();
        let nearest = (0..count).reduce(|best, k| if far(k) < far(best) { k } else { best });
        nearest.map(|k| &self.convolutions[k])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::QuantizerRule;

    fn scales(grids: Vec<Vec<[usize; 2]>>, convolutions: usize) -> QuantizerConfig {
        let scales = ScalesConfig { grids, spread: Spread::Bicubic, convolutions, share: 0.5 };
        QuantizerConfig { scales: Some(scales), ..QuantizerConfig::new(QuantizerRule::L2, 3, 1) }
    }

    #[test]
    fn what_a_scale_codes_is_taken_off_before_the_next() {
        let config = scales(vec![vec![[1, 1], [2, 1]]], 0);
        let book = VectorQuantizer::new(&config.of_level(), Some(vec![-1.0, 1.0, 4.0]), None);
        let book = book.unwrap();
        let multiscale = MultiScale::new(&config, vec![]).unwrap().unwrap();
        let mut find = |rows| book.quantize(rows, 1);
        // The mean of 5 and 3 is coded by 4, which leaves 1 and -1.
        let found = multiscale.quantize(vec![5.0, 3.0], (2, 1), &book, &mut find).unwrap();
        assert_eq!(found, (vec![2, 1, 0], vec![0.0; 3]));
        assert_eq!(multiscale.lookup(&found.0, (3, 1), &book).unwrap(), [5.0, 3.0]);
        assert!(multiscale.lookup(&found.0, (1, 3), &book).is_err());
        assert!(multiscale.quantize(vec![5.0], (1, 1), &book, &mut find).is_err());
    }

    #[test]
    fn scales_share_the_convolution_nearest_to_them() {
        let of = |count: usize, scales_count: usize| {
            let grids = vec![vec![[1, 1]; scales_count]];
            let convolution = |k: usize| Convolution::new(vec![k as f32; 9], vec![0.0]).unwrap();
            let convolutions = (0..count).map(convolution).collect();
            let multiscale = MultiScale::new(&scales(grids, count), convolutions).unwrap().unwrap();
            let chosen = |place| {
                let map = multiscale.convolution(place, scales_count).unwrap();
                map.forward(&[1.0], (1, 1))[0] as usize
            };
            (0..scales_count).map(chosen).collect::<Vec<_>>()
        };
        // Made by numpy: argmin |linspace(1/3/K, 1 - 1/3/K, K) - k/9| for K = 4, halves for 3.
        assert_eq!(of(4, 10), [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(of(3, 10), [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(of(1, 3), [0, 0, 0]);
        assert_eq!(of(4, 1), [0]);
    }
}
