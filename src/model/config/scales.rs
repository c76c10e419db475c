//! Owns the settings of quantizers that code an image at several scales (VAR, Infinity).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Scales of a grid of latents at most.
const SCALES_MAX: usize = 64;

/// Codes of an image at most: those of a row.
const CODES_MAX: usize = 1 << 22;

/// Convolutions at most: one a scale.
const CONVOLUTIONS_MAX: usize = SCALES_MAX;

/// An image's codes as one sequence, the coarsest scale first, row-major within each: a scale codes
/// the mean of what the scales before it left over of the latents (Tian et al. 2024).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalesConfig {
    /// The scales (height, width), in codes, for each size of latents, which the last one has.
    pub grids: Vec<Vec<[usize; 2]>>,
    /// How codes of a coarse scale become a map of the latents' size.
    pub spread: Spread,
    /// Convolutions over such a map, `quantize.phi.{k}`, of which each scale has the nearest by its
    /// place; 0 where there are none.
    #[serde(default)]
    pub convolutions: usize,
    /// The share of a convolution in its output, beside its input.
    #[serde(default)]
    pub share: f64,
}

/// Interpolation, between the centres of pixels, with the borders repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Keys' kernel with a = -0.75 (VAR).
    Bicubic,
    /// Infinity; its codes have length one.
    Bilinear,
}

/// The height and width of a row of codes: a column where the latents are higher than wide, so that
/// its shape and length tell the scales.
pub(crate) fn sequence(scales: &[[usize; 2]]) -> (usize, usize) {
    let codes = scales.iter().map(|[height, width]| height * width).sum();
    match scales.last() {
        Some([height, width]) if height > width => (codes, 1),
        _ => (1, codes),
    }
}

impl ScalesConfig {
    /// The scales of latents of this size.
    ///
    /// # Errors
    /// In one line, a size that has none.
    pub fn of_latents(&self, (height, width): (usize, usize)) -> Result<&[[usize; 2]], String> {
        let scales = self.grids.iter().find(|scales| scales.last() == Some(&[height, width]));
        scales.map(Vec::as_slice).ok_or_else(|| {
            let known = self.grids.iter().filter_map(|scales| scales.last());
            let known: Vec<String> = known.map(|[h, w]| format!("{h}x{w}")).take(12).collect();
            format!(
                "latents of {height}x{width} have no scales: they are known for {} (height x width)",
                known.join(", ")
            )
        })
    }

    /// The scales of a sequence of codes.
    ///
    /// # Errors
    /// In one line, a sequence that no scales make.
    pub fn of_sequence(&self, grid: (usize, usize)) -> Result<&[[usize; 2]], String> {
        let scales = self.grids.iter().find(|scales| sequence(scales) == grid);
        scales.map(Vec::as_slice).ok_or_else(|| {
            format!("a sequence of {}x{} codes isn't one of the model's scales", grid.0, grid.1)
        })
    }

    /// The sequence of codes where there is one set of scales alone.
    pub(crate) fn only_sequence(&self) -> Option<(usize, usize)> {
        match &self.grids[..] {
            [scales] => Some(sequence(scales)),
            _ => None,
        }
    }

    /// All scales by the sequences that they make, as `1x680`.
    pub fn by_sequence(&self) -> BTreeMap<String, Vec<[usize; 2]>> {
        let named = |scales: &Vec<[usize; 2]>| {
            let (height, width) = sequence(scales);
            (format!("{height}x{width}"), scales.clone())
        };
        self.grids.iter().map(named).collect()
    }

    /// Refuses, in one line, scales that can't be.
    ///
    /// # Errors
    /// None, one that is empty or larger than the latents, two of one sequence, a share that isn't
    /// from 0 to 1.
    pub fn check(&self) -> Result<(), String> {
        if self.grids.is_empty() || self.grids.iter().any(Vec::is_empty) {
            return Err("a quantizer of several scales has one scale at least".into());
        }
        for scales in &self.grids {
            check_scales(scales)?;
        }
        if self.by_sequence().len() < self.grids.len() {
            return Err("two sizes of latents have sequences of as many codes".into());
        }
        if self.convolutions > CONVOLUTIONS_MAX {
            return Err(format!("{} convolutions over scales", self.convolutions));
        }
        match (0.0..=1.0).contains(&self.share) {
            true => Ok(()),
            false => Err(format!("the convolutions' share is {}; it is 0 to 1", self.share)),
        }
    }
}

/// Refuses the scales of one size of latents.
///
/// # Errors
/// As [`ScalesConfig::check`].
pub fn check_scales(scales: &[[usize; 2]]) -> Result<(), String> {
    let [height, width] = scales.last().copied().unwrap_or_default();
    if scales.len() > SCALES_MAX {
        return Err(format!("{} scales, more than {SCALES_MAX}", scales.len()));
    }
    for [h, w] in scales {
        if *h == 0 || *w == 0 || *h > height || *w > width {
            return Err(format!(
                "a scale of {h}x{w} codes for latents of {height}x{width}, those of the last scale"
            ));
        }
    }
    let codes = scales.iter().try_fold(0usize, |sum, [h, w]| sum.checked_add(h.checked_mul(*w)?));
    match codes.is_some_and(|codes| codes <= CODES_MAX) {
        true => Ok(()),
        false => Err(format!("scales of more codes than the {CODES_MAX} of a row")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(sides: &[usize]) -> Vec<[usize; 2]> {
        sides.iter().map(|&side| [side, side]).collect()
    }

    fn config(grids: Vec<Vec<[usize; 2]>>) -> ScalesConfig {
        ScalesConfig { grids, spread: Spread::Bicubic, convolutions: 4, share: 0.5 }
    }

    #[test]
    fn a_sequence_tells_its_scales() {
        let tall = vec![[1, 1], [3, 2], [6, 4]];
        let wide: Vec<[usize; 2]> = tall.iter().map(|&[h, w]| [w, h]).collect();
        let all = config(vec![square(&[1, 2, 4]), tall.clone(), wide.clone()]);
        assert_eq!(all.check(), Ok(()));
        assert_eq!(all.of_latents((6, 4)), Ok(&tall[..]));
        assert_eq!(sequence(&tall), (31, 1));
        assert_eq!(all.of_sequence((31, 1)), Ok(&tall[..]));
        assert_eq!(all.of_sequence((1, 31)), Ok(&wide[..]));
        assert_eq!(all.of_sequence((1, 21)), Ok(&square(&[1, 2, 4])[..]));
        assert!(all.of_sequence((3, 7)).is_err());
        assert!(all.of_latents((5, 5)).unwrap_err().contains("4x4, 6x4, 4x6"));
    }

    #[test]
    fn scales_that_cannot_be_are_refused() {
        for grids in [
            vec![],
            vec![vec![]],
            vec![square(&[2, 0])],
            vec![square(&[4, 2])],
            vec![square(&[1, 2]), square(&[1, 2])],
            vec![square(&[1 << 12])],
            vec![square(&[1; 65])],
            vec![vec![[usize::MAX, 2]]],
        ] {
            assert!(config(grids.clone()).check().is_err(), "{grids:?}");
        }
        let share = ScalesConfig { share: f64::NAN, ..config(vec![square(&[1])]) };
        assert!(share.check().is_err());
    }
}
