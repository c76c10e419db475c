//! Owns which of CUDA's libraries a run needs, and saying which of them aren't there or are too old.
//! They are looked for at run time, so that the same binary starts on a machine without any.

#[cfg(feature = "cuda")]
use std::ffi::{CStr, CString};

use crate::engine::device::Precision;
#[cfg(any(test, feature = "cuda"))]
use crate::error::{Error, Result};
#[cfg(any(test, feature = "cuda"))]
use crate::nvidia::errors::refused;
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
        self.find().is_ok()
    }

    /// Looks for it under the names by which it is going to be loaded, without keeping it.
    ///
    /// # Errors
    /// Why there is none.
    #[cfg(feature = "cuda")]
    pub(crate) fn find(self) -> Result<(), Absence> {
        let stem = match self {
            Library::Driver => "cuda",
            Library::Nvrtc => "nvrtc",
            Library::Cublas => "cublas",
            Library::Cudnn => "cudnn",
        };
        let mut absence = Absence::NotFound;
        for name in names(stem) {
            let Err(reason) = open_and_close(&name) else { return Ok(()) };
            // Of another file than the one that was asked for: that one is there.
            if !reason.starts_with(&name) || !reason.contains("cannot open shared object") {
                absence = Absence::Broken(reason);
            }
        }
        Err(absence)
    }
}

/// Why a library can't be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg(any(test, feature = "cuda"))]
pub(crate) enum Absence {
    /// There is no such file where the loader looks.
    NotFound,
    /// There is one, and the loader says what is wrong with it.
    Broken(String),
}

/// The names by which it is going to be loaded.
#[cfg(all(feature = "cuda", not(feature = "candle-cuda")))]
fn names(stem: &str) -> Vec<String> {
    cudarc::get_lib_name_candidates(stem)
}

/// With candle's CUDA side the program is linked to the libraries, and starts only where they are.
#[cfg(all(feature = "cuda", feature = "candle-cuda"))]
fn names(stem: &str) -> Vec<String> {
    ["", ".1", ".9", ".12", ".13"].map(|version| format!("lib{stem}.so{version}")).into()
}

/// The loader's reason where it can't.
#[cfg(feature = "cuda")]
fn open_and_close(name: &str) -> Result<(), String> {
    let name = CString::new(name).map_err(|_| "a zero byte".to_owned())?;
    // SAFETY: the name ends with a zero, and the handle is closed once. The library's constructors
    // run, as they do wherever it is used; those of NVIDIA's libraries have no requirements. The
    // loader's reason is this thread's until its next call.
    unsafe {
        let handle = libc::dlopen(name.as_ptr(), libc::RTLD_LAZY);
        if !handle.is_null() {
            libc::dlclose(handle);
            return Ok(());
        }
        let reason = libc::dlerror();
        match reason.is_null() {
            true => Err("the loader gives no reason".to_owned()),
            false => Err(CStr::from_ptr(reason).to_string_lossy().into_owned()),
        }
    }
}

/// Errors, in one line, with every library that `find` doesn't find.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn require(
    precision: Precision,
    find: impl Fn(Library) -> Result<(), Absence>,
) -> Result<()> {
    let missing: Vec<String> = Library::needed(precision)
        .iter()
        .filter_map(|library| {
            let named = format!("{} ({})", library.file(), library.from());
            Some(match find(*library).err()? {
                Absence::NotFound => format!("no {named}"),
                Absence::Broken(reason) => format!("no usable {named}: {reason}"),
            })
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::setting(
        DEVICE,
        format!(
            "cuda {PRECISION} {precision}: the loader finds {}; install what is missing or put its \
             folder into LD_LIBRARY_PATH, or use {DEVICE} cpu",
            missing.join(", ")
        ),
    ))
}

/// Errors where the library that was loaded is of an earlier major version: the loader may find
/// another one under a shorter name first.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn require_version(library: Library, version: &[usize]) -> Result<()> {
    let wanted: usize =
        library.file().rsplit('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let found = version.first().copied().unwrap_or(0);
    if found >= wanted {
        return Ok(());
    }
    Err(refused(format!(
        "the loader finds version {found} of {} first where {wanted} is needed ({}): put the folder \
         of {} at the front of LD_LIBRARY_PATH",
        library.file().split('.').next().unwrap_or_default(),
        library.from(),
        library.file(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(there: impl Fn(Library) -> bool) -> impl Fn(Library) -> Result<(), Absence> {
        move |library| if there(library) { Ok(()) } else { Err(Absence::NotFound) }
    }

    #[test]
    fn every_missing_library_is_named_in_one_line() {
        let nothing = require(Precision::Bf16, only(|_| false)).unwrap_err().to_string();
        assert!(!nothing.contains('\n'));
        for library in Library::needed(Precision::Bf16) {
            assert!(nothing.contains(library.file()), "{nothing}");
        }
        let cublas = only(|library| library != Library::Cublas);
        let one = require(Precision::F32, cublas).unwrap_err().to_string();
        assert!(one.contains("no libcublas.so.13 ("), "{one}");
        assert!(!one.contains("libcuda") && !one.contains("nvrtc"), "{one}");
    }

    #[test]
    fn a_library_that_lacks_another_is_said_with_the_loaders_reason() {
        let find = |library| match library {
            Library::Cublas => Err(Absence::Broken("libcublasLt.so.13: cannot open".to_owned())),
            _ => Ok(()),
        };
        let text = require(Precision::F32, find).unwrap_err().to_string();
        let said =
            "no usable libcublas.so.13 (CUDA 13 or the wheel nvidia-cublas): libcublasLt.so.13";
        assert!(text.contains(said), "{text}");
    }

    #[test]
    fn an_earlier_version_in_front_is_refused() {
        require_version(Library::Cublas, &[13, 1, 0]).unwrap();
        require_version(Library::Nvrtc, &[14, 0]).unwrap();
        require_version(Library::Cudnn, &[9, 8, 0]).unwrap();
        let text = require_version(Library::Cublas, &[12, 9, 1]).unwrap_err().to_string();
        assert!(text.contains("version 12 of libcublas first where 13 is needed"), "{text}");
        assert!(text.contains("front of LD_LIBRARY_PATH") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn float32_needs_no_cudnn() {
        require(Precision::F32, only(|library| library != Library::Cudnn)).unwrap();
        assert!(require(Precision::Bf16, only(|library| library != Library::Cudnn)).is_err());
        require(Precision::Bf16, only(|_| true)).unwrap();
    }
}
