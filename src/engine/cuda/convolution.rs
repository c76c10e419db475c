//! Owns convolutions through cuDNN's backend graphs: bfloat16 maps in NHWC, float32 sums, bias and
//! residual fused, padding that differs before and after. Must not know: networks, who owns the
//! buffers.
//!
//! Descriptors' attributes follow NVIDIA's "cuDNN Backend API" reference. Which configuration a
//! convolution runs by is `choice`'s: it is made once, for the usual number of images, and holds for
//! any smaller one, so that an image's sums don't depend on the batch it comes in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::c_void;
use std::time::Instant;

use cudarc::cudnn::sys;
use cudarc::driver::CudaStream;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::choice::{self, Choice, Target};
use super::descriptor::{Descriptor, check};
use super::libraries::failed;
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
fn graph(target: &Target, s: &ConvShape) -> Result<Descriptor> {
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

/// A graph with the configuration it runs by.
struct CudnnPlan {
    plan: Descriptor,
    workspace_bytes: usize,
}

/// By a choice that was made for another number of images; None where it doesn't suit this one.
fn plan(target: &Target, shape: &ConvShape, choice: &Choice) -> Result<Option<CudnnPlan>> {
    let graph = graph(target, shape)?;
    let Some(configuration) = choice.configuration(target, &graph)? else { return Ok(None) };
    let Some(plan) = choice::finalized(target, &configuration)? else { return Ok(None) };
    let mut bytes = [0i64];
    let name = Attribute::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE;
    plan.get(name, Type::CUDNN_TYPE_INT64, &mut bytes)?;
    Ok(Some(CudnnPlan { plan, workspace_bytes: bytes[0].max(0) as usize }))
}

/// The choice for a shape.
fn choose(target: &Target, shape: &ConvShape) -> Result<Choice> {
    choice::choose(target, &graph(target, shape)?)?
        .ok_or_else(|| failed("cuDNN", "no configuration for a convolution", &format!("{shape:?}")))
}

/// Device addresses of a convolution.
pub(super) struct Addresses {
    pub from: u64,
    pub weights: u64,
    pub bias: u64,
    pub residual: Option<u64>,
    pub to: u64,
}

/// A convolution with its addresses.
pub(super) struct Call {
    shape: ConvShape,
    pack: Descriptor,
}

/// cuDNN on a stream, with the plans of every shape it has met.
pub(super) struct Convolutions {
    handle: sys::cudnnHandle_t,
    /// By the shape of the usual number of images; with the seconds it took to choose.
    choices: BTreeMap<ConvShape, (Choice, f64)>,
    /// None where the choice doesn't suit so few images.
    plans: BTreeMap<ConvShape, Option<CudnnPlan>>,
}

// SAFETY: a handle belongs to no thread; it is only used by the engine that owns it.
unsafe impl Send for Convolutions {}

impl Drop for Convolutions {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: created by `new`, destroyed once, after what was made with it.
        unsafe { sys::cudnnDestroy(self.handle) };
    }
}

impl Convolutions {
    /// Work goes to `stream`.
    pub(super) fn new(stream: &CudaStream) -> Result<Convolutions> {
        let handle = cudarc::cudnn::result::create_handle()
            .map_err(|error| failed("cuDNN", "a handle", &error.to_string()))?;
        let (choices, plans) = (BTreeMap::new(), BTreeMap::new());
        let convolutions = Convolutions { handle, choices, plans };
        // SAFETY: both are live.
        let set = unsafe { cudarc::cudnn::result::set_stream(handle, stream.cu_stream().cast()) };
        set.map_err(|error| failed("cuDNN", "the stream", &error.to_string()))?;
        Ok(convolutions)
    }

    /// Major, minor and patch version.
    pub(super) fn version() -> [usize; 3] {
        let version = cudarc::cudnn::result::get_version();
        [version / 10_000, version / 100 % 100, version % 100]
    }

    /// How each kind of convolution runs that was met.
    pub(super) fn report(&self) -> impl Iterator<Item = String> {
        self.choices.iter().map(|(shape, (choice, seconds))| {
            let ConvShape { images, height, width, inputs, outputs, kernel, stride, .. } = shape;
            let added = if shape.residual { " + residual" } else { "" };
            format!(
                "{images} x {height}x{width}, {inputs} to {outputs}, {kernel}x{kernel} by \
                 {stride}{added}: {choice}, chosen in {seconds:.2} s"
            )
        })
    }

