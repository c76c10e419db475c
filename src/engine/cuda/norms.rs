//! Owns norms as commands: GroupNorm with parameters of its own, by the codes at each pixel, or by their
//! statistics over the whole grid, and the scale and shift that a BatchNorm comes to.

use super::emit::{BLOCK, Emitter, Map, PACK, int};
use super::program::{Arg, Place};
use super::weights::CHANNELS;
use crate::error::Result;
use crate::model::topology::{ConvGeometry, NormSpec};
use crate::nvidia::errors::refused;
use crate::util::settings::DEVICE;

/// Pixels that a block of `channel_sums` adds up; fixed, so that sums don't depend on the batch.
const SUM_PIXELS: usize = 256;
/// Channels of a block of `channel_sums` and `apply_affine`.
const BLOCK_CHANNELS: usize = BLOCK * PACK;
/// Packs of 8 elements that a thread of `apply_affine` does.
const PACKS: usize = 16;

/// Where a norm's scales and shifts are before the groups' own: float32.
#[derive(Debug, Clone, Copy)]
struct Parameters {
    scale: Arg,
    shift: Arg,
    /// Floats from those of an image to those of the next.
    step: usize,
}

/// Codes whose statistics modulate norms: deviation and mean of each channel, `[images, bits, 2]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statistics {
    place: Place,
    bits: usize,
}

