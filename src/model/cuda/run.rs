//! Owns carrying out launches on candle's tensors: on their device, in the order of its stream.
//! Must not know: which operation it is.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
    SyncOnDrop,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDType, CudaDevice};
use candle_core::{CudaStorage, DType, Error, Layout, Result, bail};
use half::bf16;

use super::launches::{Argument, BLOCK, Plan};

/// The kernels.
const SOURCE: &str = include_str!("training.cu");

/// Of the oldest cards that the kernels run on; the driver compiles for the one that is there.
const ARCHITECTURE: &str = "compute_80";

/// The kernels as NVRTC makes them, once a process.
fn code() -> Result<&'static str> {
    static CODE: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let compiled = CODE.get_or_init(|| {
        let options = CompileOptions { arch: Some(ARCHITECTURE), ..CompileOptions::default() };
        let compiled = compile_ptx_with_opts(SOURCE, options);
        compiled.map(|code| code.to_src()).map_err(|error| format!("{error:?}"))
    });
    compiled.as_deref().map_err(|error| Error::Msg(format!("NVRTC, training.cu: {error}")))
}

/// An argument as the driver takes it.
enum Word {
    Address(u64),
    Int(i32),
    Wide(i64),
    Float(f32),
}

/// Where the buffers of an operation are.
struct Addresses {
    inputs: Vec<u64>,
    output: u64,
    output_width: usize,
    scratch: u64,
}

impl Addresses {
    fn word(&self, argument: Argument) -> Word {
        match argument {
            Argument::Input(index) => Word::Address(self.inputs[index]),
            Argument::Output => Word::Address(self.output),
            Argument::OutputFrom(at) => {
                Word::Address(self.output + (self.output_width * at) as u64)
            }
            Argument::Scratch => Word::Address(self.scratch),
            Argument::Int(value) => Word::Int(value),
            Argument::Wide(value) => Word::Wide(value),
            Argument::Float(value) => Word::Float(value),
        }
    }
}

/// The output of a plan, `count` numbers, from contiguous inputs of float32, or bfloat16 where the plan is of
/// such.
///
/// # Errors
/// Inputs of another kind; what the driver or the compiler refuses.
pub(crate) fn compute<T: CudaDType + DeviceRepr>(
    plan: &Plan,
    inputs: &[(&CudaStorage, &Layout)],
    count: usize,
) -> Result<CudaStorage> {
    let device = inputs[0].0.device().clone();
    let stream = device.cuda_stream();
    // SAFETY: the launches write every element.
    let mut output: CudaSlice<T> = unsafe { device.alloc(count)? };
    {
        let (address, _written) = output.device_ptr_mut(&stream);
        carry_out(plan, &device, inputs, (address, size_of::<T>()))?;
    }
    Ok(CudaStorage::wrap_cuda_slice(output, device))
}

/// Changes contiguous float32 numbers by contiguous float32 inputs.
///
/// # Errors
/// As [`compute`].
pub(crate) fn compute_in_place(
    plan: &Plan,
    (output, layout): (&mut CudaStorage, &Layout),
    inputs: &[(&CudaStorage, &Layout)],
) -> Result<()> {
    let device = output.device().clone();
    let stream = device.cuda_stream();
    let start = start(layout)?;
    for (_, other) in inputs {
        if other.shape().elem_count() != layout.shape().elem_count() {
            bail!("{:?} in place by {:?}", layout.shape(), other.shape());
        }
    }
    let slice = output.as_cuda_slice_mut::<f32>()?;
    let (address, _written) = slice.device_ptr_mut(&stream);
    carry_out(plan, &device, inputs, (address + 4 * start as u64, 4))
}

fn start(layout: &Layout) -> Result<usize> {
    match layout.contiguous_offsets() {
        Some((start, _)) => Ok(start),
        None => bail!("an operation got a tensor that is not contiguous"),
    }
}

/// Queues the launches of a plan, whose output is at an address and of elements so wide.
///
/// # Errors
/// As [`compute`].
pub(super) fn carry_out(
    plan: &Plan,
    device: &CudaDevice,
    inputs: &[(&CudaStorage, &Layout)],
    (output, output_width): (u64, usize),
) -> Result<()> {
    let stream = &device.cuda_stream();
    let scratch: CudaSlice<u64> = device.alloc_zeros(plan.scratch_bytes.div_ceil(8).max(1))?;
    let (scratch, _used) = scratch.device_ptr(stream);
    let mut read = Vec::with_capacity(inputs.len());
    for (storage, layout) in inputs {
        read.push(input(storage, layout, stream)?);
    }
    let inputs = read.iter().map(|(address, _)| *address).collect();
    let addresses = Addresses { inputs, output, output_width, scratch };
    for launch in &plan.launches {
        let [x, y, z] = launch.grid;
        if x == 0 || y == 0 || z == 0 {
            continue;
        }
        let function = device.get_or_load_custom_func(launch.kernel, "vqtok-training", code()?)?;
        let words: Vec<Word> = launch.arguments.iter().map(|a| addresses.word(*a)).collect();
        let mut builder = function.builder();
        for word in &words {
            match word {
                Word::Address(value) => builder.arg(value),
                Word::Int(value) => builder.arg(value),
                Word::Wide(value) => builder.arg(value),
                Word::Float(value) => builder.arg(value),
            };
        }
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (BLOCK as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of the kernel's signature, which the tests hold on emulated
        // threads with guards around every buffer; all buffers are live and of this device.
        unsafe { builder.launch(config) }.map_err(Error::wrap)?;
    }
    Ok(())
}

/// The address of a contiguous input, with what keeps it from being written.
pub(super) fn input<'a>(
    storage: &'a CudaStorage,
    layout: &Layout,
    stream: &'a CudaStream,
) -> Result<(u64, SyncOnDrop<'a>)> {
    let start = start(layout)?;
    let ((address, guard), width) = match storage.dtype() {
        DType::BF16 => (storage.as_cuda_slice::<bf16>()?.device_ptr(stream), 2),
        _ => (storage.as_cuda_slice::<f32>()?.device_ptr(stream), 4),
    };
    Ok((address + width * start as u64, guard))
}
