//! Owns the promises towards checkpoints that nobody here has made: what is damaged, ambiguous or
//! not computed is refused in one line that names it, by every command that reads weights; what
//! means the same is read as the same. Makes its own little VQGAN.
//! Must not know: pickles (`tests/models/pickle.rs`), tokens (`tests/golden`).

use crate::support::weights;

use std::collections::BTreeMap;

use crate::support::Job;
use crate::support::random::Random;
use serde_json::{Value, json};
use weights::*;

/// Two levels of 32 and 64 channels, attention in the middle, 16 codes of 8: taming's names.
fn vqgan(seed: u64) -> Weights {
    let mut network = Network { random: Random(seed), weights: Weights::new(), attention: true };
    network.side("encoder", [3, 32], [64, 16]);
    network.side("decoder", [16, 64], [32, 3]);
    network.conv("encoder.down.0.downsample.conv", 32, 32, 3);
    network.conv("decoder.up.1.upsample.conv", 64, 64, 3);
    network.conv("quant_conv", 8, 16, 1);
    network.conv("post_quant_conv", 16, 8, 1);
    let mut random = Random(seed + 1);
    let codes = std::iter::repeat_with(move || (random.next() % 2001) as f32 / 1000.0 - 1.0);
    network.weights.insert("quantize.embedding.weight".into(), floats(&[16, 8], codes));
    network.weights
}

const CONFIG: &str = "model:
  target: ldm.models.autoencoder.VQModelInterface
  params:
    embed_dim: 8
    n_embed: 16
    ddconfig:
      double_z: false
      z_channels: 16
      resolution: 32
      in_channels: 3
      ch: 32
      ch_mult: [1, 2]
      num_res_blocks: 1
      attn_resolutions: []
";

