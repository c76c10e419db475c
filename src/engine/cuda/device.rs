//! Owns carrying out programs on a GPU: context, compiled kernels, cuBLAS, memory. Every call of
//! the driver's is here or in `convolution`. Must not know: networks, what a program computes.
//!
//! One stream carries everything, so that commands run in their order; sizes and offsets are the
//! program's, which the tests check without a GPU.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::sync::Arc;

use cudarc::cublas::{CudaBlas, result as blas, sys as blas_sys};
use cudarc::driver::sys::CUresult;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::{Ptx, result as nvrtc, sys as nvrtc_sys};

use super::convolution::{Addresses, Call, Convolutions};
use super::libraries::failed;
use super::program::{Arg, Command, Gemm, KERNELS, Launch, Matrix, Place, Program, Work};
use super::weights::DeviceWeights;
use crate::engine::device::Precision;
use crate::error::{Error, Result};
use crate::util::settings::DEVICE;

/// An error of the driver's; a lack of memory can be told from the rest.
fn driver(what: &str) -> impl Fn(DriverError) -> Error {
    let what = what.to_owned();
    move |error| match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::out_of_memory(format!("CUDA, {what}")),
        _ => failed("CUDA", &what, &error.to_string()),
    }
}

fn cublas(what: &str) -> impl Fn(blas::CublasError) -> Error {
    let what = what.to_owned();
    move |error| match error.0 {
        blas_sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
            Error::out_of_memory(format!("cuBLAS, {what}"))
        }
        _ => failed("cuBLAS", &what, &error.to_string()),
    }
}

/// Machine code of our kernels for an architecture such as `sm_90`: not PTX, which an older driver
/// than the compiler refuses.
pub(super) fn compile(architecture: &str, element: Precision) -> Result<Vec<u8>> {
    let wrong = |what: &'static str| {
        move |error: nvrtc::NvrtcError| failed("NVRTC", what, &format!("{:?}", error.0))
    };
    let source = CString::new(KERNELS).map_err(|_| failed("NVRTC", "the source", "a zero byte"))?;
    let program =
        nvrtc::create_program(&source, Some(c"kernels.cu")).map_err(wrong("a program"))?;
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    if element == Precision::Bf16 {
        options.push("-DVQTOK_BF16".to_owned());
    }
    // SAFETY: `program` is live until the end of this function and `source` outlives it; the log
    // ends with a zero; the code is written to as many bytes as it was said to have.
    let code = unsafe {
        match nvrtc::compile_program(program, &options) {
            Ok(()) => cubin(program).map_err(wrong("the machine code")),
            Err(_) => {
                let log = nvrtc::get_program_log(program).unwrap_or_else(|_| vec![0]);
                let text = CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned();
                Err(failed("NVRTC", &format!("kernels.cu for {architecture}"), &text))
            }
        }
    };
    // SAFETY: created above, destroyed once. Nothing can be done about a failure.
    let _ = unsafe { nvrtc::destroy_program(program) };
    code
}

/// # Safety
/// `program` is live and compiled for a real architecture.
unsafe fn cubin(program: nvrtc_sys::nvrtcProgram) -> Result<Vec<u8>, nvrtc::NvrtcError> {
    let mut bytes = 0usize;
    // SAFETY: `bytes` is written; then as many bytes are, for which there is room.
    unsafe {
        nvrtc_sys::nvrtcGetCUBINSize(program, &mut bytes).result()?;
        let mut code = vec![0u8; bytes];
        nvrtc_sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast::<c_char>()).result()?;
        Ok(code)
    }
}

/// A GPU with everything loaded that programs of one element type need.
pub(super) struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    functions: BTreeMap<&'static str, CudaFunction>,
    blas: CudaBlas,
    convolutions: Option<Convolutions>,
    weights: Vec<CudaSlice<u8>>,
}

/// A program with its buffers.
pub(super) struct Loaded {
    /// What runs.
    pub program: Program,
    maps: Vec<CudaSlice<u8>>,
    /// By command; None where it isn't cuDNN's.
    calls: Vec<Option<Call>>,
    /// Calls hold its address.
    _workspace: Option<CudaSlice<u8>>,
}

impl Device {
    /// Opens GPU `number`. The libraries are there: see [`super::libraries`].
    pub(super) fn open(number: usize, element: Precision) -> Result<Device> {
        let count = CudaContext::device_count().map_err(driver("no GPU"))?;
        if number >= usize::try_from(count).unwrap_or(0) {
            let reason = format!("cuda:{number}: this machine has {count} GPUs, counted from 0");
            return Err(Error::setting(DEVICE, reason));
        }
        let context = CudaContext::new(number).map_err(driver("opening the GPU"))?;
        let (major, minor) = context.compute_capability().map_err(driver("the GPU's kind"))?;
        let stream = context.default_stream();
        let code = compile(&format!("sm_{major}{minor}"), element)?;
        let module = context.load_module(Ptx::from_binary(code)).map_err(driver("our kernels"))?;
        let mut functions = BTreeMap::new();
        for name in kernel_names() {
            let function = module.load_function(name).map_err(driver(name))?;
            functions.insert(name, function);
        }
        let blas = CudaBlas::new(stream.clone()).map_err(cublas("a handle"))?;
        let convolutions = match element {
            Precision::F32 => None,
            Precision::Bf16 => Some(Convolutions::new(&stream)?),
        };
        Ok(Device { context, stream, functions, blas, convolutions, weights: Vec::new() })
    }

