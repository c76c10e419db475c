//! Owns the layers that judging networks are made of, run by the kernels. Must not know: which networks
//! there are.
//!
//! A map belongs to one image, and an image to one thread: the bits don't depend on how many there are.

use std::sync::OnceLock;

use crate::kernels::{
    Activation, Buffer, CHANNEL_BLOCK, DirectWeights, Input, Isa, Output, Pooled, Residual, Window,
    WinogradWeights, channel_stride, direct, pointwise, winograd, winograd_side,
};

/// What layers run with, on one thread.
pub(super) struct Runner {
    isa: Isa,
    scratch: Buffer,
}

impl Runner {
    pub(super) fn new(isa: Isa) -> Runner {
        Runner { isa, scratch: Buffer::zeroed(0) }
    }
}

/// `[H, W, channel stride]`; of fewer channels than a vector, `[H, W, channels]`.
pub(super) struct Map {
    pub(super) data: Pooled,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Map {
    /// Of whatever was in memory before.
    pub(super) fn new(height: usize, width: usize, channels: usize) -> Map {
        let stride = stride(channels);
        Map { data: Pooled::take(height * width * stride), height, width, channels }
    }

    pub(super) fn stride(&self) -> usize {
        stride(self.channels)
    }

    /// Its pixels, row by row.
    pub(super) fn pixels(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.stride())
    }

    /// max(x, 0), NaN where it is one.
    pub(super) fn relu(mut self) -> Map {
        self.data.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
        self
    }

    /// With zeros around: so many rows above and below, columns left and right.
    fn padded(&self, [rows, columns]: [usize; 2]) -> Map {
        let mut map = Map::new(self.height + 2 * rows, self.width + 2 * columns, self.channels);
        map.data.fill(0.0);
        let (from, to) = (self.width * self.stride(), map.width * self.stride());
        let lines = map.data.chunks_exact_mut(to.max(1)).skip(rows);
        for (line, own) in lines.zip(self.data.chunks_exact(from.max(1))) {
            line[columns * stride(self.channels)..][..from].copy_from_slice(own);
        }
        map
    }

    /// The channels of maps of one size side by side; each but the last has whole vectors of them.
    pub(super) fn beside(maps: &[Map]) -> Map {
        let (height, width) = (maps[0].height, maps[0].width);
        let mut all = Map::new(height, width, maps.iter().map(|map| map.channels).sum());
        let stride = all.stride();
        let mut first = 0;
        for map in maps {
            for (to, from) in all.data.chunks_exact_mut(stride).zip(map.pixels()) {
                to[first..first + map.channels].copy_from_slice(&from[..map.channels]);
            }
            first += map.channels;
        }
        all
    }
}

fn stride(channels: usize) -> usize {
    if channels < CHANNEL_BLOCK { channels } else { channel_stride(channels) }
}

/// Where a convolution's window goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Rows and columns of the window.
    pub(super) window: [usize; 2],
    /// Pixels from a window to the next, both ways.
    pub(super) stride: usize,
    /// Zero rows above and below, columns left and right.
    pub(super) padding: [usize; 2],
}

impl Geometry {
    /// A square window, and as many zeros around.
    pub(super) const fn square(side: usize, stride: usize, padding: usize) -> Geometry {
        Geometry { window: [side; 2], stride, padding: [padding; 2] }
    }

    /// Stride 1, of odd sides, that keeps the size.
    pub(super) const fn same(window: [usize; 2]) -> Geometry {
        Geometry { window, stride: 1, padding: [window[0] / 2, window[1] / 2] }
    }

    fn output(self, side: usize, of: usize) -> Option<usize> {
        Some((side + 2 * self.padding[of]).checked_sub(self.window[of])? / self.stride + 1)
    }
}

/// A convolution with its bias.
pub(super) struct Conv {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    geometry: Geometry,
    /// `[outputs, inputs, rows, columns]`, PyTorch's order.
    weight: Vec<f32>,
    /// Zero up to the channel stride.
    bias: Vec<f32>,
    direct: OnceLock<DirectWeights>,
    /// Of tiles of 4 and of 2.
    winograd: [OnceLock<WinogradWeights>; 2],
}

