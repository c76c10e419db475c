//! Owns a convolution's weights in the form the chosen kernel wants, packed when first needed.
//! Must not know: the network around it.

use std::sync::OnceLock;

use candle_core::Tensor;

use super::kernels::{
    Buffer, DirectWeights, Input, Level, Output, Window, WinogradWeights, channel_stride, direct,
    pointwise, winograd, winograd_cost,
};
use crate::error::{Error, Result};
use crate::model::weights::Weight;

/// Below this many input channels the tiles' transforms cost more than they save.
const WINOGRAD_INPUTS_MIN: usize = 16;

/// For fewer tiles of 4x4 than this their weights, four times the window's, are too large.
const WINOGRAD4_TILES_MIN: usize = 32;

/// A convolution with its bias.
pub struct Layer {
    /// For messages and profiles.
    pub name: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Geometry.
    pub window: Window,
    /// `[outputs, inputs, height, width]`; read when it is packed.
    weight: Weight,
    /// By output, zero up to the channel stride.
    bias: Buffer,
    direct: OnceLock<DirectWeights>,
    winograd4: OnceLock<WinogradWeights>,
    winograd2: OnceLock<WinogradWeights>,
}

/// How a layer is computed for one size of map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 1x1, any number of pixels in a row.
    Pointwise,
    /// As defined.
    Direct,
    /// F(4x4, 3x3) or, with stride 2, F(4x4, 2x2) on the phases.
    Winograd4,
    /// F(2x2, 3x3).
    Winograd2,
}

impl Layer {
    /// `weight` as PyTorch has it; without `bias` it is zero.
    pub fn new(
        name: &str,
        weight: impl Into<Weight>,
        bias: Option<&Tensor>,
        window: Window,
    ) -> Result<Layer> {
        let weight = weight.into();
        let &[outputs, inputs, _, _] = weight.dims() else {
            let dims = weight.dims();
            return Err(Error::invalid(format!("`{name}` has shape {dims:?}, no convolution's")));
        };
        let mut padded = Buffer::zeroed(channel_stride(outputs));
        if let Some(bias) = bias {
            padded[..outputs].copy_from_slice(&bias.to_vec1::<f32>()?);
        }
        Ok(Layer {
            name: name.to_owned(),
            inputs,
            outputs,
            window,
            weight,
            bias: padded,
            direct: OnceLock::new(),
            winograd4: OnceLock::new(),
            winograd2: OnceLock::new(),
        })
    }

    /// Zero for each channel behind the last.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Multiplications and additions of the definition for an output of that many pixels.
    pub fn operations(&self, pixels: usize) -> f64 {
        let taps = self.window.height * self.window.width;
        2.0 * (taps * self.inputs * self.outputs) as f64 * pixels as f64
    }

    /// The kernel for an output of `height` x `width`: Winograd's where its tiles save a third of
    /// the multiplications or more, since their transforms cost time too. Small tiles on small maps:
    /// a layer there takes a sixth longer, 1 % of an image, but its weights less than half the
    /// memory and packing (`benches/results/2026-11-encode.md`).
    pub fn algorithm(&self, height: usize, width: usize) -> Algorithm {
        if self.window == Window::POINT {
            return Algorithm::Pointwise;
        }
        let definition = self.window.height * self.window.width * height * width;
        let tiles = |side| height.div_ceil(side) * width.div_ceil(side);
        let saves = |side| {
            winograd_cost(self.window, side).is_some_and(|c| 3 * c * tiles(side) <= 2 * definition)
        };
        if self.inputs < WINOGRAD_INPUTS_MIN {
            Algorithm::Direct
        } else if tiles(4) < WINOGRAD4_TILES_MIN && saves(2) {
            Algorithm::Winograd2
        } else if saves(4) {
            Algorithm::Winograd4
        } else {
            Algorithm::Direct
        }
    }

    /// Packs the weights for an algorithm, unless they are.
    pub fn prepare(&self, level: Level, algorithm: Algorithm) -> Result<()> {
        let done = match algorithm {
            Algorithm::Winograd4 => self.winograd4.get().is_some(),
            Algorithm::Winograd2 => self.winograd2.get().is_some(),
            Algorithm::Pointwise | Algorithm::Direct => self.direct.get().is_some(),
        };
        if done {
            return Ok(());
        }
        let (outputs, inputs) = (self.outputs, self.inputs);
        // Another thread may have packed the same meanwhile: equal, so either one serves.
        let winograd = |side: usize| {
            self.weight.read(|w| WinogradWeights::new(level, w, outputs, inputs, self.window, side))
        };
        match algorithm {
            Algorithm::Winograd4 => drop(self.winograd4.set(winograd(4)?)),
            Algorithm::Winograd2 => drop(self.winograd2.set(winograd(2)?)),
            Algorithm::Pointwise | Algorithm::Direct => {
                let pack = |w: &[f32]| DirectWeights::new(level, w, outputs, inputs, self.window);
                let _ = self.direct.set(self.weight.read(pack)?);
            }
        }
        Ok(())
    }

    /// Runs the convolution for the output's rows: `size` is how many, and their pixels. `prepare`
    /// has been called for the algorithm.
    pub fn run(
        &self,
        algorithm: Algorithm,
        input: Input<'_>,
        output: Output<'_>,
        size: (usize, usize),
        scratch: &mut Buffer,
    ) {
        // A plan is bound, which prepares all of its layers, before it runs.
        const PREPARED: &str = "layer not prepared";
        match algorithm {
            Algorithm::Winograd4 => {
                winograd(self.winograd4.get().expect(PREPARED), input, output, size, scratch);
            }
            Algorithm::Winograd2 => {
                winograd(self.winograd2.get().expect(PREPARED), input, output, size, scratch);
            }
            Algorithm::Pointwise => {
                let input = input.rows(output.first_row, size.0);
                pointwise(self.direct.get().expect(PREPARED), input, output, scratch);
            }
            Algorithm::Direct => {
                direct(self.direct.get().expect(PREPARED), input, output, size, scratch);
            }
        }
    }
}
