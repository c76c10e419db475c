//! Owns where candle computes: the processor, or an NVIDIA GPU in a build that has candle's CUDA side.
//! Must not know: what is computed.

use candle_core::{Device, DeviceLocation};

use crate::error::{Error, Result};
use crate::util::settings::DEVICE;

/// A device, opened once and shared by all that has tensors on it.
#[derive(Debug, Clone)]
pub struct ComputeDevice(Device);

impl Default for ComputeDevice {
    /// The processor.
    fn default() -> Self {
        ComputeDevice(Device::Cpu)
    }
}

impl PartialEq for ComputeDevice {
    /// Whether both are the same piece of hardware.
    fn eq(&self, other: &Self) -> bool {
        self.0.location() == other.0.location()
    }
}

impl ComputeDevice {
    /// The NVIDIA GPU of that number.
    ///
    /// # Errors
    /// A build without candle's CUDA side; no such GPU, or no driver.
    pub fn cuda(number: usize) -> Result<ComputeDevice> {
        if cfg!(not(feature = "candle-cuda")) {
            let text = "cuda: this vqtok was built without candle's CUDA side, which training and the \
                        reference engine need on a GPU; build it with the feature candle-cuda (the \
                        README says what that takes), or use";
            return Err(Error::setting(DEVICE, format!("{text} {DEVICE} cpu")));
        }
        let failed = |error: candle_core::Error| {
            let reason = error.to_string();
            let line = reason.lines().next().unwrap_or("no reason given").to_string();
            Error::setting(DEVICE, format!("cuda:{number}: {line}"))
        };
        Device::new_cuda(number).map(ComputeDevice).map_err(failed)
    }

    /// The first NVIDIA GPU where this build and this machine have one, else the processor.
    pub fn cuda_or_cpu() -> ComputeDevice {
        ComputeDevice::cuda(0).unwrap_or_default()
    }

    /// What candle calls it.
    pub fn get(&self) -> &Device {
        &self.0
    }

    /// As it is chosen.
    pub fn name(&self) -> String {
        match self.0.location() {
            DeviceLocation::Cpu => "cpu".into(),
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }

    /// Whether convolutions of a training there go through cuDNN, wherever that has a plan for one.
    ///
    /// # Errors
    /// No memory for it.
    pub(crate) fn has_cudnn(&self) -> Result<bool> {
        #[cfg(all(feature = "cuda", feature = "candle-cuda"))]
        if let Device::Cuda(device) = &self.0 {
            return Ok(super::cuda::cudnn::starts(device)?);
        }
        Ok(false)
    }

    /// Whether it is the processor.
    pub fn is_cpu(&self) -> bool {
        self.0.is_cpu()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_there_always_and_a_gpu_only_where_it_was_built_in() {
        let cpu = ComputeDevice::default();
        assert_eq!(cpu.name(), "cpu");
        assert!(cpu.is_cpu() && cpu == ComputeDevice::default());
        if cfg!(not(feature = "candle-cuda")) {
            assert_eq!(ComputeDevice::cuda_or_cpu(), cpu);
            let text = ComputeDevice::cuda(0).expect_err("an error").to_string();
            assert!(
                text.contains("the feature candle-cuda") && text.ends_with("device cpu"),
                "{text}"
            );
        }
    }
}
