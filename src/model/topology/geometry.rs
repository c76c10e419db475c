//! Owns the numbers that say what a layer is: windows, norms, what a network takes and gives.

use crate::model::config::{ModelConfig, QuantizerRule};

/// Where the square window of a convolution goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvGeometry {
    /// Rows and columns of the window.
    pub kernel: usize,
    /// Pixels from a window to the next, both ways.
    pub stride: usize,
    /// Zeros above and on the left.
    pub before: usize,
    /// Zeros below and on the right.
    pub after: usize,
}

impl ConvGeometry {
    /// 3x3, size kept.
    pub(crate) const SAME_3: ConvGeometry = ConvGeometry::same(3);
    /// 1x1.
    pub(crate) const POINT: ConvGeometry = ConvGeometry::same(1);
    /// 3x3, stride 2, one row and column of zeros at the bottom and right: rounds the size down.
    pub(crate) const HALVE_3: ConvGeometry =
        ConvGeometry { kernel: 3, stride: 2, before: 0, after: 1 };
    /// 3x3, stride 2, padding 1 on all sides: rounds the size up.
    pub(crate) const HALVE_UP_3: ConvGeometry =
        ConvGeometry { kernel: 3, stride: 2, before: 1, after: 1 };
    /// 4x4, stride 2, padding 1 on all sides: rounds the size down.
    pub(crate) const HALVE_4: ConvGeometry =
        ConvGeometry { kernel: 4, stride: 2, before: 1, after: 1 };

    /// 3x3 over patches of so many pixels along a side: what they are made into is linear.
    pub(crate) const fn patches(side: usize) -> ConvGeometry {
        ConvGeometry { kernel: 3 * side, stride: side, before: side, after: side }
    }

    /// Stride 1, size kept, for an odd side.
    pub(crate) const fn same(kernel: usize) -> ConvGeometry {
        ConvGeometry { kernel, stride: 1, before: kernel / 2, after: kernel / 2 }
    }

    /// Output pixels along a side of `input`.
    pub(crate) fn output(&self, input: usize) -> usize {
        let rest = (input + self.before + self.after).checked_sub(self.kernel);
        rest.map_or(0, |rest| rest / self.stride + 1)
    }

    /// A convolution without a bias.
    pub(crate) const fn unbiased(self) -> ConvSpec {
        ConvSpec { bias: false, ..self.named(["weight", "bias"]) }
    }

    /// A convolution whose weight and bias have these names.
    pub(crate) const fn named(self, parameters: [&'static str; 2]) -> ConvSpec {
        ConvSpec { geometry: self, bias: true, parameters }
    }
}

/// A convolution: where its window goes, and which parameters it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvSpec {
    /// Of the window.
    pub geometry: ConvGeometry,
    /// Whether a bias is added.
    pub bias: bool,
    /// What weight and bias are called, after the layer's name and a dot.
    pub parameters: [&'static str; 2],
}

impl From<ConvGeometry> for ConvSpec {
    fn from(geometry: ConvGeometry) -> ConvSpec {
        geometry.named(["weight", "bias"])
    }
}

/// Groups and epsilon of a GroupNorm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Number of groups; divides the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether what is normalised, with a weight and a bias of its own (`norm_layer`), is scaled and
    /// shifted at every pixel by what is linear in the codes there (`conv_y`, `conv_b`): MoVQ's
    /// spatial norm.
    pub by_codes: bool,
}

impl NormSpec {
    /// A plain one.
    pub fn new(groups: usize, eps: f64) -> NormSpec {
        NormSpec { groups, eps, by_codes: false }
    }
}

/// What a network takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Io {
    /// Of an image, 1 or 3.
    pub channels: usize,
    /// Channels of what the quantizer takes and gives: the length of a code, or the number of
    /// codes where it takes their logits.
    pub dim: usize,
}

impl From<&ModelConfig> for Io {
    fn from(config: &ModelConfig) -> Io {
        let quantizer = &config.quantizer;
        let dim = match quantizer.rule {
            QuantizerRule::Logits => quantizer.codes,
            _ => quantizer.dim,
        };
        Io { channels: config.pixels.channels, dim }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_round_as_the_padding_says() {
        let sizes = |geometry: ConvGeometry| [1, 2, 7, 8].map(|size| geometry.output(size));
        assert_eq!(sizes(ConvGeometry::SAME_3), [1, 2, 7, 8]);
        assert_eq!(sizes(ConvGeometry::HALVE_3), [0, 1, 3, 4]);
        assert_eq!(sizes(ConvGeometry::HALVE_UP_3), [1, 1, 4, 4]);
        assert_eq!(sizes(ConvGeometry::HALVE_4), [0, 1, 3, 4]);
        assert_eq!(ConvGeometry::patches(1), ConvGeometry::SAME_3);
        assert_eq!(sizes(ConvGeometry::patches(2)), [0, 1, 3, 4]);
    }
}
