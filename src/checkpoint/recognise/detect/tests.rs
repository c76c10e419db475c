//! Holds the detection against names and shapes made here, without published files.

use candle_core::{Device, Tensor};
use serde_json::json;

use super::*;
use crate::checkpoint::recognise::placement::Placement;
use crate::model::config::{Architecture, PreprocessConfig, QuantizerRule};

/// Names and shapes of a tiny canonical VQGAN: 2 levels of 32 and 64, one block, z 8, 16 codes of 4.
fn canonical(level_attention: bool, mid_attention: bool) -> BTreeMap<String, Vec<usize>> {
    let mut network = Shapes(BTreeMap::new());
    network.side("encoder", level_attention, mid_attention);
    network.side("decoder", level_attention, mid_attention);
    network.conv("quant_conv", 4, 8, 1);
    network.conv("post_quant_conv", 8, 4, 1);
    network.0.insert("quantize.embedding.weight".into(), vec![16, 4]);
    network.0
}

struct Shapes(BTreeMap<String, Vec<usize>>);

impl Shapes {
    fn conv(&mut self, name: &str, out: usize, input: usize, kernel: usize) {
        self.0.insert(format!("{name}.weight"), vec![out, input, kernel, kernel]);
        self.0.insert(format!("{name}.bias"), vec![out]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.0.insert(format!("{name}.weight"), vec![width]);
        self.0.insert(format!("{name}.bias"), vec![width]);
    }

    fn block(&mut self, name: &str, input: usize, width: usize) {
        self.conv(&format!("{name}.conv1"), width, input, 3);
        self.conv(&format!("{name}.conv2"), width, width, 3);
        if input != width {
            self.conv(&format!("{name}.nin_shortcut"), width, input, 1);
        }
        self.norm(&format!("{name}.norm1"), input);
        self.norm(&format!("{name}.norm2"), width);
    }

    fn attention(&mut self, name: &str, width: usize) {
        for layer in ["q", "k", "v", "proj_out"] {
            self.conv(&format!("{name}.{layer}"), width, width, 1);
        }
        self.norm(&format!("{name}.norm"), width);
    }

    fn side(&mut self, side: &str, level_attention: bool, mid_attention: bool) {
        let (outer, inner, stem, blocks, first, last, sampler) = match side {
            "encoder" => (3, 8, "encoder.down", 1, 32, 64, "0.downsample.conv"),
            _ => (8, 3, "decoder.up", 2, 64, 32, "1.upsample.conv"),
        };
        self.conv(&format!("{side}.conv_in"), first, outer, 3);
        for (i, width) in [32usize, 64].into_iter().enumerate() {
            for j in 0..blocks {
                let input = match (side, i, j) {
                    ("encoder", 1, 0) => 32,
                    ("decoder", 0, 0) => 64,
                    _ => width,
                };
                self.block(&format!("{stem}.{i}.block.{j}"), input, width);
                if level_attention && i == 1 {
                    self.attention(&format!("{stem}.{i}.attn.{j}"), width);
                }
            }
        }
        self.conv(&format!("{stem}.{sampler}"), first, first, 3);
        for block in ["block_1", "block_2"] {
            self.block(&format!("{side}.mid.{block}"), 64, 64);
        }
        if mid_attention {
            self.attention(&format!("{side}.mid.attn_1"), 64);
        }
        self.conv(&format!("{side}.conv_out"), inner, last, 3);
        self.norm(&format!("{side}.norm_out"), last);
    }
}

fn prefixed(shapes: BTreeMap<String, Vec<usize>>, prefix: &str) -> BTreeMap<String, Vec<usize>> {
    shapes.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect()
}

fn zeros(detected: &Detected) -> BTreeMap<String, Tensor> {
    let zero = |p: &Placement| {
        Tensor::zeros(p.shape.as_slice(), candle_core::DType::F32, &Device::Cpu).unwrap()
    };
    detected.placements.iter().map(|(name, p)| (name.clone(), zero(p))).collect()
}

/// The only set of weights among `shapes`, recognised.
fn detect_shapes(
    shapes: &BTreeMap<String, Vec<usize>>,
    published: &Published,
    family: Option<&str>,
) -> Result<Detected> {
    detect(
        shapes,
        published,
        family,
        sets::choose(shapes, None, SettingNames::default(), |_, _| false)?,
    )
}

fn refused(
    shapes: &BTreeMap<String, Vec<usize>>,
    config: Option<&Value>,
    family: Option<&str>,
) -> String {
    let published = Published::new(config, &[], None);
    let text =
        detect_shapes(shapes, &published, family).map(|d| d.config.family).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn same_names_of_several_families_are_refused_with_the_candidates_and_the_setting() {
    let text = refused(&canonical(true, true), None, None);
    for word in ["taming", "latent-diffusion", "ibq", "say which with family"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("chameleon"), "its levels have no attention: {text}");
    assert!(refused(&canonical(false, true), None, None).contains("chameleon"));
    let chameleon = json!({"model": {"target": "taming.models.vqgan.VQModel"}});
    let text = refused(&canonical(false, true), Some(&chameleon), None);
    assert!(text.contains("taming, chameleon;"), "{text}");
}

#[test]
fn advice_names_the_settings_of_the_front_end() {
    let mut published = Published::default();
    published.settings = SettingNames::OF_INIT;
    let said = |published: &Published, family| {
        detect_shapes(&canonical(true, true), published, family).unwrap_err().to_string()
    };
    let text = said(&published, None);
    assert!(text.ends_with("; say which with init_family"), "{text}");
    let text = said(&published, Some("maskgit"));
    assert!(text.contains("aren't those of init_family maskgit"), "{text}");
    published.settings = SettingNames::default();
    assert!(said(&published, None).ends_with("; say which with family"));
    let both: BTreeMap<_, _> = ["one.", "two."]
        .into_iter()
        .flat_map(|prefix| prefixed(canonical(true, true), prefix))
        .collect();
    let text =
        sets::choose(&both, None, SettingNames::OF_INIT, |_, _| false).err().unwrap().to_string();
    let advice = "say which with init_weights PREFIX, such as init_weights two";
    assert!(text.ends_with(advice), "{text}");
    let asked =
        sets::choose(&both, Some("three"), SettingNames::OF_INIT, |_, _| false).err().unwrap();
    assert!(asked.to_string().starts_with("init_weights three: "), "{asked}");
}

#[test]
fn the_family_or_its_configuration_settles_it_and_the_network_builds() {
    let shapes = prefixed(canonical(true, true), "state_dict.");
    let told = detect_shapes(&shapes, &Published::default(), Some("ibq")).unwrap();
    assert_eq!(told.config.quantizer.rule, QuantizerRule::Dot);
    let target = json!({"model": {"target": "taming.models.vqgan.VQModel",
        "params": {"n_embed": 16, "ddconfig": {"resolution": 64}}}});
    let found = detect_shapes(&shapes, &Published::new(Some(&target), &[], None), None).unwrap();
    assert_eq!(found.config.family, "taming");
    assert_eq!(found.config.preprocess, PreprocessConfig::new("taming", Some(64)));
    for name in ["input range", "output range", "resize", "norm groups", "size", "family"] {
        assert!(found.config.provenance.contains_key(name), "{name}");
    }
    let Architecture::Vqgan(config) = &found.config.architecture else {
        panic!("{:?}", found.config)
    };
    assert_eq!((config.ch, &config.widths[..], config.res_blocks), (32, &[32, 64][..], 1));
    assert_eq!((&config.attention[..], config.mid_attention), (&[false, true][..], true));
    assert_eq!(config.decoder, None, "a mirror needs no words");
    crate::model::Model::load(found.config.clone(), zeros(&found), &Device::Cpu).unwrap();
}

#[test]
fn a_family_that_does_not_fit_is_refused() {
    let text = refused(&canonical(true, true), None, Some("maskgit"));
    assert!(text.contains("aren't those of family maskgit") && text.contains("taming"), "{text}");
    assert!(refused(&canonical(true, true), None, Some("tamming")).contains("no family `tamming`"));
    let mut kl = canonical(true, true);
    kl.remove("quantize.embedding.weight");
    assert!(refused(&kl, None, Some("latent-diffusion")).contains("no codebook"));
    assert!(
        refused(&BTreeMap::from([("a.weight".into(), vec![1])]), None, None)
            .contains("no tokenizer")
    );
    for (key, wrong) in [("n_embed", json!("8192")), ("resolution", json!(-1))] {
        let text = refused(&canonical(true, true), Some(&json!({key: wrong})), Some("taming"));
        assert!(text.contains("a whole number above 0 belongs there"), "{text}");
    }
    let other = json!({"n_embed": 8192});
    assert!(
        refused(&canonical(true, true), Some(&other), Some("taming"))
            .contains("another checkpoint")
    );
}

/// RQ-VAE's names: a codebook of 16 codes and a row of padding for each depth.
fn rqvae(dims: &[usize]) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = canonical(true, true);
    shapes.remove("quantize.embedding.weight");
    for (depth, dim) in dims.iter().enumerate() {
        shapes.insert(format!("quantizer.codebooks.{depth}.weight"), vec![17, *dim]);
        shapes.insert(format!("quantizer.codebooks.{depth}.embed_ema"), vec![16, *dim]);
    }
    shapes
}

#[test]
fn codebooks_of_a_depth_are_residual_levels_or_refused() {
    let found = detect_shapes(&rqvae(&[4, 4, 4]), &Published::default(), None).unwrap();
    let quantizer = &found.config.quantizer;
    assert_eq!((&found.config.family[..], quantizer.codes, quantizer.depth), ("rqvae", 16, 3));
    assert_eq!(found.placements["quantize.embedding.weight"].shape, [48, 4]);
    assert_eq!(found.placements["quantize.embedding.weight"].sources().count(), 3);
    crate::model::Model::load(found.config.clone(), zeros(&found), &Device::Cpu).unwrap();
    // Two latents a side in a token.
    assert!(refused(&rqvae(&[16, 16]), None, None).contains("tokens of several latents"));
    assert!(refused(&rqvae(&[4, 8]), None, None).contains("as many codes at each depth"));
    assert!(refused(&rqvae(&[4; 17]), None, None).contains("17 codebooks, more than 16"));
    let other = json!({"arch": {"hparams": {"code_shape": [2, 2, 4]}}});
    assert!(refused(&rqvae(&[4, 4]), Some(&other), None).contains("codes of depth 2"));
}

#[test]
fn moving_averages_replace_the_live_weights_only_where_the_family_uses_them() {
    let mut shapes = canonical(true, true);
    for (name, shape) in canonical(true, true) {
        shapes.insert(format!("model_ema.{}", name.replace('.', "")), shape);
    }
    shapes.insert("model_ema.decay".into(), vec![]);
    let source = |family: &str, config: Value| {
        let published = Published::new(Some(&config), &[], None);
        let found = detect_shapes(&shapes, &published, Some(family)).unwrap();
        assert_eq!(found.placements.len() + found.ignored.len(), shapes.len());
        found.placements["encoder.conv_in.weight"].source.clone()
    };
    assert_eq!(source("ibq", json!({})), "model_ema.encoderconv_inweight");
    assert_eq!(source("ibq", json!({"use_ema": false})), "encoder.conv_in.weight");
    assert_eq!(source("latent-diffusion", json!({"use_ema": true})), "encoder.conv_in.weight");
}

#[test]
fn moving_averages_are_chosen_and_refused_by_a_word() {
    let mut shapes = prefixed(canonical(true, true), "state_dict.");
    for (name, shape) in canonical(true, true) {
        shapes.insert(format!("state_dict.model_ema.{}", name.replace('.', "")), shape);
    }
    let found = |family: &str, word: Option<&str>| {
        let chosen = sets::choose(&shapes, word, SettingNames::default(), |_, _| false).unwrap();
        let found = detect(&shapes, &Published::default(), Some(family), chosen).unwrap();
        assert_eq!(found.placements.len() + found.ignored.len(), shapes.len());
        let source = found.placements["encoder.conv_in.weight"].source.clone();
        (source, found.config.provenance["weights"].clone())
    };
    let (live, average) =
        ("state_dict.encoder.conv_in.weight", "state_dict.model_ema.encoderconv_inweight");
    let (source, said) = found("taming", None);
    assert!(source == live && said.contains("--weights model_ema takes them"), "{said}");
    let (source, said) = found("taming", Some("model_ema"));
    assert!(source == average && said.contains("from --weights"), "{said}");
    let (source, said) = found("ibq", None);
    assert!(source == average && said.contains("the rule of ibq"), "{said}");
    let (source, said) = found("ibq", Some("state_dict"));
    assert!(source == live && said.contains("from --weights"), "{said}");
    let plain = canonical(true, true);
    let chosen =
        sets::choose(&plain, Some("model_ema"), SettingNames::default(), |_, _| false).unwrap();
    let error = detect(&plain, &Published::default(), Some("ibq"), chosen).unwrap_err();
    assert!(error.to_string().contains("no moving averages"), "{error}");
}

#[test]
fn a_set_is_taken_under_any_prefix_and_the_rest_is_named() {
    let mut shapes = prefixed(canonical(true, true), "anything.");
    shapes.insert("optimizer.state.0.exp_avg".into(), vec![3]);
    shapes.insert("anything.discriminator.main.0.weight".into(), vec![3]);
    shapes.insert("ema.shadow_params.0".into(), vec![3]);
    let found = detect_shapes(&shapes, &Published::default(), Some("taming")).unwrap();
    assert_eq!(found.placements["quant_conv.bias"].source, "anything.quant_conv.bias");
    assert_eq!(found.placements.len() + found.ignored.len(), shapes.len());
    let ignored = &found.config.provenance["ignored tensors"];
    for words in
        ["1 (not under `anything.`)", "1 (moving averages", "1 (part of the training loss)"]
    {
        assert!(ignored.contains(words), "{ignored}");
    }
}

#[test]
fn a_family_takes_what_its_class_takes() {
    let hf = |config: Value| {
        let published = Published::new(Some(&config), &[], None);
        detect_shapes(&canonical(true, true), &published, None).map(|d| d.config.family)
    };
    let config =
        json!({"model_type": "chameleon_vqgan", "resolution": 64, "attn_resolutions": [32]});
    assert_eq!(hf(config).unwrap(), "chameleon-hf");
    let config =
        json!({"model_type": "chameleon_vqgan", "resolution": 64, "attn_resolutions": null});
    assert_eq!(hf(config).unwrap(), "chameleon-hf", "null says nothing");
    let text =
        hf(json!({"model_type": "chameleon_vqgan", "resolution": 64, "attn_resolutions": [16]}));
    assert!(text.unwrap_err().to_string().contains("attention in levels [1] of 2"));
    for (shapes, family) in [
        (canonical(true, true), "chameleon"),
        (canonical(false, false), "chameleon"),
        (canonical(false, false), "chameleon-hf"),
    ] {
        let found = detect_shapes(&shapes, &Published::default(), Some(family)).unwrap();
        assert_eq!(found.config.family, family);
    }
}

fn rule_of_a_vit(config: &Value) -> QuantizerRule {
    let mut shapes = BTreeMap::new();
    let mut put = |name: &str, shape: &[usize]| shapes.insert(name.to_owned(), shape.to_vec());
    put("encoder.to_patch_embedding.0.weight", &[64, 3, 8, 8]);
    put("encoder.en_pos_embedding", &[1, 16, 64]);
    put("encoder.transformer.norm.weight", &[64]);
    put("encoder.transformer.layers.0.0.fn.to_qkv.weight", &[192, 64]);
    put("encoder.transformer.layers.0.1.fn.net.0.weight", &[128, 64]);
    put("quantizer.embedding.weight", &[32, 8]);
    let published = Published::new(Some(config), &[], None);
    detect_shapes(&shapes, &published, None).unwrap().config.quantizer.rule
}

#[test]
fn whether_a_vit_normalises_its_codes_is_read_from_its_configuration() {
    let use_norm = |on: bool| json!({"quantizer": {"use_norm": on}});
    assert_eq!(rule_of_a_vit(&use_norm(true)), QuantizerRule::L2Normalised);
    assert_eq!(rule_of_a_vit(&use_norm(false)), QuantizerRule::L2);
}

#[test]
fn weights_stored_in_factors_are_named() {
    for ends in [["weight_g", "weight_v"], ["weight_orig", "weight_u"]] {
        let mut shapes = canonical(true, true);
        let shape = shapes.remove("encoder.conv_in.weight").unwrap();
        for end in ends {
            shapes.insert(format!("encoder.conv_in.{end}"), shape.clone());
        }
        let text = refused(&shapes, None, Some("taming"));
        assert!(text.contains("encoder.conv_in.") && text.contains("remove_weight_norm"), "{text}");
    }
    let mut shapes = canonical(true, true);
    for name in canonical(true, true).into_keys().filter(|n| n.ends_with("conv1.weight")) {
        let shape = shapes.remove(&name).unwrap();
        for end in ["original0", "original1"] {
            let stem = name.strip_suffix(".weight").unwrap();
            shapes.insert(format!("{stem}.parametrizations.weight.{end}"), shape.clone());
        }
    }
    assert!(refused(&shapes, None, Some("taming")).contains("remove_parametrizations"));
}

#[test]
fn open_muse_leaves_a_lone_attention_out() {
    let found =
        detect_shapes(&canonical(true, false), &Published::default(), Some("open-muse")).unwrap();
    assert!(!found.placements.keys().any(|n| n.starts_with("encoder.down.1.attn.")));
    assert!(found.placements.keys().any(|n| n.starts_with("decoder.up.1.attn.")));
    crate::model::Model::load(found.config.clone(), zeros(&found), &Device::Cpu).unwrap();
}

#[test]
fn a_wrong_place_for_a_weight_is_noticed_when_the_network_is_built() {
    let found =
        detect_shapes(&canonical(true, true), &Published::default(), Some("taming")).unwrap();
    let mut weights = zeros(&found);
    let tensor = weights.remove("decoder.up.1.upsample.conv.weight").unwrap();
    weights.insert("decoder.up.0.upsample.conv.weight".into(), tensor);
    let error =
        crate::model::Model::load(found.config, weights, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("decoder.up.1.upsample.conv.weight"), "{error}");
}
