//! Owns what the settings of published configurations mean: which are honoured, which must agree
//! with the weights, which are refused by name since nothing here computes them. Must not know:
//! where settings are written, tensors.
//!
//! Read in the reference classes. "Shape" must agree with the weights; what changes neither codes
//! nor pixels isn't listed: losses, dropout, learning rates, paths.
//!
//! | class | honoured | shape | refused unless |
//! |---|---|---|---|
//! | taming `VQModel`, `GumbelVQ` | `resolution` | `ch`, `ch_mult`, `num_res_blocks`, `attn_resolutions`, `z_channels`, `in_channels`, `out_ch`, `n_embed`, `embed_dim` | `double_z` false, `resamp_with_conv` true, `give_pre_end` false, `remap` null |
//! | latent-diffusion `VQModel(Interface)` | the same | the same, `attn_type` none | the same; `attn_type` vanilla or none, `use_linear_attn` false, `tanh_out` false |
//! | diffusers `VQModel` (amused too) | `norm_num_groups`, `lookup_from_codebook` (amused) | `block_out_channels`, `layers_per_block`, `down_block_types`, `up_block_types`, `mid_block_add_attention`, `latent_channels`, `vq_embed_dim`, `num_vq_embeddings`, `in_channels`, `out_channels` | `act_fn` silu or swish, `norm_type` group, block types with or without `Attn` |
//! | LlamaGen, Janus | `codebook_l2_norm` | `encoder_ch_mult`, `z_channels`, `codebook_size`, `codebook_embed_dim` | `norm_type` group, `resamp_with_conv` true |
//! | transformers' Chameleon, Janus | `resolution` | `base_channels`, `channel_multiplier`, `num_res_blocks`, `attn_resolutions`, `attn_type` null, `latent_channels`, `num_embeddings`, `embed_dim`, `in_channels`, `out_channels` | `double_latent` false, `attn_type` vanilla or null |
//! | Chameleon (Meta) | as taming | as taming, `attn_type` none | as latent-diffusion |
//! | open-muse `VQGANModel` | `resolution` | `hidden_channels`, `channel_mult`, `num_res_blocks`, `attn_resolutions`, `no_attn_mid_block`, `z_channels`, `quantized_embed_dim`, `num_embeddings`, `num_channels` | `resample_with_conv` true |
//! | open-muse `MaskGitVQGAN` | `resolution` | the same without attention, which it never has | |
//! | IBQ | `resolution`, `use_ema` | as taming | as taming; `l2_normalize` and `cosine_similarity` false |
//! | Open-MAGVIT2 | `resolution`, `use_ema` | as taming | as taming |
//! | ViT-VQGAN | `image_size`, `heads` and `dim_head` of each side, `use_norm` | `n_embed`, `embed_dim`, `patch_size` | `use_residual` false |
//! | DALL-E dVAE | | `n_hid`, `n_init`, `n_blk_per_group`, `vocab_size`, `input_channels`, `output_channels` | `group_count` 4 |
//! | Show-o `MAGVITv2` | | | |
//! | MoVQGAN `MOVQ` | `resolution` | as taming | as taming |
//! | diffusers `VQModel` with spatial norms | as diffusers | as diffusers | `norm_type` spatial, else as diffusers |
//! | Emu3 (original, transformers) | | `ch`, `ch_mult`, `num_res_blocks`, `z_channels`, `codebook_size`, `embed_dim`, `temporal_downsample_factor`, `in_channels`, `out_channels`, or transformers' names | `double_z`, `double_latent` false, `num_attention_heads` 1 |
//! | Emu3.5 `IBQ` | | as taming | as IBQ |
//! | RQ-VAE | `resolution` | as taming, `code_shape` | a vector a token (`latent_shape`), as taming |
//! | MaskBit, VQGAN+ | `resolution` | `hidden_channels`, `channel_mult`, `num_res_blocks`, `codebook_size`, `token_size`, `num_channels` | `sample_with_conv` true |
//! | TiTok | `use_l2_norm`, `is_legacy` | `codebook_size`, `token_size`, `num_latent_tokens`, `vit_enc_patch_size`, `vit_dec_patch_size` | |
//! | UniTok | `img_size` | `num_codebooks`, `vocab_size`, `vocab_width` | `resize_ratio` 1.125, `vocab_norm` true |
//! | VAR | `v_patch_nums`, `quant_resi` | `ch`, `ch_mult`, `num_res_blocks`, `z_channels`, `vocab_size`, `share_quant_resi`, `quant_conv_ks` | `using_znorm` false |
//! | Infinity | | `base_ch`, `encoder_ch_mult`, `num_res_blocks`, `codebook_dim`, `codebook_size` | |
//! | VQ-VAE-2 | | `in_channel`, `channel`, `n_res_block`, `n_res_channel`, `n_embed`, `embed_dim` | |

