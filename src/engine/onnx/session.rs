//! Owns one graph in ONNX Runtime: how it is opened on a device, and its tensors, bound once for a shape
//! and used again for every batch of it. Must not know: what inputs and outputs mean.

use std::fmt::Display;
use std::path::Path;

use ort::environment::Environment;
use ort::ep;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, DynValue, Tensor};

use crate::engine::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::model::config::OnnxElement;
use crate::util::settings::DEVICE;
use crate::util::text;

/// Bytes of one tensor at most.
const TENSOR_BYTES_MAX: usize = 1 << 33;

/// Characters of the library's own words that are told.
const TOLD_MAX: usize = 400;

/// A graph on a device.
pub(super) struct Graph {
    session: Session,
    bound: Option<Bound>,
    outputs: Vec<String>,
    /// Whether tensors are where the graph runs, so that what is written into them is there at once.
    in_place: bool,
}

/// Tensors of one shape.
struct Bound {
    inputs: Vec<Input>,
    tensors: Vec<DynTensor>,
    binding: IoBinding,
}

/// An input's tensor, as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) element: OnnxElement,
    pub(super) shape: Vec<usize>,
}

/// Where the library's messages begin to tell a place in its own source: the file, the line and the function.
const OWN_SOURCE: &str = "/onnxruntime_src/";

/// The library's words in one line, without places in its own source.
pub(super) fn one_line(error: &impl Display) -> String {
    let words = error.to_string();
    let mut line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(start) = line.find(OWN_SOURCE) {
        let end = start + place_length(&line[start..]);
        line = format!("{} {}", line[..start].trim_end(), line[end..].trim_start());
    }
    match line.char_indices().nth(TOLD_MAX) {
        None => line,
        Some((end, _)) => format!("{}...", &line[..end]),
    }
}

/// Bytes of a place in source, `FILE:LINE RESULT FUNCTION(ARGUMENTS) [const]`, at the start of `text`; of its first
/// word where there is no function.
fn place_length(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => {
                let rest = &text[at + 1..];
                return text.len() - rest.strip_prefix(" const").unwrap_or(rest).len();
            }
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.find(' ').unwrap_or(text.len())
}

/// An error of a run: a device that is full is told from all else.
fn failure(path: &Path, error: &ort::Error) -> Error {
    let line = one_line(error);
    let full = [
        "Available memory of",
        "Failed to allocate memory",
        "out of memory",
        "bad_alloc",
        "bad allocation",
    ];
    match full.iter().any(|word| line.contains(word)) {
        true => Error::out_of_memory(line),
        false => Error::invalid(format!("{}: ONNX Runtime: {line}", text::path(path))),
    }
}

impl Graph {
    /// Opens a file of which the outputs with these names are wanted.
    ///
    /// # Errors
    /// A file that the library refuses, a device that isn't there.
    pub(super) fn open(
        path: &Path,
        outputs: Vec<String>,
        (environment, device): (&Environment, DeviceChoice),
    ) -> Result<Graph> {
        let refused =
            |line: String| Error::corrupt(path, format!("ONNX Runtime doesn't take it: {line}"));
        let builder = Session::builder(environment).map_err(|e| Error::invalid(one_line(&e)))?;
        let mut builder = configured(builder).map_err(Error::invalid)?;
        builder = provided(builder, device)?;
        let session = builder.commit_from_file(path).map_err(|e| refused(one_line(&e)))?;
        let in_place = matches!(device, DeviceChoice::Auto | DeviceChoice::Cpu);
        Ok(Graph { session, bound: None, outputs, in_place })
    }

    /// The tensors of these inputs, to be written to; [`Graph::run`] reads them.
    ///
    /// # Errors
    /// Tensors that memory doesn't hold.
    pub(super) fn inputs(&mut self, inputs: Vec<Input>) -> Result<&mut [DynTensor]> {
        let bound = match self.bound.take() {
            Some(bound) if bound.inputs == inputs => bound,
            _ => self.bind(inputs)?,
        };
        Ok(&mut self.bound.insert(bound).tensors)
    }

    fn bind(&self, inputs: Vec<Input>) -> Result<Bound> {
        let told = |e: ort::Error| Error::invalid(one_line(&e));
        let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>>>()?;
        let mut binding = self.session.create_binding().map_err(told)?;
        for (input, tensor) in inputs.iter().zip(&tensors) {
            binding.bind_input(&input.name, tensor).map_err(told)?;
        }
        let (device, kind) = (AllocationDevice::CPU, AllocatorType::Device);
        let memory = MemoryInfo::new(device, 0, kind, MemoryType::CPUOutput).map_err(told)?;
        for output in &self.outputs {
            binding.bind_output_to_device(output, &memory).map_err(told)?;
        }
        Ok(Bound { inputs, tensors, binding })
    }

