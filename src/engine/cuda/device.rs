//! Owns carrying out programs on a GPU: context, compiled kernels, libraries' handles, memory. The
//! driver's calls are here, the libraries' in `blas`, `compile` and `convolution`. Must not know:
//! networks, what a program computes.
//!
//! One stream of our own carries all work, so that commands run in their order, and another the uploads
//! of `transfer`; sizes and offsets are the program's, which the tests check without a GPU. Addresses are worked out when a program is
//! loaded: a run only queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::Ptx;

use super::blas::{Blas, Product};
use super::compile::{self, compile, kernel_names};
use super::convolution::{Call, Convolutions};
use super::graph::Addresses;
use super::libraries::{Library, require_version};
use super::program::{Arg, Command, Convolve, Launch, Place, Program, Work};
use super::transfer::{Slot, Uploads};
use super::weights::DeviceWeights;
use crate::engine::device::Precision;
use crate::error::{Error, Result};
use crate::nvidia::errors::{dotted, failed};
use crate::nvidia::handle;
use crate::util::panics;
use crate::util::settings::DEVICE;

/// An error of the driver's; a lack of memory can be told from the rest.
pub(super) fn driver(what: &str) -> impl Fn(DriverError) -> Error {
    let what = what.to_owned();
    move |error| match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::out_of_memory(format!("CUDA, {what}")),
        // Of a kernel that was queued earlier, heard of at whatever is asked next.
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ASSERT
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_LAUNCH_FAILED => failed(
            "CUDA",
            &what,
            &format!("{error}; it may come from earlier work: CUDA_LAUNCH_BLOCKING=1 shows which"),
        ),
        _ => failed("CUDA", &what, &error.to_string()),
    }
}

/// The machine's GPUs; none where the driver isn't there, or finds none.
pub(crate) fn cards() -> usize {
    if !Library::Driver.is_present() {
        return 0;
    }
    // A driver that lacks a function makes cudarc panic.
    let count = panics::catch(|| CudaContext::device_count().unwrap_or(0)).unwrap_or(0);
    usize::try_from(count).unwrap_or(0)
}

/// A GPU with everything loaded that programs of one element type need.
pub(super) struct Device {
    weights: Vec<CudaSlice<u8>>,
    functions: BTreeMap<&'static str, CudaFunction>,
    blas: Blas,
    convolutions: Option<Convolutions>,
    versions: String,
    uploads: Uploads,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

/// A program with its buffers.
pub(super) struct Loaded {
    /// What runs.
    pub program: Program,
    /// In the order of the program's commands; they hold the addresses of what follows.
    steps: Vec<Step>,
    maps: Vec<CudaSlice<u8>>,
    _workspace: Option<CudaSlice<u8>>,
}

/// A command with its addresses.
enum Step {
    Launch { function: CudaFunction, config: LaunchConfig, values: Vec<Value> },
    Product(Product),
    Convolution(Call),
}

/// What the driver reads an argument of a kernel from.
enum Value {
    Address(u64),
    Int(i32),
    Float(f32),
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
        let stream = context.new_stream().map_err(driver("a stream"))?;
        let uploads = Uploads::new(&context)?;
        // SAFETY: no other stream than this one ever uses what is allocated, but for places of uploads,
        // which wait for each other by events of their own.
        unsafe { context.disable_event_tracking() };
        let [nvrtc_major, nvrtc_minor] = compile::version()?;
        require_version(Library::Nvrtc, &[nvrtc_major, nvrtc_minor])?;
        let blas = Blas::new(&stream, element)?;
        let blas_version = blas.version()?;
        require_version(Library::Cublas, &blas_version)?;
        let mut versions = vec![
            format!("NVRTC {nvrtc_major}.{nvrtc_minor}"),
            format!("cuBLAS {}", dotted(&blas_version)),
        ];
        let convolutions = match element {
            Precision::F32 => None,
            Precision::Bf16 => {
                let version = handle::version();
                require_version(Library::Cudnn, &version)?;
                let gpu = context.name().map_err(driver("the GPU's name"))?;
                let convolutions = Convolutions::new(&stream, &gpu)?;
                versions.push(format!("cuDNN {}", dotted(&version)));
                Some(convolutions)
            }
        };
        let code = compile(&format!("sm_{major}{minor}"), element)?;
        let module = context.load_module(Ptx::from_binary(code)).map_err(driver("our kernels"))?;
        let mut functions = BTreeMap::new();
        for name in kernel_names() {
            let function = module.load_function(name).map_err(driver(name))?;
            functions.insert(name, function);
        }
        let (weights, versions) = (Vec::new(), versions.join(", "));
        Ok(Device { weights, functions, blas, convolutions, versions, uploads, stream, context })
    }

