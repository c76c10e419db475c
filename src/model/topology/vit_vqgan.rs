//! Owns ViT-VQGAN (Yu et al. 2022, as in enhancing-transformers): patches, a transformer on each side,
//! a fixed grid.

use super::blocks::{MlpSpec, Nonlinearity, TransformerSpec};
use super::emit::Emit;
use super::geometry::Io;
use crate::error::Result;
use crate::model::config::{TransformerConfig, VitVqganConfig};

/// Epsilon of every LayerNorm.
const EPS: f64 = 1e-5;

/// Images to latents.
pub(crate) fn encoder(e: &mut impl Emit, config: &VitVqganConfig, io: Io) -> Result<()> {
    e.patch_embedding("encoder.to_patch_embedding.0", config.encoder.dim, config.patch)?;
    e.positions("encoder.en_pos_embedding", Some(config.grid))?;
    transformer(e, "encoder.transformer", &config.encoder)?;
    e.linear("pre_quant", io.dim)
}

/// Looked-up codes to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &VitVqganConfig, io: Io) -> Result<()> {
    e.linear("post_quant", config.decoder.dim)?;
    e.positions("decoder.de_pos_embedding", Some(config.grid))?;
    transformer(e, "decoder.transformer", &config.decoder)?;
    e.patch_pixels("decoder.to_pixel.1", io.channels, config.patch)
}

fn transformer(e: &mut impl Emit, name: &str, config: &TransformerConfig) -> Result<()> {
    let spec = TransformerSpec {
        heads: config.heads,
        head_dim: config.head_dim,
        mlp_dim: config.mlp_dim,
        eps: EPS,
        attention_norm: "0.norm",
        qkv: ("0.fn.to_qkv.weight", None),
        attention_out: "0.fn.to_out",
        mlp_norm: "1.norm",
        mlp: MlpSpec::Plain {
            first: "1.fn.net.0",
            between: Nonlinearity::Tanh,
            last: "1.fn.net.2",
        },
    };
    (0..config.depth).try_for_each(|l| e.transformer_layer(&format!("{name}.layers.{l}"), spec))?;
    e.layer_norm(&format!("{name}.norm"), EPS)
}
