//! Owns layers as commands: shapes, buffers that are reused, grids, strides, offsets.

use super::program::{Arg, Command, ConvShape, Convolve, Launch, Place, Work};
use crate::engine::cuda::weights::{CHANNELS, ConvBackend, DeviceWeights, PackedConv};
use crate::error::{Error, Result};
use crate::model::topology::{ConvGeometry, ConvSpec};
use crate::nvidia::errors::refused;
use crate::util::settings::{DEVICE, SIZE};

/// Threads of a block where each has one element to do.
pub(super) const BLOCK: usize = 256;
/// Pixels and outputs of a block of `convolve`.
const TILE: usize = 64;
/// Elements that a thread moves at a time.
pub(super) const PACK: usize = 8;
/// Elements of one image's map, so that a kernel's `int` indexes it.
const MAP_ELEMENTS_MAX: usize = 1 << 30;

/// A map that a step has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Map {
    pub place: Place,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Map {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    pub(super) fn elements(&self) -> usize {
        self.pixels() * self.channels
    }
}

/// Commands under construction.
pub(super) struct Emitter<'a> {
    pub weights: &'a mut DeviceWeights,
    pub images: usize,
    /// See [`super::program::Program`].
    pub usual: usize,
    pub commands: Vec<Command>,
    /// Bytes of each map: the most that was ever asked of it.
    pub maps: Vec<usize>,
    free: Vec<usize>,
    pub layer: String,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(weights: &'a mut DeviceWeights, images: usize, usual: usize) -> Self {
        Emitter {
            weights,
            images,
            usual,
            commands: Vec::new(),
            maps: Vec::new(),
            free: Vec::new(),
            layer: String::new(),
        }
    }

    /// A buffer of so many bytes that nothing else uses; the fitting free one that wastes least.
    pub(super) fn acquire(&mut self, bytes: usize) -> Place {
        // 256 bytes: what device allocations are aligned to anyway.
        let bytes = bytes.next_multiple_of(256);
        let waste = |&index: &usize| self.maps[index].abs_diff(bytes);
        let index = match self.free.iter().copied().min_by_key(waste) {
            Some(index) => {
                self.free.retain(|other| *other != index);
                index
            }
            None => {
                self.maps.push(0);
                self.maps.len() - 1
            }
        };
        self.maps[index] = self.maps[index].max(bytes);
        Place::Map(index)
    }

    /// Gives a buffer back: commands from here on may overwrite it.
    pub(super) fn release(&mut self, place: Place) {
        if let Place::Map(index) = place {
            debug_assert!(!self.free.contains(&index), "released twice");
            self.free.push(index);
        }
    }

    /// Makes room in a map for the usual number of images.
    pub(super) fn widen(&mut self, map: Map) {
        let bytes = self.usual * map.elements() * self.weights.precision().bytes();
        if let Place::Map(index) = map.place {
            self.maps[index] = self.maps[index].max(bytes.next_multiple_of(256));
        }
    }

    /// A map of so many pixels and channels.
    pub(super) fn map(&mut self, height: usize, width: usize, channels: usize) -> Result<Map> {
        let elements = height * width * channels;
        if elements > MAP_ELEMENTS_MAX {
            return Err(refused(format!(
                "a map of {width}x{height} pixels and {channels} channels is too large; use a \
                 smaller {SIZE} or {DEVICE} cpu"
            )));
        }
        let bytes = self.images * elements * self.weights.precision().bytes();
        Ok(Map { place: self.acquire(bytes), height, width, channels })
    }

    pub(super) fn push(&mut self, work: Work) {
        self.commands.push(Command { layer: self.layer.clone(), work });
    }

    pub(super) fn launch(
        &mut self,
        kernel: &'static str,
        grid: [usize; 3],
        block: usize,
        args: Vec<Arg>,
    ) {
        let grid = grid.map(|blocks| blocks as u32);
        self.push(Work::Launch(Launch { kernel, grid, block: block as u32, arguments: args }));
    }

    /// The images' bytes as a map, through the table of the input range. Returns where the bytes
    /// go, too.
    pub(super) fn pixels(
        &mut self,
        table: &[f32; 256],
        [height, width, channels]: [usize; 3],
    ) -> Result<(Place, Map)> {
        self.layer = "pixels".to_owned();
        let count = self.images * height * width;
        let bytes = self.acquire(count * channels);
        let map = self.map(height, width, channels.next_multiple_of(CHANNELS))?;
        let table = self.weights.table("pixels", table);
        let args = vec![
            Arg::At(bytes, 0),
            Arg::At(table, 0),
            Arg::At(map.place, 0),
            int(count),
            int(channels),
            int(map.channels),
        ];
        self.launch("pixels_to_map", [count.div_ceil(BLOCK), 1, 1], BLOCK, args);
        Ok((bytes, map))
    }

    /// The convolution `name` of `from`, plus `residual`. Both stay.
    pub(super) fn conv(
        &mut self,
        name: &str,
        from: Map,
        conv: impl Into<ConvSpec>,
        residual: Option<Map>,
    ) -> Result<Map> {
        let ConvSpec { geometry, parameters, .. } = conv.into();
        let packed = self.weights.conv(name, parameters)?;
        self.convolve(name, packed, from, geometry, residual)
    }

    /// The same with given weights.
    pub(super) fn convolve(
        &mut self,
        name: &str,
        packed: PackedConv,
        from: Map,
        geometry: ConvGeometry,
        residual: Option<Map>,
    ) -> Result<Map> {
        self.layer = name.to_owned();
        let shape = self.shape(packed, from, geometry, residual.is_some())?;
        let (height, width) = shape.output();
        let to = self.map(height, width, packed.outputs)?;
        if residual.is_some_and(|r| Map { place: to.place, ..r } != to) {
            return Err(Error::invalid(format!("`{name}`: its shortcut has another shape")));
        }
        match packed.backend {
            ConvBackend::Cudnn => self.push(Work::Convolve(Convolve {
                shape,
                from: from.place,
                weights: packed.weights,
                bias: packed.bias,
                residual: residual.map(|map| map.place),
                to: to.place,
            })),
            ConvBackend::Custom => {
                let residual = residual.map_or(Arg::Null, |map| Arg::At(map.place, 0));
                let outer = [Arg::At(packed.bias, 0), residual, Arg::At(to.place, 0)];
                self.launch_convolve("convolve", packed, from, shape, &outer);
            }
        }
        Ok(to)
    }

    /// The convolution `name` to float32, which the quantizer reads; the place and the channels.
    pub(super) fn conv_to_floats(
        &mut self,
        name: &str,
        from: Map,
        conv: impl Into<ConvSpec>,
    ) -> Result<(Place, usize)> {
        let ConvSpec { geometry, parameters, .. } = conv.into();
        let packed = self.weights.conv_to_floats(name, parameters)?;
        self.layer = name.to_owned();
        let shape = self.shape(packed, from, geometry, false)?;
        let place = self.acquire(self.images * from.pixels() * packed.outputs * 4);
        let outer = [Arg::At(packed.bias, 0), Arg::At(place, 0)];
        self.launch_convolve("convolve_to_floats", packed, from, shape, &outer);
        Ok((place, packed.outputs))
    }

    fn shape(
        &self,
        packed: PackedConv,
        from: Map,
        geometry: ConvGeometry,
        residual: bool,
    ) -> Result<ConvShape> {
        if from.channels != packed.inputs {
            return Err(refused(format!(
                "`{}` takes {} channels where {} come; widths have to be multiples of {CHANNELS}: \
                 use {DEVICE} cpu",
                self.layer, packed.inputs, from.channels
            )));
        }
        Ok(ConvShape {
            images: self.images,
            height: from.height,
            width: from.width,
            inputs: packed.inputs,
            outputs: packed.outputs,
            kernel: packed.kernel,
            stride: geometry.stride,
            before: geometry.before,
            after: geometry.after,
            residual,
        })
    }

    fn launch_convolve(
        &mut self,
        kernel: &'static str,
        packed: PackedConv,
        from: Map,
        shape: ConvShape,
        outer: &[Arg],
    ) {
        let (height, width) = shape.output();
        let pixels = self.images * height * width;
        let mut args = vec![Arg::At(from.place, 0), Arg::At(packed.weights, 0)];
        args.extend(outer);
        let sizes = [
            pixels,
            shape.height,
            shape.width,
            shape.inputs,
            height,
            width,
            shape.outputs,
            shape.kernel,
            shape.stride,
            shape.before,
        ];
        args.extend(sizes.map(int));
        let grid = [pixels.div_ceil(TILE), shape.outputs.div_ceil(TILE), 1];
        self.launch(kernel, grid, BLOCK, args);
    }
}

/// Sizes are checked where maps are made: each fits `int`.
pub(super) fn int(value: usize) -> Arg {
    debug_assert!(i32::try_from(value).is_ok());
    Arg::Int(value as i32)
}
