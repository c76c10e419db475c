//! Owns carrying out convolutions of candle's tensors through cuDNN: on their device, in the order of its
//! stream. Must not know: gradients' graphs, what is done where cuDNN can't.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtrMut};
use candle_core::{CudaStorage, DType, Error, Layout, Result};

use super::convolutions::{Convolution, Convolutions, Product};
use super::launches;
use super::run::{carry_out, input};
use crate::error;
use crate::model::conv_sizes::ConvSizes;
use crate::model::tf32::tf32;
use crate::nvidia::graph::ALIGNMENT;

/// By the number of the GPU; None where cuDNN doesn't start on it.
type Opened = BTreeMap<usize, Option<Convolutions>>;

/// What `use_it` makes of cuDNN on a GPU, which becomes this thread's; None where it doesn't start there.
fn on<T>(
    device: &CudaDevice,
    use_it: impl FnOnce(&mut Convolutions) -> Result<Option<T>>,
) -> Result<Option<T>> {
    // Plans are made once a process, whichever thread trains.
    static OPENED: Mutex<Opened> = Mutex::new(BTreeMap::new());
    let stream = device.cuda_stream();
    let context = stream.context();
    context.bind_to_thread().map_err(Error::wrap)?;
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = match opened.entry(context.ordinal()) {
        Entry::Occupied(opened) => opened.into_mut(),
        Entry::Vacant(place) => place.insert(match Convolutions::new() {
            Err(error @ error::Error::OutOfMemory(_)) => return Err(Error::wrap(error)),
            made => made.ok(),
        }),
    };
    opened.as_mut().map_or(Ok(None), use_it)
}

/// Whether cuDNN starts on a GPU.
///
/// # Errors
/// No memory for it.
pub(crate) fn starts(device: &CudaDevice) -> Result<bool> {
    Ok(on(device, |_| Ok(Some(())))?.is_some())
}

/// A product of a convolution from its two inputs, contiguous and of float32 (x may be bfloat16), plus a
/// bias `[channels]`; None where cuDNN has no plan for it. What is forward: x and weight to y; the gradient
/// of x: that of y and weight; that of the weight: x and the gradient of y.
///
/// # Errors
/// Inputs of another kind; what the driver, cuDNN or the compiler refuses.
pub(in crate::model) fn convolve(
    product: Product,
    sizes: &ConvSizes,
    inputs: [(&CudaStorage, &Layout); 2],
    bias: Option<(&CudaStorage, &Layout)>,
) -> Result<Option<CudaStorage>> {
    let device = inputs[0].0.device().clone();
    let convolution = Convolution { product, sizes: *sizes, tf32: tf32() };
    on(&device, |cudnn| {
        let Some(workspace) = cudnn.workspace(&convolution).map_err(Error::wrap)? else {
            return Ok(None);
        };
        // SAFETY: the convolution writes every element.
        let mut output: CudaSlice<f32> = unsafe { device.alloc(convolution.outputs())? };
        if !run(cudnn, &convolution, &device, inputs, (&mut output, workspace))? {
            return Ok(None);
        }
        if let Some(bias) = bias {
            let plan = launches::add_to_channels(convolution.output());
            let stream = device.cuda_stream();
            let (address, _written) = output.device_ptr_mut(&stream);
            carry_out(&plan, &device, &[bias], (address, size_of::<f32>()))?;
        }
        Ok(Some(CudaStorage::wrap_cuda_slice(output, device.clone())))
    })
}

/// A tensor of bfloat16 as float32, which is exact: products are those of float32. None of any other.
fn widened((storage, layout): (&CudaStorage, &Layout)) -> Result<Option<(CudaStorage, Layout)>> {
    if storage.dtype() != DType::BF16 {
        return Ok(None);
    }
    let wide = storage.to_dtype(layout, DType::F32)?;
    Ok(Some((wide, Layout::contiguous(layout.shape().clone()))))
}

/// False where an address isn't aligned as a plan takes it: of a part of a tensor.
fn run(
    cudnn: &Convolutions,
    convolution: &Convolution,
    device: &CudaDevice,
    inputs: [(&CudaStorage, &Layout); 2],
    (output, workspace): (&mut CudaSlice<f32>, usize),
) -> Result<bool> {
    let stream = device.cuda_stream();
    let wide = [widened(inputs[0])?, widened(inputs[1])?];
    let read = |at: usize| match &wide[at] {
        Some((storage, layout)) => input(storage, layout, &stream),
        None => input(inputs[at].0, inputs[at].1, &stream),
    };
    let (first, _read) = read(0)?;
    let (second, _read_too) = read(1)?;
    // SAFETY: what is in it is nobody's business but the convolution's.
    let mut room: CudaSlice<u8> = unsafe { device.alloc(workspace.max(1))? };
    let (room, _used) = room.device_ptr_mut(&stream);
    let (made, _written) = output.device_ptr_mut(&stream);
    if [first, second, made].iter().any(|address| address % ALIGNMENT != 0) {
        return Ok(false);
    }
    let addresses = match convolution.product {
        Product::Forward => [first, second, made],
        Product::InputGradient => [made, second, first],
        Product::WeightGradient => [first, made, second],
    };
    cudnn.run(&stream, convolution, addresses, room).map_err(Error::wrap)?;
    Ok(true)
}
