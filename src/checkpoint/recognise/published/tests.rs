//! Holds the reading of published configurations against some made here.

use super::*;
use serde_json::json;

fn published(value: Value) -> Published {
    Published::new(Some(&value), &[], None)
}

#[test]
fn settings_are_found_in_their_published_nestings() {
    let yaml = published(json!({"model": {"target": "taming.models.vqgan.GumbelVQ",
        "params": {"n_embed": 8192, "ddconfig": {"resolution": 256, "attn_resolutions": [32]}}}}));
    assert_eq!(yaml.usize(&["resolution"]).unwrap().map(|x| x.0), Some(256));
    assert_eq!(yaml.usize(&["num_embeddings", "n_embed"]).unwrap().map(|x| x.0), Some(8192));
    let full = published(json!({"model_type": "chameleon", "vq_config": {"resolution": 512}}));
    assert_eq!(full.usize(&["resolution"]).unwrap().map(|x| x.0), Some(512));
    let ldm = published(
        json!({"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": {
        "image_size": 64, "first_stage_config": {"target": "ldm.models.autoencoder.VQModelInterface",
            "params": {"n_embed": 8192, "ddconfig": {"resolution": 256}}}}}}),
    );
    assert_eq!(ldm.usize(&["resolution"]).unwrap().map(|x| x.0), Some(256));
    assert_eq!(ldm.pair(&["image_size"]).unwrap(), None);
}

#[test]
fn a_value_of_another_type_is_named_and_not_passed_over() {
    let config = published(json!({"resolution": "64", "tanh_out": "yes", "use_ema": "maybe",
        "image_size": [1, 2, 3], "ch_mult": [1, -2], "norm_num_groups": 16.5, "n_embed": null}));
    let said = |error: Error| error.to_string();
    let text = said(config.usize(&["resolution"]).unwrap_err());
    assert_eq!(
        text,
        "the given configuration: `resolution` is \"64\"; a whole number above 0 belongs there"
    );
    assert!(said(config.usize(&["norm_num_groups"]).unwrap_err()).contains("16.5"));
    assert!(said(config.pair(&["image_size"]).unwrap_err()).contains("[1,2,3]"));
    assert!(said(config.list(&["ch_mult"]).unwrap_err()).contains("[1,-2]"));
    for scalar in [json!(16), json!({"0": 16}), json!("16"), json!(true)] {
        let config = published(json!({"attn_resolutions": scalar}));
        let text = said(config.list(&["attn_resolutions"]).unwrap_err());
        assert!(text.ends_with("; a list of whole numbers belongs there"), "{text}");
    }
    assert!(said(config.bool("use_ema").unwrap_err()).contains("true or false"));
    assert_eq!(config.bool("tanh_out").unwrap().map(|x| x.0), Some(true));
    assert_eq!(config.usize(&["n_embed"]).unwrap(), None);
}

#[test]
fn there_is_no_network_of_none_of_something_and_no_image_without_end() {
    let config = published(json!({"resolution": 0, "image_size": [8, 0], "encoder": {"heads": 0},
        "norm_num_groups": 0, "first": 65536, "second": 65537, "third": 1u64 << 32}));
    let above = "; a whole number above 0 belongs there";
    let ends = |error: Error, end: &str| assert!(error.to_string().ends_with(end), "{error}");
    ends(config.side(&["resolution"]).unwrap_err(), above);
    ends(config.usize(&["norm_num_groups"]).unwrap_err(), above);
    ends(config.usize_of("encoder", "heads").unwrap_err(), above);
    ends(config.pair(&["image_size"]).unwrap_err(), "above 0, or two, belong there");
    assert_eq!(config.side(&["first"]).unwrap().map(|x| x.0), Some(65536));
    for key in ["second", "third"] {
        ends(config.side(&[key]).unwrap_err(), "a side of at most 65536 pixels belongs there");
    }
}

#[test]
fn references_are_resolved_and_refused_only_where_they_are_needed() {
    let config = published(json!({
        "data": {"size": 64, "path": "${oc.env:HOME}/data"},
        "model": {"params": {"embed_dim": "${data.size}", "ddconfig": "${dd}"}},
        "dd": {"resolution": "${oc.env:RES}", "z_channels": "${model.params.embed_dim}"},
    }));
    assert_eq!(config.usize(&["z_channels"]).unwrap().map(|x| x.0), Some(64));
    let text = config.usize(&["resolution"]).unwrap_err().to_string();
    assert!(text.contains("`dd.resolution` is \"${oc.env:RES}\""), "{text}");
    // What the settings may stand in is needed for each of them.
    let config = published(json!({"model": "${oc.load:x.yaml}"}));
    assert!(config.usize(&["resolution"]).is_err());
}

#[test]
fn settings_inside_a_pickle_are_configurations_of_their_own() {
    let hparams = json!({"epoch": 3, "hyper_parameters": {"size": 64, "ddconfig":
        {"resolution": "${size}"}}, "args": {"codebook_l2_norm": false}});
    let config = Published::new(None, &[], Some(&hparams));
    assert_eq!(config.usize(&["resolution"]).unwrap().map(|x| x.0), Some(64));
    assert_eq!(config.bool("codebook_l2_norm").unwrap(), Some((false, "the checkpoint's `args`")));
}

#[test]
fn files_that_contradict_each_other_are_noticed() {
    let file = |name: &str, value: Value| (PathBuf::from(name), value);
    let files = [
        file("a.json", json!({"n_embed": 16, "resolution": 64, "z_channels": null})),
        file("b.yaml", json!({"model": {"n_embed": 16, "resolution": 32, "z_channels": 8}})),
    ];
    let config = Published::new(None, &files, None);
    assert!(config.contradiction("n_embed").is_none());
    assert!(config.contradiction("z_channels").is_none());
    let [a, b] = config.contradiction("resolution").unwrap();
    assert_eq!((a.source, b.source, b.value), ("a.json", "b.yaml", &json!(32)));
    let own = [file("config.json", json!({"resolution": 64})), files[1].clone()];
    assert!(Published::new(None, &own, None).contradiction("resolution").is_none());
    let told = Published::new(Some(&json!({"resolution": 16})), &files, None);
    assert!(told.contradiction("resolution").is_none());
}