    /// The GPU's name.
    pub(super) fn name(&self) -> Result<String> {
        self.context.name().map_err(driver("the GPU's name"))
    }

    /// Uploads what `weights` has packed since the last time and makes room for a program.
    pub(super) fn load(&mut self, weights: &DeviceWeights, program: Program) -> Result<Loaded> {
        self.context.bind_to_thread().map_err(driver("the thread"))?;
        for blob in &weights.blobs()[self.weights.len()..] {
            let weights = self.stream.clone_htod(blob).map_err(driver("weights"))?;
            self.weights.push(weights);
        }
        let mut maps = Vec::with_capacity(program.maps.len());
        for bytes in &program.maps {
            // Zeroed, so that a run with fewer images than it has places for reads only numbers.
            let map = self.stream.alloc_zeros::<u8>(*bytes).map_err(driver("maps"))?;
            maps.push(map);
        }
        let mut workspace_bytes = 0;
        if let Some(convolutions) = &mut self.convolutions {
            for command in &program.commands {
                if let Work::Convolve(convolve) = &command.work {
                    let bytes = convolutions.workspace(&convolve.shape)?;
                    workspace_bytes = workspace_bytes.max(bytes);
                }
            }
        }
        let workspace = match workspace_bytes {
            0 => None,
            bytes => {
                Some(self.stream.alloc_zeros::<u8>(bytes).map_err(driver("cuDNN's workspace"))?)
            }
        };
        let mut loaded = Loaded { program, maps, calls: Vec::new(), _workspace: workspace };
        let calls = loaded.program.commands.iter().map(|command| self.call(&loaded, command));
        loaded.calls = calls.collect::<Result<_>>()?;
        self.stream.synchronize().map_err(driver("loading"))?;
        Ok(loaded)
    }

    fn call(&self, loaded: &Loaded, command: &Command) -> Result<Option<Call>> {
        let Work::Convolve(convolve) = &command.work else { return Ok(None) };
        let Some(convolutions) = &self.convolutions else {
            return Err(failed("cuDNN", "not loaded for float32", &command.layer));
        };
        let addresses = Addresses {
            from: self.address(loaded, convolve.from),
            weights: self.address(loaded, convolve.weights),
            bias: self.address(loaded, convolve.bias),
            residual: convolve.residual.map(|place| self.address(loaded, place)),
            to: self.address(loaded, convolve.to),
        };
        let workspace = loaded._workspace.as_ref().map_or(0, |w| w.device_ptr(&self.stream).0);
        convolutions.call(convolve.shape, &addresses, workspace).map(Some)
    }

    fn address(&self, loaded: &Loaded, place: Place) -> u64 {
        let slice = match place {
            Place::Weight(index) => &self.weights[index],
            Place::Map(index) => &loaded.maps[index],
        };
        slice.device_ptr(&self.stream).0
    }

    /// Runs a program on at most `program.images` images' bytes; results are there once [`Self::read`]
    /// returns. `observer` hears of each command before it is queued, and once after the last.
    pub(super) fn run(
        &self,
        loaded: &mut Loaded,
        pixels: &[u8],
        observer: &mut dyn FnMut(Option<&Command>) -> Result<()>,
    ) -> Result<()> {
        self.context.bind_to_thread().map_err(driver("the thread"))?;
        let Place::Map(input) = loaded.program.input else {
            return Err(failed("CUDA", "a program", "its input is constant"));
        };
        let input = &mut loaded.maps[input];
        self.stream.memcpy_htod(pixels, input).map_err(driver("copying images"))?;
        for (command, call) in loaded.program.commands.iter().zip(&loaded.calls) {
            observer(Some(command))?;
            match (&command.work, call, &self.convolutions) {
                (Work::Launch(launch), ..) => self.launch(loaded, launch)?,
                (Work::Gemm(gemm), ..) => self.gemm(loaded, gemm)?,
                (Work::Convolve(_), Some(call), Some(convolutions)) => convolutions.run(call)?,
                (Work::Convolve(_), ..) => {
                    return Err(failed("cuDNN", "not loaded", &command.layer));
                }
            }
        }
        observer(None)
    }

