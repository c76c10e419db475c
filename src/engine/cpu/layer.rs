//! Owns a convolution's weights in the form the chosen kernel wants, packed when first needed or
//! ahead of that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::kernels::{
    Buffer, DirectWeights, Input, Isa, Output, Window, WinogradWeights, channel_stride, direct,
    pointwise, winograd, winograd_side,
};
use crate::model::topology::ConvGeometry;
use crate::util::panics;
use crate::weights::store::Weight;

/// A convolution with its bias.
pub(super) struct ConvLayer {
    /// For messages and profiles.
    pub name: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Where its window goes.
    pub geometry: ConvGeometry,
    /// `[outputs, inputs, height, width]`; read when it is packed.
    weight: Weight,
    /// By output, zero up to the channel stride.
    bias: Buffer,
    direct: OnceLock<Result<PackedConv, String>>,
    winograd4: OnceLock<Result<PackedConv, String>>,
    winograd2: OnceLock<Result<PackedConv, String>>,
}

/// A layer's weights as a kernel wants them.
pub(super) enum PackedConv {
    /// For `pointwise` and `direct`.
    Direct(DirectWeights),
    /// For `winograd`.
    Winograd(WinogradWeights),
}

/// How a layer is computed for one size of map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// 1x1, any number of pixels in a row.
    Pointwise,
    /// As defined.
    Direct,
    /// F(4x4, 3x3) or, with stride 2, F(4x4, 2x2) on the phases.
    Winograd4,
    /// F(2x2, 3x3).
    Winograd2,
}

impl ConvLayer {
    /// `weight` as PyTorch has it; without `bias` it is zero.
    pub(super) fn new(
        name: &str,
        weight: impl Into<Weight>,
        bias: Option<&Tensor>,
        geometry: ConvGeometry,
    ) -> Result<ConvLayer> {
        let weight = weight.into();
        let &[outputs, inputs, _, _] = weight.dims() else {
            let dims = weight.dims();
            return Err(Error::invalid(format!("`{name}` has shape {dims:?}, no convolution's")));
        };
        let mut padded = Buffer::zeroed(channel_stride(outputs));
        if let Some(bias) = bias {
            padded[..outputs].copy_from_slice(&bias.to_vec1::<f32>()?);
        }
        Ok(ConvLayer {
            name: name.to_owned(),
            inputs,
            outputs,
            geometry,
            weight,
            bias: padded,
            direct: OnceLock::new(),
            winograd4: OnceLock::new(),
            winograd2: OnceLock::new(),
        })
    }

    /// x W^T + b of every pixel, `[outputs, inputs]`, as a convolution with a window of one.
    pub(super) fn linear(name: &str, weight: Tensor, bias: Option<&Tensor>) -> Result<ConvLayer> {
        let (outputs, inputs) = weight.dims2()?;
        let weight = weight.reshape((outputs, inputs, 1, 1))?;
        ConvLayer::new(name, weight, bias, ConvGeometry::POINT)
    }

    /// Zero for each channel after the last.
    pub(super) fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Multiplications and additions of the definition for an output of that many pixels.
    pub(super) fn operations(&self, pixels: usize) -> f64 {
        let taps = self.geometry.kernel * self.geometry.kernel;
        2.0 * (taps * self.inputs * self.outputs) as f64 * pixels as f64
    }

    /// The kernel for an output of `height` x `width`.
    pub(super) fn algorithm(&self, height: usize, width: usize) -> Algorithm {
        if self.geometry == ConvGeometry::POINT {
            return Algorithm::Pointwise;
        }
        match winograd_side(self.window(), self.inputs, (height, width)) {
            None => Algorithm::Direct,
            Some(2) => Algorithm::Winograd2,
            Some(_) => Algorithm::Winograd4,
        }
    }

    /// As kernels take it, which know the zeros after the last pixel by the output's size.
    fn window(&self) -> Window {
        let ConvGeometry { kernel, stride, before, .. } = self.geometry;
        Window { height: kernel, width: kernel, stride, padding: before }
    }

    fn slot(&self, algorithm: Algorithm) -> &OnceLock<Result<PackedConv, String>> {
        match algorithm {
            Algorithm::Winograd4 => &self.winograd4,
            Algorithm::Winograd2 => &self.winograd2,
            Algorithm::Pointwise | Algorithm::Direct => &self.direct,
        }
    }

    /// The weights for an algorithm: packed by now, or while the caller waits. Packing takes no
    /// other thread: one that waited for the pool could be given work that waits for the packing.
    ///
    /// # Errors
    /// Weights that can't be read.
    pub(super) fn packed(&self, isa: Isa, algorithm: Algorithm) -> Result<&PackedConv> {
        let packed = self.slot(algorithm).get_or_init(|| {
            self.weight.read(|w| self.pack(isa, algorithm, w)).map_err(|e| e.to_string())
        });
        packed.as_ref().map_err(|reason| Error::invalid(reason.clone()))
    }

    fn pack(&self, isa: Isa, algorithm: Algorithm, weight: &[f32]) -> PackedConv {
        let (outputs, inputs, window) = (self.outputs, self.inputs, self.window());
        let winograd = |side| {
            PackedConv::Winograd(WinogradWeights::new(isa, weight, outputs, inputs, window, side))
        };
        match algorithm {
            Algorithm::Winograd4 => winograd(4),
            Algorithm::Winograd2 => winograd(2),
            Algorithm::Pointwise | Algorithm::Direct => {
                PackedConv::Direct(DirectWeights::new(isa, weight, outputs, inputs, window))
            }
        }
    }
}

impl PackedConv {
    /// Runs the convolution for the output's rows: `size` is how many, and their pixels.
    pub(super) fn run(
        &self,
        input: Input<'_>,
        output: Output<'_>,
        size: (usize, usize),
        scratch: &mut Buffer,
    ) {
        match self {
            PackedConv::Winograd(weights) => winograd(weights, input, output, size, scratch),
            PackedConv::Direct(weights) if weights.window() == Window::POINT => {
                pointwise(weights, input.rows(output.first_row, size.0), output, scratch);
            }
            PackedConv::Direct(weights) => direct(weights, input, output, size, scratch),
        }
    }
}

/// Begins to pack what is needed soon, in that order, on threads of its own: the first image runs
/// through the first layers meanwhile, and checking a checkpoint takes as long as packing it. One
/// thread less than the pool's: that one is the caller's.
pub(super) fn pack_ahead(isa: Isa, layers: impl Iterator<Item = (Arc<ConvLayer>, Algorithm)>) {
    let missing = layers.filter(|(layer, algorithm)| layer.slot(*algorithm).get().is_none());
    // A layer that is dropped before its turn needs no packing.
    let missing = missing.map(|(layer, algorithm)| (Arc::downgrade(&layer), algorithm));
    let missing: Arc<[(Weak<ConvLayer>, Algorithm)]> = missing.collect();
    let next = Arc::new(AtomicUsize::new(0));
    let threads = rayon::current_num_threads().saturating_sub(1).min(missing.len());
    for _ in 0..threads {
        let (missing, next) = (Arc::clone(&missing), Arc::clone(&next));
        let work = move || {
            let _at = panics::at("pack weights", None);
            while let Some((layer, algorithm)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Some(layer) = layer.upgrade() else { return };
                // Whoever needs the layer is told why it couldn't be packed.
                let _ = layer.packed(isa, *algorithm);
            }
        };
        // Without the thread the layers are packed where they are needed.
        let _ = std::thread::Builder::new().name("vqtok-packing".into()).spawn(work);
    }
}
