//! Owns the way of images to a GPU and of results back: page-locked memory, a stream of its own for
//! uploads, and the events that order it and the work. Must not know: what is computed, whose images
//! they are.
//!
//! An upload goes to a place of its own on the device while an earlier run computes; the run that it
//! is for waits for it there and moves it into its program, at the speed of the device's memory.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice, result,
};

use super::device::driver;
use crate::error::Result;

/// Memory for one run's images and results.
pub(super) struct Slot {
    pixels: PinnedHostSlice<u8>,
    staged: CudaSlice<u8>,
    results: PinnedHostSlice<u8>,
    uploaded: CudaEvent,
    done: CudaEvent,
}

/// The stream of uploads.
pub(super) struct Uploads {
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

impl Uploads {
    /// On a GPU.
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Uploads> {
        let stream = context.new_stream().map_err(driver("a stream for uploads"))?;
        Ok(Uploads { stream, context: Arc::clone(context) })
    }

    /// Room for so many bytes of images and of results.
    pub(super) fn slot(&self, pixels: usize, results: usize) -> Result<Slot> {
        // SAFETY: bytes are written before the device reads them, results before anyone does.
        let pinned = |bytes: usize, what: &str| unsafe {
            self.context.alloc_pinned_with_flags::<u8>(bytes.max(1), 0).map_err(driver(what))
        };
        let event = || self.context.new_event(None).map_err(driver("an event"));
        let staged = self.stream.alloc_zeros::<u8>(pixels.max(1)).map_err(driver("images"))?;
        Ok(Slot {
            pixels: pinned(pixels, "page-locked memory for images")?,
            staged,
            results: pinned(results, "page-locked memory for results")?,
            uploaded: event()?,
            // Who waits for a run leaves the processor to others.
            done: (self.context)
                .new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))
                .map_err(driver("an event"))?,
        })
    }

    /// Begins an upload; the slot's last run is done. Work that `on` is given from here on finds the
    /// images at `to`.
    pub(super) fn upload(
        &self,
        slot: &mut Slot,
        images: &[&[u8]],
        on: &CudaStream,
        to: u64,
    ) -> Result<()> {
        let memory = slot.pixels.as_mut_slice().map_err(driver("images"))?;
        let mut at = 0;
        for image in images {
            memory[at..at + image.len()].copy_from_slice(image);
            at += image.len();
        }
        let staged = slot.staged.device_ptr(&self.stream).0;
        // SAFETY: both are of at least `at` bytes and live until the slot is dropped, which waits for
        // the work; nothing writes the images before `Slot::results` has waited for it.
        unsafe { result::memcpy_htod_async(staged, &memory[..at], self.stream.cu_stream()) }
            .map_err(driver("copying images"))?;
        slot.uploaded.record(&self.stream).map_err(driver("an event"))?;
        on.wait(&slot.uploaded).map_err(driver("an event"))?;
        // SAFETY: the program's input has room for its images.
        unsafe { result::memcpy_dtod_async(to, staged, at, on.cu_stream()) }
            .map_err(driver("moving images"))
    }
}

impl Slot {
    /// Whether it has room for so many bytes.
    pub(super) fn fits(&self, [pixels, results]: [usize; 2]) -> bool {
        self.pixels.len() >= pixels && self.results.len() >= results
    }

    /// Has these parts of the device's memory, addresses and bytes, brought to the host after what
    /// `on` was given so far.
    pub(super) fn download(&mut self, parts: &[(u64, usize)], on: &CudaStream) -> Result<()> {
        let memory = self.results.as_mut_slice().map_err(driver("results"))?;
        let mut at = 0;
        for &(from, bytes) in parts {
            // SAFETY: the caller's parts lie in its program's buffers; the host's memory lives until
            // the slot is dropped and is read once `done` is reached.
            unsafe { result::memcpy_dtoh_async(&mut memory[at..at + bytes], from, on.cu_stream()) }
                .map_err(driver("results"))?;
            at += bytes;
        }
        self.done.record(on).map_err(driver("an event"))
    }

    /// Waits for the run; what [`Self::download`] brought.
    pub(super) fn results(&self) -> Result<&[u8]> {
        self.done.synchronize().map_err(driver("a run"))?;
        self.results.as_slice().map_err(driver("results"))
    }
}
