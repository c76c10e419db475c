//! Owns the parts of cuDNN's graphs: tensors, convolutions and their gradients, additions. Must not know:
//! which operations a graph is of, by which kernels it runs.
//!
//! Descriptors' attributes follow NVIDIA's "cuDNN Backend API" reference.

use std::ffi::c_void;

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::choice::Target;
use super::descriptor::Descriptor;
use crate::error::Result;

pub(crate) use sys::cudnnDataType_t as Element;

/// What sums are held in.
pub(crate) const F32: Element = Element::CUDNN_DATA_FLOAT;
/// Of the address of every tensor.
pub(crate) const ALIGNMENT: u64 = 16;

/// A tensor's sizes N, C, H, W, and how many elements lie between neighbours along each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    sizes: [usize; 4],
    strides: [usize; 4],
}

impl Layout {
    /// Which lies as N, C, H, W.
    pub(crate) fn planes(sizes: [usize; 4]) -> Layout {
        let [_, c, h, w] = sizes;
        Layout { sizes, strides: [c * h * w, h * w, w, 1] }
    }

    /// Which lies as N, H, W, C.
    pub(crate) fn channels_last(sizes: [usize; 4]) -> Layout {
        let [_, c, h, w] = sizes;
        Layout { sizes, strides: [h * w * c, 1, w * c, c] }
    }

    pub(crate) fn elements(&self) -> usize {
        self.sizes.iter().product()
    }
}

/// A tensor of a graph, by the number that it has there. `inner` ones lie between its operations and have
/// no memory.
pub(crate) fn tensor(
    id: i64,
    layout: &Layout,
    element: Element,
    inner: bool,
) -> Result<Descriptor> {
    let sizes = layout.sizes.map(|size| size as i64);
    let strides = layout.strides.map(|stride| stride as i64);
    let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
    tensor
        .data_type(Attribute::CUDNN_ATTR_TENSOR_DATA_TYPE, element)?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_DIMENSIONS, &sizes)?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_STRIDES, &strides)?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])?
        .sizes(Attribute::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT as i64])?
        .set(Attribute::CUDNN_ATTR_TENSOR_IS_VIRTUAL, Type::CUDNN_TYPE_BOOLEAN, &[inner])?;
    tensor.finalize()
}

/// `to = from + what` in float32.
pub(crate) fn addition(
    from: &Descriptor,
    what: &Descriptor,
    to: &Descriptor,
) -> Result<Descriptor> {
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

/// What a convolution's window does along height and width: the same steps, zeros before and after the map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub stride: usize,
    pub before: [usize; 2],
    pub after: [usize; 2],
}

/// Which of the three tensors of a convolution is computed from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// The map y, from x and the weight.
    Forward,
    /// The gradient of x, from that of y and the weight.
    InputGradient,
    /// The gradient of the weight, from x and that of y.
    WeightGradient,
}

impl Product {
    fn kind(self) -> Kind {
        match self {
            Product::Forward => Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
            Product::InputGradient => {
                Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
            }
            Product::WeightGradient => {
                Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR
            }
        }
    }

    /// The names of the rule, of x, weight and y or their gradients, and of both factors.
    fn names(self) -> [Attribute; 6] {
        match self {
            Product::Forward => [
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
            ],
            Product::InputGradient => [
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
            ],
            Product::WeightGradient => [
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
            ],
        }
    }
}

/// A convolution, of x, weight and y, or of their gradients; sums are float32.
pub(crate) fn convolution(
    product: Product,
    window: &Window,
    tensors: [&Descriptor; 3],
) -> Result<Descriptor> {
    let pair = |values: [usize; 2]| values.map(|value| value as i64);
    let mode = [sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION];
    let rule = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
    rule.data_type(Attribute::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, F32)?
        .set(Attribute::CUDNN_ATTR_CONVOLUTION_CONV_MODE, Type::CUDNN_TYPE_CONVOLUTION_MODE, &mode)?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2])?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &pair(window.before))?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &pair(window.after))?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1, 1])?
        .sizes(Attribute::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &pair([window.stride; 2]))?;
    let rule = rule.finalize()?;
    let operation = Descriptor::new(product.kind())?;
    let ([by, x, weight, y, alpha, beta], float) = (product.names(), Type::CUDNN_TYPE_FLOAT);
    operation
        .link(by, &rule)?
        .link(x, tensors[0])?
        .link(weight, tensors[1])?
        .link(y, tensors[2])?
        .set(alpha, float, &[1f32])?
        .set(beta, float, &[0f32])?;
    operation.finalize()
}

/// Operations as one graph. A finalized descriptor holds what it was made of.
pub(crate) fn graph(target: &Target, operations: &[Descriptor]) -> Result<Descriptor> {
    let raw: Vec<_> = operations.iter().map(|operation| operation.0).collect();
    let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
    target.tell(&graph, [Some(Attribute::CUDNN_ATTR_OPERATIONGRAPH_HANDLE), None])?;
    let kind = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
    graph.set(Attribute::CUDNN_ATTR_OPERATIONGRAPH_OPS, kind, &raw)?;
    graph.finalize()
}

/// The addresses of a run, by the tensors' numbers, which stay valid until it is done.
pub(crate) fn pack(places: &[(i64, u64)], workspace: u64) -> Result<Descriptor> {
    let ids: Vec<i64> = places.iter().map(|(id, _)| *id).collect();
    // Device addresses are pointers to cuDNN.
    let pointers: Vec<*mut c_void> = places.iter().map(|(_, at)| *at as *mut c_void).collect();
    let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
    let kind = Type::CUDNN_TYPE_VOID_PTR;
    pack.set(Attribute::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, kind, &pointers)?
        .sizes(Attribute::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &ids)?
        .set(Attribute::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, kind, &[workspace as *mut c_void])?;
    pack.finalize()
}
