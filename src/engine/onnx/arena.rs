//! Owns the memory that ONNX Runtime may take on the CPU: all graphs share one arena that ends where the
//! machine's memory does, so that a file which asks for more is an error and not the end of the process.

use std::ffi::c_char;
use std::ptr::null_mut;

use ort::environment::Environment;
use ort::sys::{OrtAllocatorType, OrtMemType, OrtStatusPtr};
use ort::{AsPointer, Error};

use crate::engine::memory;

/// Of the memory that is there, what the arena leaves to others.
const LEFT: u64 = 1 << 28;

/// Gives the environment an arena of what the machine has; nothing where that isn't known.
///
/// # Errors
/// The library's.
pub(super) fn bound(environment: &Environment) -> Result<(), Error> {
    let Some(bytes) = memory::available() else { return Ok(()) };
    let bytes = usize::try_from(bytes.saturating_sub(LEFT).max(LEFT)).unwrap_or(usize::MAX);
    let api = ort::api();
    // SAFETY: a status comes from the call before it, and is read once.
    let told = |status: OrtStatusPtr| unsafe { Error::result_from_status(status) };
    let (mut settings, mut place) = (null_mut(), null_mut());
    let keys: [*const c_char; 1] = [c"max_mem".as_ptr()];
    // SAFETY: one key and one value are there, and the key ends with a zero.
    told(unsafe { (api.CreateArenaCfgV2)(keys.as_ptr(), &raw const bytes, 1, &raw mut settings) })?;
    let (kind, of) = (OrtAllocatorType::OrtArenaAllocator, OrtMemType::OrtMemTypeDefault);
    // SAFETY: `place` is written, or an error is told.
    let made = told(unsafe { (api.CreateCpuMemoryInfo)(kind, of, &raw mut place) });
    let registered = made.and_then(|()| {
        // SAFETY: the environment lives as long as the reference; the other two were made above, and
        // are copied.
        told(unsafe {
            (api.CreateAndRegisterAllocator)(environment.ptr().cast_mut(), place, settings)
        })
    });
    // SAFETY: both were made above, or are null, which is released as nothing.
    unsafe {
        (api.ReleaseMemoryInfo)(place);
        (api.ReleaseArenaCfg)(settings);
    }
    registered
}
