//! Owns choosing the engine for a model, a device and a precision. Must not know: what engines do.

use super::Engine;
use super::cpu::CpuEngine;
use crate::error::{Error, Result};
use crate::model::opened::Opened;
use crate::util::settings::{DEVICE, PRECISION};
use std::fmt;
use std::str::FromStr;

/// `--device`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor, until the GPU engine has been measured: the device is part of an output's
    /// identity, so that it mustn't change with the machine unasked.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of that number, or an error.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(word: &str) -> Result<DeviceChoice> {
        let wrong = || Error::setting(DEVICE, format!("{word}: choose auto, cpu, cuda or cuda:N"));
        match word.split_once(':') {
            None => match word {
                "auto" => Ok(DeviceChoice::Auto),
                "cpu" => Ok(DeviceChoice::Cpu),
                "cuda" => Ok(DeviceChoice::Cuda(0)),
                _ => Err(wrong()),
            },
            Some(("cuda", number)) => number.parse().map(DeviceChoice::Cuda).map_err(|_| wrong()),
            Some(_) => Err(wrong()),
        }
    }
}

/// `--precision`: what maps and weights are held in; sums are float32 in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// float32, no TF32: the reference's tokens.
    #[default]
    F32,
    /// bfloat16: a share of the tokens differs from float32's.
    Bf16,
}

impl Precision {
    /// The word, as written to shards.
    pub const fn as_str(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(word: &str) -> Result<Precision> {
        [Precision::F32, Precision::Bf16]
            .into_iter()
            .find(|precision| precision.as_str() == word)
            .ok_or_else(|| Error::setting(PRECISION, format!("{word}: choose f32 or bf16")))
    }
}

/// The engine of an opened model.
///
/// # Errors
/// Those of [`require`]; a network that the weights don't make or the device doesn't have.
pub fn open(opened: Opened, device: DeviceChoice, precision: Precision) -> Result<Box<dyn Engine>> {
    require(device, precision)?;
    match device {
        DeviceChoice::Cuda(number) => open_cuda(opened, number, precision),
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Box::new(CpuEngine::open(opened)?)),
    }
}

/// Errors where [`open`] would for any model: before a model is read, and before work that a run
/// starts with.
///
/// # Errors
/// A device whose engine or libraries aren't there, a precision it doesn't have.
pub fn require(device: DeviceChoice, precision: Precision) -> Result<()> {
    match (device, precision) {
        (DeviceChoice::Cuda(_), _) => require_cuda(precision),
        (_, Precision::F32) => Ok(()),
        (_, Precision::Bf16) => {
            let reason = format!("bf16 needs {DEVICE} cuda: the CPU computes in f32");
            Err(Error::setting(PRECISION, reason))
        }
    }
}

#[cfg(feature = "cuda")]
fn require_cuda(precision: Precision) -> Result<()> {
    use super::cuda::libraries;
    libraries::require(precision, libraries::Library::is_present)
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
    fn words_of_devices_and_precisions() {
        let device = |word: &str| word.parse::<DeviceChoice>();
        assert_eq!(device("auto").unwrap(), DeviceChoice::Auto);
        assert_eq!(device("cuda").unwrap(), DeviceChoice::Cuda(0));
        assert_eq!(device("cuda:3").unwrap(), DeviceChoice::Cuda(3));
        for wrong in ["cuda:", "cuda:x", "cpu:1", "gpu", ""] {
            let text = device(wrong).unwrap_err().to_string();
            assert!(text.contains("choose auto, cpu, cuda or cuda:N"), "{text}");
        }
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        }
        assert!("f16".parse::<Precision>().is_err());
    }

    #[test]
    fn the_cpu_refuses_bf16_before_any_model_is_read() {
        let text = require(DeviceChoice::Cpu, Precision::Bf16).expect_err("an error").to_string();
        assert!(text.contains("precision bf16 needs device cuda"), "{text}");
    }
}
