//! Owns choosing the engine for a model, a device and a precision.

use super::candle::CandleEngine;
use super::cpu::CpuEngine;
use super::device::{DeviceChoice, Precision};
use super::interface::Engine;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::opened::Opened;
use crate::util::settings::{DEVICE, ENGINE, PRECISION};

/// The engine of an opened model.
///
/// # Errors
/// Those of [`require`]; a network that the weights don't make or the device doesn't have.
pub fn open(opened: Opened, device: DeviceChoice, precision: Precision) -> Result<Box<dyn Engine>> {
    require(device, precision)?;
    match device {
        DeviceChoice::Cuda(number) => open_cuda(opened, number, precision),
        DeviceChoice::CudaAll => open_cuda(opened, 0, precision),
        DeviceChoice::Auto if runs_on_a_card(&opened, precision)? => {
            open_cuda(opened, 0, precision)
        }
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Box::new(CpuEngine::open(opened)?)),
        DeviceChoice::TensorRt(_) => Err(no_tensorrt()),
    }
}

/// The reference engine of an opened model.
///
/// # Errors
/// Those of [`require_reference`]; a network that the weights don't make.
pub(crate) fn open_reference(
    opened: Opened,
    device: DeviceChoice,
    precision: Precision,
) -> Result<Box<dyn Engine>> {
    require_reference(device, precision)?;
    Ok(Box::new(CandleEngine::open(opened, device.for_candle()?.get())?))
}

/// Errors where [`open_reference`] would for any model.
///
/// # Errors
/// A device that candle doesn't have here; a precision that isn't the reference's.
pub(crate) fn require_reference(device: DeviceChoice, precision: Precision) -> Result<()> {
    match precision {
        Precision::F32 => device.for_candle().map(drop),
        Precision::Bf16 => {
            let reason = format!("bf16: {ENGINE} candle is the reference, in f32");
            Err(Error::setting(PRECISION, reason))
        }
    }
}

/// Whether there is a card that takes the model where none was asked for.
///
/// # Errors
/// A model that no card takes, in a precision that is the cards' alone.
fn runs_on_a_card(opened: &Opened, precision: Precision) -> Result<bool> {
    match (cards() > 0 && require_cuda(precision).is_ok(), precision) {
        (false, _) => Ok(false),
        (true, Precision::F32) => Ok(supports(&opened.config).is_ok()),
        (true, Precision::Bf16) => supports(&opened.config).map(|()| true),
    }
}

/// Why a model isn't computed on a card where none was asked for and there is one, in a few words.
pub(crate) fn passed_over(config: &ModelConfig, precision: Precision) -> Option<String> {
    if cards() == 0 {
        return None;
    }
    let refused = require_cuda(precision).and_then(|()| supports(config)).err()?.to_string();
    // What to do about it is for those who asked for a card.
    let reason = refused.split_once("cuda: ").map_or(&*refused, |(_, reason)| reason);
    reason.split("; ").next().map(str::to_owned)
}

/// Errors where [`open`] would for any model: before a model is read, and before work that a run
/// starts with.
///
/// # Errors
/// A device whose engine or libraries aren't there, a precision it doesn't have.
pub fn require(device: DeviceChoice, precision: Precision) -> Result<()> {
    match (device, precision) {
        (DeviceChoice::TensorRt(_), _) => Err(no_tensorrt()),
        (DeviceChoice::Cuda(_) | DeviceChoice::CudaAll, _) => require_cuda(precision),
        (_, Precision::F32) => Ok(()),
        (DeviceChoice::Auto, _) if cards() > 0 => require_cuda(precision),
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

/// The NVIDIA GPUs of this machine; none where their driver isn't there.
#[cfg(feature = "cuda")]
pub(crate) fn cards() -> usize {
    super::cuda::cards()
}

/// None, without the CUDA engine.
#[cfg(not(feature = "cuda"))]
pub(crate) fn cards() -> usize {
    0
}

#[cfg(feature = "cuda")]
fn supports(config: &ModelConfig) -> Result<()> {
    super::cuda::CudaEngine::supports(config)
}

#[cfg(not(feature = "cuda"))]
fn supports(_: &ModelConfig) -> Result<()> {
    require_cuda(Precision::F32)
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
