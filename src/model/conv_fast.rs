//! Owns convolutions of training in float32 on the CPU: which kernels compute them and their gradients,
//! and how the work is dealt out to threads. Must not know: tensors' graphs, modules.
//!
//! Windows of 3x3, and of 4x4 with stride 2, go through Winograd's tiles, others as they are defined. The
//! gradient of the input is a convolution again: of the flipped window, or, with stride 2, of one that gives
//! four phases. Every sum is taken in an order that the shapes alone say, so results are
//! the same on any number of threads.

use candle_core::Result;
use rayon::prelude::*;

use super::conv_sizes::ConvSizes;
use crate::kernels::{
    CHANNEL_BLOCK, DirectWeights, Frame, Isa, Phase, Pooled, Scheme, Tiling, Window,
    WinogradWeights, channel_stride, frame, planes, windows, winograd_cost, winograd_maps,
};

/// Channels on both sides from which on kernels pay: fewer are padded to so many.
pub(super) const CHANNELS_MIN: usize = CHANNEL_BLOCK;
/// Tiles of a call, if images have fewer: they share the weights that are read for them.
const TILES: usize = 64;
/// Rows and channels that are rearranged together.
const ROWS: usize = 8;
const PLANES: usize = 16;

/// How kernels compute a convolution.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Tiles(Scheme),
    Windows(Window),
}

impl Way {
    /// Winograd's tiles where they save half of the multiplications or more; the definition for other
    /// windows; None where products of columns are as fast: with few channels, and with a window of one.
    pub(super) fn of(g: &ConvSizes) -> Option<Way> {
        if g.channels.min(g.filters) < CHANNELS_MIN || g.is_pointwise() {
            return None;
        }
        let window = g.window();
        let definition = g.kernel_h * g.kernel_w * g.out_plane();
        let tiles = |side| g.out_h.div_ceil(side) * g.out_w.div_ceil(side);
        let saves = |side: &usize| {
            winograd_cost(window, *side).is_some_and(|c| 2 * c * tiles(*side) <= definition)
                && Way::holds(g, Scheme { window, side: *side })
        };
        match [4, 2].into_iter().find(saves) {
            Some(side) => Some(Way::Tiles(Scheme { window, side })),
            None if g.stride == 1 => Some(Way::Windows(window)),
            None => None,
        }
    }

    /// Whether the tiles reach all of the image, even what no output sees.
    fn holds(g: &ConvSizes, scheme: Scheme) -> bool {
        let frame = Tiling::new(scheme, g.out_h, g.out_w, g.channels).frame();
        g.before + g.height <= frame.height && g.before + g.width <= frame.width
    }
}

/// The instruction set of training: that of the engine.
pub(super) fn isa() -> Result<Isa> {
    Isa::detect().map_err(candle_core::Error::wrap)
}

/// y `[N, O, OH, OW]` of x `[N, C, H, W]`, weight `[O, taps]`.
pub(super) fn forward(
    isa: Isa,
    g: &ConvSizes,
    way: Way,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
) -> Vec<f32> {
    let mut y = vec![0.0; g.batch * g.out_size()];
    let stride = channel_stride(g.filters);
    let plane = g.out_plane();
    let packed = Packed::new(isa, g, way, weight);
    convolve(isa, g, &packed, x, (&mut y, g.out_size()), &|map, image: &mut [f32]| {
        let parts = image.par_chunks_mut((PLANES * plane).max(1)).zip(bias.par_chunks(PLANES));
        parts.enumerate().for_each(|(part, (image, bias))| {
            let channel = part * PLANES;
            let phase = Phase { width: g.out_w, stride, channel, top: 0, left: 0, step: 1 };
            planes(isa, map, phase, (g.out_h, g.out_w), bias, image);
        });
    });
    y
}