    fn launch(&self, loaded: &Loaded, launch: &Launch) -> Result<()> {
        let Some(function) = self.functions.get(launch.kernel) else {
            return Err(failed("CUDA", launch.kernel, "no such kernel"));
        };
        /// What the driver reads an argument from.
        enum Value {
            Address(u64),
            Int(i32),
            Float(f32),
        }
        let value = |argument: &Arg| match *argument {
            Arg::At(place, offset) => Value::Address(self.address(loaded, place) + offset as u64),
            Arg::Null => Value::Address(0),
            Arg::Int(value) => Value::Int(value),
            Arg::Float(value) => Value::Float(value),
        };
        let values: Vec<Value> = launch.arguments.iter().map(value).collect();
        let mut builder = self.stream.launch_builder(function);
        for value in &values {
            match value {
                Value::Address(address) => builder.arg(address),
                Value::Int(value) => builder.arg(value),
                Value::Float(value) => builder.arg(value),
            };
        }
        let [x, y, z] = launch.grid;
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (launch.block, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: number, order and types of the arguments are the kernel's, and its accesses stay
        // inside the buffers: `tests` runs the same commands through the same source with guards.
        unsafe { builder.launch(config) }.map_err(driver(launch.kernel))?;
        Ok(())
    }

    fn gemm(&self, loaded: &Loaded, gemm: &Gemm) -> Result<()> {
        let call = gemm.column_major();
        let address = |m: Matrix| {
            let address = self.address(loaded, m.place) + (m.offset * m.element.bytes()) as u64;
            address as *mut c_void
        };
        let element = |m: Matrix| match m.element {
            Precision::F32 => blas_sys::cudaDataType_t::CUDA_R_32F,
            Precision::Bf16 => blas_sys::cudaDataType_t::CUDA_R_16BF,
        };
        let transpose = match call.transpose_first {
            true => blas_sys::cublasOperation_t::CUBLAS_OP_T,
            false => blas_sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let (first, second, c) = (call.first, call.second, gemm.c);
        let (alpha, beta) = (gemm.alpha, 0f32);
        // SAFETY: the handle is live; scalars are read from the host before the call returns;
        // every address, row and step is the program's, which `tests` carries out with guards.
        // Without CUBLAS_TF32_TENSOR_OP_MATH float32 factors are multiplied as float32.
        let status = unsafe {
            blas::gemm_strided_batched_ex(
                *self.blas.handle(),
                transpose,
                blas_sys::cublasOperation_t::CUBLAS_OP_N,
                call.m as c_int,
                call.n as c_int,
                call.k as c_int,
                (&raw const alpha).cast(),
                address(first),
                element(first),
                first.row as c_int,
                first.step as c_longlong,
                address(second),
                element(second),
                second.row as c_int,
                second.step as c_longlong,
                (&raw const beta).cast(),
                address(c),
                element(c),
                c.row as c_int,
                c.step as c_longlong,
                gemm.batch as c_int,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        status.map_err(cublas("a product"))
    }

    /// The first `words` 32-bit words of a buffer, once everything queued is done.
    pub(super) fn read(&self, loaded: &Loaded, place: Place, words: usize) -> Result<Vec<u32>> {
        let slice = match place {
            Place::Weight(index) => &self.weights[index],
            Place::Map(index) => &loaded.maps[index],
        };
        let view = slice.slice(..words * 4);
        let bytes = self.stream.clone_dtoh(&view).map_err(driver("results"))?;
        self.stream.synchronize().map_err(driver("a run"))?;
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// A mark in the stream, for times.
    pub(super) fn mark(&self) -> Result<Mark> {
        let flags = cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
        self.stream.record_event(Some(flags)).map(Mark).map_err(driver("an event"))
    }

    /// Waits for everything queued.
    pub(super) fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(driver("a run"))
    }
}

/// A point in a stream's work.
pub(super) struct Mark(cudarc::driver::CudaEvent);

impl Mark {
    /// Seconds from this mark to a later one, both reached.
    pub(super) fn seconds_to(&self, later: &Mark) -> Result<f64> {
        let ms = self.0.elapsed_ms(&later.0).map_err(driver("an event"))?;
        Ok(f64::from(ms) * 1e-3)
    }
}

/// The names behind `KERNEL` in the source.
pub(super) fn kernel_names() -> impl Iterator<Item = &'static str> {
    KERNELS.lines().filter_map(|line| line.strip_prefix("KERNEL ")?.split('(').next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::libraries::Library;

    #[test]
    fn kernels_compile_where_nvrtc_is() {
        assert_eq!(kernel_names().count(), 10);
        if !Library::Nvrtc.is_present() {
            eprintln!("skipped: no {}", Library::Nvrtc.file());
            return;
        }
        for element in [Precision::F32, Precision::Bf16] {
            let code = compile("sm_90", element).unwrap();
            for name in kernel_names() {
                let symbol = format!(".text.{name}");
                assert!(code.windows(symbol.len()).any(|w| w == symbol.as_bytes()), "{name}");
            }
        }
        let text = compile("sm_1", Precision::F32).unwrap_err().to_string();
        assert!(text.contains("NVRTC") && !text.contains('\n'), "{text}");
    }
}
