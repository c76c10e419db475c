//! Owns UniTok (Ma et al. 2025): a ViTamin, whose first stages are convolutions, a projection to several
//! books' codes by attention, and the same way back.

use super::blocks::{InvertedSide, InvertedSpec, MlpSpec, Nonlinearity, TransformerSpec};
use super::emit::{Emit, Resample};
use super::geometry::{ConvGeometry, Io};
use crate::error::{Error, Result};
use crate::model::config::{TransformerConfig, UnitokConfig};

/// Of all norms but those of the projections.
const EPS: f64 = 1e-6;

/// Images to latents.
pub(crate) fn encoder(e: &mut impl Emit, config: &UnitokConfig, io: Io) -> Result<()> {
    let backbone = "encoder.patch_embed.backbone";
    e.conv(&format!("{backbone}.stem.conv1"), config.stem, ConvGeometry::HALVE_UP_3)?;
    e.layer_norm(&format!("{backbone}.stem.norm1"), EPS)?;
    e.nonlinearity(Nonlinearity::Gelu)?;
    e.conv(&format!("{backbone}.stem.conv2"), config.stem, ConvGeometry::SAME_3)?;
    for (s, stage) in config.stages.iter().enumerate() {
        for d in 0..stage.encoder_blocks {
            let side = if d == 0 { InvertedSide::Halves } else { InvertedSide::Keeps };
            let spec = InvertedSpec { hidden: stage.hidden, side, eps: EPS };
            e.inverted_bottleneck(&format!("{backbone}.stages.{s}.{d}"), stage.width, spec)?;
        }
    }
    e.layer_norm(&format!("{backbone}.pool.norm"), EPS)?;
    e.conv(&format!("{backbone}.pool.proj"), config.encoder.dim, ConvGeometry::HALVE_UP_3)?;
    e.positions("encoder.pos_embed", None)?;
    transformer(e, "encoder", &config.encoder)?;
    e.attention_projection("quant_proj", io.dim, config.quant_hidden)
}

/// Looked-up codes to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &UnitokConfig, io: Io) -> Result<()> {
    e.attention_projection("post_quant_proj", config.decoder.dim, config.post_quant_hidden)?;
    transformer(e, "decoder", &config.decoder)?;
    let last = config.stages.last().ok_or_else(|| Error::invalid("a model without stages"))?;
    doubled(e, "decoder.up_conv1.conv", last.width)?;
    for (place, stage) in config.stages.iter().rev().enumerate() {
        for d in 0..stage.decoder_blocks {
            let side = if d == 0 { InvertedSide::Doubles } else { InvertedSide::Keeps };
            let spec = InvertedSpec { hidden: stage.hidden, side, eps: EPS };
            e.inverted_bottleneck(&format!("decoder.up_conv{}.{d}", place + 2), stage.width, spec)?;
        }
    }
    let end = format!("decoder.up_conv{}", config.stages.len() + 2);
    doubled(e, &format!("{end}.conv1.conv"), config.stem)?;
    e.layer_norm(&format!("{end}.norm1"), EPS)?;
    e.nonlinearity(Nonlinearity::Gelu)?;
    e.conv(&format!("{end}.conv2"), io.channels, ConvGeometry::SAME_3)
}

/// Every pixel twice along both sides, then a 3x3 to another width.
fn doubled(e: &mut impl Emit, name: &str, outputs: usize) -> Result<()> {
    e.resample(Resample::Double)?;
    e.conv(name, outputs, ConvGeometry::SAME_3)
}

fn transformer(e: &mut impl Emit, side: &str, config: &TransformerConfig) -> Result<()> {
    let spec = TransformerSpec {
        heads: config.heads,
        head_dim: config.head_dim,
        mlp_dim: config.mlp_dim,
        eps: EPS,
        attention_norm: "norm1",
        qkv: ("attn.qkv.weight", Some("attn.qkv.bias")),
        attention_out: "attn.proj",
        mlp_norm: "norm2",
        mlp: MlpSpec::Gated("mlp"),
    };
    let block = |l: usize| format!("{side}.blocks.{l}");
    (0..config.depth).try_for_each(|l| e.transformer_layer(&block(l), spec))?;
    e.layer_norm(&format!("{side}.norm"), EPS)
}
