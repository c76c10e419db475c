//! Owns a convolution as one of cuDNN's graphs: bfloat16 maps in NHWC, float32 sums, bias and residual
//! fused, padding that differs before and after. Must not know: by which kernel it runs.

use super::program::ConvShape;
use crate::error::Result;
use crate::nvidia::choice::Target;
use crate::nvidia::descriptor::Descriptor;
use crate::nvidia::graph::{self, Element, F32, Layout, Product, Window, addition, convolution};

const BF16: Element = Element::CUDNN_DATA_BFLOAT16;
/// What a graph calls its tensors.
const FROM: i64 = 1;
const WEIGHTS: i64 = 2;
const BIAS: i64 = 3;
const RESIDUAL: i64 = 4;
const TO: i64 = 5;
const SUMS: i64 = 6;
const ADDED: i64 = 7;

/// Between the operations of a graph float32 exists in registers only.
fn tensor(id: i64, sizes: [usize; 4], element: Element) -> Result<Descriptor> {
    graph::tensor(id, &Layout::channels_last(sizes), element, element == F32)
}

/// The operations of a shape as one graph. The residual comes before the bias: for the other order
/// cuDNN has no precompiled engine, only such as it compiles when it plans.
pub(super) fn graph(target: &Target, s: &ConvShape) -> Result<Descriptor> {
    let (height, width) = s.output();
    let out = [s.images, s.outputs, height, width];
    let from = tensor(FROM, [s.images, s.inputs, s.height, s.width], BF16)?;
    let weights = tensor(WEIGHTS, [s.outputs, s.inputs, s.kernel, s.kernel], BF16)?;
    let bias = tensor(BIAS, [1, s.outputs, 1, 1], BF16)?;
    let sums = tensor(SUMS, out, F32)?;
    let to = tensor(TO, out, BF16)?;
    let window = Window { stride: s.stride, before: [s.before; 2], after: [s.after; 2] };
    let mut operations = vec![convolution(Product::Forward, &window, [&from, &weights, &sums])?];
    if s.residual {
        let added = tensor(ADDED, out, F32)?;
        let residual = tensor(RESIDUAL, out, BF16)?;
        operations.push(addition(&sums, &residual, &added)?);
        operations.push(addition(&added, &bias, &to)?);
    } else {
        operations.push(addition(&sums, &bias, &to)?);
    }
    graph::graph(target, &operations)
}

/// Device addresses of a convolution.
pub(super) struct Addresses {
    pub from: u64,
    pub weights: u64,
    pub bias: u64,
    pub residual: Option<u64>,
    pub to: u64,
}

/// The addresses of a run, which stay valid until it is done.
pub(super) fn pack(at: &Addresses, workspace: u64) -> Result<Descriptor> {
    let mut places = vec![(FROM, at.from), (WEIGHTS, at.weights), (BIAS, at.bias), (TO, at.to)];
    places.extend(at.residual.map(|residual| (RESIDUAL, residual)));
    graph::pack(&places, workspace)
}
