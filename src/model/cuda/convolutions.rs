//! Owns convolutions of training through cuDNN: which graph each is, which configuration computes it, and
//! running that. Must not know: candle's tensors, what is done where cuDNN has no plan.
//!
//! Maps and weights are float32 and lie as training holds them: images, channels, height, width. The
//! configuration is cuDNN's first that sums in one order. None is timed: one version of cuDNN on one kind of
//! card computes the same bits in every run.

use std::collections::BTreeMap;

use cudarc::driver::CudaStream;

use crate::error::{Error, Result};
use crate::model::conv_sizes::ConvSizes;
use crate::nvidia::choice::Target;
use crate::nvidia::descriptor::Descriptor;
pub use crate::nvidia::graph::Product;
use crate::nvidia::graph::{F32, Layout, Window, convolution, graph, pack, tensor};
use crate::nvidia::handle::Handle;
use crate::nvidia::plan::Plan;

/// What a graph calls x, the weight and y, or their gradients.
const IDS: [i64; 3] = [1, 2, 3];

/// Workspace that a configuration may take beside copies of its tensors in another order: some take
/// gigabytes to save a few products.
const WORKSPACE_MAX: usize = 64 << 20;

/// One of a convolution's three products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Convolution {
    /// Which one.
    pub product: Product,
    /// Of the convolution, whichever product it is.
    pub sizes: ConvSizes,
    /// Whether factors may be rounded to TF32, 10 bits behind the point, which tensor cores take.
    pub tf32: bool,
}

impl Convolution {
    /// Those of x, the weight and y.
    fn layouts(&self) -> [Layout; 3] {
        let g = &self.sizes;
        [
            [g.batch, g.channels, g.height, g.width],
            [g.filters, g.channels, g.kernel_h, g.kernel_w],
            [g.batch, g.filters, g.out_h, g.out_w],
        ]
        .map(Layout::planes)
    }

    /// Images, channels and pixels of what is computed where that is a map.
    #[cfg(feature = "candle-cuda")]
    pub(super) fn output(&self) -> [usize; 3] {
        let g = &self.sizes;
        match self.product {
            Product::InputGradient => [g.batch, g.channels, g.height * g.width],
            _ => [g.batch, g.filters, g.out_h * g.out_w],
        }
    }

    /// Elements of what is computed.
    #[cfg(feature = "candle-cuda")]
    pub(super) fn outputs(&self) -> usize {
        match self.product {
            Product::WeightGradient => self.sizes.weight_shape().elem_count(),
            _ => self.output().iter().product(),
        }
    }

    /// Zeros after the map are as many as before it where that gives y its size, for which there are more
    /// kernels; else as many as the last window reaches.
    fn window(&self) -> Window {
        let g = &self.sizes;
        let after = |size: usize, kernel: usize, out: usize| {
            let rest = (size + 2 * g.before).checked_sub(kernel);
            match rest.is_some_and(|rest| rest / g.stride + 1 == out) {
                true => g.before,
                false => ((out - 1) * g.stride + kernel).saturating_sub(size + g.before),
            }
        };
        let after = [after(g.height, g.kernel_h, g.out_h), after(g.width, g.kernel_w, g.out_w)];
        Window { stride: g.stride, before: [g.before; 2], after }
    }

    fn graph(&self, target: &Target) -> Result<Descriptor> {
        let layouts = self.layouts();
        let made = |at: usize| tensor(IDS[at], &layouts[at], F32, false);
        let [x, weight, y] = [made(0)?, made(1)?, made(2)?];
        graph(target, &[convolution(self.product, &self.window(), [&x, &weight, &y])?])
    }

    /// The plan; None where cuDNN has none that may be taken.
    fn plan(&self, target: &Target) -> Result<Option<Plan>> {
        let copies: usize = self.layouts().iter().map(Layout::elements).sum();
        let workspace_max = size_of::<f32>() * copies + WORKSPACE_MAX;
        Plan::first(target, &self.graph(target)?, self.tf32, workspace_max)
    }
}

/// cuDNN on a GPU, with the plans of all it has met.
pub struct Convolutions {
    plans: BTreeMap<Convolution, Option<Plan>>,
    /// Destroyed after what was made with it.
    handle: Handle,
}

impl Convolutions {
    /// On the GPU that is this thread's.
    ///
    /// # Errors
    /// What cuDNN refuses.
    pub fn new() -> Result<Convolutions> {
        Ok(Convolutions { plans: BTreeMap::new(), handle: Handle::new()? })
    }

