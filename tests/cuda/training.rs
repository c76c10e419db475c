//! Holds convolutions of training through cuDNN against the processor's, in a process that finds the
//! stand-ins.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use vqtok::internals::model::conv::{ConvSizes, Padding, conv2d};
use vqtok::internals::model::cuda::{Convolution, Convolutions, Product};

use crate::inside::run_test;
use crate::stand_ins::*;
use crate::support::*;

const PRODUCTS: [Product; 3] = [Product::Forward, Product::InputGradient, Product::WeightGradient];

/// Images, channels, height, width, filters, window, stride, padding before and after.
const SHAPES: [[usize; 9]; 6] = [
    [2, 3, 9, 11, 5, 3, 1, 1, 1],
    [1, 17, 8, 7, 9, 3, 2, 0, 1],
    [3, 5, 12, 13, 4, 4, 2, 1, 1],
    [2, 6, 5, 6, 3, 1, 1, 0, 0],
    [1, 2, 10, 7, 6, 4, 1, 1, 1],
    [1, 4, 8, 9, 2, 3, 2, 0, 0],
];

#[test]
fn products_by_cudnn_are_those_of_the_processor() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    let job = Job::new(0);
    let counts = run_test("training::inside", &job, &stand_ins, "products", &[]);
    assert_eq!(counts.of("convolutions"), (SHAPES.len() * PRODUCTS.len() * 3) as i64);
    let with = [("FAKE_CUDNN_COMPILED", "1")];
    let counts = run_test("training::inside", &job, &stand_ins, "none", &with);
    assert_eq!(counts.of("convolutions"), 0);
}

/// Not a test of its own: what the other runs in a process that finds the stand-ins.
#[test]
#[ignore = "run by another test, on the stand-ins"]
fn inside() {
    let Ok(what) = std::env::var("VQTOK_TEST_INSIDE") else { return };
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    // SAFETY: there is no other stream.
    unsafe { context.disable_event_tracking() };
    let mut cudnn = Convolutions::new().unwrap();
    for (index, shape) in SHAPES.iter().enumerate() {
        let scene = Scene::new(*shape, index as u64);
        for product in PRODUCTS {
            if what == "none" {
                assert_eq!(cudnn.workspace(&scene.convolution(product, false)).unwrap(), None);
                continue;
            }
            scene.check(&mut cudnn, &stream, product);
        }
    }
}

/// A convolution with what the processor makes of it.
struct Scene {
    sizes: ConvSizes,
    /// x, weight, y, and the gradients of all three.
    values: [Vec<f32>; 6],
}

impl Scene {
    fn new([n, c, h, w, o, k, stride, before, after]: [usize; 9], seed: u64) -> Scene {
        let mut random = random::Random(seed + 1);
        let mut var = |shape: &[usize]| {
            let count = shape.iter().product();
            let values: Vec<f32> =
                (0..count).map(|_| random.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0).collect();
            Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let padding = Padding { before, after };
        let (x, weight) = (var(&[n, c, h, w]), var(&[o, c, k, k]));
        let y = conv2d(&x, &weight, None, stride, padding).unwrap();
        let dy = var(y.dims());
        let gradients = (&y * dy.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        let [dx, dw] = [&x, &weight].map(|var| gradients.get(var).unwrap().clone());
        let tensors = [x.as_tensor(), weight.as_tensor(), &y, &dx, &dw, dy.as_tensor()];
        let values = tensors.map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        Scene { sizes: ConvSizes::of(x.dims(), weight.dims(), stride, padding).unwrap(), values }
    }

    fn convolution(&self, product: Product, tf32: bool) -> Convolution {
        Convolution { product, sizes: self.sizes, tf32 }
    }

    fn check(&self, cudnn: &mut Convolutions, stream: &Arc<CudaStream>, product: Product) {
        let [x, w, y, dx, dw, dy] = &self.values;
        // Inputs where they belong among x, weight and y; None for what is computed.
        let (inputs, wanted) = match product {
            Product::Forward => ([Some(x), Some(w), None], y),
            Product::InputGradient => ([None, Some(w), Some(dy)], dx),
            Product::WeightGradient => ([Some(x), None, Some(dy)], dw),
        };
        let [once, again, rounded] = [false, false, true].map(|tf32| {
            let convolution = self.convolution(product, tf32);
            computed(cudnn, stream, &convolution, inputs, wanted.len())
        });
        assert!(once == again, "{product:?} {:?} has other bits", self.sizes);
        let largest = wanted.iter().fold(0f32, |largest, v| largest.max(v.abs()));
        let off = |mine: &[f32]| {
            let each = mine.iter().zip(wanted).map(|(mine, wanted)| (mine - wanted).abs());
            each.fold(0f32, |worst, off| if off >= worst { off } else { worst.max(off) }) / largest
        };
        assert!(off(&once) < 1e-6, "{product:?} {:?}: {}", self.sizes, off(&once));
        // Ten bits behind the point, and no more where they are allowed.
        let tf32 = off(&rounded);
        assert!((1e-5..2e-3).contains(&tf32), "{product:?} {:?}: {tf32}", self.sizes);
    }
}

/// What a convolution computes, of so many elements, all of which it writes.
fn computed(
    cudnn: &mut Convolutions,
    stream: &Arc<CudaStream>,
    convolution: &Convolution,
    inputs: [Option<&Vec<f32>>; 3],
    count: usize,
) -> Vec<f32> {
    let bytes = cudnn.workspace(convolution).unwrap().expect("a plan");
    // SAFETY: nobody but the convolution reads it; the stand-in fills it with NaN.
    let workspace: CudaSlice<u8> = unsafe { stream.alloc(bytes) }.unwrap();
    // SAFETY: written by the convolution before it is read; NaN where it isn't.
    let output: CudaSlice<f32> = unsafe { stream.alloc(count) }.unwrap();
    let inputs = inputs.map(|values| values.map(|values| stream.clone_htod(values).unwrap()));
    let addresses =
        inputs.each_ref().map(|slice| slice.as_ref().unwrap_or(&output).device_ptr(stream).0);
    let workspace = workspace.device_ptr(stream).0;
    cudnn.run(stream, convolution, addresses, workspace).unwrap();
    let values = stream.clone_dtoh(&output).unwrap();
    stream.synchronize().unwrap();
    assert!(values.iter().all(|value| value.is_finite()), "{convolution:?} leaves numbers out");
    values
}
