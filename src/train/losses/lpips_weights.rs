//! Owns the reading of LPIPS weights from local files: torchvision's VGG16 and the lpips package's
//! heads, together or in two files, or the lpips package's whole module, alone or inside a larger
//! checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::train::losses::lpips::{Lpips, SCALE, SHIFT};
use crate::train::network::parameters::flat;
use crate::util::text;
use crate::util::text::quoted;
use crate::weights::digests::{self, NotFinite};

/// Endings of files that a folder may hold.
const ENDINGS: [&str; 5] = ["safetensors", "pth", "pt", "ckpt", "bin"];

/// A published name as [`Lpips::new`] knows it: `features.N.weight`, `linL.model.1.weight`; None
/// for what has no part in LPIPS.
///
/// torchvision: `features.N.weight`. lpips: `net.sliceS.N.weight`, `linL.model.1.weight`, the heads
/// once more as `lins.L.model.1.weight`; all may stand behind a prefix (`loss.perceptual_loss.` in
/// taming-transformers' checkpoints).
fn canonical(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |text: &str| text.parse::<usize>().ok();
    match parts.as_slice() {
        [.., "features", n, what @ ("weight" | "bias")] => {
            Some(format!("features.{}.{what}", number(n)?))
        }
        [.., slice, n, what @ ("weight" | "bias")] if slice.starts_with("slice") => {
            Some(format!("features.{}.{what}", number(n)?))
        }
        [.., "lins", l, "model", "1", "weight"] => {
            Some(format!("lin{}.model.1.weight", number(l)?))
        }
        [.., lin, "model", "1", "weight"] => {
            Some(format!("lin{}.model.1.weight", number(lin.strip_prefix("lin")?)?))
        }
        [.., what @ ("shift" | "scale")] if name.contains("scaling_layer") => {
            Some((*what).to_string())
        }
        _ => None,
    }
}

/// LPIPS on `device` from a file or a folder of files, and the sha256 of its weights in hex.
///
/// # Errors
/// Those of [`read`]; where a weight is missing or misshapen (its name is given).
pub(crate) fn load(path: &Path, device: &Device) -> Result<(Lpips, String)> {
    let wanted = "give a file or folder with VGG16 and the lpips heads, or leave \
                  train.perceptual.weights empty to train without";
    let (weights, digest) = read(path, wanted)?;
    let lpips = Lpips::new(&weights, device)
        .map_err(|e| Error::invalid(format!("{}: {e}", text::path(path))))?;
    Ok((lpips, digest))
}

/// The weights of a file or a folder of files by their [canonical] names, and their sha256 in hex;
/// `wanted` says what to give where there is none.
///
/// # Errors
/// Where nothing can be read, two files disagree, the scaling is another one, or heads stand alone.
pub(crate) fn read(path: &Path, wanted: &str) -> Result<(BTreeMap<String, Tensor>, String)> {
    let mut weights: BTreeMap<String, Tensor> = BTreeMap::new();
    for file in files(path, wanted)? {
        take(&file, &mut weights)?;
    }
    for (name, own) in [("shift", SHIFT), ("scale", SCALE)] {
        if let Some(found) = weights.remove(name)
            && flat(&found)? != own
        {
            return Err(Error::invalid(format!(
                "{}: the scaling layer's {name} is {:?}, not {own:?}: another LPIPS than vqtok's",
                text::path(path),
                flat(&found)?
            )));
        }
    }
    if !weights.is_empty() && !weights.keys().any(|name| name.starts_with("features.")) {
        return Err(Error::invalid(format!(
            "{}: the heads of lpips alone, without the network that they stand on; {wanted}",
            text::path(path)
        )));
    }
    let digest = digests::of_tensors(&weights)?;
    Ok((weights, digest))
}

/// Adds a file's weights.
fn take(file: &Path, weights: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let raw = checkpoint::open(file)?;
    if let Some((name, kind)) = raw.unread.iter().find(|(name, _)| canonical(name).is_some()) {
        let name = quoted(name);
        let reason = format!("tensor {name} is of a type that vqtok doesn't read ({kind})");
        return Err(Error::corrupt(file, reason));
    }
    for (name, tensor) in &raw.tensors {
        let Some(name) = canonical(name) else { continue };
        let tensor = tensor.to_candle(&Device::Cpu)?;
        if let Some(found) = NotFinite::among(&flat(&tensor)?) {
            return Err(Error::corrupt(file, found.in_words(&name, tensor.dims())));
        }
        if let Some(other) = weights.get(&name)
            && (other.dims() != tensor.dims() || flat(other)? != flat(&tensor)?)
        {
            return Err(Error::invalid(format!(
                "{}: {name} has other values than the same weight found before; give the file or \
                 folder of one LPIPS",
                text::path(file)
            )));
        }
        weights.insert(name, tensor);
    }
    Ok(())
}