mod attention;

use super::families::Family;
use super::published::Published;
use crate::error::Result;
use crate::model::config::{Architecture, ModelConfig, QuantizerRule, VqganConfig};

/// Settings of networks that say nothing of codes or pixels, for [`unknown`].
const WITHOUT_EFFECT: &[&str] = &[
    "dropout",
    "sample_size",
    "scaling_factor",
    "force_upcast",
    "commitment_cost",
    "shift_factor",
];

/// Settings of which some words are computed.
const WORDS: [(&str, &[&str]); 2] =
    [("act_fn", &["silu", "swish"]), ("attn_type", &["vanilla", "none", "vanilla-xformers"])];

/// The blocks of diffusers that are computed.
const BLOCK_TYPES: [(&str, [&str; 2]); 2] = [
    ("down_block_types", ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
    ("up_block_types", ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]),
];

/// Settings that are looked at.
const LOOKED_AT: &[&[&str]] =
    &[MUST_BE_FALSE, MUST_BE_TRUE, WIDTH, FACTORS, BLOCKS, Z, DIM, CODES, CHANNELS, OUT, OTHERS];

const MUST_BE_FALSE: &[&str] = &[
    "double_z",
    "double_latent",
    "tanh_out",
    "give_pre_end",
    "use_linear_attn",
    "use_residual",
    "l2_normalize",
    "use_l2_norm",
    "cosine_similarity",
    "using_znorm",
    "use_cosine_sim",
];

const MUST_BE_TRUE: &[&str] = &["resamp_with_conv", "resample_with_conv", "sample_with_conv"];

const WIDTH: &[&str] = &["ch", "base_ch", "base_channels", "hidden_channels"];
const FACTORS: &[&str] = &["ch_mult", "channel_multiplier", "channel_mult", "encoder_ch_mult"];
const BLOCKS: &[&str] = &["num_res_blocks", "layers_per_block"];
const Z: &[&str] = &["z_channels", "latent_channels"];
const DIM: &[&str] = &[
    "embed_dim",
    "quantized_embed_dim",
    "vq_embed_dim",
    "codebook_embed_dim",
    "codebook_dim",
    "token_size",
];
const CODES: &[&str] = &["n_embed", "num_vq_embeddings", "num_embeddings", "codebook_size"];
const CHANNELS: &[&str] = &["in_channels", "num_channels", "in_channel", "input_channels"];
const OUT: &[&str] = &["out_ch", "out_channels", "output_channels"];

/// Those with rules of their own.
const OTHERS: &[&str] = &[
    "resolution",
    "attn_resolutions",
    "attn_type",
    "act_fn",
    "norm_type",
    "norm_num_groups",
    "remap",
    "block_out_channels",
    "down_block_types",
    "up_block_types",
    "mid_block_add_attention",
    "no_attn_mid_block",
    "lookup_from_codebook",
    "temporal_downsample_factor",
    "code_shape",
    "v_patch_nums",
    "quant_resi",
    "share_quant_resi",
    "quant_conv_ks",
];

/// Errors where an option is on whose mathematics isn't built.
///
/// # Errors
/// The first such option, with its file and value.
pub(super) fn refuse_unbuilt(family: &Family, published: &Published) -> Result<()> {
    for (keys, wanted) in [(MUST_BE_FALSE, false), (MUST_BE_TRUE, true)] {
        for &key in keys {
            let passed_over = family.passed_over.contains(&key);
            if let Some((on, _)) = published.bool(key)?.filter(|_| !passed_over)
                && on != wanted
                && let Some(setting) = published.find(&[key])?
            {
                return setting.refuse(&format!("vqtok computes only {wanted}"));
            }
        }
    }
    if family.rule != QuantizerRule::L2Normalised
        && let Some((true, _)) = published.bool("codebook_l2_norm")?
        && let Some(setting) = published.find(&["codebook_l2_norm"])?
    {
        return setting.refuse(&format!("the codes of family {} aren't normalised", family.word));
    }
    if let Some(setting) = published.find(&["remap"])? {
        return setting.refuse("vqtok computes only null");
    }
    for (key, known) in [("norm_type", family.norm_types)].into_iter().chain(WORDS) {
        if let Some(setting) = published.find(&[key])?
            && !known.iter().any(|word| setting.value == *word)
        {
            return setting.refuse(&only(known));
        }
    }
    for &(key, value) in family.only {
        if let Some(setting) = published.find(&[key])?
            && *setting.value != value
        {
            return setting.refuse(&format!("vqtok computes only {value}"));
        }
    }
    for (key, known) in BLOCK_TYPES {
        if let Some(setting) = published.find(&[key])?
            && !setting.blocks()?.iter().all(|block| known.iter().any(|word| block == word))
        {
            return setting.refuse(&only(&known));
        }
    }
    Ok(())
}

