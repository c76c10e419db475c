//! Owns choosing the engine for a model, a device and a precision.

use super::cpu::CpuEngine;
use super::device::{DeviceChoice, Precision};
use super::interface::Engine;
use crate::error::{Error, Result};
use crate::model::opened::Opened;
use crate::util::settings::{DEVICE, PRECISION};

/// The engine of an opened model.
///
/// # Errors
/// Those of [`require`]; a network that the weights don't make or the device doesn't have.
pub fn open(opened: Opened, device: DeviceChoice, precision: Precision) -> Result<Box<dyn Engine>> {
    require(device, precision)?;
    match device {
        DeviceChoice::Cuda(number) => open_cuda(opened, number, precision),
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Box::new(CpuEngine::open(opened)?)),
        DeviceChoice::TensorRt(_) => Err(no_tensorrt()),
    }
}

/// Errors where [`open`] would for any model: before a model is read, and before work that a run
/// starts with.
///
/// # Errors
/// A device whose engine or libraries aren't there, a precision it doesn't have.
pub fn require(device: DeviceChoice, precision: Precision) -> Result<()> {
    match (device, precision) {
        (DeviceChoice::TensorRt(_), _) => Err(no_tensorrt()),
        (DeviceChoice::Cuda(_), _) => require_cuda(precision),
        (_, Precision::F32) => Ok(()),
        (_, Precision::Bf16) => {
            let reason = format!("bf16 needs {DEVICE} cuda: the CPU computes in f32");
            Err(Error::setting(PRECISION, reason))
        }
    }
}

fn no_tensorrt() -> Error {
    Error::setting(DEVICE, "tensorrt: for models in ONNX files alone; use cpu or cuda")
}

#[cfg(feature = "cuda")]
fn require_cuda(precision: Precision) -> Result<()> {
    use super::cuda::libraries;
    libraries::require(precision, libraries::Library::find)
}

#[cfg(not(feature = "cuda"))]
fn require_cuda(_: Precision) -> Result<()> {
    Err(Error::setting(
        DEVICE,
        format!(
            "cuda: this vqtok was built without its CUDA engine; build it with `cargo build \
             --release --features cuda` (no CUDA toolkit is needed), or use {DEVICE} cpu"
        ),
    ))
}

#[cfg(feature = "cuda")]
fn open_cuda(opened: Opened, number: usize, precision: Precision) -> Result<Box<dyn Engine>> {
    Ok(Box::new(super::cuda::CudaEngine::open(opened, number, precision)?))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: Opened, _: usize, precision: Precision) -> Result<Box<dyn Engine>> {
    // `require` has refused it already, with this very error.
    require_cuda(precision).and(Err(Error::internal("no CUDA engine")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_refuses_bf16_before_any_model_is_read() {
        let text = require(DeviceChoice::Cpu, Precision::Bf16).expect_err("an error").to_string();
        assert!(text.contains("precision bf16 needs device cuda"), "{text}");
    }
}
