//! Owns weights rearranged so that one convolution does another's or several ones' work.

use candle_core::Tensor;

use crate::error::Result;
use crate::kernels::channel_stride;

/// A transposed 4x4 convolution of stride 2 and padding 1, weight `[inputs, outputs, 4, 4]` and
/// bias `[outputs]`, as a 3x3 convolution whose four groups of outputs `Graph::shuffle` spreads:
/// each output pixel of a block of 2x2 sees 2x2 of the 3x3 input pixels around it. More than half
/// of the window is zeros, yet Winograd's tiles make it cheaper than the definition.
pub(in crate::engine) fn transposed(weight: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
    let (inputs, outputs, _, _) = weight.dims4()?;
    let weight = weight.flatten_all()?.to_vec1::<f32>()?;
    let bias = bias.to_vec1::<f32>()?;
    let mut window = vec![0f32; 4 * outputs * inputs * 9];
    for part in 0..4 {
        for ky in 0..3 {
            for kx in 0..3 {
                // Input row y + ky - 1 reaches output row 2y + py through weight row
                // py + 1 - 2 (ky - 1), where there is one.
                let (wy, wx) = (part / 2 + 3 - 2 * ky as isize, part % 2 + 3 - 2 * kx as isize);
                if !(0..4).contains(&wy) || !(0..4).contains(&wx) {
                    continue;
                }
                for o in 0..outputs {
                    for i in 0..inputs {
                        let from = ((i * outputs + o) * 4 + wy as usize) * 4 + wx as usize;
                        let row = part as usize * outputs + o;
                        window[((row * inputs + i) * 3 + ky) * 3 + kx] = weight[from];
                    }
                }
            }
        }
    }
    let device = candle_core::Device::Cpu;
    let repeated = [bias.as_slice(); 4].concat();
    Ok((
        Tensor::from_vec(window, (4 * outputs, inputs, 3, 3), &device)?,
        Tensor::from_vec(repeated, 4 * outputs, &device)?,
    ))
}

/// `[outputs, inputs]`, or `[outputs, inputs, 1, 1]`, weights and `[outputs]` biases of 1x1 convolutions as one whose
/// outputs stand a channel stride apart, as attention reads them.
pub(super) fn side_by_side(parts: &[(Tensor, Tensor)]) -> Result<(Tensor, Tensor)> {
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    let mut inputs = 0;
    for (w, b) in parts {
        let outputs = w.dim(0)?;
        inputs = w.dim(1)?;
        let stride = channel_stride(outputs);
        weight.extend(w.flatten_all()?.to_vec1::<f32>()?);
        weight.resize(weight.len() + (stride - outputs) * inputs, 0.0);
        bias.extend(b.to_vec1::<f32>()?);
        bias.resize(bias.len() + stride - outputs, 0.0);
    }
    let outputs = bias.len();
    let device = candle_core::Device::Cpu;
    Ok((
        Tensor::from_vec(weight, (outputs, inputs, 1, 1), &device)?,
        Tensor::from_vec(bias, outputs, &device)?,
    ))
}

/// Queries, keys and values, `[3 * heads * head_dim, inputs]`, as attention reads them: those of one head
/// after another, a channel stride apart.
pub(super) fn by_heads(weight: &Tensor, [heads, head_dim]: [usize; 2]) -> Result<Tensor> {
    let (_, inputs) = weight.dims2()?;
    let weight =
        weight.reshape((3, heads, head_dim, inputs))?.permute((1, 0, 2, 3))?.contiguous()?;
    let gap = channel_stride(head_dim) - head_dim;
    Ok(weight.pad_with_zeros(2, 0, gap)?.reshape(((), inputs))?)
}

/// What reads the mixed values, `[outputs, heads * head_dim]`, with nothing for what lies between heads.
pub(super) fn of_heads(weight: &Tensor, [heads, head_dim]: [usize; 2]) -> Result<Tensor> {
    let (outputs, _) = weight.dims2()?;
    // A single head's map has no gaps: its channels are what they are.
    let gap = if heads == 1 { 0 } else { channel_stride(head_dim) - head_dim };
    let weight = weight.reshape((outputs, heads, head_dim))?;
    Ok(weight.pad_with_zeros(2, 0, gap)?.reshape((outputs, ()))?)
}
