//! Owns which family a checkpoint is of: by the user's word, its configuration, or what the names
//! of its weights show.

use std::collections::BTreeMap;

use super::families::{FAMILIES, Family, NamedBy, Signs, UNBUILT};
use super::keys::KeyLayout;
use super::provenance;
use super::published::Published;
use crate::error::{Error, Result};
use crate::util::text;

/// What weights show beyond their layout: `own` are their shapes by their names without a prefix,
/// `canonical` our names for them.
pub(super) fn signs(
    own: &BTreeMap<String, Vec<usize>>,
    canonical: &BTreeMap<String, String>,
    prefix: &str,
    layout: KeyLayout,
) -> Signs {
    let any = |stem: &str| canonical.values().any(|name| name.starts_with(stem));
    let level = |name: &String| {
        (name.starts_with("encoder.down.") || name.starts_with("decoder.up."))
            && name.contains(".attn.")
    };
    Signs {
        gumbel: own.contains_key("quantize.proj.weight"),
        mid_attention: any("encoder.mid.attn_1.") || any("decoder.mid.attn_1."),
        level_attention: canonical.values().any(level),
        decoder: any("decoder."),
        reversed_up: layout == KeyLayout::CanonicalReversedUp,
        gen_vision_model: prefix.contains("gen_vision_model."),
        codebook_used: own.contains_key("quantize.codebook_used"),
        spatial_norm: canonical.values().any(|name| name.ends_with(".norm_layer.weight")),
        bits_to_indices: own.contains_key("quantize.bits_to_indices"),
    }
}

/// The family and how it was found; `asked` is the user's word.
///
/// # Errors
/// Where the word or the configuration doesn't fit, or several families do: they are listed.
pub(super) fn choose(
    layout: KeyLayout,
    signs: &Signs,
    published: &Published,
    asked: Option<&str>,
) -> Result<(&'static Family, &'static str)> {
    let setting = published.settings.family;
    let fitting = || listed(FAMILIES.iter().filter(|family| family.fits(layout, signs)));
    if let Some(word) = asked {
        let Some(family) = Family::named(word) else {
            return Err(Error::invalid(format!(
                "there is no family `{}`; vqtok knows {}",
                text::shorten(word),
                listed(FAMILIES)
            )));
        };
        if !family.fits(layout, signs) {
            return Err(Error::invalid(format!(
                "the names of the checkpoint aren't those of {setting} {word}; what fits: {}",
                fitting()
            )));
        }
        return Ok((family, provenance::BY_FAMILY));
    }
    let named = named(published)?;
    // Of several that share a class, those whose published models look so.
    let usual = |family: &&Family| family.proposed(layout, signs);
    let (candidates, how): (Vec<&Family>, &str) = match &named[..] {
        [] => (FAMILIES.iter().filter(usual).collect(), "the names and shapes of the weights"),
        [one] if !one.fits(layout, signs) => (Vec::new(), ""),
        [one] => (vec![*one], BESIDE),
        several => (several.iter().copied().filter(usual).collect(), BESIDE),
    };
    match &candidates[..] {
        [family] => Ok((family, how)),
        [] if named.is_empty() => Err(Error::invalid(format!(
            "the names of the weights decide no family; what fits: {}; say which with {setting}",
            fitting()
        ))),
        [] => Err(Error::invalid(format!(
            "the configuration names {}, but the names of the weights fit {}: say which with {setting}",
            listed(named),
            fitting()
        ))),
        several => Err(Error::invalid(format!(
            "the checkpoint can be of several families, whose tokens or pixels differ: {}; say which with {setting}",
            listed(several.iter().copied())
        ))),
    }
}

/// How a family was found that a configuration names.
const BESIDE: &str = "the configuration with it";

/// Families for a message.
fn listed<'a>(families: impl IntoIterator<Item = &'a Family>) -> String {
    families.into_iter().map(|family| family.word).collect::<Vec<_>>().join(", ")
}

