//! Owns making our kernels machine code, through NVRTC. Must not know: what they compute, who launches
//! them.

use std::ffi::{CStr, CString, c_char};

use cudarc::nvrtc::{result as nvrtc, sys as nvrtc_sys};

use super::program::KERNELS;
use crate::engine::device::Precision;
use crate::error::Result;
use crate::nvidia::errors::failed;

/// Machine code of our kernels for an architecture such as `sm_90`: not PTX, which an older driver
/// than the compiler refuses.
pub(super) fn compile(architecture: &str, element: Precision) -> Result<Vec<u8>> {
    let wrong = |what: &'static str| {
        move |error: nvrtc::NvrtcError| failed("NVRTC", what, &format!("{:?}", error.0))
    };
    let source = CString::new(KERNELS).map_err(|_| failed("NVRTC", "the source", "a zero byte"))?;
    let program =
        nvrtc::create_program(&source, Some(c"kernels.cu")).map_err(wrong("a program"))?;
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    if element == Precision::Bf16 {
        options.push("-DVQTOK_BF16".to_owned());
    }
    // SAFETY: `program` is live until the end of this function and `source` outlives it; the log
    // ends with a zero; the code is written to as many bytes as it was said to have.
    let code = unsafe {
        match nvrtc::compile_program(program, &options) {
            Ok(()) => cubin(program).map_err(wrong("the machine code")),
            Err(_) => {
                let log = nvrtc::get_program_log(program).unwrap_or_else(|_| vec![0]);
                let text = CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned();
                Err(failed("NVRTC", &format!("kernels.cu for {architecture}"), &text))
            }
        }
    };
    // SAFETY: created above, destroyed once. Nothing can be done about a failure.
    let _ = unsafe { nvrtc::destroy_program(program) };
    code
}

/// # Safety
/// `program` is live and compiled for a real architecture.
unsafe fn cubin(program: nvrtc_sys::nvrtcProgram) -> Result<Vec<u8>, nvrtc::NvrtcError> {
    let mut bytes = 0usize;
    // SAFETY: `bytes` is written; then as many bytes are, for which there is room.
    unsafe {
        nvrtc_sys::nvrtcGetCUBINSize(program, &mut bytes).result()?;
        let mut code = vec![0u8; bytes];
        nvrtc_sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast::<c_char>()).result()?;
        Ok(code)
    }
}

/// Major and minor version of the compiler.
pub(super) fn version() -> Result<[usize; 2]> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are written before the call returns.
    let status = unsafe { nvrtc_sys::nvrtcVersion(&mut major, &mut minor) };
    status.result().map_err(|error| failed("NVRTC", "its version", &format!("{:?}", error.0)))?;
    Ok([major, minor].map(|part| usize::try_from(part).unwrap_or(0)))
}

/// The names behind `KERNEL` in the source.
pub(super) fn kernel_names() -> impl Iterator<Item = &'static str> {
    KERNELS.lines().filter_map(|line| line.strip_prefix("KERNEL ")?.split('(').next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::libraries::Library;

    #[test]
    fn kernels_compile_where_nvrtc_is() {
        let all = KERNELS.matches("\nKERNEL ").count();
        assert!(all > 0 && kernel_names().count() == all);
        if !Library::Nvrtc.is_present() {
            eprintln!("skipped: no {}", Library::Nvrtc.file());
            return;
        }
        for element in [Precision::F32, Precision::Bf16] {
            let code = compile("sm_90", element).unwrap();
            for name in kernel_names() {
                let symbol = format!(".text.{name}");
                assert!(code.windows(symbol.len()).any(|w| w == symbol.as_bytes()), "{name}");
            }
        }
        let text = compile("sm_1", Precision::F32).unwrap_err().to_string();
        assert!(text.contains("NVRTC") && !text.contains('\n'), "{text}");
    }
}