    /// Bytes of workspace that a convolution needs; None where cuDNN can't do it, or not in one order.
    ///
    /// # Errors
    /// No memory to plan it.
    pub fn workspace(&mut self, convolution: &Convolution) -> Result<Option<usize>> {
        if !self.plans.contains_key(convolution) {
            let plan = match convolution.plan(&Target::Handle(self.handle.0)) {
                Err(error @ Error::OutOfMemory(_)) => return Err(error),
                // A graph that cuDNN refuses is one that it has no plan for.
                found => found.unwrap_or(None),
            };
            self.plans.insert(*convolution, plan);
        }
        Ok(self.plans[convolution].as_ref().map(|plan| plan.workspace_bytes))
    }

    /// Queues a convolution on a stream, between the addresses of x, the weight and y, each a multiple of
    /// [`ALIGNMENT`](crate::nvidia::graph::ALIGNMENT). `workspace` has the bytes that [`Self::workspace`]
    /// said.
    ///
    /// # Errors
    /// What cuDNN refuses.
    pub fn run(
        &self,
        stream: &CudaStream,
        convolution: &Convolution,
        addresses: [u64; 3],
        workspace: u64,
    ) -> Result<()> {
        let Some(Some(plan)) = self.plans.get(convolution) else {
            return Err(Error::internal(format!("no plan for {convolution:?}")));
        };
        self.handle.work_on(stream)?;
        let places: Vec<(i64, u64)> = IDS.into_iter().zip(addresses).collect();
        plan.run(&self.handle, &pack(&places, workspace)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::libraries::Library;
    use crate::model::conv_sizes::Padding;
    use crate::nvidia::handle::version;

    /// Images, channels, side, filters, window, stride, padding before and after.
    const MET: [[usize; 8]; 14] = [
        // The f16 VQGAN at 256 pixels: first, inner, stride 2 with and without its zeros, narrowest, last.
        [8, 3, 256, 128, 3, 1, 1, 1],
        [8, 128, 256, 128, 3, 1, 1, 1],
        [8, 128, 257, 128, 3, 2, 0, 0],
        [8, 128, 256, 128, 3, 2, 0, 1],
        [8, 512, 16, 512, 3, 1, 1, 1],
        [8, 512, 16, 512, 1, 1, 0, 0],
        [8, 128, 256, 3, 3, 1, 1, 1],
        // The discriminator.
        [8, 3, 256, 64, 4, 2, 1, 1],
        [8, 64, 128, 128, 4, 2, 1, 1],
        [8, 256, 32, 512, 4, 1, 1, 1],
        [8, 512, 31, 1, 4, 1, 1, 1],
        // LPIPS.
        [8, 3, 256, 64, 3, 1, 1, 1],
        // The VQ-VAE at 64 pixels.
        [64, 64, 32, 128, 4, 2, 1, 1],
        [64, 128, 16, 32, 3, 1, 1, 1],
    ];

    fn sizes([n, c, side, o, k, stride, before, after]: [usize; 8]) -> ConvSizes {
        let padding = Padding { before, after };
        ConvSizes::of(&[n, c, side, side], &[o, c, k, k], stride, padding).unwrap()
    }

    #[test]
    fn a_window_has_the_zeros_that_its_output_takes() {
        for (shape, after) in [
            ([1, 1, 8, 1, 3, 1, 1, 1], 1),
            ([1, 1, 8, 1, 3, 2, 0, 1], 1),
            // The last row is never read.
            ([1, 1, 8, 1, 3, 2, 0, 0], 0),
            ([1, 1, 9, 1, 4, 2, 1, 1], 1),
            ([1, 1, 8, 1, 1, 1, 0, 0], 0),
            ([1, 1, 7, 1, 5, 3, 1, 3], 3),
            ([1, 1, 8, 1, 4, 1, 2, 1], 1),
        ] {
            let sizes = sizes(shape);
            let convolution = Convolution { product: Product::Forward, sizes, tf32: false };
            assert_eq!(convolution.window().after, [after; 2], "{shape:?}");
        }
    }

    /// Planned for a card that isn't there.
    #[test]
    fn cudnn_plans_every_convolution_of_training_for_an_h200() {
        if !Library::Cudnn.is_present() || version() < [9, 8, 0] {
            eprintln!("skipped: no {} of 9.8 or later", Library::Cudnn.file());
            return;
        }
        let target = Target::h200();
        for shape in MET {
            for product in [Product::Forward, Product::InputGradient, Product::WeightGradient] {
                for tf32 in [false, true] {
                    let convolution = Convolution { product, sizes: sizes(shape), tf32 };
                    let plan = convolution.plan(&target).unwrap().expect("a plan");
                    println!("{shape:?} {product:?} tf32 {tf32}: {} bytes", plan.workspace_bytes);
                }
            }
        }
    }
}