fn under(prefix: &str, weights: Weights) -> Weights {
    weights.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// Writes the folder `name` of a checkpoint.
fn put(job: &Job, name: &str, weights: &Weights, config: &[u8]) {
    let dir = job.path(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("model.safetensors"), safetensors(weights)).unwrap();
    std::fs::write(dir.join("config.yaml"), config).unwrap();
}

/// The identity card of what `line` names.
fn card(job: &Job, line: &str) -> Value {
    job.expect(0, &format!("inspect {line} --json")).events("model").remove(0)
}

fn sha256(job: &Job, line: &str) -> String {
    card(job, line)["weights_sha256"].as_str().unwrap().to_owned()
}

#[test]
fn values_that_are_not_finite_are_refused_by_every_command_that_reads_weights() {
    let job = Job::new(2);
    put(&job, "sound", &vqgan(1), CONFIG.as_bytes());
    job.expect(0, "tokenize images --model sound --out tokens");
    let mut broken = vqgan(1);
    let codes = &mut broken.get_mut("quantize.embedding.weight").unwrap().2;
    codes[4 * 9..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    put(&job, "broken", &broken, CONFIG.as_bytes());
    for line in [
        "inspect broken",
        "convert broken --out converted",
        "tokenize images --model broken --out more",
        "decode tokens --model broken --out pictures",
        "reconstruct images --model broken --out sheet.png",
        "train images --model trained --recipe tiny.toml --init-from broken",
    ] {
        let done = job.expect(2, line);
        done.assert_one_line(&["`quantize.embedding.weight` holds 1 of 128", "[1, 1]", "NaN"]);
    }
    for name in ["converted", "more/tokens", "trained"] {
        let left = job.path(name);
        let empty = !left.exists() || std::fs::read_dir(&left).unwrap().next().is_none();
        assert!(empty, "{name} was begun");
    }
    // What no value of the model comes from may hold anything.
    let mut fine = vqgan(1);
    fine.insert("loss.logvar".into(), floats(&[1], std::iter::once(f32::NAN)));
    put(&job, "fine", &fine, CONFIG.as_bytes());
    assert_eq!(sha256(&job, "fine"), sha256(&job, "sound"));
}

#[test]
fn values_beyond_float32_and_codebooks_of_one_code_are_refused() {
    let job = Job::new(1);
    let mut wide = vqgan(1);
    let values = [1e300f64, 0.5].iter().cycle().take(32).flat_map(|v| v.to_le_bytes()).collect();
    wide.insert("encoder.conv_in.bias".into(), Tensor("F64", vec![32], values));
    put(&job, "wide", &wide, CONFIG.as_bytes());
    let done = job.expect(2, "inspect wide");
    done.assert_one_line(&["`encoder.conv_in.bias` holds 16 of 32", "infinite in float32"]);
    let zeros = |tensor: Tensor| Tensor(tensor.0, tensor.1, vec![0; tensor.2.len()]);
    let weights = vqgan(1).into_iter().map(|(name, tensor)| (name, zeros(tensor))).collect();
    put(&job, "zeros", &weights, CONFIG.as_bytes());
    job.expect(2, "tokenize images --model zeros --out out").assert_one_line(&["are the same"]);
}

#[test]
fn of_several_sets_of_weights_the_flag_chooses() {
    let job = Job::new(1);
    put(&job, "one", &vqgan(1), CONFIG.as_bytes());
    put(&job, "two", &vqgan(2), CONFIG.as_bytes());
    let mut both = under("student.", vqgan(1));
    both.extend(under("teacher.", vqgan(2)));
    put(&job, "both", &both, CONFIG.as_bytes());
    for line in ["inspect both", "convert both --out c", "tokenize images --model both --out out"] {
        let done = job.expect(2, line);
        done.assert_one_line(&["2 sets", "\"student.\"", "\"teacher.\"", "--weights PREFIX"]);
    }
    assert_eq!(sha256(&job, "both --weights student"), sha256(&job, "one"));
    assert_eq!(sha256(&job, "both --weights teacher."), sha256(&job, "two"));
    let said = card(&job, "both --weights teacher")["config"]["provenance"]["weights"].clone();
    assert!(said.as_str().unwrap().contains("from --weights"), "{said}");
    job.expect(2, "inspect both --weights nobody").assert_one_line(&["--weights nobody"]);
    job.expect(0, "convert both --out own --weights teacher");
    assert_eq!(sha256(&job, "own"), sha256(&job, "two"));
    job.expect(2, "inspect own --weights teacher").assert_one_line(&["--weights is for published"]);
    let train = "train images --model begun --recipe tiny.toml --init-from both";
    job.expect(2, train).assert_one_line(&["2 sets", "with --init-weights PREFIX, such as"]);
    // The next thing that is looked at.
    let done = job.expect(2, &format!("{train} --init-weights teacher"));
    done.assert_one_line(&[
        "can't begin with this checkpoint",
        "of the kind vqgan",
        "of the kind vqvae",
    ]);
    job.expect(0, "tokenize images --model both --weights student --out out");
    let text = std::fs::read_to_string(job.path("out/dataset.json")).unwrap();
    assert!(text.contains(&sha256(&job, "one")));

    let mut averages = vqgan(1);
    let flat = vqgan(2).into_iter().map(|(n, t)| (format!("model_ema.{}", n.replace('.', "")), t));
    averages.extend(flat);
    put(&job, "averages", &averages, CONFIG.as_bytes());
    assert_eq!(sha256(&job, "averages"), sha256(&job, "one"), "the reference uses the live ones");
    assert_eq!(sha256(&job, "averages --weights model_ema"), sha256(&job, "two"));
    assert_eq!(sha256(&job, "averages --family ibq"), sha256(&job, "two"));
    assert_eq!(sha256(&job, "averages --family ibq --weights ."), sha256(&job, "one"));
}

#[test]
fn what_wrappers_put_into_names_changes_nothing() {
    let job = Job::new(0);
    put(&job, "plain", &vqgan(1), CONFIG.as_bytes());
    let expected = sha256(&job, "plain");
    type Rename = fn(&str) -> String;
    let ways: [Rename; 5] = [
        |name| format!("module._orig_mod.{name}"),
        |name| name.replacen("encoder.", "encoder._orig_mod.", 1),
        |name| name.replacen('.', ".module.", 1),
        |name| format!("state_dict._forward_module.{}", name.replace("block.", "block._orig_mod.")),
        |name| format!("vae.{}", name.replace("mid.", "mid._fsdp_wrapped_module.")),
    ];
    for (i, rename) in ways.iter().enumerate() {
        let name = format!("way{i}");
        let weights = vqgan(1).into_iter().map(|(name, t)| (rename(&name), t)).collect();
        put(&job, &name, &weights, CONFIG.as_bytes());
        assert_eq!(sha256(&job, &name), expected, "{}", rename("encoder.mid.block.0"));
    }
    let mut mixed = vqgan(1);
    mixed.extend(under("module.", vqgan(2)));
    put(&job, "mixed", &mixed, CONFIG.as_bytes());
    job.expect(2, "inspect mixed").assert_one_line(&["both mean"]);
}

#[test]
fn types_and_tensors_that_are_missing_are_named() {
    let job = Job::new(0);
    let mut small = vqgan(1);
    let Tensor(_, shape, bytes) = small["encoder.conv_out.weight"].clone();
    let bytes = bytes[..bytes.len() / 4].to_vec();
    small.insert("encoder.conv_out.weight".into(), Tensor("F8_E4M3", shape, bytes));
    put(&job, "small", &small, CONFIG.as_bytes());
    let done = job.expect(2, "convert small --out own");
    done.assert_one_line(&["\"encoder.conv_out.weight\" (F8_E4M3)", "float32"]);
    let mut whole = vqgan(1);
    let Tensor(_, shape, bytes) = whole["encoder.conv_out.weight"].clone();
    let bytes = bytes.into_iter().step_by(4).collect();
    whole.insert("encoder.conv_out.weight".into(), Tensor("I8", shape, bytes));
    put(&job, "whole", &whole, CONFIG.as_bytes());
    job.expect(2, "inspect whole").assert_one_line(&["`encoder.conv_out.weight` holds int8"]);
    let mut missing = vqgan(1);
    missing.remove("encoder.mid.block_2.norm1.bias");
    put(&job, "missing", &missing, CONFIG.as_bytes());
    for line in ["inspect missing", "convert missing --out own"] {
        job.expect(2, line).assert_one_line(&["no tensor `encoder.mid.block_2.norm1.bias`"]);
    }
    assert!(!job.path("own").exists());
}

#[test]
fn references_in_a_configuration_are_resolved_or_named_where_they_are_needed() {
    let job = Job::new(0);
    let tail = "data:\n  size: 48\n  path: ${oc.env:NOWHERE}\n";
    let with =
        |value: &str| CONFIG.replace("resolution: 32", &format!("resolution: {value}")) + tail;
    put(&job, "resolved", &vqgan(1), with("${data.size}").as_bytes());
    assert_eq!(card(&job, "resolved")["config"]["preprocess"]["size"], 48);
    put(&job, "marked", &vqgan(1), format!("\u{feff}{}", with("${data.size}")).as_bytes());
    assert_eq!(card(&job, "marked")["config"]["preprocess"]["size"], 48);
    for (value, words) in [
        ("${oc.env:RES}", ["model.params.ddconfig.resolution", "oc.env"]),
        ("${data.width}", ["model.params.ddconfig.resolution", "data.width"]),
        ("\"48\"", ["`resolution` is \"48\"", "whole number"]),
        ("0", ["`resolution` is 0", "whole number above 0"]),
        ("4294967296", ["`resolution` is 4294967296", "at most 65536 pixels"]),
    ] {
        put(&job, "refused", &vqgan(1), with(value).as_bytes());
        job.expect(2, "inspect refused").assert_one_line(&words);
    }
    put(&job, "tabbed", &vqgan(1), CONFIG.replace("    embed", "\tembed").as_bytes());
    job.expect(2, "inspect tabbed").assert_one_line(&["line 4 is indented with a tab"]);
    for (setting, words) in [
        ("tanh_out: true", "`tanh_out` is true; vqtok computes only false"),
        ("attn_type: linear", "`attn_type` is \"linear\""),
        ("ch_mult: [1, 4]", "belongs to another checkpoint"),
        ("out_ch: 1", "`out_ch` is 1; but the weights have 3 (channels an image)"),
        ("attn_resolutions: 16", "`attn_resolutions` is 16; a list of whole numbers"),
    ] {
        let (key, _) = setting.split_once(':').unwrap();
        let config = match CONFIG.lines().find(|line| line.trim_start().starts_with(key)) {
            Some(line) => CONFIG.replace(line.trim_start(), setting),
            None => format!("{CONFIG}      {setting}\n"),
        };
        put(&job, "other", &vqgan(1), config.as_bytes());
        job.expect(2, "inspect other").assert_one_line(&["config.yaml", words]);
        job.expect(2, "convert other --out converted").assert_one_line(&["config.yaml", words]);
        assert!(!job.path("converted").exists());
    }
}

#[test]
fn files_that_are_no_checkpoints_are_told_by_what_they_are() {
    let job = Job::new(0);
    let whole = safetensors(&vqgan(1));
    let cases: &[(&str, &[u8], &str)] = &[
        ("a.safetensors", b"", "empty file"),
        ("b.ckpt", b"<!DOCTYPE html><html>Sign in</html>", "a page of a web site"),
        ("c.ckpt", b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "git lfs pull"),
        ("d.safetensors", &whole[..whole.len() / 2], "cut: "),
        ("e.safetensors", &whole[..40], "cut inside its header"),
        ("f.pt", &[0; 2000], "zeros only"),
    ];
    for (name, bytes, words) in cases {
        std::fs::write(job.path(name), bytes).unwrap();
        job.expect(2, &format!("inspect {name}")).assert_one_line(&[name, words]);
    }
}

#[test]
fn parts_of_a_checkpoint_that_are_not_there_are_named() {
    let job = Job::new(0);
    let weights = vqgan(1);
    put(&job, "whole", &weights, CONFIG.as_bytes());
    let parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let part_of = |name: &str| parts[usize::from(name.starts_with("encoder."))];
    let map: BTreeMap<&str, &str> =
        weights.keys().map(|name| (name.as_str(), part_of(name))).collect();
    let dir = job.path("parts");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("config.yaml"), CONFIG).unwrap();
    let index = format!("\u{feff}{}", json!({"weight_map": map}));
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    for (i, part) in parts.into_iter().enumerate() {
        let of = |name: &String| part_of(name) == part;
        let own = weights.iter().filter(|(name, _)| of(name));
        let own = own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        std::fs::write(dir.join(part), safetensors(&own)).unwrap();
        if i == 0 {
            let done = job.expect(2, "inspect parts");
            done.assert_one_line(&["(1 of 2)", parts[1]]);
        }
    }
    assert_eq!(sha256(&job, "parts"), sha256(&job, "whole"));
    assert_eq!(card(&job, "parts")["config"]["preprocess"]["size"], 32, "from config.yaml");
}

#[test]
fn a_folder_holds_one_model_of_one_kind() {
    let job = Job::new(4).trained();
    let before = job.files("model");
    let words = ["model/config.json exists", "a folder without a model"];
    job.expect(2, "convert model --to onnx --out model").assert_one_line(&words);
    assert!(before == job.files("model"));
    job.expect(0, "convert model --to onnx --out onnx");
    let words = ["onnx/encoder.onnx exists", "a folder without a model"];
    job.expect(2, "convert model --out onnx").assert_one_line(&words);
}
