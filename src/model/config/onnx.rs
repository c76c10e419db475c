//! Owns the settings of a tokenizer in ONNX files: what the files say of their inputs and outputs, and
//! what is said about them. Must not know: how a graph runs.

use std::path::PathBuf;

use serde::Serialize;

use super::architecture::Parts;

/// A network in ONNX files: `encoder.onnx`, pixels to codes, and `decoder.onnx`, codes to pixels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnnxConfig {
    /// Pixels to codes.
    pub encoder: Option<OnnxNetwork>,
    /// Codes to pixels.
    pub decoder: Option<OnnxNetwork>,
    /// The grid (h, w) of the first level, where it is said or is the same whatever the size.
    pub grid: Option<[usize; 2]>,
    /// Pixels a token covers along each side (height and width), a level each, the finest first. Until
    /// an engine has run the network: as said, else one pixel.
    pub factors: Vec<[usize; 2]>,
}

/// One of the two graphs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnnxNetwork {
    /// Where it lies.
    #[serde(skip)]
    pub file: PathBuf,
    /// What most of its weights are held in, as shards say it: `f32`, `f16`.
    #[serde(skip)]
    pub precision: &'static str,
    /// What pixels go in by or come out of.
    pub pixels: OnnxPixels,
    /// What codes come out of or go in by, a level each.
    pub tokens: Vec<OnnxTensor>,
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnnxTensor {
    /// Its name in the graph.
    pub name: String,
    /// What it is made of.
    pub element: OnnxElement,
    /// Its sides, None each where they vary; None altogether where the file doesn't say.
    pub dims: Option<Vec<Option<usize>>>,
}

/// Types of numbers that pixels and codes come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum OnnxElement {
    F16,
    F32,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
}

/// How pictures stand in a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OnnxPixels {
    /// The input or output.
    pub tensor: OnnxTensor,
    /// The order of its sides.
    pub layout: PixelLayout,
    /// 1 or 3.
    pub channels: usize,
    /// Between pixels of 0 to 255 and its floats; None where that isn't said. Bytes go as they are.
    pub scale: Option<PixelScale>,
}

/// The order of a picture tensor's sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PixelLayout {
    /// Images, channels, height, width.
    Nchw,
    /// Images, height, width, channels.
    Nhwc,
}

/// `(pixel - mean) / std` on the way in, `float * std + mean` on the way out; a number a channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PixelScale {
    /// In pixels of 0 to 255.
    pub mean: Vec<f32>,
    /// In pixels of 0 to 255.
    pub std: Vec<f32>,
}

impl OnnxElement {
    /// Whether codes can be of it.
    pub fn is_integer(self) -> bool {
        !matches!(self, OnnxElement::F16 | OnnxElement::F32)
    }
}

impl PixelLayout {
    /// Where (channels, height, width) stand among the four sides.
    pub fn places(self) -> [usize; 3] {
        match self {
            PixelLayout::Nchw => [1, 2, 3],
            PixelLayout::Nhwc => [3, 1, 2],
        }
    }
}

impl OnnxTensor {
    /// The side at `place`, where it is fixed.
    pub fn side(&self, place: usize) -> Option<usize> {
        self.dims.as_ref().and_then(|dims| dims.get(place).copied().flatten())
    }
}

impl OnnxPixels {
    /// (height, width), each where it is fixed.
    pub fn sides(&self) -> [Option<usize>; 2] {
        let [_, height, width] = self.layout.places();
        [self.tensor.side(height), self.tensor.side(width)]
    }

    /// Images a run, where that is fixed.
    pub fn batch(&self) -> Option<usize> {
        self.tensor.side(0)
    }
}

impl OnnxConfig {
    /// Which graphs there are.
    pub fn parts(&self) -> Parts {
        match (&self.encoder, &self.decoder) {
            (Some(_), Some(_)) => Parts::Both,
            (_, None) => Parts::Encoder,
            (None, _) => Parts::Decoder,
        }
    }

    /// Grids of codes that an image gives.
    pub fn levels(&self) -> usize {
        self.factors.len()
    }

    /// Pixels a token of the finest level covers.
    pub fn factor(&self) -> [usize; 2] {
        self.factors.first().copied().unwrap_or([1, 1])
    }

    /// The grids for images of `height` x `width` pixels, or why the model can't take them.
    ///
    /// # Errors
    /// Another size than the file is made for, or one that is smaller than a token.
    pub fn grids(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        let network = self.encoder.as_ref().or(self.decoder.as_ref());
        let [fixed_h, fixed_w] = network.map_or([None, None], |network| network.pixels.sides());
        let [fh, fw] = self.factor();
        if let Some([h, w]) = self.grid {
            // What the grid stands for in pixels may be less than the picture.
            let whole = (h.saturating_mul(fh), w.saturating_mul(fw));
            let fits =
                |fixed: Option<usize>, side, whole| fixed.unwrap_or(side) == side || side == whole;
            if fits(fixed_h, height, whole.0) && fits(fixed_w, width, whole.1) {
                return Ok(vec![(h, w); self.levels()]);
            }
        }
        if fixed_h.is_some_and(|h| h != height) || fixed_w.is_some_and(|w| w != width) {
            let side = |fixed: Option<usize>| fixed.map_or("any".to_owned(), |n| n.to_string());
            return Err(format!(
                "{width}x{height} pixels where the model takes {}x{} only",
                side(fixed_w),
                side(fixed_h)
            ));
        }
        let grid = |&[fh, fw]: &[usize; 2]| (height / fh.max(1), width / fw.max(1));
        let grids: Vec<_> = self.factors.iter().map(grid).collect();
        match grids.iter().any(|&(h, w)| h == 0 || w == 0) {
            true => Err(format!("{width}x{height} pixels are smaller than one token ({fw}x{fh})")),
            false => Ok(grids),
        }
    }
}
