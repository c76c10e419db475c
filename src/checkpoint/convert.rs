//! Owns the way from a published checkpoint to a model folder of ours.

use std::path::Path;

use super::{folder, onnx};
use crate::checkpoint::recognise::detect;
use crate::checkpoint::recognise::detect::DetectOptions;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::config::ModelConfig;
use crate::util::hex::sha256_hex;
use crate::util::text;
use crate::weights::digests::Digests;

/// The entry of `provenance` that says which files a converted model came from.
pub(crate) const SOURCE_ENTRY: &str = "converted from";

/// Refuses a folder that holds a model, ours or of ONNX files: nothing is overwritten, and one of two models
/// in a folder would be taken for the other.
///
/// # Errors
/// That.
pub(super) fn refuse_model(out: &Path) -> Result<()> {
    let ours = [folder::CONFIG_FILE, folder::WEIGHTS_FILE];
    let mut files = ours.into_iter().chain(onnx::FILES).map(|name| out.join(name));
    match files.find(|file| file.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(there) => Err(Error::invalid(format!(
            "{} exists: give a folder without a model, nothing is overwritten",
            text::path(there)
        ))),
    }
}

/// Writes the model at `path` (published, or ours) as the model folder `out`: the same weights bit
/// for bit under canonical names, with what was assumed in the configuration's `provenance`. The
/// same input gives the same bytes, wherever it lies.
///
/// # Errors
/// As [`detect::read`]; and where `out` holds a model already, ours or
/// published: nothing is overwritten.
pub(crate) fn convert(path: &Path, options: &DetectOptions, out: &Path) -> Result<ModelConfig> {
    refuse_model(out)?;
    if onnx::is_onnx(path) {
        return Err(Error::invalid(format!(
            "{}: a model in ONNX files runs as it is; convert the checkpoint that they were made of",
            text::path(path)
        )));
    }
    if let Some(own) = folder::own(path) {
        let (config, weights) = folder::load(own)?;
        options.refuse_for_own(own, &config)?;
        folder::save(out, &config, &weights.tensors()?)?;
        return folder::load_config(out);
    }
    let (raw, detected, weights) = detect::read(path, options)?;
    let mut config = detected.config;
    Model::check(&config, &weights).map_err(Error::about(path))?;
    // Saving would refuse the same values, under our names for them.
    Digests::of(&weights)?;
    // Names without their folders: where a file lay must not change what is written.
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files: Vec<String> = raw
        .files
        .iter()
        .map(|(path, bytes)| format!("{} (sha256 {})", name(path), sha256_hex(&bytes[..])))
        .collect();
    let source = format!("{}, {}", files.join(", "), raw.container);
    config.provenance.insert(SOURCE_ENTRY.into(), source);
    folder::save(out, &config, &weights.tensors()?)?;
    folder::load_config(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use candle_core::Tensor;

    use super::*;
    use crate::testing::shared;

    /// A published file of a golden case.
    struct Case {
        file: PathBuf,
        family: Option<&'static str>,
        /// What no file beside the weights says.
        config: Option<serde_json::Value>,
    }

    /// The published files of every golden case.
    fn cases() -> Vec<Case> {
        let Some(golden) = shared("golden") else { return Vec::new() };
        let mut cases = Vec::new();
        for dir in std::fs::read_dir(golden).unwrap() {
            let dir = dir.unwrap().path();
            let Ok(text) = std::fs::read(dir.join("case.json")) else { continue };
            let mut case: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let family = word(case["family"].as_str().unwrap());
            let published = ["config.yaml", "config.json"].iter().any(|n| dir.join(n).exists());
            let config = (!published).then(|| case["config"].take());
            for file in std::fs::read_dir(dir).unwrap() {
                let file = file.unwrap().path();
                let extension = file.extension().unwrap_or_default().to_string_lossy().into_owned();
                if ["safetensors", "ckpt", "pt", "pkl", "bin"].contains(&extension.as_str()) {
                    cases.push(Case { file, family, config: config.clone() });
                }
            }
        }
        cases.sort_by(|a, b| a.file.cmp(&b.file));
        assert!(cases.len() > 20, "{} golden checkpoints", cases.len());
        cases
    }

    /// The family that a case has to be told; None where the configuration says it by itself.
    fn word(family: &str) -> Option<&'static str> {
        let known = match family {
            "hf_chameleon" => "chameleon-hf",
            "chameleon_meta" => "chameleon",
            "dalle_dvae" => "dalle",
            "janus_orig" => "janus",
            "ldm" => "latent-diffusion",
            "open_magvit2" => "open-magvit2",
            "taming_gumbel" => "taming-gumbel",
            "vitvqgan" => "vit-vqgan",
            same => same,
        };
        crate::checkpoint::recognise::families::Family::named(known).map(|family| family.word)
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let flat = tensor.flatten_all().unwrap().to_dtype(candle_core::DType::F32).unwrap();
        flat.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    fn same(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> bool {
        a.len() == b.len()
            && a.iter().all(|(name, t)| {
                let other = &b[name];
                (t.dims(), t.dtype()) == (other.dims(), other.dtype()) && bits(t) == bits(other)
            })
    }

    #[test]
    fn what_is_converted_is_the_same_model() {
        for Case { file, family, config } in cases() {
            let place = text::path(&file);
            let options =
                DetectOptions { family, config: config.as_ref(), ..DetectOptions::default() };
            let (config, weights) =
                detect::open(&file, &options).unwrap_or_else(|e| panic!("{place}: {e}"));
            let dir = tempfile::tempdir().unwrap();
            let (one, two) = (dir.path().join("one"), dir.path().join("two"));
            let written = convert(&file, &options, &one).unwrap();
            convert(&file, &options, &two).unwrap();
            let again = dir.path().join("again");
            convert(&one, &DetectOptions::default(), &again).unwrap();
            for name in [folder::CONFIG_FILE, folder::WEIGHTS_FILE] {
                let bytes = |dir: &Path| sha256_hex(std::fs::read(dir.join(name)).unwrap());
                assert_eq!(bytes(&one), bytes(&two), "{place}: {name} twice");
                assert_eq!(bytes(&one), bytes(&again), "{place}: {name} of ours");
            }
            let (read, tensors) = detect::open(&one, &DetectOptions::default()).unwrap();
            assert_eq!(read, written);
            let (weights, tensors) = (weights.tensors().unwrap(), tensors.tensors().unwrap());
            assert!(same(&weights, &tensors), "{place}: weights differ");
            let mut read = read;
            assert!(read.provenance.remove(SOURCE_ENTRY).unwrap().contains("sha256"));
            assert_eq!(read.provenance.remove(folder::DIGEST_ENTRY).unwrap().len(), 64);
            assert_eq!(read, config, "{place}: the configuration differs");
        }
    }

    #[test]
    fn no_model_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        for file in [folder::CONFIG_FILE, folder::WEIGHTS_FILE] {
            let out = dir.path().join(file);
            std::fs::create_dir(&out).unwrap();
            std::fs::write(out.join(file), "published").unwrap();
            let error = convert(dir.path(), &DetectOptions::default(), &out).unwrap_err();
            assert!(error.to_string().contains("nothing is overwritten"), "{error}");
            assert_eq!(std::fs::read(out.join(file)).unwrap(), b"published");
        }
    }
}
