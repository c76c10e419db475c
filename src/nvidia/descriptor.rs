//! Owns the descriptors of cuDNN's backend: made, given attributes, finalized, destroyed once. Must
//! not know: what they describe.

use std::ffi::c_void;

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::errors::failed;
use crate::error::{Error, Result};

/// An opaque descriptor of cuDNN's.
pub(crate) struct Descriptor(pub sys::cudnnBackendDescriptor_t);

// SAFETY: a descriptor belongs to no thread; it is only used by the engine that owns it.
unsafe impl Send for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

pub(crate) fn check(status: sys::cudnnStatus_t, what: &str) -> Result<()> {
    match status {
        sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS => Ok(()),
        sys::cudnnStatus_t::CUDNN_STATUS_ALLOC_FAILED
        | sys::cudnnStatus_t::CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED => {
            Err(Error::out_of_memory(format!("cuDNN, {what}")))
        }
        other => Err(failed("cuDNN", what, &format!("{other:?}"))),
    }
}

impl Descriptor {
    pub(crate) fn new(kind: Kind) -> Result<Descriptor> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: `raw` outlives the call, which writes it where it succeeds.
        check(unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut raw) }, "a descriptor")?;
        Ok(Descriptor(raw))
    }

    /// `T` is what `kind` stands for; cuDNN copies the values.
    pub(crate) fn set<T: Copy>(&self, name: Attribute, kind: Type, values: &[T]) -> Result<&Self> {
        let data = values.as_ptr().cast::<c_void>();
        // SAFETY: `data` points to as many values as it says, of the attribute's own type.
        let status =
            unsafe { sys::cudnnBackendSetAttribute(self.0, name, kind, values.len() as i64, data) };
        check(status, &format!("{name:?}"))?;
        Ok(self)
    }

    pub(crate) fn sizes(&self, name: Attribute, values: &[i64]) -> Result<&Self> {
        self.set(name, Type::CUDNN_TYPE_INT64, values)
    }

    pub(crate) fn data_type(&self, name: Attribute, value: sys::cudnnDataType_t) -> Result<&Self> {
        self.set(name, Type::CUDNN_TYPE_DATA_TYPE, &[value])
    }

    pub(crate) fn link(&self, name: Attribute, other: &Descriptor) -> Result<&Self> {
        self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &[other.0])
    }

    pub(crate) fn finalize(self) -> Result<Descriptor> {
        // SAFETY: a live descriptor.
        check(unsafe { sys::cudnnBackendFinalize(self.0) }, "finalizing a descriptor")?;
        Ok(self)
    }

    /// How many values of an attribute were written to `values`.
    pub(crate) fn get<T: Copy>(
        &self,
        name: Attribute,
        kind: Type,
        values: &mut [T],
    ) -> Result<usize> {
        let mut count = 0i64;
        let data = values.as_mut_ptr().cast::<c_void>();
        // SAFETY: `data` has room for as many values as it says, of the attribute's own type.
        let status = unsafe {
            sys::cudnnBackendGetAttribute(self.0, name, kind, values.len() as i64, &mut count, data)
        };
        check(status, &format!("{name:?}"))?;
        Ok(usize::try_from(count).unwrap_or(0).min(values.len()))
    }
}
