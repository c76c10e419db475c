//! Holds the meaning of published settings against configurations made here.

use serde_json::{Value, json};

use super::*;

fn published(value: Value) -> Published {
    Published::new(Some(&value), &[], None)
}

fn family(word: &str) -> &'static Family {
    Family::named(word).unwrap()
}

fn check(model: &ModelConfig, published: &Published) -> Result<()> {
    super::check(model, family(&model.family), published)
}

/// Families, options of theirs that are not built, and what is said of them.
fn unbuilt() -> Vec<(&'static str, Value, &'static str)> {
    vec![
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
        ("diffusers", json!({"down_block_types": 7}), "a list of types of blocks"),
        ("diffusers", json!({"up_block_types": "UpDecoderBlock2D"}), "a list of types of blocks"),
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
        ("movq", json!({"norm_type": "group"}), "computes only spatial"),
        ("maskbit", json!({"model": {"vq_model": {"sample_with_conv": false}}}), "only true"),
        ("emu3-hf", json!({"vq_config": {"num_attention_heads": 2}}), "only 1"),
        ("emu3", json!({"double_z": true}), "double_z"),
    ]
}

#[test]
fn options_that_are_not_built_are_refused_by_name() {
    for (word, value, expected) in unbuilt() {
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
        ("out_ch", json!(1)),
        ("out_channels", json!(6)),
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
        "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"], "out_channels": 3});
    check(&model(), &published(diffusers.clone())).unwrap();
    for (key, value) in [
        ("block_out_channels", json!([32, 32])),
        ("mid_block_add_attention", json!(false)),
        ("down_block_types", json!(["DownEncoderBlock2D", "DownEncoderBlock2D"])),
        ("up_block_types", json!(["UpDecoderBlock2D", "AttnUpDecoderBlock2D"])),
        ("out_channels", json!(1)),
    ] {
        let mut other = diffusers.clone();
        other[key] = value;
        let text = check(&model(), &published(other)).unwrap_err().to_string();
        assert!(text.contains(key), "{text}");
    }
}

#[test]
fn networks_without_layers_around_their_codes_agree_too() {
    for (kind, rule) in [("maskgit", "l2"), ("open-magvit2", "sign")] {
        let mut model = model();
        model.architecture = serde_json::from_value(json!({"kind": kind, "ch": 32,
            "widths": [32, 64], "res_blocks": 1, "norm_groups": 32, "norm_eps": 1e-6}))
        .unwrap();
        model.quantizer.rule = serde_json::from_value(json!(rule)).unwrap();
        let whole = json!({"z_channels": 8, "num_channels": 3, "out_ch": 3});
        check(&model, &published(whole.clone())).unwrap();
        for key in ["z_channels", "num_channels", "out_ch"] {
            for (value, words) in [(json!(4), "another checkpoint"), (json!("3"), "whole number")] {
                let mut other = whole.clone();
                other[key] = value;
                let text = check(&model, &published(other)).unwrap_err().to_string();
                assert!(text.contains(&format!("`{key}` is")) && text.contains(words), "{text}");
            }
        }
    }
}

#[test]
fn settings_of_the_network_that_nobody_knows_are_listed() {
    let config = published(json!({"model": {"params": {"lossconfig": {"a": 1}, "ddconfig":
        {"ch": 32, "dropout": 0.0, "norm_eps": 1e-5}}}}));
    assert_eq!(unknown(&config), ["`norm_eps` of the given configuration"]);
    let config = published(json!({"_class_name": "VQModel", "act_fn": "silu", "sample_size": 32,
        "decoder_layers": 3}));
    assert_eq!(unknown(&config), ["`decoder_layers` of the given configuration"]);
}