/// Families that the configurations name; none where they say nothing.
///
/// # Errors
/// Where they name a class whose quantizer isn't built.
fn named(published: &Published) -> Result<Vec<&'static Family>> {
    if let Some((class, _)) = published.word(&["_class_name"])? {
        let mut named = families(|by| matches!(by, NamedBy::ClassName(own) if *own == class));
        for (key, _) in named.clone().iter().filter_map(|family| family.told_by) {
            let on = matches!(published.bool(key)?, Some((true, _)));
            named.retain(|family| family.told_by.is_none_or(|by| by.0 != key || by.1 == on));
        }
        if !named.is_empty() {
            return Ok(named);
        }
    }
    if let Some((model, _)) = published.word(&["model_type"])? {
        let named = families(|by| matches!(by, NamedBy::ModelType(own) if *own == model));
        if !named.is_empty() {
            return Ok(named);
        }
    }
    // Lightning's YAML: the dotted name of the class.
    const TARGET: [&str; 2] = ["target", "class_path"];
    let Some((target, _)) = published.word(&TARGET)? else { return Ok(Vec::new()) };
    if UNBUILT.iter().any(|(part, end)| target.contains(part) && target.ends_with(end))
        && let Some(setting) = published.find(&TARGET)?
    {
        return setting.refuse("vqtok doesn't compute the quantizer of that class");
    }
    let named = families(|by| matches!(by, NamedBy::TargetEnd(end) if target.ends_with(end)));
    if !named.is_empty() {
        return Ok(named);
    }
    Ok(families(|by| match by {
        NamedBy::TargetStart(start) => target.starts_with(start),
        NamedBy::TargetPart(part) => target.contains(part),
        _ => false,
    }))
}

/// The families with the first name in the table that `is` the configuration's.
fn families(is: impl Fn(&NamedBy) -> bool) -> Vec<&'static Family> {
    let first = FAMILIES.iter().flat_map(|family| family.named_by).find(|by| is(by));
    let shares = |family: &&Family| first.is_some_and(|by| family.named_by.contains(by));
    FAMILIES.iter().filter(shares).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn published(value: Value) -> Published {
        Published::new(Some(&value), &[], None)
    }

    fn words(value: Value) -> Vec<&'static str> {
        named(&published(value)).unwrap().iter().map(|family| family.word).collect()
    }

    #[test]
    fn configurations_name_families_by_class_model_and_target() {
        let target = |target: &str| json!({"model": {"target": target}});
        for (config, expected) in [
            (target("taming.models.vqgan.GumbelVQ"), &["taming-gumbel"][..]),
            (target("taming.models.vqgan.VQModel"), &["taming", "chameleon"]),
            (target("ldm.models.autoencoder.VQModelInterface"), &["latent-diffusion"]),
            (target("src.IBQ.models.ibqgan.IBQ"), &["ibq"]),
            (target("src.Open_MAGVIT2.models.lfqgan.VQModel"), &["open-magvit2"]),
            (target("enhancing.modules.stage1.vitvqgan.ViTVQ"), &["vit-vqgan"]),
            (target("somebody.VQModel"), &[]),
            // Whose decoder's norms tell them apart.
            (json!({"_class_name": "VQModel"}), &["diffusers", "movq"]),
            (json!({"_class_name": "VQModel", "lookup_from_codebook": true}), &["amused", "movq"]),
            (json!({"_class_name": "MAGVITv2"}), &["showo"]),
            (json!({"model_type": "Emu3VisionVQ"}), &["emu3"]),
            (json!({"model_type": "emu3", "vq_config": {"a": 1}}), &["emu3-hf"]),
            (json!({"_class_name": "VQGANModel"}), &["open-muse"]),
            (json!({"_class_name": "MaskGitVQGAN"}), &["maskgit"]),
            (json!({"_class_name": "Other", "model_type": "janus"}), &["janus-hf"]),
            (json!({"model_type": "chameleon", "vq_config": {"a": 1}}), &["chameleon-hf"]),
            (json!({"model_type": 3}), &[]),
        ] {
            assert_eq!(words(config.clone()), expected, "{config}");
        }
        let inner = json!({"target": "ldm.models.autoencoder.VQModelInterface"});
        let outer = json!({"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {"image_size": 64, "first_stage_config": inner}}});
        assert_eq!(words(outer), ["latent-diffusion"]);
    }

    #[test]
    fn classes_with_quantizers_that_are_not_built_are_refused() {
        for target in
            ["src.IBQ.models.ibqgan.VQModel", "enhancing.modules.stage1.vitvqgan.ViTVQGumbel"]
        {
            let config = published(json!({"model": {"target": target}}));
            assert!(named(&config).unwrap_err().to_string().contains(target));
        }
    }
}
