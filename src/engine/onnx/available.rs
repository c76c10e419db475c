//! Owns what must be there before an ONNX model is opened, and saying what isn't.

use std::path::Path;

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider};

use super::library;
use crate::engine::device::{DeviceChoice, Precision};
use crate::error::{Error, Result};
use crate::util::settings::{DEVICE, ONNXRUNTIME, PRECISION};
use crate::util::text;

/// Errors where no ONNX model could be opened: before a model is read, and before work that a run
/// starts with; else what its graphs are opened in.
///
/// # Errors
/// No library, one without the device's provider, a precision.
pub(crate) fn require(
    device: DeviceChoice,
    precision: Precision,
    asked: Option<&Path>,
) -> Result<Environment> {
    if precision != Precision::F32 {
        let text =
            format!("{precision}: an ONNX model computes in what its file says; leave it out");
        return Err(Error::setting(PRECISION, text));
    }
    let library = library::load(asked)?;
    let (word, there) = match device {
        DeviceChoice::Auto | DeviceChoice::Cpu => return Ok(library.environment),
        DeviceChoice::CudaAll => {
            let text = "cuda:all: models in ONNX files run on one card: choose cuda:N";
            return Err(Error::setting(DEVICE, text));
        }
        DeviceChoice::Cuda(_) => ("CUDA", ep::CUDA::is_available()),
        DeviceChoice::TensorRt(_) => ("TensorRT", ep::TensorRT::is_available()),
    };
    if there.unwrap_or(false) {
        return Ok(library.environment);
    }
    Err(Error::setting(
        DEVICE,
        format!(
            "{device}: the ONNX Runtime at {} has no {word}: `pip install onnxruntime-gpu` in its place, \
             or pass {ONNXRUNTIME} with another",
            text::path(&library.path)
        ),
    ))
}