/// The gradient of the input `[N, C, H, W]` from that of the output `[N, O, OH, OW]` of a convolution of
/// stride 2, plus a bias for each channel: also the forward pass of the transposed convolution. None where
/// four phases save nothing.
pub(super) fn by_phases(
    isa: Isa,
    g: &ConvSizes,
    dy: &[f32],
    weight: &[f32],
    bias: &[f32],
) -> Option<Vec<f32>> {
    // Nine taps of a phase stand for a quarter of the window's.
    let saves = g.kernel_h * g.kernel_w >= 16 && g.channels >= CHANNELS_MIN;
    let phases = g.phases().filter(|_| saves)?;
    let way = Way::of(&phases).filter(|way| matches!(way, Way::Tiles(_)))?;
    let packed = Packed::new(isa, &phases, way, &phase_weights(g, weight));
    let mut dx = vec![0.0; g.batch * g.in_size()];
    let stride = channel_stride(phases.filters);
    let plane = g.height * g.width;
    convolve(isa, &phases, &packed, dy, (&mut dx, g.in_size()), &|map, image: &mut [f32]| {
        let parts = image.par_chunks_mut((PLANES * plane).max(1)).zip(bias.par_chunks(PLANES));
        parts.enumerate().for_each(|(part, (image, bias))| {
            for (top, left) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let channel = (2 * top + left) * g.channels + part * PLANES;
                let phase = Phase { width: phases.out_w, stride, channel, top, left, step: 2 };
                planes(isa, map, phase, (g.height, g.width), bias, image);
            }
        });
    });
    Some(dx)
}

/// `[O, C, k, k]` as `[C, O, k, k]`, both ways round.
pub(super) fn flip(g: &ConvSizes, weight: &[f32]) -> Vec<f32> {
    let area = g.kernel_h * g.kernel_w;
    let mut flipped = vec![0.0; weight.len()];
    for o in 0..g.filters {
        for c in 0..g.channels {
            let from = &weight[(o * g.channels + c) * area..][..area];
            let to = &mut flipped[(c * g.filters + o) * area..][..area];
            for (to, from) in to.iter_mut().zip(from.iter().rev()) {
                *to = *from;
            }
        }
    }
    flipped
}

/// `[O, C, k, k]` of stride 2 as `[4 C, O, 3, 3]` of stride 1, which gives the four phases of the input's
/// gradient one after another. Input row 2u + a comes from output rows u + d for d from -1 to 1, through
/// the window's row a + before - 2d.
fn phase_weights(g: &ConvSizes, weight: &[f32]) -> Vec<f32> {
    let row = |a: usize, d: usize, size: usize| {
        (a + g.before + 2).checked_sub(2 * d).filter(|&k| k < size)
    };
    let area = g.kernel_h * g.kernel_w;
    let mut window = vec![0.0; 4 * g.channels * g.filters * 9];
    for (part, window) in window.chunks_exact_mut((g.channels * g.filters * 9).max(1)).enumerate() {
        for tap in 0..9 {
            let ky = row(part / 2, tap / 3, g.kernel_h);
            let (Some(ky), Some(kx)) = (ky, row(part % 2, tap % 3, g.kernel_w)) else { continue };
            for c in 0..g.channels {
                for o in 0..g.filters {
                    window[(c * g.filters + o) * 9 + tap] =
                        weight[(o * g.channels + c) * area + ky * g.kernel_w + kx];
                }
            }
        }
    }
    window
}

/// A convolution's weights as its kernel wants them.
enum Packed {
    Tiles(WinogradWeights, Tiling),
    Windows(DirectWeights, Frame),
}

impl Packed {
    fn new(isa: Isa, g: &ConvSizes, way: Way, weight: &[f32]) -> Packed {
        match way {
            Way::Tiles(scheme) => {
                let channels = (g.filters, g.channels);
                let weights = WinogradWeights::for_a_step(isa, weight, channels, scheme);
                Packed::Tiles(weights, Tiling::new(scheme, g.out_h, g.out_w, g.channels))
            }
            Way::Windows(window) => {
                let weights = DirectWeights::new(isa, weight, g.filters, g.channels, window);
                Packed::Windows(weights, window_frame(g))
            }
        }
    }

