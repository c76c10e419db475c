//! Owns vqtok's own model folder: `config.json` and `model.safetensors`, written atomically and
//! byte-identical for equal weights.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::raw::RawCheckpoint;
use crate::checkpoint::container::safetensors;
use crate::error::{Error, Result};
use crate::model::config::{FORMAT, ModelConfig};
use crate::storage;
use crate::util::atomic_file::{AtomicFile, sync_folder_of};
use crate::util::hex::sha256_hex;
use crate::util::text::{quoted, without_byte_order_mark};
use crate::weights::digests::Digests;
use crate::weights::store::Weights;
use crate::weights::tensor::Bytes;

/// What the model is.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// Its weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// The entry of `provenance` that ties a `config.json` to its weights, [`Digests::weights_sha256`]:
/// a save that was cut between its two renames, or a flipped bit, is found when the folder is read.
pub(crate) const DIGEST_ENTRY: &str = "weights_sha256";

/// Largest `config.json` read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Whether `dir` is a model folder of ours, of whatever version.
pub(crate) fn is_own(dir: &Path) -> bool {
    // Bytes of the start, not JSON: a folder of ours whose config is damaged is still ours.
    let start = FORMAT.split(".v").next().unwrap_or(FORMAT);
    read_config_bytes(dir).is_ok_and(|text| {
        let text = String::from_utf8_lossy(&text);
        text.contains("\"format\"") && text.contains(&format!("\"{start}.v"))
    })
}

/// The model folder of ours that `path` means: itself, or the one whose weights file it is.
pub(crate) fn own(path: &Path) -> Option<&Path> {
    let parent = path.parent().filter(|_| path.ends_with(WEIGHTS_FILE));
    [Some(path), parent].into_iter().flatten().find(|dir| is_own(dir))
}

/// Writes a model folder. What exists there of the same name is replaced, other files are left
/// alone; a reader never sees half a file, and finds by the digest if a save was cut between its
/// two files. Equal weights and configuration give equal bytes.
///
/// # Errors
/// Where the folder can't be written, or a tensor can't be brought to the CPU or isn't finite.
pub fn save(dir: &Path, config: &ModelConfig, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    // Before anything is written: nothing is made of weights that aren't finite.
    let digests = Digests::of(&tensors.clone().into())?;
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let [weights_path, config_path] = [WEIGHTS_FILE, CONFIG_FILE].map(|name| dir.join(name));
    let weights = AtomicFile::new(&weights_path, &hidden(WEIGHTS_FILE));
    weights.write(|out| {
        // transformers and diffusers refuse files that don't say this.
        let format = ("format", "pt");
        safetensors::write(tensors, format, out, |e| Error::io(&weights_path)(e))
    })?;

    let mut config = config.clone();
    config.provenance.insert(DIGEST_ENTRY.into(), digests.weights_sha256);
    let mut text = serde_json::to_string_pretty(&config)
        .map_err(|e| Error::invalid(format!("the model's configuration is no JSON: {e}")))?;
    text.push('\n');
    let settings = AtomicFile::new(&config_path, &hidden(CONFIG_FILE));
    settings.write(|out| out.write_all(text.as_bytes()).map_err(Error::io(&config_path)))?;

    weights.commit()?;
    settings.commit()?;
    sync_folder_of(&config_path)
}

/// What a file is called until it is whole: hidden, and of this process, so that nobody takes it for
/// weights.
fn hidden(name: &str) -> String {
    format!(".{name}.tmp-{}", std::process::id())
}

/// Removes what saves that were killed left half written. For whoever has the folder to itself.
pub(crate) fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let left = |of: &&str| {
            let process = name.to_str()?.strip_prefix(&format!(".{of}.tmp-"))?;
            process.bytes().all(|byte| byte.is_ascii_digit()).then_some(())
        };
        if [WEIGHTS_FILE, CONFIG_FILE].iter().any(|of| left(of).is_some()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Reads a model folder: its configuration and its weights, which stay in the mapped file.
///
/// # Errors
/// Where a file is missing, broken, of another version, or the two don't belong together.
pub fn load(dir: &Path) -> Result<(ModelConfig, Weights)> {
    let (config, weights, noted) = open(dir)?;
    noted.check(&Digests::of(&weights)?)?;
    Ok((config, weights))
}

/// What a `config.json` says of its weights: to be held against them before anything that comes
/// of them is used.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct Noted {
    weights: PathBuf,
    bytes: Bytes,
    digest: Option<String>,
}

impl Noted {
    /// A folder without a digest (written by hand) is taken as it is.
    ///
    /// # Errors
    /// Where the two files don't belong together.
    pub(crate) fn check(&self, digests: &Digests) -> Result<()> {
        let found = &digests.weights_sha256;
        let Some(noted) = self.digest.as_ref().filter(|noted| *noted != found) else {
            return Ok(());
        };
        // Folders of the first weeks note the file's own digest.
        if *noted == sha256_hex(&self.bytes[..]) {
            return Ok(());
        }
        Err(Error::corrupt(
            &self.weights,
            format!(
                "not the weights that {CONFIG_FILE} was written with (sha256 {found}, there {}): a \
                 save was interrupted or the file is damaged; write the folder again",
                quoted(noted)
            ),
        ))
    }
}

/// As [`load`], with the check left to the caller, who has other work to do meanwhile.
///
/// # Errors
/// Where a file is missing, broken or of another version.
pub(crate) fn open(dir: &Path) -> Result<(ModelConfig, Weights, Noted)> {
    let config = load_config(dir)?;
    let path = dir.join(WEIGHTS_FILE);
    let bytes = Bytes::map(&path)?;
    let contents = safetensors::read(&bytes).map_err(|reason| Error::corrupt(&path, reason))?;
    let digest = config.provenance.get(DIGEST_ENTRY).cloned();
    let weights = Weights::from(contents.tensors).read_from(&path, BTreeMap::new());
    Ok((config, weights, Noted { weights: path, bytes, digest }))
}