    /// Bytes of workspace that a shape needs; plans it where it is new, as for the `usual` number
    /// of images. None where that doesn't suit so few.
    pub(super) fn workspace(&mut self, shape: &ConvShape, usual: usize) -> Result<Option<usize>> {
        if !self.plans.contains_key(shape) {
            let target = Target::Handle(self.handle);
            let chosen_for = ConvShape { images: usual, ..*shape };
            let (choice, _) = match self.choices.entry(chosen_for) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let started = Instant::now();
                    let choice = choose(&target, &chosen_for)?;
                    place.insert((choice, started.elapsed().as_secs_f64()))
                }
            };
            let made = plan(&target, shape, choice)?;
            self.plans.insert(*shape, made);
        }
        Ok(self.plans[shape].as_ref().map(|plan| plan.workspace_bytes))
    }

    /// Ties a shape to addresses, which stay valid as long as the call is used. `workspace` has
    /// the bytes that [`Self::workspace`] said.
    pub(super) fn call(&self, shape: ConvShape, at: &Addresses, workspace: u64) -> Result<Call> {
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
        Ok(Call { shape, pack: pack.finalize()? })
    }

    /// Queues a convolution.
    pub(super) fn run(&self, call: &Call) -> Result<()> {
        let Some(Some(plan)) = self.plans.get(&call.shape) else {
            return Err(failed(
                "cuDNN",
                "a convolution without a plan",
                &format!("{:?}", call.shape),
            ));
        };
        // SAFETY: the plan and the pack are of the same shape, and the pack's addresses are those
        // of buffers that the caller keeps, each of the shape's sizes.
        let status = unsafe { sys::cudnnBackendExecute(self.handle, plan.plan.0, call.pack.0) };
        check(status, "a convolution")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::libraries::Library;

    /// An H200, in the words of cuDNN 9.8 and later.
    const H200: &str = r#"{"deviceVer":900,"multiProcessorCount":132,"warpSize":32,
        "maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,
        "reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,
        "maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"regsPerBlock":65536,
        "totalGlobalMem":150000000000,"smClockRateKHz":1980000,"l2CacheSize":62914560,
        "maxBlockSize":[1024,1024,64],"memClockRateKHz":3201000,
        "maxGridSize":[2147483647,65535,65535],"supportCoopLaunch":1,"pciDeviceId":0,
        "isTccDriver":0,"cudaDeviceId":0,"driverVer":13000,"deviceName":"NVIDIA H200"}"#;

    fn described() -> Target {
        let properties = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR).unwrap();
        let name = Attribute::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION;
        properties.set(name, Type::CUDNN_TYPE_CHAR, H200.as_bytes()).unwrap();
        Target::Described(properties.finalize().unwrap())
    }

    /// Every kind of convolution of the f16 model, planned for a card that isn't there.
    #[test]
    fn cudnn_plans_every_convolution_for_an_h200() {
        if !Library::Cudnn.is_present() || cudarc::cudnn::result::get_version() < 90_800 {
            eprintln!("skipped: no {} of 9.8 or later", Library::Cudnn.file());
            return;
        }
        let same = ConvShape {
            images: 64,
            height: 256,
            width: 256,
            inputs: 128,
            outputs: 128,
            kernel: 3,
            stride: 1,
            before: 1,
            after: 1,
            residual: false,
        };
        let low = ConvShape { height: 16, width: 16, inputs: 512, ..same };
        let point = ConvShape { kernel: 1, before: 0, after: 0, ..low };
        let target = described();
        for shape in [
            same,
            ConvShape { residual: true, ..same },
            ConvShape { stride: 2, before: 0, ..same },
            ConvShape { inputs: 8, ..same },
            ConvShape { height: 64, width: 64, outputs: 256, ..same },
            ConvShape { outputs: 256, ..low },
            ConvShape { outputs: 512, residual: true, ..low },
            ConvShape { outputs: 1536, ..point },
            ConvShape { outputs: 512, residual: true, ..point },
            // Odd sizes, and one image.
            ConvShape { images: 1, height: 37, width: 53, inputs: 24, outputs: 40, ..same },
        ] {
            let choice = choose(&target, &shape).unwrap();
            println!("{shape:?}: {choice}");
            // One choice serves every number of images, and gives each the same engine.
            for images in [shape.images, 16, 4, 1] {
                let shape = ConvShape { images, ..shape };
                let plan = plan(&target, &shape, &choice).unwrap().expect("it suits fewer images");
                assert!(plan.workspace_bytes < 1 << 30, "{shape:?}: {}", plan.workspace_bytes);
                let configuration = choice
                    .configuration(&target, &graph(&target, &shape).unwrap())
                    .unwrap()
                    .expect("a configuration");
                assert_eq!(Choice::of(&configuration).unwrap(), choice, "{shape:?}");
            }
        }
        // The graph itself is checked, too: an output that doesn't fit its padding is refused.
        let broken = ConvShape { inputs: 0, ..same };
        assert!(choose(&target, &broken).is_err());
    }
}
