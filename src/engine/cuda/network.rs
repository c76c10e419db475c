//! Owns the emitter that makes a network's layers commands, each map given back once nothing reads
//! it.

use super::emit::{Emitter, Map};
use super::libraries::refused;
use super::program::Place;
use crate::error::{Error, Result};
use crate::model::topology::{ConvGeometry, ConvSpec, Emit, NormSpec, ResnetSpec, Shortcut};

/// Layers after one another.
pub(super) struct Network<'e, 'a> {
    e: &'e mut Emitter<'a>,
    /// What the last layer gave.
    x: Map,
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
    /// Over a map of pixels.
    pub(super) fn new(e: &'e mut Emitter<'a>, pixels: Map) -> Network<'e, 'a> {
        Network { e, x: pixels, latents: None }
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

impl Emit for Network<'_, '_> {
    fn conv(&mut self, name: &str, _: usize, conv: impl Into<ConvSpec>) -> Result<()> {
        self.x = self.consume(name, self.x, conv.into().geometry)?;
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

    fn resnet(&mut self, name: &str, _: usize, spec: ResnetSpec) -> Result<()> {
        if spec.shortcut == Shortcut::Output {
            return Err(refused(format!("`{name}`: no such block runs there")));
        }
        let h = self.e.norm(&format!("{name}.norm1"), self.x, spec.norm, true)?;
        let h = self.consume(&format!("{name}.conv1"), h, ConvGeometry::SAME_3)?;
        let normed = self.e.norm(&format!("{name}.norm2"), h, spec.norm, true)?;
        self.e.release(h.place);
        let shortcut = format!("{name}.nin_shortcut");
        if self.e.weights.has(&format!("{shortcut}.weight")) {
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
