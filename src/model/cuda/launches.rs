//! Owns how the operations of training become launches on a GPU: which kernels of `training.cu`, over what
//! grids, with which arguments. Plain data, which the tests carry out on emulated threads. Must not know: a
//! driver, tensors.

use crate::model::conv_sizes::ConvSizes;

/// Threads of every block.
pub(crate) const BLOCK: usize = 256;

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    /// The elements of an input.
    Input(usize),
    /// Those of the output; of an operation in place, of what it changes.
    Output,
    /// Those from so many on.
    OutputFrom(usize),
    /// Room that only the launches of one operation see.
    Scratch,
    Int(i32),
    Wide(i64),
    Float(f32),
}
use Argument::{Float, Input, Int, Output, OutputFrom, Scratch, Wide};

/// A kernel over a grid of blocks of [`BLOCK`] threads.
#[derive(Debug)]
pub(crate) struct Launch {
    pub kernel: &'static str,
    pub grid: [u32; 3],
    pub arguments: Vec<Argument>,
}

/// The launches of one operation, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub launches: Vec<Launch>,
    pub scratch_bytes: usize,
}

impl Plan {
    fn of(launch: Launch) -> Plan {
        Plan { launches: vec![launch], scratch_bytes: 0 }
    }
}

fn launch(kernel: &'static str, grid: [usize; 3], arguments: &[Argument]) -> Launch {
    // Grids are numbers of tiles or groups, far below 2^31 for tensors that a GPU holds.
    let grid = grid.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    Launch { kernel, grid, arguments: arguments.to_vec() }
}

/// A thread for each of `count` elements.
fn each(kernel: &'static str, count: usize, arguments: &[Argument]) -> Plan {
    Plan::of(launch(kernel, [count.div_ceil(BLOCK), 1, 1], arguments))
}

fn int(number: usize) -> Argument {
    Int(i32::try_from(number).unwrap_or(i32::MAX))
}

fn wide(number: usize) -> Argument {
    Wide(i64::try_from(number).unwrap_or(i64::MAX))
}

/// x.
pub(crate) fn leaky_relu(count: usize, slope: f64) -> Plan {
    each("leaky_relu", count, &[Input(0), Output, wide(count), Float(slope as f32)])
}

/// x and the gradient of y.
pub(crate) fn leaky_relu_gradient(count: usize, slope: f64) -> Plan {
    let arguments = [Input(0), Input(1), Output, wide(count), Float(slope as f32)];
    each("leaky_relu_gradient", count, &arguments)
}

/// In place.
pub(crate) fn scale(count: usize, by: f32) -> Plan {
    each("scale_all", count, &[Output, wide(count), Float(by)])
}

/// In place, by a value or by its square.
pub(crate) fn blend(square: bool, count: usize, keep: f32, rest: f32) -> Plan {
    let kernel = if square { "blend_square" } else { "blend" };
    each(kernel, count, &[Output, Input(0), wide(count), Float(keep), Float(rest)])
}

/// In place, by both moments; `numbers` are keep, rate, correct and epsilon.
pub(crate) fn descend(count: usize, numbers: [f32; 4]) -> Plan {
    let mut arguments = vec![Output, Input(0), Input(1), wide(count)];
    arguments.extend(numbers.map(Float));
    each("descend", count, &arguments)
}

/// The sum, in float64, of squares of one input or of differences of two.
pub(crate) fn squares(inputs: usize, count: usize) -> Plan {
    const BLOCKS_MAX: usize = 1024;
    let blocks = count.div_ceil(BLOCK).clamp(1, BLOCKS_MAX);
    let kernel = if inputs == 1 { "square_parts" } else { "square_difference_parts" };
    let mut arguments: Vec<_> = (0..inputs).map(Input).collect();
    arguments.extend([Scratch, wide(count)]);
    Plan {
        launches: vec![
            launch(kernel, [blocks, 1, 1], &arguments),
            launch("add_parts", [1, 1, 1], &[Scratch, Output, int(blocks)]),
        ],
        scratch_bytes: 8 * blocks,
    }
}

/// Sums over images and pixels.
pub(crate) fn channel_sums([images, channels, pixels]: [usize; 3]) -> Plan {
    let arguments = [Input(0), Output, int(images), int(channels), int(pixels)];
    Plan::of(launch("sums_of_channels", [channels, 1, 1], &arguments))
}

/// In place, `[images, channels, pixels]` by a value for each channel.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn add_to_channels([images, channels, pixels]: [usize; 3]) -> Plan {
    let count = images * channels * pixels;
    let arguments = [Output, Input(0), wide(count), int(channels), int(pixels)];
    each("add_to_channels", count, &arguments)
}

/// x `[planes, height, width]`.
pub(crate) fn max_pool_2([planes, height, width]: [usize; 3]) -> Plan {
    let count = planes * (height / 2) * (width / 2);
    each("max_pool_2", count, &[Input(0), Output, wide(count), int(height), int(width)])
}

