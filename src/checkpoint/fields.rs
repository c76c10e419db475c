//! Owns what the settings of published configurations mean: which are honoured, which must agree
//! with the weights, which are refused by name since nothing here computes them. Must not know:
//! where settings are written, tensors.
//!
//! Read in the reference classes. "Shape" must agree with the weights; what changes neither codes
//! nor pixels isn't listed: losses, dropout, learning rates, paths.
//!
//! | class | honoured | shape | refused unless |
//! |---|---|---|---|
//! | taming `VQModel`, `GumbelVQ` | `resolution` | `ch`, `ch_mult`, `num_res_blocks`, `attn_resolutions`, `z_channels`, `in_channels`, `n_embed`, `embed_dim` | `double_z` false, `resamp_with_conv` true, `give_pre_end` false, `remap` null |
//! | latent-diffusion `VQModel(Interface)` | the same | the same, `attn_type` none | the same; `attn_type` vanilla or none, `use_linear_attn` false, `tanh_out` false |
//! | diffusers `VQModel` (amused too) | `norm_num_groups`, `lookup_from_codebook` (amused) | `block_out_channels`, `layers_per_block`, `down_block_types`, `mid_block_add_attention`, `latent_channels`, `vq_embed_dim`, `num_vq_embeddings`, `in_channels` | `act_fn` silu or swish, `norm_type` group, block types with or without `Attn` |
//! | LlamaGen, Janus | `codebook_l2_norm` | `encoder_ch_mult`, `z_channels`, `codebook_size`, `codebook_embed_dim` | `norm_type` group, `resamp_with_conv` true |
//! | transformers' Chameleon, Janus | `resolution` | `base_channels`, `channel_multiplier`, `num_res_blocks`, `attn_resolutions`, `attn_type` null, `latent_channels`, `num_embeddings`, `embed_dim`, `in_channels` | `double_latent` false, `attn_type` vanilla or null |
//! | Chameleon (Meta) | as taming | as taming, `attn_type` none | as latent-diffusion |
//! | open-muse `VQGANModel` | `resolution` | `hidden_channels`, `channel_mult`, `num_res_blocks`, `attn_resolutions`, `no_attn_mid_block`, `z_channels`, `quantized_embed_dim`, `num_embeddings`, `num_channels` | `resample_with_conv` true |
//! | open-muse `MaskGitVQGAN` | `resolution` | the same without attention, which it never has | |
//! | IBQ | `resolution`, `use_ema` | as taming | as taming; `l2_normalize` and `cosine_similarity` false |
//! | Open-MAGVIT2 | `resolution`, `use_ema` | as taming | as taming |
//! | ViT-VQGAN | `image_size`, `heads` of each side, `use_norm` | `n_embed`, `embed_dim`, `patch_size` | `use_residual` false |
//! | DALL-E dVAE | | `n_hid`, `n_init`, `n_blk_per_group`, `vocab_size` | `group_count` 4 |
//! | VQ-VAE-2 | | `channel`, `n_res_block`, `n_res_channel`, `n_embed`, `embed_dim` | |

use serde_json::Value;

use super::families::Family;
use super::published::{Published, Setting};
use crate::error::Result;
use crate::model::config::{Architecture, ModelConfig, QuantizerRule, VqganConfig};

/// Settings of networks that say nothing of codes or pixels, for [`unknown`].
const WITHOUT_EFFECT: &[&str] = &[
    "dropout",
    "out_ch",
    "out_channels",
    "up_block_types",
    "sample_size",
    "scaling_factor",
    "force_upcast",
    "commitment_cost",
    "shift_factor",
];

/// Settings that are looked at.
const LOOKED_AT: &[&[&str]] =
    &[MUST_BE_FALSE, MUST_BE_TRUE, WIDTH, FACTORS, BLOCKS, Z, DIM, CODES, CHANNELS, OTHERS];

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
    "use_cosine_sim",
];

const MUST_BE_TRUE: &[&str] = &["resamp_with_conv", "resample_with_conv"];

const WIDTH: &[&str] = &["ch", "base_channels", "hidden_channels"];
const FACTORS: &[&str] = &["ch_mult", "channel_multiplier", "channel_mult", "encoder_ch_mult"];
const BLOCKS: &[&str] = &["num_res_blocks", "layers_per_block"];
const Z: &[&str] = &["z_channels", "latent_channels"];
const DIM: &[&str] = &["embed_dim", "quantized_embed_dim", "vq_embed_dim", "codebook_embed_dim"];
const CODES: &[&str] = &["n_embed", "num_vq_embeddings", "num_embeddings", "codebook_size"];
const CHANNELS: &[&str] = &["in_channels", "num_channels"];

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
    "mid_block_add_attention",
    "no_attn_mid_block",
    "lookup_from_codebook",
];

