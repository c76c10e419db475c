//! Owns choosing the engine for a model and a device. Must not know: what engines do.

use super::Engine;
use super::cpu::CpuEngine;
use crate::error::{Error, Result};
use std::path::Path;
use std::str::FromStr;

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest that is there.
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, or an error.
    Cuda,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(word: &str) -> Result<DeviceChoice> {
        match word {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda),
            _ => Err(Error::invalid(format!("--device {word}: choose auto, cpu or cuda"))),
        }
    }
}

/// Opens a model folder or checkpoint file; `family` is the word of `--family`.
///
/// # Errors
/// A model that can't be read, whose family isn't clear, or that asks for a device that isn't
/// there.
pub fn open(model: &Path, family: Option<&str>, device: DeviceChoice) -> Result<Box<dyn Engine>> {
    match device {
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Box::new(CpuEngine::open(model, family)?)),
        DeviceChoice::Cuda => Err(Error::invalid(
            "--device cuda: this build of vqtok has no CUDA engine; use --device cpu",
        )),
    }
}