/// Reads the configuration of a model folder alone.
///
/// # Errors
/// Where it is missing, broken or of another version.
pub(crate) fn load_config(dir: &Path) -> Result<ModelConfig> {
    let path = dir.join(CONFIG_FILE);
    let text = read_config_bytes(dir)?;
    let json: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| Error::corrupt(&path, format!("not JSON: {e}")))?;
    let format = json.get("format").and_then(|f| f.as_str()).unwrap_or("nothing");
    if format != FORMAT {
        let format = quoted(format);
        let reason = format!("its format is {format}, this version of vqtok reads {FORMAT:?}");
        return Err(Error::corrupt(&path, reason));
    }
    serde_json::from_value(json).map_err(|e| Error::corrupt(&path, format!("not ours: {e}")))
}

/// Checks the weights of a checkpoint against the digest in a `config.json` of ours, where there
/// is one.
///
/// # Errors
/// Where they differ.
pub(crate) fn check_digest(checkpoint: &RawCheckpoint) -> Result<()> {
    for (_, config) in &checkpoint.configs {
        if config.get("format").and_then(|f| f.as_str()) == Some(FORMAT)
            && let [(path, bytes)] = &checkpoint.files[..]
            && let Some(noted) = config.get("provenance").and_then(|p| p.get(DIGEST_ENTRY))
            && let Some(noted) = noted.as_str()
        {
            let (weights, bytes) = (path.clone(), bytes.clone());
            let noted = Noted { weights, bytes, digest: Some(noted.to_owned()) };
            noted.check(&Digests::of(&checkpoint.tensors.clone().into())?)?;
        }
    }
    Ok(())
}

/// The bytes of `config.json`, of a sane size.
fn read_config_bytes(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join(CONFIG_FILE);
    let facts = storage::facts(&path).map_err(Error::io(&path))?;
    if !facts.is_file || facts.bytes > CONFIG_BYTES_MAX {
        return Err(Error::corrupt(&path, "no regular file of at most a megabyte"));
    }
    let bytes = storage::read(&path, CONFIG_BYTES_MAX).map_err(Error::io(&path))?;
    without_byte_order_mark(&bytes)
        .map(<[u8]>::to_vec)
        .map_err(|reason| Error::corrupt(&path, reason))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn config() -> ModelConfig {
        serde_json::from_value(serde_json::json!({
            "format": FORMAT,
            "family": "vqtok",
            "architecture": {"kind": "vqvae", "hidden": 8, "downsamples": 2, "res_blocks": 1, "res_hidden": 4},
            "quantizer": {"rule": "l2", "codes": 16, "dim": 4},
            "pixels": {"channels": 3, "input": "centered", "output": "centered-round"},
            "preprocess": {"resize": "none", "size": null},
        }))
        .unwrap()
    }

    fn weights() -> BTreeMap<String, Tensor> {
        let a = Tensor::new(&[[1.0f32, 2.0, 3.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[4.0f32], &Device::Cpu).unwrap();
        [("encoder.a".to_string(), a), ("codebook".to_string(), b)].into()
    }

    #[test]
    fn a_folder_reads_back_and_is_the_same_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        save(&one, &config(), &weights()).unwrap();
        save(&two, &config(), &weights()).unwrap();
        save(&two, &config(), &weights()).unwrap();
        for file in [CONFIG_FILE, WEIGHTS_FILE] {
            let (a, b) = (std::fs::read(one.join(file)), std::fs::read(two.join(file)));
            assert_eq!(a.unwrap(), b.unwrap(), "{file}");
        }
        assert_eq!(std::fs::read_dir(&two).unwrap().count(), 2, "nothing else is left");

        let (read, weights) = load(&one).unwrap();
        let tensors = weights.tensors().unwrap();
        let written = std::fs::read(one.join(WEIGHTS_FILE)).unwrap();
        assert_eq!(read.provenance[DIGEST_ENTRY], Digests::of(&weights).unwrap().weights_sha256);
        assert_eq!(ModelConfig { provenance: BTreeMap::new(), ..read.clone() }, config());
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["codebook", "encoder.a"]);
        assert_eq!(tensors["encoder.a"].to_vec2::<f32>().unwrap(), [[1.0, 2.0, 3.0]]);

        let path = one.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let old = text.replace(&read.provenance[DIGEST_ENTRY], &sha256_hex(&written));
        assert_ne!(old, text);
        std::fs::write(&path, old).unwrap();
        assert!(load(&one).is_ok(), "a folder that notes its file's digest");

        assert!(is_own(&one));
        let raw = crate::checkpoint::open(&one).unwrap();
        assert!(matches!(&raw.files[..], [(path, bytes)]
            if *path == one.join(WEIGHTS_FILE) && **bytes == *written));
        assert_eq!(raw.configs.len(), 1);
    }

    #[test]
    fn weights_of_another_save_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &config(), &weights()).unwrap();
        let path = dir.path().join(WEIGHTS_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("not the weights"));
        assert!(crate::checkpoint::open(dir.path()).is_err());
    }

    #[test]
    fn other_versions_and_unknown_fields_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &config(), &weights()).unwrap();
        let path = dir.path().join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("model.v1", "model.v9")).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("reads \"vqtok.model.v1\""));
        assert!(is_own(dir.path()));
        std::fs::write(&path, text.replacen('{', "{\"more\": 1,", 1)).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("more"));
        assert!(load(&dir.path().join("nothing")).is_err());
    }
}