fn only(words: &[&str]) -> String {
    format!("vqtok computes only {}", words.join(", "))
}

/// Errors where the configuration says another network than the weights show: the reference would
/// load it in part, or not at all.
///
/// # Errors
/// The first setting that differs.
pub(super) fn check(config: &ModelConfig, family: &Family, published: &Published) -> Result<()> {
    let contradiction = LOOKED_AT.iter().copied().flatten();
    if let Some([one, two]) = contradiction.copied().find_map(|key| published.contradiction(key)) {
        let what = format!("but {} says {}; ", two.source, two.value);
        let advice = format!("leave the right one there{}", published.settings.or_config());
        return one.refuse(&(what + &advice));
    }
    let agree = |keys, found, what| agree(published, keys, found, what);
    agree(CODES, config.quantizer.codes, "codes")?;
    if !family.passed_over.contains(&"embed_dim") {
        agree(DIM, config.quantizer.dim, "numbers a code")?;
    }
    if config.parts().encoder() {
        agree(CHANNELS, config.pixels.channels, "channels an image")?;
    }
    if config.parts().decoder() {
        agree(OUT, config.pixels.channels, "channels an image")?;
    }
    if let Some((shape, setting)) = published.list(&["code_shape"])?
        && shape.get(2) != Some(&config.quantizer.depth)
    {
        return setting.other_checkpoint(&format!("codes of depth {}", config.quantizer.depth));
    }
    check_network(config, family, published)
}