impl Conv {
    /// The weight is as long as the sizes say; outputs are no fewer than a vector has.
    pub(super) fn new(
        [outputs, inputs]: [usize; 2],
        geometry: Geometry,
        weight: Vec<f32>,
        mut bias: Vec<f32>,
    ) -> Conv {
        bias.resize(channel_stride(outputs), 0.0);
        let (direct, winograd) = Default::default();
        Conv { inputs, outputs, geometry, weight, bias, direct, winograd }
    }

    /// None of a map that the window doesn't fit into.
    pub(super) fn run(&self, with: &mut Runner, map: &Map) -> Option<Map> {
        let Geometry { padding: [rows, columns], .. } = self.geometry;
        if rows != columns {
            let inner = Geometry { padding: [0; 2], ..self.geometry };
            return self.run_as(with, &map.padded([rows, columns]), inner);
        }
        self.run_as(with, map, self.geometry)
    }

    fn run_as(&self, with: &mut Runner, map: &Map, geometry: Geometry) -> Option<Map> {
        let (height, width) = (geometry.output(map.height, 0)?, geometry.output(map.width, 1)?);
        let mut result = Map::new(height, width, self.outputs);
        let [window_height, window_width] = geometry.window;
        let padding = geometry.padding[0];
        let stride = geometry.stride;
        let window = Window { height: window_height, width: window_width, stride, padding };
        let input = Input {
            data: &map.data,
            height: map.height,
            width: map.width,
            channels: map.channels,
            stride: map.stride(),
            activation: Activation::Identity,
            upsample: false,
        };
        let output = Output {
            data: &mut result.data,
            first_row: 0,
            bias: &self.bias,
            residual: Residual::None,
            moments: None,
        };
        let (weight, outputs, inputs) = (&self.weight[..], self.outputs, self.inputs);
        let Runner { isa, ref mut scratch } = *with;
        let size = (height, width);
        if let Some(side) = winograd_side(window, inputs, size) {
            let packed = self.winograd[usize::from(side == 2)]
                .get_or_init(|| WinogradWeights::new(isa, weight, outputs, inputs, window, side));
            winograd(packed, input, output, size, scratch);
        } else {
            let packed = self
                .direct
                .get_or_init(|| DirectWeights::new(isa, weight, outputs, inputs, window));
            match window == Window::POINT {
                true => pointwise(packed, input, output, scratch),
                false => direct(packed, input, output, size, scratch),
            }
        }
        Some(result)
    }
}

/// What a pooling makes of the pixels of its window that lie in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    Largest,
    Mean,
}

/// A square window of `side`; None of a map that it doesn't fit into.
pub(super) fn pool(map: &Map, how: Pool, [side, step, padding]: [usize; 3]) -> Option<Map> {
    let geometry = Geometry::square(side, step, padding);
    let (height, width) = (geometry.output(map.height, 0)?, geometry.output(map.width, 1)?);
    let mut result = Map::new(height, width, map.channels);
    let stride = map.stride();
    let range = |at: usize, size: usize| {
        let first = (at * step).saturating_sub(padding);
        first..(at * step + side - padding).min(size)
    };
    for (at, to) in result.data.chunks_exact_mut(stride).enumerate() {
        let (ys, xs) = (range(at / width, map.height), range(at % width, map.width));
        let share = 1.0 / (ys.len() * xs.len()) as f32;
        to.fill(if how == Pool::Largest { f32::NEG_INFINITY } else { 0.0 });
        for (y, x) in ys.flat_map(|y| xs.clone().map(move |x| (y, x))) {
            let pixel = &map.data[(y * map.width + x) * stride..][..stride];
            match how {
                Pool::Largest => {
                    to.iter_mut().zip(pixel).for_each(|(most, &x)| {
                        *most = if x > *most || x.is_nan() { x } else { *most };
                    });
                }
                Pool::Mean => to.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x),
            }
        }
        if how == Pool::Mean {
            to.iter_mut().for_each(|sum| *sum *= share);
        }
    }
    Some(result)
}