/// The files to read: the file itself, or those of a folder in the order of their names.
fn files(path: &Path, wanted: &str) -> Result<Vec<PathBuf>> {
    let meta = std::fs::metadata(path).map_err(|e| {
        Error::invalid(format!("LPIPS weights {}: {e}; {wanted}", text::path(path)))
    })?;
    if meta.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let file = entry.map_err(Error::io(path))?.path();
        let ending = file.extension().map(|e| e.to_string_lossy().into_owned());
        if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::invalid(format!(
            "LPIPS weights {}: no file ending in {}",
            text::path(path),
            ENDINGS.join(", ")
        )));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn names_of_both_layouts() {
        for (published, ours) in [
            ("features.28.bias", Some("features.28.bias")),
            ("net.slice5.28.bias", Some("features.28.bias")),
            ("loss.perceptual_loss.net.slice1.0.weight", Some("features.0.weight")),
            ("lin3.model.1.weight", Some("lin3.model.1.weight")),
            ("lins.3.model.1.weight", Some("lin3.model.1.weight")),
            ("loss.perceptual_loss.lin0.model.1.weight", Some("lin0.model.1.weight")),
            ("scaling_layer.shift", Some("shift")),
            ("classifier.0.weight", None),
            ("encoder.norm.scale", None),
        ] {
            assert_eq!(canonical(published).as_deref(), ours, "{published}");
        }
    }

    /// Weights of the right shapes, every element of one value per tensor, under lpips's names.
    fn module() -> HashMap<String, Tensor> {
        let mut tensors = HashMap::new();
        let mut put = |name: String, shape: &[usize], value: f64| {
            let tensor = (Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap()
                * value)
                .unwrap();
            tensors.insert(name, tensor);
        };
        let stages: [(&[usize], usize); 5] = [
            (&[0, 2], 64),
            (&[5, 7], 128),
            (&[10, 12, 14], 256),
            (&[17, 19, 21], 512),
            (&[24, 26, 28], 512),
        ];
        let mut input = 3;
        for (s, (layers, width)) in stages.iter().enumerate() {
            for n in *layers {
                let stem = format!("net.slice{}.{n}", s + 1);
                let value = 1.0 / (9 * input) as f64;
                put(format!("{stem}.weight"), &[*width, input, 3, 3], value);
                put(format!("{stem}.bias"), &[*width], 0.0);
                input = *width;
            }
            put(format!("lin{s}.model.1.weight"), &[1, *width, 1, 1], 0.5);
        }
        tensors.insert(
            "scaling_layer.shift".into(),
            Tensor::from_slice(&SHIFT, (1, 3, 1, 1), &Device::Cpu).unwrap(),
        );
        tensors
    }

    fn save(tensors: &HashMap<String, Tensor>, path: &Path) {
        candle_core::safetensors::save(tensors, path).unwrap();
    }

    #[test]
    fn one_file_and_two_files_are_the_same_and_nothing_is_missing_silently() {
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("lpips.safetensors");
        let module = module();
        save(&module, &whole);
        let (_, digest) = load(&whole, &Device::Cpu).unwrap();

        // torchvision's VGG16 with a classifier that nobody needs, and the heads.
        let folder = dir.path().join("two");
        std::fs::create_dir(&folder).unwrap();
        let mut vgg = HashMap::new();
        let mut heads = HashMap::new();
        for (name, tensor) in &module {
            match name.strip_prefix("net.") {
                Some(rest) => {
                    let (_, rest) = rest.split_once('.').unwrap();
                    vgg.insert(format!("features.{rest}"), tensor.clone());
                }
                None => {
                    heads.insert(name.clone(), tensor.clone());
                }
            }
        }
        let extra = Tensor::zeros((3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        vgg.insert("classifier.6.weight".into(), extra);
        save(&vgg, &folder.join("vgg16.safetensors"));
        let said = |path: &Path| load(path, &Device::Cpu).err().unwrap().to_string();
        assert!(said(&folder).contains("lin0.model.1.weight is missing"), "{}", said(&folder));
        save(&heads, &folder.join("heads.safetensors"));
        assert_eq!(load(&folder, &Device::Cpu).unwrap().1, digest);
        let alone = said(&folder.join("heads.safetensors"));
        assert!(alone.contains("the heads of lpips alone"), "{alone}");

        // Files that disagree.
        heads.insert(
            "lins.0.model.1.weight".into(),
            Tensor::zeros((1, 64, 1, 1), candle_core::DType::F32, &Device::Cpu).unwrap(),
        );
        save(&heads, &folder.join("heads.safetensors"));
        assert!(said(&folder).contains("other values"), "{}", said(&folder));
        assert!(said(&dir.path().join("nothing")).contains("leave train.perceptual.weights empty"));

        // Another scaling is another LPIPS.
        let mut other = module.clone();
        let shift = Tensor::new(&[0f32, 0.0, 0.0], &Device::Cpu).unwrap();
        other.insert("scaling_layer.shift".into(), shift);
        save(&other, &whole);
        assert!(said(&whole).contains("shift"), "{}", said(&whole));

        let mut broken = module;
        let lin = Tensor::full(f32::NAN, (1, 64, 1, 1), &Device::Cpu).unwrap();
        broken.insert("lin0.model.1.weight".into(), lin);
        save(&broken, &whole);
        assert!(said(&whole).contains("`lin0.model.1.weight` holds 64 of 64 values"));
    }
}
