//! Owns decoding JPEG through libjpeg-turbo's decoder (as mozjpeg carries it), with the settings
//! that Pillow uses: slow integer DCT, fancy upsampling, CMYK taken as Adobe's (inverted).
//! Must not know: EXIF, alpha, resizing.
//!
//! What is recovered, as in Pillow: stray bytes before a marker, an odd JFIF version or Adobe
//! transform, data after the end, an odd progression. What is a rejection: data that ends early,
//! codes that don't exist, a lost restart marker, more than [`SCANS_MAX`] scans.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{mem, ptr};

use mozjpeg_sys as ffi;

use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::error::Reject;

/// Most scans of one image. Encoders write about ten; each costs a pass over all coefficients
/// while it may hold next to no data.
const SCANS_MAX: i32 = 100;

/// What the callbacks throw through libjpeg; it ends in [`decode`].
struct Thrown(String);

/// libjpeg's structures at addresses that never move, freed on drop.
struct Decompressor {
    cinfo: Box<ffi::jpeg_decompress_struct>,
    // Both are pointed to by `cinfo`.
    _errors: Box<ffi::jpeg_error_mgr>,
    _progress: Box<ffi::jpeg_progress_mgr>,
}

/// What the components of a JPEG are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// What the file says, by its markers.
    Declared,
    /// YCbCr, which becomes RGB.
    Ycc,
    /// Left as they are: a container says what they are.
    Stored,
}

/// A JPEG file to grey, RGB or CMYK samples.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let raster = decode_as(bytes, Space::Declared, limits)?;
    let Raster { width, height, mut data, .. } = raster;
    let (samples, color_mode) = match raster.channels {
        1 => (Samples::Grey(data), "L"),
        3 => (Samples::Rgb(data), "RGB"),
        _ => {
            data.iter_mut().for_each(|sample| *sample = 255 - *sample);
            (Samples::Cmyk(data), "CMYK")
        }
    };
    Ok(Pixels { width, height, samples, color_mode })
}

/// Interleaved samples as libjpeg hands them out: Adobe's CMYK is still inverted.
pub(crate) struct Raster {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) channels: usize,
    pub(crate) data: Vec<u8>,
}

/// A JPEG stream whose components are `space`.
pub(crate) fn decode_as(bytes: &[u8], space: Space, limits: &Limits) -> Result<Raster, Reject> {
    // The callbacks unwind through libjpeg's frames, which are compiled to let them.
    let decompress = || Decompressor::new().decode(bytes, space, limits);
    let outcome = catch_unwind(AssertUnwindSafe(decompress));
    outcome.unwrap_or_else(|payload: Box<dyn Any + Send>| match payload.downcast::<Thrown>() {
        Ok(thrown) => Err(reject(format!("JPEG: {}", variant(bytes).unwrap_or(thrown.0)))),
        Err(other) => resume_unwind(other),
    })
}

/// What kind of JPEG `bytes` are, if it is one that libjpeg doesn't decode.
fn variant(bytes: &[u8]) -> Option<String> {
    let mut at = 2;
    loop {
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let head = bytes.get(at..at + 5)?;
        let name = match (head[0], head[1]) {
            (0xFF, 0xC3 | 0xCB) => "lossless JPEG",
            (0xFF, 0xC5..=0xC7 | 0xCD..=0xCF) => "hierarchical JPEG",
            (0xFF, 0xF7) => "JPEG-LS",
            (0xFF, 0xC0..=0xC2 | 0xC9 | 0xCA) if head[4] != 8 => {
                let bits = head[4];
                return Some(format!(
                    "{bits}-bit samples are not supported; convert it to 8 bits or to PNG"
                ));
            }
            (0xFF, 0xC0..=0xC2 | 0xC9 | 0xCA | 0xDA) => return None,
            (0xFF, _) => {
                at += 2 + usize::from(u16::from_be_bytes([head[2], head[3]])).max(2);
                continue;
            }
            _ => return None,
        };
        return Some(format!("{name} is not supported; convert it to baseline JPEG or PNG"));
    }
}

impl Decompressor {
    fn new() -> Decompressor {
        // SAFETY: both are plain C structures for which zero is a valid state, as libjpeg expects.
        let mut errors: Box<ffi::jpeg_error_mgr> = Box::new(unsafe { mem::zeroed() });
        // SAFETY: as above.
        let mut progress: Box<ffi::jpeg_progress_mgr> = Box::new(unsafe { mem::zeroed() });
        // SAFETY: as above; `jpeg_create_decompress` initialises it right below.
        let mut cinfo: Box<ffi::jpeg_decompress_struct> = Box::new(unsafe { mem::zeroed() });
        // SAFETY: fills the structure with libjpeg's own handlers.
        unsafe { ffi::jpeg_std_error(&mut errors) };
        errors.error_exit = Some(on_error);
        errors.emit_message = Some(on_message);
        progress.progress_monitor = Some(on_progress);
        cinfo.common.err = &raw mut *errors;
        // SAFETY: the error manager is in place and, being boxed, stays there as long as `cinfo`.
        unsafe { ffi::jpeg_create_decompress(&mut *cinfo) };
        cinfo.common.progress = &raw mut *progress;
        Decompressor { cinfo, _errors: errors, _progress: progress }
    }

