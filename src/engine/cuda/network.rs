//! Owns the emitter that makes a network's layers commands, each map given back once nothing reads
//! it.

use super::emit::{Emitter, Map};
use super::norms::Statistics;
use super::program::Place;
use crate::error::{Error, Result};
use crate::model::topology::{
    BottleneckSpec, ConvGeometry, ConvSpec, Emit, NormSpec, Resample, ResnetSpec, Shortcut,
};
use crate::nvidia::errors::refused;

/// Layers after one another.
pub(super) struct Network<'e, 'a> {
    e: &'e mut Emitter<'a>,
    /// What the last layer gave.
    x: Map,
    /// Its channels without padding.
    channels: usize,
    latents: Option<Latents>,
    /// A map that layers to come read, and its channels without padding.
    held: Option<(Map, usize)>,
    statistics: Option<Statistics>,
}

/// What the quantizer reads: float32 `[images, h, w, dim]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latents {
    pub place: Place,
    /// h and w.
    pub grid: (usize, usize),
    pub dim: usize,
}

impl Latents {
    /// Refuses latents of another length than the codes of the codebook.
    pub(super) fn require(&self, dim: usize) -> Result<()> {
        if self.dim == dim {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the encoder gives {} channels where the quantizer takes {dim}: this checkpoint can \
             decode only",
            self.dim
        )))
    }
}

impl<'e, 'a> Network<'e, 'a> {
    /// Over a map of pixels, or of looked-up codes, of so many channels without padding.
    pub(super) fn new(e: &'e mut Emitter<'a>, input: Map, channels: usize) -> Network<'e, 'a> {
        Network { e, x: input, channels, latents: None, held: None, statistics: None }
    }

    /// Keeps the last map, which norms by codes read from here on, after the next layer.
    pub(super) fn hold(&mut self) -> Map {
        self.held = Some((self.x, self.channels));
        self.x
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
        self.give_back(self.x);
        self.x = map;
    }

    /// Gives a map back, unless it is held.
    fn give_back(&mut self, map: Map) {
        if self.held.is_none_or(|(held, _)| held.place != map.place) {
            self.e.release(map.place);
        }
    }

    fn held(&self) -> Result<(Map, usize)> {
        self.held.ok_or_else(|| Error::internal("norms by codes, and no codes are kept"))
    }

    /// A convolution whose input nothing reads any more.
    fn consume(&mut self, name: &str, from: Map, conv: impl Into<ConvSpec>) -> Result<Map> {
        let to = self.e.conv(name, from, conv, None)?;
        self.give_back(from);
        Ok(to)
    }
}

impl Network<'_, '_> {
    /// A norm, and SiLU where `silu`; the map in front of it stays.
    fn normed(&mut self, name: &str, from: Map, norm: NormSpec, silu: bool) -> Result<Map> {
        match norm.by_codes {
            true => self.e.norm_by_codes(name, from, self.held()?.0, norm, silu),
            false => self.e.norm(name, from, norm, silu),
        }
    }

    /// A norm, SiLU and a convolution of a block; the map in front of them stays.
    fn half_block(&mut self, name: &str, half: usize, from: Map, norm: NormSpec) -> Result<Map> {
        let normed = self.normed(&format!("{name}.norm{half}"), from, norm, true)?;
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
        self.x = self.consume(name, self.x, conv)?;
        self.channels = outputs;
        Ok(())
    }

    fn conv_head(
        &mut self,
        name: &str,
        [_, kept]: [usize; 2],
        conv: impl Into<ConvSpec>,
    ) -> Result<()> {
        let ConvSpec { geometry, parameters, .. } = conv.into();
        let packed = self.e.weights.head(name, parameters, kept)?;
        let to = self.e.convolve(name, packed, self.x, geometry, None)?;
        self.replace(to);
        self.channels = kept;
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

    fn bottleneck(&mut self, name: &str, outputs: usize, spec: BottleneckSpec) -> Result<()> {
        let BottleneckSpec { kernels, gain, parameters } = spec;
        let conv = |at: usize| ConvGeometry::same(kernels[at - 1]).named(parameters);
        self.e.layer = name.to_owned();
        let mut before = self.e.activated(self.x, false)?;
        for at in 1..=3 {
            let inner = self.consume(&format!("{name}.res_path.conv_{at}"), before, conv(at))?;
            before = self.e.activated(inner, false)?;
            self.e.release(inner.place);
        }
        let id_path = format!("{name}.id_path");
        if self.e.weights.has(&format!("{id_path}.{}", parameters[0])) {
            self.x = self.consume(&id_path, self.x, ConvGeometry::POINT.named(parameters))?;
        }
        let last = format!("{name}.res_path.conv_4");
        let packed = self.e.weights.scaled(&last, parameters, gain)?;
        let y = self.e.convolve(&last, packed, before, conv(4).geometry, Some(self.x))?;
        self.e.release(before.place);
        self.replace(y);
        self.channels = outputs;
        Ok(())
    }

    fn affine_resnet(&mut self, name: &str) -> Result<()> {
        let normed = self.e.affine_silu(&format!("{name}.norm1"), self.x)?;
        let inner = self.consume(&format!("{name}.conv1"), normed, ConvGeometry::SAME_3)?;
        let normed = self.e.affine_silu(&format!("{name}.norm2"), inner)?;
        self.e.release(inner.place);
        let conv2 = format!("{name}.conv2");
        let y = self.e.conv(&conv2, normed, ConvGeometry::SAME_3, Some(self.x))?;
        self.e.release(normed.place);
        self.replace(y);
        Ok(())
    }

    fn keep_codes(&mut self) -> Result<()> {
        let input = self.held()?;
        self.hold();
        (self.x, self.channels) = input;
        Ok(())
    }

    fn adaptive_norm(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let (codes, bits) = self.held()?;
        let statistics = match self.statistics {
            Some(known) => known,
            None => *self.statistics.insert(self.e.statistics(codes, bits, norm.eps)),
        };
        let normed = self.e.adaptive_norm(name, self.x, norm, statistics)?;
        self.replace(normed);
        Ok(())
    }

    fn resample(&mut self, how: Resample) -> Result<()> {
        self.e.layer = format!("{how:?}").to_lowercase();
        let to = match how {
            Resample::Mean => self.e.halved(self.x, false)?,
            Resample::Largest => self.e.halved(self.x, true)?,
            Resample::Double => self.e.doubled(self.x)?,
            Resample::Even => match [self.x.height, self.x.width].map(|side| side % 2) {
                [0, 0] => return Ok(()),
                odd => self.e.padded(self.x, odd)?,
            },
            Resample::Neighbours => {
                return Err(refused(format!("no such resampling runs there: {how:?}")));
            }
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
        let (place, dim) = self.e.conv_to_floats(name, self.x, conv)?;
        self.give_back(self.x);
        self.latents = Some(Latents { place, grid, dim });
        Ok(())
    }

    fn norm_silu(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let normed = self.normed(name, self.x, norm, true)?;
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
        let normed = self.normed(&format!("{name}.norm2"), h, spec.norm, true)?;
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
        let normed = self.normed(&format!("{name}.norm"), self.x, norm, false)?;
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