/// x and the gradient of the maxima.
pub(crate) fn max_pool_2_gradient([planes, height, width]: [usize; 3]) -> Plan {
    let count = planes * height * width;
    let arguments = [Input(0), Input(1), Output, wide(count), int(height), int(width)];
    each("max_pool_2_gradient", count, &arguments)
}

/// What a group normalisation is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Groups {
    pub images: usize,
    pub groups: usize,
    /// Of a group.
    pub channels: usize,
    pub pixels: usize,
    pub epsilon: f64,
    pub silu: bool,
}

impl Groups {
    fn arguments(&self, buffers: &[Argument]) -> Vec<Argument> {
        let numbers = [int(self.channels), int(self.pixels), Float(self.epsilon as f32)];
        [buffers, &numbers, &[Int(i32::from(self.silu))]].concat()
    }
}

/// x, weight and bias.
pub(crate) fn group_norm(g: &Groups) -> Plan {
    let arguments = g.arguments(&[Input(0), Input(1), Input(2), Output]);
    Plan::of(launch("group_norm", [g.groups, g.images, 1], &arguments))
}

/// x, weight and bias one behind the other, and the gradient of y, to the gradients of all three one behind the
/// other.
pub(crate) fn group_norm_gradient(g: &Groups) -> Plan {
    let arguments = g.arguments(&[Input(0), Input(1), Input(2), Output, Scratch]);
    let columns = 2 * g.groups * g.channels;
    let sums = OutputFrom(g.images * g.groups * g.channels * g.pixels);
    let mut plan = each("add_rows", columns, &[Scratch, sums, int(g.images), wide(columns)]);
    let parts = launch("group_norm_gradient", [g.groups, g.images, 1], &arguments);
    plan.launches.insert(0, parts);
    plan.scratch_bytes = 4 * g.images * columns;
    plan
}

fn sizes(g: &ConvSizes) -> [Argument; 11] {
    [
        g.batch, g.channels, g.height, g.width, g.filters, g.kernel_h, g.kernel_w, g.stride,
        g.before, g.out_h, g.out_w,
    ]
    .map(int)
}

const TILE: usize = 64;

/// x, weight and bias.
pub(in crate::model) fn conv_forward(g: &ConvSizes, narrow: bool) -> Plan {
    let pixels = g.batch * g.out_h * g.out_w;
    let own = [Input(0), Input(1), Input(2), Output, int(usize::from(narrow))];
    let arguments = [&own[..], &sizes(g)].concat();
    let grid = [pixels.div_ceil(TILE), g.filters.div_ceil(TILE), 1];
    Plan::of(launch("conv_forward", grid, &arguments))
}

/// The gradient of y, weight and a bias of x.
pub(in crate::model) fn conv_input_gradient(g: &ConvSizes) -> Plan {
    let pixels = g.batch * g.height * g.width;
    let arguments = [&[Input(0), Input(1), Input(2), Output][..], &sizes(g)].concat();
    let grid = [pixels.div_ceil(TILE), g.channels.div_ceil(TILE), 1];
    Plan::of(launch("conv_input_gradient", grid, &arguments))
}

/// x, bfloat16 where `narrow`, and the gradient of y. Output pixels are cut into chunks, by sizes alone, so that a small weight fills
/// a GPU too.
pub(in crate::model) fn conv_weight_gradient(g: &ConvSizes, narrow: bool) -> Plan {
    const BLOCKS: usize = 1024;
    const CHUNK_MIN: usize = 256;
    let (pixels, depth) = (g.batch * g.out_h * g.out_w, g.channels * g.kernel_h * g.kernel_w);
    let tiles = [depth.div_ceil(TILE), g.filters.div_ceil(TILE)];
    let wanted = (BLOCKS / (tiles[0] * tiles[1]).max(1)).max(1);
    let chunk = pixels.div_ceil(wanted).max(CHUNK_MIN);
    let chunks = pixels.div_ceil(chunk).max(1);
    let own = [Input(0), Input(1), Scratch, int(chunk), int(usize::from(narrow))];
    let arguments = [&own[..], &sizes(g)].concat();
    let columns = g.filters * depth;
    let mut plan = each("add_rows", columns, &[Scratch, Output, int(chunks), wide(columns)]);
    let parts = launch("conv_weight_gradient_parts", [tiles[0], tiles[1], chunks], &arguments);
    plan.launches.insert(0, parts);
    plan.scratch_bytes = 4 * chunks * columns;
    plan
}

/// Rows `[rows, dim]`.
pub(crate) fn unit_rows([rows, dim]: [usize; 2]) -> Plan {
    each("unit_rows", rows, &[Input(0), Output, int(rows), int(dim)])
}

/// Rows `[rows, dim]` among codes `[codes, dim]`.
pub(crate) fn nearest_codes(rows: usize, codes: usize, dim: usize) -> Plan {
    let mut plan = each("square_rows", codes, &[Input(1), Scratch, int(codes), int(dim)]);
    let arguments = [Input(0), Input(1), Scratch, Output, int(rows), int(codes), int(dim)];
    plan.launches.push(launch("nearest_codes", [rows.div_ceil(TILE), 1, 1], &arguments));
    plan.scratch_bytes = 4 * codes;
    plan
}
