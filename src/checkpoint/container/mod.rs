//! Containers of tensors: safetensors, PyTorch's zip and its older stream. Each gives named tensors as
//! data. Must not know: what the names mean.

pub(crate) mod file;
pub(crate) mod foreign;
pub(crate) mod safetensors;
pub(crate) mod safetensors_header;
pub(crate) mod sharded;
pub(crate) mod torch;
pub(crate) mod torch_legacy;
pub(crate) mod zip;
