//! Holds the choice among sets of weights against names made here.

use super::*;

/// A little VQGAN's names under `prefix`.
fn set(prefix: &str) -> Named {
    let names = ["encoder.conv_in.weight", "decoder.conv_in.weight", "quantize.embedding.weight"];
    names.map(|name| (format!("{prefix}{name}"), vec![2, 3])).into()
}

fn several(prefixes: &[&str]) -> Named {
    prefixes.iter().flat_map(|prefix| set(prefix)).collect()
}

fn chosen(shapes: &Named, asked: Option<&str>) -> Result<String, String> {
    let chosen =
        choose(shapes, asked, SettingNames::default(), |_, _| false).map_err(|e| e.to_string())?;
    let named = chosen.names.len() + chosen.others.len();
    assert_eq!(named, shapes.len(), "every name is used or has a reason");
    Ok(chosen.prefix)
}

#[test]
fn one_set_is_found_under_any_prefix_and_any_wrapper() {
    for (prefix, expected) in [
        ("", ""),
        ("vae.", "vae."),
        ("a.b.c.", "a.b.c."),
        ("module._orig_mod.", ""),
        ("state_dict.module.model._orig_mod.", "state_dict.model."),
        ("_forward_module.net.", "net."),
    ] {
        assert_eq!(chosen(&set(prefix), None).as_deref(), Ok(expected), "{prefix}");
    }
    let wrapped = |name: &str| {
        let (side, rest) = name.split_once('.').unwrap();
        format!("net.{side}._orig_mod.{}", rest.replace("conv_in", "conv_in.module"))
    };
    let shapes: Named = set("").into_iter().map(|(n, s)| (wrapped(&n), s)).collect();
    let found = choose(&shapes, None, SettingNames::default(), |_, _| false).unwrap();
    let own: Vec<&str> = found.names.keys().map(String::as_str).collect();
    assert_eq!(own, set("").keys().collect::<Vec<_>>());
    assert_eq!(
        found.names["encoder.conv_in.weight"],
        "net.encoder._orig_mod.conv_in.module.weight"
    );
}

#[test]
fn several_sets_are_refused_with_all_of_them_and_the_flag_chooses() {
    for (prefixes, asked) in [
        (["student.", "teacher."], "teacher"),
        (["model.", "ema."], "ema"),
        (["model.", "model_ema."], "model_ema"),
        (["online_model.", "ema_model.module."], "ema_model"),
        (["state_dict.", "state_dict_ema."], "state_dict_ema."),
        (["", "ema."], "."),
        (["state_dict.student.", "state_dict.teacher."], "student"),
        (["state_dict.", "callbacks.EMA.weights."], "state_dict"),
    ] {
        let shapes = several(&prefixes);
        let text = chosen(&shapes, None).unwrap_err();
        for prefix in prefixes {
            let name = if prefix.is_empty() {
                "without a prefix".into()
            } else {
                quoted(&unwrapped(prefix))
            };
            assert!(text.contains(&name), "{name}: {text}");
        }
        assert!(text.contains("weights PREFIX"), "{text}");
        let found = chosen(&shapes, Some(asked)).unwrap();
        assert!(found.trim_end_matches('.').ends_with(asked.trim_matches('.')), "{found}");
        let text = chosen(&shapes, Some("nothing")).unwrap_err();
        assert!(text.starts_with("weights nothing: the checkpoint has "), "{text}");
    }
}

#[test]
fn equal_sets_are_one_and_other_networks_are_none() {
    let shapes = several(&["ema.", "model."]);
    let found = choose(&shapes, None, SettingNames::default(), |_, _| true).unwrap();
    assert_eq!(found.prefix, "model.");
    assert!(found.why.unwrap().contains("hold the same values"));

    // A KL autoencoder beside the tokenizer: no codebook, other shapes.
    let mut shapes = several(&["vq.", "kl."]);
    shapes.remove("kl.quantize.embedding.weight");
    shapes.insert("kl.encoder.conv_in.weight".into(), vec![7, 3]);
    assert_eq!(chosen(&shapes, None).as_deref(), Ok("vq."));
    // Averages of the parameters, without the codebook, which is a buffer.
    let mut shapes = several(&["vq.", "averages."]);
    shapes.remove("averages.quantize.embedding.weight");
    assert!(chosen(&shapes, None).is_err());

    let shapes = several(&["first_stage_model.", "cond_stage_model."]);
    assert_eq!(chosen(&shapes, None).as_deref(), Ok("first_stage_model."));
    assert_eq!(chosen(&shapes, Some("cond_stage_model")).as_deref(), Ok("cond_stage_model."));
}

#[test]
fn names_that_become_the_same_are_refused() {
    let mut shapes = set("");
    shapes.extend(set("module."));
    let text = chosen(&shapes, None).unwrap_err();
    assert!(text.contains("both mean `decoder.conv_in.weight`"), "{text}");
}

#[test]
fn what_lies_beside_a_wrapped_module_is_none_of_it() {
    let mut shapes = set("module.");
    shapes.insert("n_averaged".into(), vec![]);
    shapes.insert("loss".into(), vec![]);
    let found = choose(&shapes, None, SettingNames::default(), |_, _| false).unwrap();
    assert_eq!((found.names.len(), found.others.len()), (3, 2));
    let mut shapes = set("state.module.");
    shapes.insert("state.n_averaged".into(), vec![]);
    assert_eq!(
        choose(&shapes, None, SettingNames::default(), |_, _| false).unwrap().others.len(),
        1
    );
}

#[test]
fn what_training_keeps_is_no_set() {
    let shapes = several(&["model.", "optimizer.exp_avg.", "loss.discriminator."]);
    assert_eq!(chosen(&shapes, None).as_deref(), Ok("model."));
}
