//! Owns a convolution's weights in the form the chosen kernel wants, packed when first needed.
//! Must not know: the network around it.

use std::sync::OnceLock;

use candle_core::{Storage, Tensor};

use super::kernels::{
    Buffer, DirectWeights, Input, Level, Output, Window, WinogradWeights, channel_stride, direct,
    pointwise, winograd, winograd_cost,
};
use crate::error::{Error, Result};

/// Below this many input channels the tiles' transforms cost more than they save.
const WINOGRAD_INPUTS_MIN: usize = 16;

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
    /// `[outputs, inputs, height, width]`, contiguous float32 on the CPU; shares the checkpoint's memory.
    weight: Tensor,
    /// By output, zero up to the channel stride.
    bias: Buffer,
    direct: OnceLock<DirectWeights>,
    winograd: OnceLock<WinogradWeights>,
}

/// How a layer is computed for one size of map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 1x1, any number of pixels in a row.
    Pointwise,
    /// As defined.
    Direct,
    /// F(4x4, 3x3) or, with stride 2, F(4x4, 2x2) on the phases.
    Winograd,
}

impl Layer {
    /// `weight` as PyTorch has it; without `bias` it is zero.
    pub fn new(name: &str, weight: Tensor, bias: Option<&Tensor>, window: Window) -> Result<Layer> {
        let (outputs, inputs, _, _) = weight.dims4()?;
        let mut padded = Buffer::zeroed(channel_stride(outputs));
        if let Some(bias) = bias {
            padded[..outputs].copy_from_slice(&bias.to_vec1::<f32>()?);
        }
        Ok(Layer {
            name: name.to_owned(),
            inputs,
            outputs,
            window,
            weight: weight.contiguous()?,
            bias: padded,
            direct: OnceLock::new(),
            winograd: OnceLock::new(),
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
    /// the multiplications or more, since their transforms cost time too.
    pub fn algorithm(&self, height: usize, width: usize) -> Algorithm {
        if self.window == Window::POINT {
            return Algorithm::Pointwise;
        }
        let tiles = height.div_ceil(4) * width.div_ceil(4);
        let definition = self.window.height * self.window.width * height * width;
        let saves = winograd_cost(self.window).is_some_and(|c| 3 * c * tiles <= 2 * definition);
        if self.inputs >= WINOGRAD_INPUTS_MIN && saves {
            Algorithm::Winograd
        } else {
            Algorithm::Direct
        }
    }

    /// Packs the weights for an algorithm, unless they are.
    pub fn prepare(&self, level: Level, algorithm: Algorithm) -> Result<()> {
        let done = match algorithm {
            Algorithm::Winograd => self.winograd.get().is_some(),
            Algorithm::Pointwise | Algorithm::Direct => self.direct.get().is_some(),
        };
        if done {
            return Ok(());
        }
        let (storage, layout) = self.weight.storage_and_layout();
        let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            return Err(Error::invalid(format!("weights of {} are not on the CPU", self.name)));
        };
        let weight = &storage.as_slice::<f32>()?[start..end];
        let (outputs, inputs) = (self.outputs, self.inputs);
        // Another thread may have packed the same meanwhile: equal, so either one serves.
        match algorithm {
            Algorithm::Winograd => {
                let packed = WinogradWeights::new(level, weight, outputs, inputs, self.window);
                let _ = self.winograd.set(packed);
            }
            Algorithm::Pointwise | Algorithm::Direct => {
                let packed = DirectWeights::new(level, weight, outputs, inputs, self.window);
                let _ = self.direct.set(packed);
            }
        }
        Ok(())
    }

    /// Runs the convolution. `prepare` has been called for the algorithm.
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
            Algorithm::Winograd => {
                winograd(self.winograd.get().expect(PREPARED), input, output, size, scratch);
            }
            Algorithm::Pointwise => {
                pointwise(self.direct.get().expect(PREPARED), input, output, scratch);
            }
            Algorithm::Direct => {
                direct(self.direct.get().expect(PREPARED), input, output, size, scratch);
            }
        }
    }
}
