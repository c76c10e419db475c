//! Owns which of CUDA's libraries a run needs, and saying which of them aren't there. They are
//! looked for at run time, so that the same binary starts on a machine without any; and their
//! errors.

use crate::engine::device::Precision;
#[cfg(any(test, feature = "cuda"))]
use crate::error::{Error, Result};
#[cfg(any(test, feature = "cuda"))]
use crate::util::settings::{DEVICE, PRECISION};

/// A shared library that is loaded at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// The driver.
    Driver,
    /// The compiler of our kernels.
    Nvrtc,
    /// Matrix products.
    Cublas,
    /// Convolutions; only bfloat16 goes through it.
    Cudnn,
}

impl Library {
    /// The file's name, as the loader looks for it.
    pub const fn file(self) -> &'static str {
        match self {
            Library::Driver => "libcuda.so.1",
            Library::Nvrtc => "libnvrtc.so.13",
            Library::Cublas => "libcublas.so.13",
            Library::Cudnn => "libcudnn.so.9",
        }
    }

    /// What brings it.
    #[cfg(any(test, feature = "cuda"))]
    const fn from(self) -> &'static str {
        match self {
            Library::Driver => "NVIDIA's driver",
            Library::Nvrtc => "CUDA 13 or the wheel nvidia-cuda-nvrtc",
            Library::Cublas => "CUDA 13 or the wheel nvidia-cublas",
            Library::Cudnn => "cuDNN 9 or the wheel nvidia-cudnn-cu13",
        }
    }

    /// What a precision needs, in the order of its loading.
    pub fn needed(precision: Precision) -> &'static [Library] {
        const ALL: [Library; 4] =
            [Library::Driver, Library::Nvrtc, Library::Cublas, Library::Cudnn];
        match precision {
            Precision::F32 => &ALL[..3],
            Precision::Bf16 => &ALL,
        }
    }

    /// Whether the loader finds it.
    #[cfg(feature = "cuda")]
    pub fn is_present(self) -> bool {
        // SAFETY: opens and closes the library by its name. Its constructors run, as they do
        // wherever it is used; those of NVIDIA's libraries have no requirements.
        unsafe {
            match self {
                Library::Driver => cudarc::driver::sys::is_culib_present(),
                Library::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
                Library::Cublas => cudarc::cublas::sys::is_culib_present(),
                Library::Cudnn => cudarc::cudnn::sys::is_culib_present(),
            }
        }
    }
}

/// Errors, in one line, with every library that `present` doesn't know.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn require(precision: Precision, present: impl Fn(Library) -> bool) -> Result<()> {
    let missing: Vec<String> = Library::needed(precision)
        .iter()
        .filter(|library| !present(**library))
        .map(|library| format!("{} ({})", library.file(), library.from()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::setting(
        DEVICE,
        format!(
            "cuda {PRECISION} {precision}: the loader finds no {}; install what is missing or put \
             its folder into LD_LIBRARY_PATH, or use {DEVICE} cpu",
            missing.join(", no ")
        ),
    ))
}

/// An error of a library's, in one line.
#[cfg(feature = "cuda")]
pub(crate) fn failed(library: &str, what: &str, reason: &str) -> Error {
    refused(format!("{library}: {what}: {}", reason.replace('\n', " ")))
}

/// Why the GPU isn't used.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn refused(reason: String) -> Error {
    Error::setting(DEVICE, format!("cuda: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_library_is_named_in_one_line() {
        let nothing = require(Precision::Bf16, |_| false).unwrap_err().to_string();
        assert!(!nothing.contains('\n'));
        for library in Library::needed(Precision::Bf16) {
            assert!(nothing.contains(library.file()), "{nothing}");
        }
        let only = require(Precision::F32, |l| l != Library::Cublas).unwrap_err().to_string();
        assert!(only.contains("no libcublas.so.13 ("), "{only}");
        assert!(!only.contains("libcuda") && !only.contains("nvrtc"), "{only}");
    }

    #[test]
    fn float32_needs_no_cudnn() {
        require(Precision::F32, |library| library != Library::Cudnn).unwrap();
        assert!(require(Precision::Bf16, |library| library != Library::Cudnn).is_err());
        require(Precision::Bf16, |_| true).unwrap();
    }
}