    fn frame(&self) -> Frame {
        match self {
            Packed::Tiles(_, tiling) => tiling.frame(),
            Packed::Windows(_, frame) => *frame,
        }
    }

    /// Images of a call.
    fn images(&self) -> usize {
        match self {
            Packed::Tiles(_, tiling) => TILES.div_ceil(tiling.tiles().max(1)),
            Packed::Windows(..) => 1,
        }
    }

    /// Outputs of some images, `[height, width, stride]` each.
    fn run(&self, g: &ConvSizes, maps: &[f32], out: &mut [f32]) {
        let line = g.out_w * channel_stride(g.filters);
        match self {
            Packed::Tiles(weights, tiling) => {
                let images = out.len() / (g.out_h * line).max(1);
                let run = |(rows, out): (std::ops::Range<usize>, &mut [f32])| {
                    let mut scratch = Pooled::take(tiling.scratch(g.filters));
                    winograd_maps(weights, tiling, maps, rows, out, &mut scratch);
                };
                if images != 1 {
                    return run((0..images * tiling.rows(), out));
                }
                let band = TILES.div_ceil((tiling.tiles() / tiling.rows().max(1)).max(1));
                let bands = out.par_chunks_mut((band * tiling.side() * line).max(1)).enumerate();
                bands.for_each(|(at, out)| {
                    run((at * band..((at + 1) * band).min(tiling.rows()), out));
                });
            }
            Packed::Windows(weights, frame) => {
                let image = (g.out_h * line).max(1);
                let images = out.par_chunks_mut(image).zip(maps.par_chunks(frame.len().max(1)));
                images.for_each(|(out, map)| {
                    let rows = out.par_chunks_mut((ROWS * line).max(1)).enumerate();
                    rows.for_each(|(at, out)| {
                        windows(weights, *frame, map, (at * ROWS, g.out_w), out);
                    });
                });
            }
        }
    }
}

/// Where an image lies for kernels that follow the definition: no channels but its own.
pub(super) fn window_frame(g: &ConvSizes) -> Frame {
    let reach = |out: usize, kernel: usize| (out.max(1) - 1) * g.stride + kernel;
    Frame {
        height: reach(g.out_h, g.kernel_h).max(g.before + g.height),
        width: reach(g.out_w, g.kernel_w).max(g.before + g.width),
        stride: g.channels,
        top: g.before,
        left: g.before,
    }
}

/// Some images in their maps.
pub(super) fn framed(
    isa: Isa,
    x: &[f32],
    channels: usize,
    size: (usize, usize),
    at: Frame,
) -> Pooled {
    let each = (channels * size.0 * size.1).max(1);
    let mut maps = Pooled::take(x.len() / each * at.len());
    let images = maps.par_chunks_mut(at.len().max(1)).zip(x.par_chunks(each));
    images.for_each(|(map, image)| {
        let rows = map.par_chunks_mut((ROWS * at.width * at.stride).max(1)).enumerate();
        rows.for_each(|(part, rows)| frame(isa, image, channels, size, at, (part * ROWS, rows)));
    });
    maps
}

/// Convolves groups of images and hands each one's outputs to `write`, with its part of `to`.
fn convolve(
    isa: Isa,
    g: &ConvSizes,
    packed: &Packed,
    x: &[f32],
    (to, each): (&mut [f32], usize),
    write: &(impl Fn(&[f32], &mut [f32]) + Sync),
) {
    if to.is_empty() {
        return;
    }
    let image = g.out_plane() * channel_stride(g.filters);
    let share = g.batch.div_ceil(rayon::current_num_threads()).max(1);
    let group = packed.images().min(share);
    let groups = to.par_chunks_mut(group * each).zip(x.par_chunks((group * g.in_size()).max(1)));
    groups.for_each(|(to, x)| {
        let maps = framed(isa, x, g.channels, (g.height, g.width), packed.frame());
        let mut out = Pooled::take(to.len() / each * image);
        packed.run(g, &maps, &mut out);
        for (map, to) in out.chunks_exact(image).zip(to.chunks_exact_mut(each)) {
            write(map, to);
        }
    });
}
