//! Owns the classic VQ-VAE (van den Oord et al. 2017): strided 4x4 convolutions down, residual
//! blocks, transposed 4x4 convolutions up. Must not know: quantizers, training, files.
//!
//! Fields mirror weight names: `enc.conv{1..n}` are the stride-2 convolutions, `enc.conv{n+1}` the
//! 3x3 behind them, `dec.up{1..n}` the way back.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::VqvaeConfig;
use super::conv::{Padding, conv_transpose2d, conv2d, relu};
use super::network::Network;

/// A convolution with bias: weight `[out, in, k, k]`.
#[derive(Debug, Clone)]
struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv {
    fn new(
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        vb: VarBuilder<'_>,
    ) -> Result<Conv> {
        Ok(Conv {
            weight: vb.get((output, input, kernel, kernel), "weight")?,
            bias: vb.get(output, "bias")?,
            stride,
            padding,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, Some(&self.bias), self.stride, Padding::same(self.padding))
    }
}

/// A transposed 4x4 convolution with stride 2 and bias: weight `[in, out, 4, 4]`.
#[derive(Debug, Clone)]
struct Up {
    weight: Tensor,
    bias: Tensor,
}

impl Up {
    fn new(input: usize, output: usize, vb: VarBuilder<'_>) -> Result<Up> {
        Ok(Up { weight: vb.get((input, output, 4, 4), "weight")?, bias: vb.get(output, "bias")? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv_transpose2d(x, &self.weight, Some(&self.bias), 2, 1)
    }
}

/// x + conv2(relu(conv1(relu(x)))): 3x3 to `res_hidden`, 1x1 back.
#[derive(Debug, Clone)]
struct ResBlock {
    conv1: Conv,
    conv2: Conv,
}

impl ResBlock {
    fn new(c: &VqvaeConfig, vb: VarBuilder<'_>) -> Result<ResBlock> {
        Ok(ResBlock {
            conv1: Conv::new(c.hidden, c.res_hidden, 3, 1, 1, vb.pp("conv1"))?,
            conv2: Conv::new(c.res_hidden, c.hidden, 1, 1, 0, vb.pp("conv2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&relu(x)?)?;
        x + self.conv2.forward(&relu(&h)?)?
    }
}

fn res_blocks(c: &VqvaeConfig, vb: VarBuilder<'_>) -> Result<Vec<ResBlock>> {
    (0..c.res_blocks).map(|i| ResBlock::new(c, vb.pp("res").pp(i))).collect()
}

/// The blocks and the ReLU behind the last.
fn run_blocks(blocks: &[ResBlock], mut x: Tensor) -> Result<Tensor> {
    for block in blocks {
        x = block.forward(&x)?;
    }
    relu(&x)
}

/// Channels behind the `i`-th (from 0) stride-2 convolution.
fn width(c: &VqvaeConfig, i: usize) -> usize {
    if i == 0 && c.downsamples > 1 { c.hidden / 2 } else { c.hidden }
}

/// Images `[B, C, H, W]` to latents `[B, D, H/f, W/f]`.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// `conv1` .. `conv{n}`.
    down: Vec<Conv>,
    /// `conv{n+1}`.
    conv: Conv,
    res: Vec<ResBlock>,
    proj: Conv,
}

impl Encoder {
    /// `channels` of the image, `dim` of the latents.
    pub fn new(c: &VqvaeConfig, channels: usize, dim: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let down = (0..c.downsamples)
            .map(|i| {
                let input = if i == 0 { channels } else { width(c, i - 1) };
                Conv::new(input, width(c, i), 4, 2, 1, vb.pp(format!("conv{}", i + 1)))
            })
            .collect::<Result<Vec<_>>>()?;
        let last = if c.downsamples == 0 { channels } else { width(c, c.downsamples - 1) };
        let name = format!("conv{}", c.downsamples + 1);
        Ok(Encoder {
            down,
            conv: Conv::new(last, c.hidden, 3, 1, 1, vb.pp(name))?,
            res: res_blocks(c, vb.clone())?,
            proj: Conv::new(c.hidden, dim, 1, 1, 0, vb.pp("proj"))?,
        })
    }

    /// `[B, C, H, W] -> [B, D, H/f, W/f]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = x.clone();
        for conv in &self.down {
            h = relu(&conv.forward(&h)?)?;
        }
        let h = run_blocks(&self.res, self.conv.forward(&h)?)?;
        self.proj.forward(&h)
    }
}

/// Quantized latents `[B, D, h, w]` to images `[B, C, h f, w f]`.
#[derive(Debug, Clone)]
pub struct Decoder {
    conv: Conv,
    res: Vec<ResBlock>,
    /// `up1` .. `up{n}`.
    up: Vec<Up>,
}

impl Decoder {
    /// `channels` of the image, `dim` of the latents.
    pub fn new(c: &VqvaeConfig, channels: usize, dim: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let n = c.downsamples;
        let up = (0..n)
            .map(|i| {
                let input = if i == 0 { c.hidden } else { width(c, n - 1 - i) };
                let output = if i + 1 == n { channels } else { width(c, n - 2 - i) };
                Up::new(input, output, vb.pp(format!("up{}", i + 1)))
            })
            .collect::<Result<Vec<_>>>()?;
        let first = Conv::new(dim, c.hidden, 3, 1, 1, vb.pp("conv"))?;
        Ok(Decoder { conv: first, res: res_blocks(c, vb.clone())?, up })
    }

    /// `[B, D, h, w] -> [B, C, h f, w f]`
    pub fn forward(&self, z: &Tensor) -> Result<Tensor> {
        let h = self.last_activation(z)?;
        match self.up.last() {
            Some(up) => up.forward(&h),
            None => Ok(h),
        }
    }

    /// What the last transposed convolution sees.
    fn last_activation(&self, z: &Tensor) -> Result<Tensor> {
        let mut h = run_blocks(&self.res, self.conv.forward(z)?)?;
        for up in self.up.iter().rev().skip(1).rev() {
            h = relu(&up.forward(&h)?)?;
        }
        Ok(h)
    }
}

/// Encoder and decoder under one root: names `enc.*` and `dec.*`.
#[derive(Debug, Clone)]
pub struct VqVae {
    enc: Encoder,
    dec: Decoder,
}

impl VqVae {
    /// `channels` of the image, `dim` of the latents. `config.downsamples` must be at least 1.
    pub fn new(c: &VqvaeConfig, channels: usize, dim: usize, vb: VarBuilder<'_>) -> Result<VqVae> {
        Ok(VqVae {
            enc: Encoder::new(c, channels, dim, vb.pp("enc"))?,
            dec: Decoder::new(c, channels, dim, vb.pp("dec"))?,
        })
    }

    /// `[B, C, H, W] -> [B, D, H/f, W/f]`
    pub fn encode(&self, x: &Tensor) -> Result<Tensor> {
        self.enc.forward(x)
    }

    /// `[B, D, h, w] -> [B, C, h f, w f]`
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.dec.forward(z)
    }

    /// What the last layer of [`VqVae::decode`] sees, `[B, hidden, H/2, W/2]`.
    pub fn last_activation(&self, z: &Tensor) -> Result<Tensor> {
        self.dec.last_activation(z)
    }

    /// Weight and bias of the last layer, a transposed 4x4 convolution with stride 2.
    pub fn last_up(&self) -> Option<(&Tensor, &Tensor)> {
        self.dec.up.last().map(|up| (&up.weight, &up.bias))
    }
}

impl Network for VqVae {
    fn latents(&self, x: &Tensor) -> Result<Option<Tensor>> {
        self.encode(x).map(Some)
    }

    fn images(&self, q: &Tensor) -> Result<Option<Tensor>> {
        self.decode(q).map(Some)
    }
}