    /// The GPU's name.
    pub(super) fn name(&self) -> Result<String> {
        self.context.name().map_err(driver("the GPU's name"))
    }

    /// Its number among the machine's.
    pub(super) fn number(&self) -> usize {
        self.context.ordinal()
    }

    /// The libraries' versions, and how each kind of convolution runs that was met.
    pub(super) fn report(&self) -> Vec<String> {
        let plans = self.convolutions.iter().flat_map(Convolutions::report);
        std::iter::once(self.versions.clone()).chain(plans).collect()
    }

    /// Makes the GPU this thread's: before its memory is given back, which the driver refuses where
    /// there is none.
    pub(super) fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(driver("the thread"))
    }

    /// Uploads what `weights` has packed since the last time and makes room for a program. None
    /// where cuDNN can't compute so few images as it computes the usual number.
    pub(super) fn load(
        &mut self,
        weights: &DeviceWeights,
        program: Program,
    ) -> Result<Option<Loaded>> {
        self.bind()?;
        for blob in &weights.blobs()[self.weights.len()..] {
            let weights = self.stream.clone_htod(blob).map_err(driver("weights"))?;
            self.weights.push(weights);
        }
        let Some(workspace_bytes) = self.plan(&program)? else { return Ok(None) };
        let zeros = |bytes: usize, what: &str| {
            // Zeroed, so that a run with fewer images than it has places for reads only numbers.
            self.stream.alloc_zeros::<u8>(bytes).map_err(driver(what))
        };
        let maps = program.maps.iter().map(|bytes| zeros(*bytes, "maps"));
        let maps: Vec<_> = maps.collect::<Result<_>>()?;
        let workspace = match workspace_bytes {
            0 => None,
            bytes => Some(zeros(bytes, "cuDNN's workspace")?),
        };
        let workspace_at = workspace.as_ref().map_or(0, |memory| self.start(memory));
        let address = |place: Place| match place {
            Place::Weight(index) => self.start(&self.weights[index]),
            Place::Map(index) => self.start(&maps[index]),
        };
        let steps = program.commands.iter().map(|command| match &command.work {
            Work::Launch(launch) => self.launch(launch, address),
            Work::Gemm(gemm) => Ok(Step::Product(Product::new(*gemm, |m| address(m.place)))),
            Work::Convolve(convolve) => self.call(convolve, address, workspace_at),
        });
        let steps = steps.collect::<Result<_>>()?;
        self.stream.synchronize().map_err(driver("loading"))?;
        Ok(Some(Loaded { program, steps, maps, _workspace: workspace }))
    }

    /// Plans every convolution of a program; the bytes of workspace that the largest takes. None as
    /// for [`Self::load`].
    fn plan(&mut self, program: &Program) -> Result<Option<usize>> {
        let mut workspace_bytes = 0;
        for command in &program.commands {
            let Work::Convolve(convolve) = &command.work else { continue };
            let Some(convolutions) = &mut self.convolutions else {
                return Err(failed("cuDNN", "not loaded for float32", &command.layer));
            };
            let Some(bytes) = convolutions.workspace(&convolve.shape, program.usual)? else {
                return Ok(None);
            };
            workspace_bytes = workspace_bytes.max(bytes);
        }
        self.convolutions.iter_mut().for_each(Convolutions::keep);
        Ok(Some(workspace_bytes))
    }

    /// The address of memory of ours, for work on our stream.
    fn start(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.stream).0
    }

    fn call(
        &self,
        convolve: &Convolve,
        address: impl Fn(Place) -> u64,
        workspace: u64,
    ) -> Result<Step> {
        let Some(convolutions) = &self.convolutions else {
            return Err(failed("cuDNN", "a convolution", "not loaded for float32"));
        };
        let addresses = Addresses {
            from: address(convolve.from),
            weights: address(convolve.weights),
            bias: address(convolve.bias),
            residual: convolve.residual.map(&address),
            to: address(convolve.to),
        };
        convolutions.call(convolve.shape, &addresses, workspace).map(Step::Convolution)
    }

    fn launch(&self, launch: &Launch, address: impl Fn(Place) -> u64) -> Result<Step> {
        let Some(function) = self.functions.get(launch.kernel) else {
            return Err(failed("CUDA", launch.kernel, "no such kernel"));
        };
        let value = |argument: &Arg| match *argument {
            Arg::At(place, offset) => Value::Address(address(place) + offset as u64),
            Arg::Null => Value::Address(0),
            Arg::Int(value) => Value::Int(value),
            Arg::Float(value) => Value::Float(value),
        };
        let values = launch.arguments.iter().map(value).collect();
        let [x, y, z] = launch.grid;
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (launch.block, 1, 1),
            shared_mem_bytes: 0,
        };
        Ok(Step::Launch { function: function.clone(), config, values })
    }

    /// Room for a run's images and results, in bytes.
    pub(super) fn slot(&self, [pixels, results]: [usize; 2]) -> Result<Slot> {
        self.bind()?;
        self.uploads.slot(pixels, results)
    }

    /// Brings at most `program.images` images to a program, whose next run is of them.
    pub(super) fn upload(&self, loaded: &Loaded, slot: &mut Slot, images: &[&[u8]]) -> Result<()> {
        self.bind()?;
        let input = self.address(loaded, loaded.program.input);
        self.uploads.upload(slot, images, &self.stream, input)
    }

    /// Brings the first bytes of these places to the host, behind everything that is queued.
    pub(super) fn download(
        &self,
        loaded: &Loaded,
        slot: &mut Slot,
        parts: impl Iterator<Item = (Place, usize)>,
    ) -> Result<()> {
        let parts: Vec<(u64, usize)> =
            parts.map(|(place, bytes)| (self.address(loaded, place), bytes)).collect();
        slot.download(&parts, &self.stream)
    }

    fn address(&self, loaded: &Loaded, place: Place) -> u64 {
        self.start(match place {
            Place::Weight(index) => &self.weights[index],
            Place::Map(index) => &loaded.maps[index],
        })
    }

    /// Queues a run of a program. `observer` hears of each command before it is queued, and once
    /// after the last.
    pub(super) fn run(
        &self,
        loaded: &Loaded,
        observer: &mut dyn FnMut(Option<&Command>) -> Result<()>,
    ) -> Result<()> {
        self.bind()?;
        for (command, step) in loaded.program.commands.iter().zip(&loaded.steps) {
            observer(Some(command))?;
            match (step, &self.convolutions) {
                (Step::Launch { function, config, values }, _) => {
                    self.queue(function, *config, values)
                        .map_err(|error| driver(&command.layer)(error))?;
                }
                (Step::Product(product), _) => self.blas.run(product)?,
                (Step::Convolution(call), Some(convolutions)) => convolutions.run(call)?,
                (Step::Convolution(_), None) => {
                    return Err(failed("cuDNN", "not loaded", &command.layer));
                }
            }
        }
        observer(None)
    }

    fn queue(
        &self,
        function: &CudaFunction,
        config: LaunchConfig,
        values: &[Value],
    ) -> Result<(), DriverError> {
        let mut builder = self.stream.launch_builder(function);
        for value in values {
            match value {
                Value::Address(address) => builder.arg(address),
                Value::Int(value) => builder.arg(value),
                Value::Float(value) => builder.arg(value),
            };
        }
        // SAFETY: number, order and types of the arguments are the kernel's, and its accesses stay
        // inside the buffers: `tests` runs the same commands through the same source with guards.
        unsafe { builder.launch(config) }.map(|_| ())
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