/// Errors where an option is on whose mathematics isn't built.
///
/// # Errors
/// The first such option, with its file and value.
pub fn refuse_unbuilt(family: &Family, published: &Published) -> Result<()> {
    for (keys, wanted) in [(MUST_BE_FALSE, false), (MUST_BE_TRUE, true)] {
        for &key in keys {
            // MaskGIT's halves its maps without one.
            let unused = key == "resample_with_conv" && family.word == "maskgit";
            if let Some((on, _)) = published.bool(key)?.filter(|_| !unused)
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
    for (key, known) in [
        ("norm_type", &["group"][..]),
        ("act_fn", &["silu", "swish"]),
        ("attn_type", &["vanilla", "none", "vanilla-xformers"]),
    ] {
        if let Some(setting) = published.find(&[key])?
            && !known.iter().any(|word| setting.value == *word)
        {
            return setting.refuse(&only(known));
        }
    }
    if let Some(setting) = published.find(&["group_count"])?.filter(|_| family.word == "dalle")
        && setting.value != 4
    {
        return setting.refuse("vqtok computes only 4");
    }
    for (key, known) in [
        ("down_block_types", ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
        ("up_block_types", ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]),
    ] {
        if let Some(setting) = published.find(&[key])?
            && let Some(blocks) = setting.value.as_array()
            && !blocks.iter().all(|block| known.iter().any(|word| block == word))
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
pub fn check(config: &ModelConfig, published: &Published) -> Result<()> {
    let contradiction = LOOKED_AT.iter().copied().flatten();
    if let Some([one, two]) = contradiction.copied().find_map(|key| published.contradiction(key)) {
        let what = format!("but {} says {}; ", two.source, two.value);
        return one.refuse(&(what + "leave the right one there, or pass it with --model-config"));
    }
    let agree = |keys: &[&'static str], found: usize, what: &str| -> Result<()> {
        match (published.usize(keys)?, published.find(keys)?) {
            (Some((stated, _)), Some(setting)) if stated != found => {
                other_checkpoint(setting, &format!("{found} ({what})"))
            }
            _ => Ok(()),
        }
    };
    agree(CODES, config.quantizer.codes, "codes")?;
    agree(DIM, config.quantizer.dim, "numbers a code")?;
    match &config.architecture {
        Architecture::Vqgan(c) => {
            if c.parts.encoder() {
                agree(WIDTH, c.ch, "channels behind the first convolution")?;
                agree(CHANNELS, config.pixels.channels, "channels an image")?;
            }
            agree(BLOCKS, c.res_blocks, "blocks a level")?;
            agree(Z, c.z_channels, "channels of latents")?;
            check_widths(c.ch, &c.widths, published)?;
            check_attention(config, c, published)
        }
        Architecture::Maskgit(c) => {
            agree(BLOCKS, c.res_blocks, "blocks a level")?;
            check_widths(c.ch, &c.widths, published)
        }
        Architecture::OpenMagvit2(c) => {
            agree(BLOCKS, c.res_blocks, "blocks a level")?;
            check_widths(c.ch, &c.widths, published)
        }
        Architecture::VitVqgan(c) => match published.pair(&["patch_size"])? {
            Some((patch, _)) if patch != c.patch => match published.find(&["patch_size"])? {
                Some(setting) => other_checkpoint(setting, &format!("patches of {:?}", c.patch)),
                None => Ok(()),
            },
            _ => Ok(()),
        },
        Architecture::Dalle(c) => {
            agree(&["n_hid"], c.hidden, "channels in the narrowest group")?;
            agree(&["n_blk_per_group"], c.blocks, "blocks a group")?;
            agree(&["vocab_size"], config.quantizer.codes, "codes")?;
            match c.parts.decoder() {
                true => agree(&["n_init"], c.init, "channels behind the decoder's first layer"),
                false => Ok(()),
            }
        }
        Architecture::Vqvae2(c) => {
            agree(&["channel"], c.channels, "channels")?;
            agree(&["n_res_block"], c.res_blocks, "residual blocks")?;
            agree(&["n_res_channel"], c.res_channels, "channels in a residual block")
        }
        Architecture::Vqvae(_) => Ok(()),
    }
}

fn other_checkpoint<T>(setting: Setting, found: &str) -> Result<T> {
    setting.refuse(&format!("but the weights have {found}: it belongs to another checkpoint"))
}

/// Widths of the levels: factors of the first one, or as they are (diffusers).
fn check_widths(ch: usize, widths: &[usize], published: &Published) -> Result<()> {
    if let Some((stated, setting)) = published.list(&["block_out_channels"])?
        && stated != widths
    {
        return other_checkpoint(setting, &format!("{widths:?}"));
    }
    // Without an encoder, the first width is the configuration's own.
    let ch = published.usize(WIDTH)?.map_or(ch, |(ch, _)| ch);
    if let Some((factors, setting)) = published.list(FACTORS)?
        && factors.iter().map(|factor| factor.saturating_mul(ch)).ne(widths.iter().copied())
    {
        return other_checkpoint(setting, &format!("levels of {widths:?} channels"));
    }
    Ok(())
}

/// Where attention is: the reference's loaders pass over weights that the configuration has no
/// place for, so that both must say the same.
fn check_attention(config: &ModelConfig, c: &VqganConfig, published: &Published) -> Result<()> {
    let found = |on: bool| if on { "attention in the middle" } else { "none in the middle" };
    for (key, with) in [("mid_block_add_attention", true), ("no_attn_mid_block", false)] {
        if let Some((on, _)) = published.bool(key)?
            && (on == with) != c.mid_attention
            && let Some(setting) = published.find(&[key])?
        {
            return other_checkpoint(setting, found(c.mid_attention));
        }
    }
    let kind = published.find(&["attn_type"])?;
    if let Some(setting) = kind
        && (setting.value != "none") != c.mid_attention
    {
        return other_checkpoint(setting, found(c.mid_attention));
    }
    if let Some(setting) = published.find(&["down_block_types"])?
        && let Some(blocks) = setting.value.as_array()
        && c.parts.encoder()
    {
        let with = |block: &Value| block.as_str().is_some_and(|word| word.starts_with("Attn"));
        if blocks.iter().map(with).ne(c.attention.iter().copied()) {
            return other_checkpoint(setting, &levels(&c.attention));
        }
    }
    let none = kind.is_some_and(|setting| setting.value == "none");
    let stated = published.list(&["attn_resolutions"])?;
    let resolution = published.usize(&["resolution"])?;
    let (Some((places, setting)), Some((resolution, _))) = (stated, resolution) else {
        return Ok(());
    };
    // open-muse's weights are there although a lone one isn't run.
    let attention = match config.family.as_str() {
        "open-muse" => c.decoder().attention,
        _ => c.attention.clone(),
    };
    let here = |level: usize| !none && places.contains(&(resolution >> level.min(63)));
    if (0..attention.len()).any(|level| here(level) != attention[level]) {
        let text = format!("{} (`resolution` is {resolution})", levels(&attention));
        return other_checkpoint(setting, &text);
    }
    Ok(())
}

/// Which levels have attention, in words.
fn levels(attention: &[bool]) -> String {
    let with: Vec<usize> = (0..attention.len()).filter(|&level| attention[level]).collect();
    match &with[..] {
        [] => format!("attention in none of the {} levels", attention.len()),
        with => format!("attention in levels {with:?} of {}", attention.len()),
    }
}

/// Settings of the network that are in none of the tables, with their files: for the identity card.
pub fn unknown(published: &Published) -> Vec<String> {
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
mod tests {
    use serde_json::json;

    use super::*;

    fn published(value: Value) -> Published {
        Published::new(Some(&value), &[], None)
    }

    fn family(word: &str) -> &'static Family {
        Family::named(word).unwrap()
    }

    #[test]
    fn options_that_are_not_built_are_refused_by_name() {
        let cases = [
            (
                "diffusers",
                json!({"norm_type": "spatial"}),
                "`norm_type` is \"spatial\"; vqtok computes only group",
            ),
            (
                "diffusers",
                json!({"act_fn": "gelu"}),
                "`act_fn` is \"gelu\"; vqtok computes only silu, swish",
            ),
            ("diffusers", json!({"down_block_types": ["DownBlock2D"]}), "only DownEncoderBlock2D"),
            ("diffusers", json!({"up_block_types": ["UpBlock2D"]}), "only UpDecoderBlock2D"),
            (
                "taming",
                json!({"ddconfig": {"tanh_out": true}}),
                "`tanh_out` is true; vqtok computes only false",
            ),
            ("taming", json!({"ddconfig": {"double_z": true}}), "double_z"),
            ("taming", json!({"ddconfig": {"give_pre_end": "yes"}}), "give_pre_end"),
            ("taming", json!({"ddconfig": {"resamp_with_conv": false}}), "only true"),
            ("open-muse", json!({"resample_with_conv": false}), "only true"),
            (
                "latent-diffusion",
                json!({"params": {"remap": "x.npy"}}),
                "`remap` is \"x.npy\"; vqtok computes only null",
            ),
            ("latent-diffusion", json!({"attn_type": "linear"}), "only vanilla, none"),
            ("latent-diffusion", json!({"ddconfig": {"use_linear_attn": true}}), "use_linear_attn"),
            ("chameleon-hf", json!({"double_latent": true}), "double_latent"),
            ("ibq", json!({"model": {"params": {"l2_normalize": true}}}), "l2_normalize"),
            ("ibq", json!({"model": {"params": {"cosine_similarity": true}}}), "cosine_similarity"),
            ("vit-vqgan", json!({"quantizer": {"use_residual": true}}), "use_residual"),
            ("taming", json!({"codebook_l2_norm": true}), "aren't normalised"),
            ("dalle", json!({"group_count": 5}), "only 4"),
        ];
        for (word, value, expected) in cases {
            let error = refuse_unbuilt(family(word), &published(value.clone())).unwrap_err();
            assert!(error.to_string().contains(expected), "{value}: {error}");
        }
        for (word, value) in [
            ("latent-diffusion", json!({"attn_type": "none", "double_z": false, "remap": null})),
            (
                "diffusers",
                json!({"norm_type": "group", "act_fn": "swish", "up_block_types": ["AttnUpDecoderBlock2D"]}),
            ),
            ("maskgit", json!({"resample_with_conv": false})),
            ("llamagen", json!({"codebook_l2_norm": true})),
        ] {
            refuse_unbuilt(family(word), &published(value)).unwrap();
        }
    }

    fn model() -> ModelConfig {
        serde_json::from_value(json!({
            "format": crate::model::config::FORMAT, "family": "taming",
            "architecture": {"kind": "vqgan", "ch": 32, "widths": [32, 64], "res_blocks": 1,
                "attention": [false, true], "mid_attention": true, "z_channels": 16,
                "norm_groups": 32, "norm_eps": 1e-6},
            "quantizer": {"rule": "l2", "codes": 128, "dim": 8},
            "pixels": {"channels": 3, "input": "taming", "output": "symmetric-truncate"},
            "preprocess": {"resize": "taming", "size": 64},
        }))
        .unwrap()
    }

    #[test]
    fn what_agrees_with_the_weights_is_taken_and_what_does_not_is_named() {
        let whole = json!({"n_embed": 128, "embed_dim": 8, "ddconfig": {"ch": 32, "ch_mult": [1, 2],
            "num_res_blocks": 1, "z_channels": 16, "in_channels": 3, "resolution": 64,
            "attn_resolutions": [32], "attn_type": "vanilla"}});
        check(&model(), &published(whole.clone())).unwrap();
        for (key, value) in [
            ("n_embed", json!(256)),
            ("embed_dim", json!(4)),
            ("ch", json!(64)),
            ("ch_mult", json!([1, 1])),
            ("ch_mult", json!([1, 2, 2])),
            ("num_res_blocks", json!(2)),
            ("z_channels", json!(8)),
            ("in_channels", json!(1)),
            ("attn_resolutions", json!([])),
            ("attn_resolutions", json!([64, 32])),
            ("resolution", json!(32)),
            ("attn_type", json!("none")),
        ] {
            let mut other = whole.clone();
            match other.get_mut(key) {
                Some(place) => *place = value,
                None => other["ddconfig"][key] = value,
            }
            let text = check(&model(), &published(other.clone())).unwrap_err().to_string();
            assert!(text.contains("belongs to another checkpoint"), "{other}: {text}");
            assert!(text.starts_with("the given configuration: `"), "{text}");
        }
        let diffusers = json!({"block_out_channels": [32, 64], "layers_per_block": 1,
            "latent_channels": 16, "mid_block_add_attention": true,
            "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]});
        check(&model(), &published(diffusers.clone())).unwrap();
        for (key, value) in [
            ("block_out_channels", json!([32, 32])),
            ("mid_block_add_attention", json!(false)),
            ("down_block_types", json!(["DownEncoderBlock2D", "DownEncoderBlock2D"])),
        ] {
            let mut other = diffusers.clone();
            other[key] = value;
            let text = check(&model(), &published(other)).unwrap_err().to_string();
            assert!(text.contains(key), "{text}");
        }
    }

    #[test]
    fn settings_of_the_network_that_nobody_knows_are_listed() {
        let config = published(json!({"model": {"params": {"lossconfig": {"a": 1}, "ddconfig":
            {"ch": 32, "dropout": 0.0, "norm_eps": 1e-5}}}}));
        assert_eq!(unknown(&config), ["`norm_eps` of the given configuration"]);
        let config =
            published(json!({"_class_name": "VQModel", "act_fn": "silu", "sample_size": 32,
            "decoder_layers": 3}));
        assert_eq!(unknown(&config), ["`decoder_layers` of the given configuration"]);
    }
}
