//! Owns layers without weights as commands: maps that change their size or each of their numbers, and
//! floats that become maps and back.

use super::books::PackedCodebook;
use super::emit::{BLOCK, Emitter, Map, PACK, int};
use super::program::{Arg, Place};
use crate::engine::cuda::weights::CHANNELS;
use crate::error::{Error, Result};

impl Emitter<'_> {
    /// A launch with a thread for each pack of a map that it writes.
    fn launch_over(&mut self, kernel: &'static str, from: Place, to: Map, more: &[Arg]) {
        let packs = self.images * to.elements() / PACK;
        let mut args = vec![Arg::At(from, 0), Arg::At(to.place, 0), int(packs)];
        args.extend(more);
        self.launch(kernel, [packs.div_ceil(BLOCK), 1, 1], BLOCK, args);
    }

    /// Float32 `[images, height, width, channels]` as a map. Returns where the floats go, too.
    pub(super) fn floats(&mut self, [height, width, channels]: [usize; 3]) -> Result<(Place, Map)> {
        self.layer = "codes".to_owned();
        let from = self.acquire(self.images * height * width * channels * 4);
        let map = self.map(height, width, channels.next_multiple_of(CHANNELS))?;
        self.launch_over("floats_to_map", from, map, &[int(channels), int(map.channels)]);
        Ok((from, map))
    }

    /// The first channels of a map as float32.
    pub(super) fn widened(&mut self, from: Map, channels: usize) -> Place {
        self.layer = "picture".to_owned();
        let count = self.images * from.pixels() * channels;
        let to = self.acquire(count * 4);
        let args = vec![
            Arg::At(from.place, 0),
            Arg::At(to, 0),
            int(count),
            int(channels),
            int(from.channels),
        ];
        self.launch("map_to_floats", [count.div_ceil(BLOCK), 1, 1], BLOCK, args);
        to
    }

    /// Every pixel twice along both sides.
    pub(super) fn doubled(&mut self, from: Map) -> Result<Map> {
        let to = self.map(2 * from.height, 2 * from.width, from.channels)?;
        self.launch_over("double_map", from.place, to, &[int(from.width), int(from.channels)]);
        Ok(to)
    }

    /// The mean of 2x2 pixels, or the largest of them, rounding the size down.
    pub(super) fn halved(&mut self, from: Map, largest: bool) -> Result<Map> {
        let to = self.map(from.height / 2, from.width / 2, from.channels)?;
        let sizes = [from.height, from.width, from.channels, usize::from(largest)].map(int);
        self.launch_over("halve_map", from.place, to, &sizes);
        Ok(to)
    }

    /// max(x, 0), or x * sigmoid(x) where `silu`.
    pub(super) fn activated(&mut self, from: Map, silu: bool) -> Result<Map> {
        let to = self.map(from.height, from.width, from.channels)?;
        self.launch_over("activate", from.place, to, &[int(usize::from(silu))]);
        Ok(to)
    }

    /// Depth to space; `channels` of each new pixel.
    pub(super) fn spread(
        &mut self,
        from: Map,
        channels: usize,
        [rows, columns]: [usize; 2],
    ) -> Result<Map> {
        let padded = channels.next_multiple_of(CHANNELS);
        let to = self.map(rows * from.height, columns * from.width, padded)?;
        let sizes = [from.width, from.channels, channels, padded, rows, columns].map(int);
        self.launch_over("spread_map", from.place, to, &sizes);
        Ok(to)
    }

    /// A row of zeros above and a column of them on the left, where `top` and `left` are 1.
    pub(super) fn padded(&mut self, from: Map, [top, left]: [usize; 2]) -> Result<Map> {
        let to = self.map(from.height + top, from.width + left, from.channels)?;
        let sizes = [from.height, from.width, from.channels, top, left].map(int);
        self.launch_over("pad_map", from.place, to, &sizes);
        Ok(to)
    }

    /// Two maps of the same pixels side by side, each of so many channels without padding.
    pub(super) fn joined(&mut self, parts: [(Map, usize); 2]) -> Result<Map> {
        self.layer = "join".to_owned();
        let [(a, a_channels), (b, b_channels)] = parts;
        if (a.height, a.width) != (b.height, b.width) {
            return Err(Error::internal("maps of two sizes don't lie side by side"));
        }
        let padded = (a_channels + b_channels).next_multiple_of(CHANNELS);
        let to = self.map(a.height, a.width, padded)?;
        let packs = self.images * to.elements() / PACK;
        let mut args = [a.place, b.place, to.place].map(|place| Arg::At(place, 0)).to_vec();
        let sizes = [packs, a_channels, a.channels, b_channels, b.channels, padded];
        args.extend(sizes.map(int));
        self.launch("join_maps", [packs.div_ceil(BLOCK), 1, 1], BLOCK, args);
        Ok(to)
    }

    /// The rows of a codebook that grids of codes name, as a map.
    pub(super) fn looked_up(
        &mut self,
        codes: Codes,
        book: PackedCodebook,
        [height, width]: [usize; 2],
    ) -> Result<Map> {
        self.layer = "codes".to_owned();
        let to = self.map(height, width, book.dim.next_multiple_of(CHANNELS))?;
        let packs = self.images * to.elements() / PACK;
        let from = Arg::At(codes.place, codes.first * 4);
        let mut args = vec![from, Arg::At(book.f32, 0), Arg::At(to.place, 0)];
        args.extend([packs, height * width, codes.step, book.dim, to.channels].map(int));
        self.launch("codes_to_map", [packs.div_ceil(BLOCK), 1, 1], BLOCK, args);
        Ok(to)
    }
}

/// Where grids of codes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes {
    pub place: Place,
    /// Codes in front of the first image's.
    pub first: usize,
    /// Codes from an image's to the next's.
    pub step: usize,
}