/// Errors where a number under one of `keys` isn't the one that was `found`.
fn agree(published: &Published, keys: &[&'static str], found: usize, what: &str) -> Result<()> {
    match (published.usize(keys)?, published.find(keys)?) {
        (Some((stated, _)), Some(setting)) if stated != found => {
            setting.other_checkpoint(&format!("{found} ({what})"))
        }
        _ => Ok(()),
    }
}

/// The settings of taming's network.
fn check_vqgan(
    config: &ModelConfig,
    c: &VqganConfig,
    family: &Family,
    published: &Published,
) -> Result<()> {
    let agree = |keys: &[&'static str], found, what| agree(published, keys, found, what);
    if c.parts.encoder() {
        agree(WIDTH, c.ch, "channels after the first convolution")?;
    }
    agree(BLOCKS, c.res_blocks, "blocks a level")?;
    agree(Z, c.z_channels, "channels of latents")?;
    check_widths(c.ch, &c.widths, published)?;
    if let Some(frames) = c.variant.frames {
        let equal = 1 << frames.halvings;
        agree(&["temporal_downsample_factor"], equal, "frames that become one")?;
    }
    check_scales(config, c, published)?;
    attention::check(c, published)?;
    attention::check_levels(c, family, published)
}

/// The settings of one kind of network.
fn check_network(config: &ModelConfig, family: &Family, published: &Published) -> Result<()> {
    let agree = |keys: &[&'static str], found, what| agree(published, keys, found, what);
    match &config.architecture {
        Architecture::Vqgan(c) => check_vqgan(config, c, family, published),
        Architecture::Maskgit(c) | Architecture::VqganPlus(c) | Architecture::OpenMagvit2(c) => {
            agree(BLOCKS, c.res_blocks, "blocks a level")?;
            agree(Z, config.quantizer.dim, "channels of latents")?;
            check_widths(c.ch, &c.widths, published)
        }
        Architecture::VitVqgan(c) => match published.pair(&["patch_size"])? {
            Some((patch, _)) if patch != c.patch => match published.find(&["patch_size"])? {
                Some(setting) => setting.other_checkpoint(&format!("patches of {:?}", c.patch)),
                None => Ok(()),
            },
            _ => Ok(()),
        },
        Architecture::Titok(c) => {
            agree(&["num_latent_tokens"], c.latents, "latent tokens")?;
            agree(&["vit_enc_patch_size"], c.patch[0], "pixels a side of a patch")?;
            agree(&["vit_dec_patch_size"], c.patch[0], "pixels a side of a patch")
        }
        Architecture::Dalle(c) => {
            agree(&["n_hid"], c.hidden, "channels in the narrowest group")?;
            agree(&["n_blk_per_group"], c.blocks, "blocks a group")?;
            agree(&["vocab_size"], config.quantizer.codes, "codes")?;
            match c.parts.decoder() {
                true => agree(&["n_init"], c.init, "channels after the decoder's first layer"),
                false => Ok(()),
            }
        }
        Architecture::Vqvae2(c) => {
            agree(&["channel"], c.channels, "channels")?;
            agree(&["n_res_block"], c.res_blocks, "residual blocks")?;
            agree(&["n_res_channel"], c.res_channels, "channels in a residual block")
        }
        Architecture::Unitok(_) => {
            let quantizer = &config.quantizer;
            agree(&["num_codebooks"], quantizer.books, "books")?;
            agree(&["vocab_size"], quantizer.all_codes(), "codes of all books")?;
            agree(&["vocab_width"], quantizer.dim, "numbers a token")?;
            check_unitok(published)
        }
        Architecture::Vqvae(_) | Architecture::Onnx(_) => Ok(()),
    }
}

/// What UniTok's arguments may say of pictures and codes beside sizes.
fn check_unitok(published: &Published) -> Result<()> {
    if let Some((ratio, _)) = published.number("resize_ratio")?
        && ratio != 1.125
        && let Some(setting) = published.find(&["resize_ratio"])?
    {
        return setting.refuse("vqtok computes only 1.125");
    }
    if let Some((false, _)) = published.bool("vocab_norm")?
        && let Some(setting) = published.find(&["vocab_norm"])?
    {
        return setting.refuse("vqtok computes only true");
    }
    Ok(())
}

/// What codes at several scales take beside a codebook.
fn check_scales(config: &ModelConfig, c: &VqganConfig, published: &Published) -> Result<()> {
    let Some(scales) = &config.quantizer.scales else { return Ok(()) };
    agree(published, &["vocab_size"], config.quantizer.codes, "codes")?;
    agree(published, &["quant_conv_ks"], c.variant.around.unwrap_or(1), "pixels a side")?;
    let shared = published.find(&["share_quant_resi"])?;
    // 0 is a convolution for each scale, and true one for all.
    match shared.and_then(|setting| Some((setting, setting.value.as_u64()?))) {
        Some((setting, shared)) if shared > 0 && shared != scales.convolutions as u64 => {
            setting.other_checkpoint(&format!("{} convolutions", scales.convolutions))
        }
        _ => Ok(()),
    }
}

/// Widths of the levels: factors of the first one, or as they are (diffusers).
fn check_widths(ch: usize, widths: &[usize], published: &Published) -> Result<()> {
    if let Some((stated, setting)) = published.list(&["block_out_channels"])?
        && stated != widths
    {
        return setting.other_checkpoint(&format!("{widths:?}"));
    }
    // Without an encoder, the first width is the configuration's own.
    let ch = published.usize(WIDTH)?.map_or(ch, |(ch, _)| ch);
    if let Some((factors, setting)) = published.list(FACTORS)?
        && factors.iter().map(|factor| factor.saturating_mul(ch)).ne(widths.iter().copied())
    {
        return setting.other_checkpoint(&format!("levels of {widths:?} channels"));
    }
    Ok(())
}

/// Settings of the network that are in none of the tables, with their files: for the model card.
pub(super) fn unknown(published: &Published) -> Vec<String> {
    let known = |key: &&str| {
        LOOKED_AT.iter().copied().flatten().chain(WITHOUT_EFFECT).any(|known| known == key)
    };
    let mut unknown: Vec<String> = published
        .network_settings()
        .into_iter()
        .filter(|(key, _)| !key.starts_with('_') && !known(key))
        .map(|(key, source)| format!("`{}` of {source}", key.escape_debug()))
        .collect();
    unknown.sort();
    unknown.dedup();
    unknown
}

#[cfg(test)]
mod tests;
