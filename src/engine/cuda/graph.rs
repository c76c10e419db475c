//! Owns a convolution as one of cuDNN's graphs: bfloat16 maps in NHWC, float32 sums, bias and residual
//! fused, padding that differs before and after. Must not know: by which kernel it runs.
//!
//! Descriptors' attributes follow NVIDIA's "cuDNN Backend API" reference.

use std::ffi::c_void;

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::choice::Target;
use super::descriptor::Descriptor;
use super::program::ConvShape;
use crate::error::Result;

const BF16: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16;
const F32: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
/// What a graph calls its tensors.
const FROM: i64 = 1;
const WEIGHTS: i64 = 2;
const BIAS: i64 = 3;
const RESIDUAL: i64 = 4;
const TO: i64 = 5;
const SUMS: i64 = 6;
const ADDED: i64 = 7;

/// A tensor by its sizes as N, C, H, W, which lies as N, H, W, C.
fn tensor(id: i64, [n, c, h, w]: [usize; 4], element: sys::cudnnDataType_t) -> Result<Descriptor> {
    let sizes = [n, c, h, w].map(|size| size as i64);
    let strides = [h * w * c, 1, w * c, c].map(|stride| stride as i64);
    // Between the operations of a graph float32 exists in registers only.
    let inner = element == F32;
    let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
    tensor
        .data_type(Attribute::CUDNN_ATTR_TENSOR_DATA_TYPE, element)?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_DIMENSIONS, &sizes)?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_STRIDES, &strides)?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[16])?
        .set(Attribute::CUDNN_ATTR_TENSOR_IS_VIRTUAL, Type::CUDNN_TYPE_BOOLEAN, &[inner])?;
    tensor.finalize()
}

/// `to = from + what` in float32.
fn addition(from: &Descriptor, what: &Descriptor, to: &Descriptor) -> Result<Descriptor> {
    let mode = [sys::cudnnPointwiseMode_t::CUDNN_POINTWISE_ADD];
    let rule = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
    rule.set(Attribute::CUDNN_ATTR_POINTWISE_MODE, Type::CUDNN_TYPE_POINTWISE_MODE, &mode)?
        .data_type(Attribute::CUDNN_ATTR_POINTWISE_MATH_PREC, F32)?;
    let rule = rule.finalize()?;
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
    operation
        .link(Attribute::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &rule)?
        .link(Attribute::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, from)?
        .link(Attribute::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, what)?
        .link(Attribute::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, to)?;
    operation.finalize()
}

fn convolution(
    s: &ConvShape,
    from: &Descriptor,
    weights: &Descriptor,
    to: &Descriptor,
) -> Result<Descriptor> {
    let pair = |value: usize| [value as i64; 2];
    let mode = [sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION];
    let rule = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
    rule.data_type(Attribute::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, F32)?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_CONV_MODE, Type::CUDNN_TYPE_CONVOLUTION_MODE, &mode)?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2])?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &pair(s.before))?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &pair(s.after))?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_DILATIONS, &pair(1))?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &pair(s.stride))?;
    let rule = rule.finalize()?;
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?;
    let float = Type::CUDNN_TYPE_FLOAT;
    operation
        .link(Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &rule)?
        .link(Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, from)?
        .link(Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weights)?
        .link(Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, to)?
        .set(Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, float, &[1f32])?
        .set(Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, float, &[0f32])?;
    operation.finalize()
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
    let mut operations = vec![convolution(s, &from, &weights, &sums)?];
    if s.residual {
        let added = tensor(ADDED, out, F32)?;
        let residual = tensor(RESIDUAL, out, BF16)?;
        operations.push(addition(&sums, &residual, &added)?);
        operations.push(addition(&added, &bias, &to)?);
    } else {
        operations.push(addition(&sums, &bias, &to)?);
    }
    let raw: Vec<_> = operations.iter().map(|operation| operation.0).collect();
    let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
    target.tell(&graph, [Some(Attribute::CUDNN_ATTR_OPERATIONGRAPH_HANDLE), None])?;
    let kind = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
    graph.set(Attribute::CUDNN_ATTR_OPERATIONGRAPH_OPS, kind, &raw)?;
    // A finalized descriptor holds what it was made of.
    graph.finalize()
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
    let mut ids = vec![FROM, WEIGHTS, BIAS, TO];
    let mut pointers = vec![at.from, at.weights, at.bias, at.to];
    if let Some(residual) = at.residual {
        ids.push(RESIDUAL);
        pointers.push(residual);
    }
    // Device addresses are pointers to cuDNN.
    let pointers: Vec<*mut c_void> = pointers.iter().map(|p| *p as *mut c_void).collect();
    let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
    let kind = Type::CUDNN_TYPE_VOID_PTR;
    pack.set(Attribute::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, kind, &pointers)?
        .sizes(Attribute::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &ids)?
        .set(Attribute::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, kind, &[workspace as *mut c_void])?;
    pack.finalize()
}