impl Emitter<'_> {
    /// The GroupNorm `name` of `from`, and SiLU after it where `silu`.
    pub(super) fn norm(
        &mut self,
        name: &str,
        from: Map,
        norm: NormSpec,
        silu: bool,
    ) -> Result<Map> {
        let parameters = self.own_parameters(name)?;
        let affine = self.group_affine(name, from, norm, parameters)?;
        let to = self.apply_affine(from, affine, self.images, silu)?;
        self.release(affine);
        Ok(to)
    }

    /// The same, scaled and shifted at every pixel by what is linear in the codes there.
    pub(super) fn norm_by_codes(
        &mut self,
        name: &str,
        from: Map,
        codes: Map,
        norm: NormSpec,
        silu: bool,
    ) -> Result<Map> {
        let parameters = self.own_parameters(&format!("{name}.norm_layer"))?;
        let affine = self.group_affine(name, from, norm, parameters)?;
        let parts = ["conv_y", "conv_b"].map(|part| format!("{name}.{part}"));
        let key = format!("{name}.by");
        let packed = self.weights.side_by_side(&key, &parts.each_ref().map(String::as_str))?;
        let by = self.convolve(&key, packed, codes, ConvGeometry::POINT, None)?;
        let fits = from.height.is_multiple_of(by.height) && from.width.is_multiple_of(by.width);
        if !fits || by.channels != 2 * from.channels {
            let text = format!("`{name}`: its codes don't suit the map");
            return Err(crate::error::Error::invalid(text));
        }
        let to = self.map(from.height, from.width, from.channels)?;
        let packs = self.images * to.elements() / PACK;
        let mut args = vec![Arg::At(from.place, 0), Arg::At(affine, 0), Arg::At(by.place, 0)];
        args.push(Arg::At(to.place, 0));
        let sizes = [packs, from.height, from.width, from.channels, by.height, by.width];
        args.extend(sizes.map(int));
        args.push(int(usize::from(silu)));
        self.launch("apply_by_codes", [packs.div_ceil(BLOCK), 1, 1], BLOCK, args);
        self.release(by.place);
        self.release(affine);
        Ok(to)
    }

    /// The deviation and the mean of each channel of a map of codes.
    pub(super) fn statistics(&mut self, codes: Map, bits: usize, eps: f64) -> Statistics {
        self.layer = "codes".to_owned();
        let count = self.images * bits;
        let place = self.acquire(count * 2 * 4);
        let mut args = vec![Arg::At(codes.place, 0), Arg::At(place, 0)];
        args.extend([count, codes.pixels(), bits, codes.channels].map(int));
        args.push(Arg::Float(eps as f32));
        self.launch("code_statistics", [count.div_ceil(BLOCK), 1, 1], BLOCK, args);
        Statistics { place, bits }
    }

    /// The GroupNorm `name` of `from` whose scale and shift are linear in the statistics of the codes.
    pub(super) fn adaptive_norm(
        &mut self,
        name: &str,
        from: Map,
        norm: NormSpec,
        statistics: Statistics,
    ) -> Result<Map> {
        let width = from.channels;
        self.layer = name.to_owned();
        let count = self.images * width;
        let made = self.acquire(count * 2 * 4);
        let mut args = vec![Arg::At(statistics.place, 0)];
        for part in ["gamma.weight", "gamma.bias", "beta.weight", "beta.bias"] {
            args.push(Arg::At(self.weights.floats(&format!("{name}.{part}"))?, 0));
        }
        args.push(Arg::At(made, 0));
        args.extend([count, statistics.bits, width].map(int));
        self.launch("modulation", [count.div_ceil(BLOCK), 1, 1], BLOCK, args);
        let (scale, shift) = (Arg::At(made, 0), Arg::At(made, width * 4));
        let parameters = Parameters { scale, shift, step: 2 * width };
        let affine = self.group_affine(name, from, norm, parameters)?;
        let to = self.apply_affine(from, affine, self.images, false)?;
        self.release(made);
        self.release(affine);
        Ok(to)
    }

    /// x * weight + bias by channel, then SiLU.
    pub(super) fn affine_silu(&mut self, name: &str, from: Map) -> Result<Map> {
        self.layer = name.to_owned();
        let affine = self.weights.scales_and_shifts(name, from.channels)?;
        self.apply_affine(from, affine, 1, true)
    }

    fn own_parameters(&mut self, name: &str) -> Result<Parameters> {
        let [scale, shift] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let (scale, shift) = (self.weights.floats(&scale)?, self.weights.floats(&shift)?);
        Ok(Parameters { scale: Arg::At(scale, 0), shift: Arg::At(shift, 0), step: 0 })
    }

    /// Scale and shift of every channel of a map, and SiLU where `silu`: of every image its own, or
    /// where `images` is 1, all images being one, the same.
    fn apply_affine(&mut self, from: Map, affine: Place, images: usize, silu: bool) -> Result<Map> {
        let channels = from.channels;
        let to = self.map(from.height, from.width, channels)?;
        let pixels = self.images / images * from.pixels();
        // As in the kernel: rows of threads over a block's channels.
        let rows = BLOCK / (channels.min(BLOCK_CHANNELS) / PACK);
        let chunk = rows * PACKS;
        let mut args = vec![Arg::At(from.place, 0), Arg::At(affine, 0), Arg::At(to.place, 0)];
        args.extend([pixels, channels, chunk, usize::from(silu)].map(int));
        let grid = [pixels.div_ceil(chunk), images, channels.div_ceil(BLOCK_CHANNELS)];
        self.launch("apply_affine", grid, BLOCK, args);
        Ok(to)
    }

    /// The scale and shift of each channel in every image that a GroupNorm is, `[images, channels, 2]`.
    fn group_affine(
        &mut self,
        name: &str,
        from: Map,
        norm: NormSpec,
        parameters: Parameters,
    ) -> Result<Place> {
        self.layer = name.to_owned();
        let (pixels, channels) = (from.pixels(), from.channels);
        if !channels.is_multiple_of(CHANNELS) || !channels.is_multiple_of(norm.groups) {
            return Err(refused(format!(
                "`{name}` has {channels} channels in {} groups; widths have to be multiples of \
                 {CHANNELS} and of the groups: use {DEVICE} cpu",
                norm.groups
            )));
        }
        let chunks = pixels.div_ceil(SUM_PIXELS);
        let sums = self.acquire(self.images * chunks * channels * 2 * 4);
        let mut args = vec![Arg::At(from.place, 0), Arg::At(sums, 0)];
        args.extend([pixels, channels, SUM_PIXELS].map(int));
        let grid = [chunks, channels.div_ceil(BLOCK_CHANNELS), self.images];
        self.launch("channel_sums", grid, BLOCK, args);

        let affine = self.acquire(self.images * channels * 2 * 4);
        let mut args = vec![Arg::At(sums, 0), Arg::At(from.place, 0)];
        args.extend([parameters.scale, parameters.shift, Arg::At(affine, 0)]);
        args.extend([pixels, channels, norm.groups, chunks].map(int));
        args.extend([Arg::Float(norm.eps as f32), int(parameters.step)]);
        self.launch("group_affine", [norm.groups, self.images, 1], 32, args);
        self.release(sums);
        Ok(affine)
    }
}
