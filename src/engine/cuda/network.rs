//! Owns the emitter that makes a network's layers commands, each map given back once nothing reads
//! it.

use super::emit::{Emitter, Map};
use super::libraries::refused;
use super::program::Place;
use crate::error::{Error, Result};
use crate::model::topology::{
    ConvGeometry, ConvSpec, Emit, NormSpec, Resample, ResnetSpec, Shortcut,
};

/// Layers after one another.
pub(super) struct Network<'e, 'a> {
    e: &'e mut Emitter<'a>,
    /// What the last layer gave.
    x: Map,
    /// Its channels without padding.
    channels: usize,
    latents: Option<Latents>,
}

/// What the quantizer reads: float32 `[images, h, w, dim]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latents {
    pub place: Place,
    /// h and w.
    pub grid: (usize, usize),
    pub dim: usize,
}

impl<'e, 'a> Network<'e, 'a> {
    /// Over a map of pixels, or of looked-up codes, of so many channels without padding.
    pub(super) fn new(e: &'e mut Emitter<'a>, input: Map, channels: usize) -> Network<'e, 'a> {
        Network { e, x: input, channels, latents: None }
    }

    /// What a decoder ends with: a map of pictures, and its channels.
    pub(super) fn picture(self) -> (Map, usize) {
        (self.x, self.channels)
    }

    /// What an encoder ends with.
    pub(super) fn finish(self) -> Result<Latents> {
        self.latents.ok_or_else(|| Error::internal("the network gives no latents"))
    }

    /// A map in the place of the last one, which nothing reads any more.
    fn replace(&mut self, map: Map) {
        self.e.release(self.x.place);
        self.x = map;
    }

    /// A convolution whose input nothing reads any more.
    fn consume(&mut self, name: &str, from: Map, geometry: ConvGeometry) -> Result<Map> {
        let to = self.e.conv(name, from, geometry, None)?;
        self.e.release(from.place);
        Ok(to)
    }
}

impl Network<'_, '_> {
    /// A norm, SiLU and a convolution of a block; the map in front of them stays.
    fn half_block(&mut self, name: &str, half: usize, from: Map, norm: NormSpec) -> Result<Map> {
        let normed = self.e.norm(&format!("{name}.norm{half}"), from, norm, true)?;
        self.consume(&format!("{name}.conv{half}"), normed, ConvGeometry::SAME_3)
    }

    /// A block of which the 1x1 shortcut acts on what `conv2` gives.
    fn resnet_post_shortcut(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        for half in [1, 2] {
            let halved = self.half_block(name, half, self.x, norm)?;
            self.replace(halved);
        }
        let shortcut = format!("{name}.nin_shortcut");
        let y = self.e.conv(&shortcut, self.x, ConvGeometry::POINT, Some(self.x))?;
        self.replace(y);
        Ok(())
    }
}

impl Emit for Network<'_, '_> {
    fn conv(&mut self, name: &str, outputs: usize, conv: impl Into<ConvSpec>) -> Result<()> {
        self.x = self.consume(name, self.x, conv.into().geometry)?;
        self.channels = outputs;
        Ok(())
    }

    fn upsample(&mut self, name: &str) -> Result<()> {
        self.e.layer = name.to_owned();
        let doubled = self.e.doubled(self.x)?;
        self.replace(doubled);
        self.x = self.consume(name, self.x, ConvGeometry::SAME_3)?;
        Ok(())
    }

    fn transposed(&mut self, name: &str, outputs: usize) -> Result<()> {
        let packed = self.e.weights.transposed(name)?;
        let to = self.e.convolve(name, packed, self.x, ConvGeometry::SAME_3, None)?;
        self.replace(to);
        self.channels = 4 * outputs;
        self.depth_to_space([2, 2])
    }

    fn relu(&mut self) -> Result<()> {
        self.e.layer = "relu".to_owned();
        let done = self.e.activated(self.x, false)?;
        self.replace(done);
        Ok(())
    }

    fn silu(&mut self) -> Result<()> {
        self.e.layer = "silu".to_owned();
        let done = self.e.activated(self.x, true)?;
        self.replace(done);
        Ok(())
    }

    fn plain_residual(&mut self, [conv1, conv2]: [&str; 2], _: usize) -> Result<()> {
        self.e.layer = conv1.to_owned();
        let before = self.e.activated(self.x, false)?;
        let inner = self.consume(conv1, before, ConvGeometry::SAME_3)?;
        let after = self.e.activated(inner, false)?;
        self.e.release(inner.place);
        let y = self.e.conv(conv2, after, ConvGeometry::POINT, Some(self.x))?;
        self.e.release(after.place);
        self.replace(y);
        Ok(())
    }

    fn resample(&mut self, how: Resample) -> Result<()> {
        self.e.layer = format!("{how:?}").to_lowercase();
        let to = match how {
            Resample::Mean => self.e.halved(self.x)?,
            Resample::Double => self.e.doubled(self.x)?,
            _ => return Err(refused(format!("no such resampling runs there: {how:?}"))),
        };
        self.replace(to);
        Ok(())
    }

    fn depth_to_space(&mut self, patch: [usize; 2]) -> Result<()> {
        self.e.layer = "depth_to_space".to_owned();
        self.channels /= patch[0] * patch[1];
        let to = self.e.spread(self.x, self.channels, patch)?;
        self.replace(to);
        Ok(())
    }

    fn latents(&mut self, name: &str, _: usize, conv: impl Into<ConvSpec>) -> Result<()> {
        let grid = (self.x.height, self.x.width);
        let (place, dim) = self.e.conv_to_floats(name, self.x, conv.into().geometry)?;
        self.e.release(self.x.place);
        self.latents = Some(Latents { place, grid, dim });
        Ok(())
    }

    fn norm_silu(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let normed = self.e.norm(name, self.x, norm, true)?;
        self.replace(normed);
        Ok(())
    }

    fn resnet(&mut self, name: &str, outputs: usize, spec: ResnetSpec) -> Result<()> {
        let shortcut = format!("{name}.nin_shortcut");
        let widens = self.e.weights.has(&format!("{shortcut}.weight"));
        self.channels = outputs;
        if widens && spec.shortcut == Shortcut::Output {
            return self.resnet_post_shortcut(name, spec.norm);
        }
        let h = self.half_block(name, 1, self.x, spec.norm)?;
        let normed = self.e.norm(&format!("{name}.norm2"), h, spec.norm, true)?;
        self.e.release(h.place);
        if widens {
            self.x = self.consume(&shortcut, self.x, ConvGeometry::POINT)?;
        }
        let conv2 = format!("{name}.conv2");
        let y = self.e.conv(&conv2, normed, ConvGeometry::SAME_3, Some(self.x))?;
        self.e.release(normed.place);
        self.replace(y);
        Ok(())
    }

    fn attention(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let normed = self.e.norm(&format!("{name}.norm"), self.x, norm, false)?;
        let parts = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
        let key = format!("{name}.qkv");
        let packed = self.e.weights.side_by_side(&key, &parts.each_ref().map(String::as_str))?;
        let qkv = self.e.convolve(&key, packed, normed, ConvGeometry::POINT, None)?;
        self.e.release(normed.place);
        let mixed = self.e.attend(&format!("{name}.attend"), qkv)?;
        self.e.release(qkv.place);
        let proj_out = format!("{name}.proj_out");
        let y = self.e.conv(&proj_out, mixed, ConvGeometry::POINT, Some(self.x))?;
        self.e.release(mixed.place);
        self.replace(y);
        Ok(())
    }
}