    fn decode(&mut self, bytes: &[u8], space: Space, limits: &Limits) -> Result<Raster, Reject> {
        let cinfo = &mut *self.cinfo;
        // SAFETY: `bytes` outlives every use of `cinfo` in this function, and nothing reads from
        // the source after it.
        unsafe { ffi::jpeg_mem_src(cinfo, bytes.as_ptr(), bytes.len() as ffi::c_ulong) };
        // SAFETY: `cinfo` is initialised and has a source; errors unwind to `decode`.
        if unsafe { ffi::jpeg_read_header(cinfo, 1) } != 1 {
            return Err(reject("JPEG: the header is incomplete"));
        }
        let (width, height) = (cinfo.image_width, cinfo.image_height);
        let components = cinfo.num_components as u64;
        // SAFETY: valid after the header was read.
        let whole = unsafe { ffi::jpeg_has_multiple_scans(cinfo) } != 0;
        // Several scans mean 16-bit coefficients for the whole image besides the output.
        limits.check(width.into(), height.into(), 4 + if whole { 2 * components } else { 0 })?;
        let channels = components as usize;
        cinfo.out_color_space = match (space, channels) {
            (Space::Stored, 1..=4) => {
                cinfo.jpeg_color_space = ffi::J_COLOR_SPACE::JCS_UNKNOWN;
                ffi::J_COLOR_SPACE::JCS_UNKNOWN
            }
            (Space::Ycc, 3) => {
                cinfo.jpeg_color_space = ffi::J_COLOR_SPACE::JCS_YCbCr;
                ffi::J_COLOR_SPACE::JCS_RGB
            }
            (Space::Declared, 1) => ffi::J_COLOR_SPACE::JCS_GRAYSCALE,
            (Space::Declared, 3) => ffi::J_COLOR_SPACE::JCS_RGB,
            (Space::Declared, 4) => ffi::J_COLOR_SPACE::JCS_CMYK,
            (_, other) => {
                return Err(reject(format!("JPEG: {other} components are not supported")));
            }
        };
        cinfo.dct_method = ffi::J_DCT_METHOD::JDCT_ISLOW;
        cinfo.do_fancy_upsampling = 1;
        // SAFETY: the header was read and the source is still there.
        if unsafe { ffi::jpeg_start_decompress(cinfo) } == 0 {
            return Err(reject("JPEG: the data ends early"));
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: decompression has started and no row has been read.
        unsafe {
            super::jpeg_kernels::install(cinfo);
        }
        let stride = width as usize * channels;
        let mut data = vec![0u8; stride * height as usize];
        self.read_rows(&mut data, stride);
        Ok(Raster { width, height, channels, data })
    }

    fn read_rows(&mut self, data: &mut [u8], stride: usize) {
        const ROWS: usize = 16;
        let cinfo = &mut *self.cinfo;
        while cinfo.output_scanline < cinfo.output_height {
            let rest = &mut data[cinfo.output_scanline as usize * stride..];
            let mut rows = [ptr::null_mut::<u8>(); ROWS];
            let mut count = 0;
            for (pointer, row) in rows.iter_mut().zip(rest.chunks_exact_mut(stride)) {
                *pointer = row.as_mut_ptr();
                count += 1;
            }
            // SAFETY: `count` pointers to rows of `stride` bytes, which is the output width times
            // its channels; the source of bytes never suspends, so every call makes progress.
            unsafe { ffi::jpeg_read_scanlines(cinfo, rows.as_mut_ptr(), count) };
        }
        // Reads up to the end marker, whose absence means a truncated file.
        // SAFETY: all rows have been read.
        unsafe { ffi::jpeg_finish_decompress(cinfo) };
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, freed once; this call reports no errors.
        unsafe { ffi::jpeg_destroy_decompress(&mut self.cinfo) };
    }
}

extern "C-unwind" fn on_error(cinfo: &mut ffi::jpeg_common_struct) {
    resume_unwind(Box::new(Thrown(message(cinfo))));
}

/// Level -1 is a warning: the data is corrupt but libjpeg would go on.
extern "C-unwind" fn on_message(cinfo: &mut ffi::jpeg_common_struct, level: ffi::c_int) {
    if level != -1 {
        return;
    }
    // SAFETY: set in `new` and never changed.
    let code = unsafe { (*cinfo.err).msg_code };
    // All others mean that pixels are missing or made up.
    let harmless = [
        ffi::JWRN_ADOBE_XFORM,
        ffi::JWRN_BOGUS_PROGRESSION,
        ffi::JWRN_EXTRANEOUS_DATA,
        ffi::JWRN_JFIF_MAJOR,
        ffi::JWRN_NOT_SEQUENTIAL,
    ];
    if !harmless.contains(&code) {
        resume_unwind(Box::new(Thrown(message(cinfo))));
    }
}

extern "C-unwind" fn on_progress(cinfo: &mut ffi::jpeg_common_struct) {
    // SAFETY: libjpeg's common structure is the start of the decompressor's that it belongs to,
    // and only decompressors are made here.
    let scan =
        unsafe { (*(&raw const *cinfo).cast::<ffi::jpeg_decompress_struct>()).input_scan_number };
    if scan > SCANS_MAX {
        let text =
            format!("more than {SCANS_MAX} scans; the file may be made to stall its readers");
        resume_unwind(Box::new(Thrown(text)));
    }
}

fn message(cinfo: &mut ffi::jpeg_common_struct) -> String {
    type Declared = unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, &[u8; 80]);
    type Actual = unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, &mut [u8; 80]);
    let mut text = [0u8; 80];
    // SAFETY: `err` and its `format_message` were set by `jpeg_std_error`; the function writes to
    // the buffer, which the binding declares as shared, hence the cast to its true type.
    unsafe {
        if let Some(format) = (*cinfo.err).format_message {
            mem::transmute::<Declared, Actual>(format)(cinfo, &mut text);
        }
    }
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).into_owned()
}

#[cfg(test)]
mod tests;
