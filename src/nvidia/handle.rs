//! Owns a handle of cuDNN's and the library's version. Must not know: what is computed with it.

use cudarc::cudnn::sys;
use cudarc::driver::CudaStream;

use super::errors::failed;
use crate::error::Result;

/// cuDNN on the GPU that was this thread's when it was made.
pub(crate) struct Handle(pub sys::cudnnHandle_t);

// SAFETY: a handle belongs to no thread; it is only used by what owns it.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        unsafe { sys::cudnnDestroy(self.0) };
    }
}

impl Handle {
    /// On the GPU that is this thread's.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn new() -> Result<Handle> {
        let made = cudarc::cudnn::result::create_handle();
        Ok(Handle(made.map_err(|error| failed("cuDNN", "a handle", &error.to_string()))?))
    }

    /// Work goes to `stream` from here on.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn work_on(&self, stream: &CudaStream) -> Result<()> {
        // SAFETY: both are live.
        let set = unsafe { cudarc::cudnn::result::set_stream(self.0, stream.cu_stream().cast()) };
        set.map_err(|error| failed("cuDNN", "the stream", &error.to_string()))
    }
}

/// Major, minor and patch version.
pub(crate) fn version() -> [usize; 3] {
    let version = cudarc::cudnn::result::get_version();
    [version / 10_000, version / 100 % 100, version % 100]
}