    /// Runs the graph on what was written; `read` is given the outputs, in their order.
    ///
    /// # Errors
    /// Those of the library, and of `read`.
    pub(super) fn run<T>(
        &mut self,
        path: &Path,
        read: impl FnOnce(&[&DynValue]) -> Result<T>,
    ) -> Result<T> {
        let Some(Bound { inputs, tensors, binding }) = &mut self.bound else {
            return Err(Error::internal("a graph runs before its inputs were written"));
        };
        if !self.in_place {
            for (input, tensor) in inputs.iter().zip(tensors) {
                binding.bind_input(&input.name, tensor).map_err(|e| failure(path, &e))?;
            }
        }
        let found = self.session.run_binding(binding).map_err(|e| failure(path, &e))?;
        let outputs = self.outputs.iter().map(|name| found.get(name));
        let outputs: Option<Vec<&DynValue>> = outputs.collect();
        read(&outputs.ok_or_else(|| Error::internal("an output that was bound isn't there"))?)
    }
}

fn configured(builder: SessionBuilder) -> Result<SessionBuilder, String> {
    let builder = builder
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|e| one_line(&e))?
        .with_intra_threads(rayon::current_num_threads())
        .map_err(|e| one_line(&e))?
        .with_deterministic_compute(true)
        .map_err(|e| one_line(&e))?
        .with_env_allocators()
        .map_err(|e| one_line(&e))?;
    builder.with_log_level(ort::logging::LogLevel::Fatal).map_err(|e| one_line(&e))
}

/// With the provider of a device, which must be there.
fn provided(builder: SessionBuilder, device: DeviceChoice) -> Result<SessionBuilder> {
    let cuda = |number: usize| {
        // TF32 gives other tokens, and a search by measuring may choose another way every time.
        let provider = ep::CUDA::default().with_device_id(number as i32).with_tf32(false);
        provider
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
            .build()
            .error_on_failure()
    };
    let providers = match device {
        DeviceChoice::Auto | DeviceChoice::Cpu => return Ok(builder),
        DeviceChoice::Cuda(number) => vec![cuda(number)],
        DeviceChoice::CudaAll => vec![cuda(0)],
        DeviceChoice::TensorRt(number) => {
            let first = ep::TensorRT::default().with_device_id(number as i32);
            vec![first.build().error_on_failure(), cuda(number)]
        }
    };
    builder.with_execution_providers(providers).map_err(|error| {
        let text = format!("{device}: ONNX Runtime can't use it: {}", one_line(&error));
        Error::setting(DEVICE, text)
    })
}

/// Zeros.
fn tensor(input: &Input) -> Result<DynTensor> {
    use OnnxElement::*;
    let wide = match input.element {
        U8 | I8 => 1,
        F16 | U16 | I16 => 2,
        F32 | U32 | I32 => 4,
        U64 | I64 => 8,
    };
    let count = input.shape.iter().try_fold(1_usize, |all, side| all.checked_mul(*side));
    let fits = |count: &usize| count.checked_mul(wide).is_some_and(|b| b <= TENSOR_BYTES_MAX);
    let Some(count) = count.filter(fits) else {
        let text = format!("its input of {:?} takes more than 8 GB", input.shape);
        return Err(Error::out_of_memory(text));
    };
    macro_rules! zeros {
        ($kind:ty, $zero:expr) => {{
            let values: Vec<$kind> = vec![$zero; count];
            Tensor::from_array((input.shape.clone(), values)).map(Tensor::upcast)
        }};
    }
    let made = match input.element {
        F16 => zeros!(half::f16, half::f16::ZERO),
        F32 => zeros!(f32, 0.0),
        U8 => zeros!(u8, 0),
        U16 => zeros!(u16, 0),
        U32 => zeros!(u32, 0),
        U64 => zeros!(u64, 0),
        I8 => zeros!(i8, 0),
        I16 => zeros!(i16, 0),
        I32 => zeros!(i32, 0),
        I64 => zeros!(i64, 0),
    };
    made.map_err(|e| Error::invalid(one_line(&e)))
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn places_in_the_librarys_source_are_left_out() {
        for (told, line) in [
            (
                "Load model from x failed:/onnxruntime_src/onnxruntime/core/graph/model.cc:256 \
                 onnxruntime::Model::Model(onnx::ModelProto&&, const std::function<void(int)>&) Unsupported \
                 model IR version: 99 (max 14)",
                "Load model from x failed: Unsupported model IR version: 99 (max 14)",
            ),
            (
                "a\n /onnxruntime_src/b.cc:1 int f(int) const (x == 1) was\nfalse.",
                "a (x == 1) was false.",
            ),
            ("failed /onnxruntime_src/b.cc:1 oh", "failed oh"),
            ("/onnxruntime_src/b.cc:1", " "),
            ("/onnxruntime_src/((", " "),
            ("as it is (x)", "as it is (x)"),
        ] {
            assert_eq!(one_line(&told), line);
        }
    }
}
