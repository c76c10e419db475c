//! Owns TiTok (Yu et al. 2024): latent tokens beside the patches of an image, of which a transformer
//! makes a row of codes; a transformer that makes patches of them again, and MaskGIT-VQ's decoder behind
//! the first published ones.

use super::blocks::{MlpSpec, Nonlinearity, RowMap, TokenRow, TransformerSpec};
use super::emit::Emit;
use super::geometry::{ConvGeometry, Io};
use super::maskgit;
use crate::error::Result;
use crate::model::config::{TitokConfig, TransformerConfig};

/// Epsilon of every LayerNorm.
const EPS: f64 = 1e-5;

/// Images to latents, one row of them.
pub(crate) fn encoder(e: &mut impl Emit, config: &TitokConfig, io: Io) -> Result<()> {
    let (patches, latents) = (config.grid[0] * config.grid[1], config.latents);
    e.patch_embedding("encoder.patch_embed", config.encoder.dim, config.patch)?;
    let map = RowMap::Patches("latent_tokens");
    e.token_row(TokenRow { side: "encoder", patches, latents, map })?;
    transformer(e, "encoder", &config.encoder)?;
    e.take_pixels(1 + patches, [1, latents])?;
    e.layer_norm("encoder.ln_post", EPS)?;
    if config.legacy {
        // What was published takes the rows of the tokens for those of the channels.
        e.pixels_as_channels()?;
    }
    e.latents("encoder.conv_out", io.dim, ConvGeometry::POINT)
}

/// Looked-up codes to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &TitokConfig, io: Io) -> Result<()> {
    let TitokConfig { grid, patch: [height, width], latents, .. } = *config;
    e.linear("decoder.decoder_embed", config.decoder.dim)?;
    let map = RowMap::Latents("decoder.mask_token");
    e.token_row(TokenRow { side: "decoder", patches: grid[0] * grid[1], latents, map })?;
    transformer(e, "decoder", &config.decoder)?;
    e.take_pixels(1, grid)?;
    e.layer_norm("decoder.ln_post", EPS)?;
    let Some(pixels) = &config.pixels else {
        e.conv("decoder.ffn.0", height * width * io.channels, ConvGeometry::POINT)?;
        e.depth_to_space([height, width])?;
        return e.conv("decoder.conv_out", io.channels, ConvGeometry::SAME_3);
    };
    e.conv("decoder.ffn.0", pixels.hidden, ConvGeometry::POINT)?;
    e.nonlinearity(Nonlinearity::Tanh)?;
    e.conv("decoder.ffn.2", pixels.codes, ConvGeometry::POINT)?;
    e.mixture("pixel_quantize.embedding", [pixels.codes, pixels.dim])?;
    e.enter("pixel")?;
    maskgit::decoder(e, &pixels.resnets, Io { channels: io.channels, dim: pixels.dim })
}

fn transformer(e: &mut impl Emit, side: &str, config: &TransformerConfig) -> Result<()> {
    let spec = TransformerSpec {
        heads: config.heads,
        head_dim: config.head_dim,
        mlp_dim: config.mlp_dim,
        eps: EPS,
        attention_norm: "ln_1",
        qkv: ("attn.in_proj_weight", Some("attn.in_proj_bias")),
        attention_out: "attn.out_proj",
        mlp_norm: "ln_2",
        mlp: MlpSpec::Plain { first: "mlp.c_fc", between: Nonlinearity::Gelu, last: "mlp.c_proj" },
    };
    e.layer_norm(&format!("{side}.ln_pre"), EPS)?;
    let layer = |l: usize| format!("{side}.transformer.{l}");
    (0..config.depth).try_for_each(|l| e.transformer_layer(&layer(l), spec))
}
