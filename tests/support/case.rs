//! Owns a reference case: its folder, family, configuration and weights. Must not know: engines,
//! where cases lie.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vqtok::internals::engine::PixelBatch;

use crate::support::NpzArray;

/// The word of `--family` for a case's own word.
pub fn family_word(case: &Value) -> &'static str {
    let config = case["config"].as_object();
    let amused = config.and_then(|c| c.get("lookup_from_codebook")) == Some(&Value::Bool(true));
    let diffusers = if amused { "amused" } else { "diffusers" };
    match case["family"].as_str().expect("a family") {
        "diffusers_vq" | "amused" => diffusers,
        "taming" => "taming",
        "taming_gumbel" => "taming-gumbel",
        "ldm" => "latent-diffusion",
        "llamagen" => "llamagen",
        "janus_orig" => "janus",
        "hf_janus" => "janus-hf",
        "chameleon_meta" => "chameleon",
        "hf_chameleon" => "chameleon-hf",
        "ibq" => "ibq",
        "maskgit" => "maskgit",
        "open_magvit2" => "open-magvit2",
        "vitvqgan" => "vit-vqgan",
        "dalle_dvae" => "dalle",
        "vqvae2" => "vqvae2",
        "showo_magvitv2" => "showo",
        "var" => "var",
        "titok" => "titok",
        "unitok" => "unitok",
        "infinity" => "infinity",
        "emu35_ibq" => "emu35",
        "cosmos_di" => "cosmos",
        "rqvae" => "rqvae",
        "maskbit_vqgan_plus" if case["config"]["quantizer_type"] == "lookup" => "vqgan-plus",
        "maskbit_vqgan_plus" => "maskbit",
        "movqgan" if case["case"].as_str().is_some_and(|name| name.contains("diffusers")) => "movq",
        "movqgan" => "movqgan",
        "emu3_vision_tokenizer" if case.get("prefix").is_some() => "emu3-hf",
        "emu3_vision_tokenizer" => "emu3",
        muse if muse.contains("muse") => "open-muse",
        other => panic!("a family without a word: {other}"),
    }
}

/// One folder of reference data.
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// `case.json`.
    pub json: Value,
}

/// The folders in a folder.
pub fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).expect("the golden folder");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
}

/// The cases among the folders of a folder.
pub fn in_folder(root: &Path) -> Vec<Case> {
    let case = |folder: PathBuf| {
        let text = std::fs::read_to_string(folder.join("case.json")).ok()?;
        let json: Value = serde_json::from_str(&text).expect("case.json");
        json.get("family")?;
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        Some(Case { name, folder, json })
    };
    folders(root).into_iter().filter_map(case).collect()
}

impl Case {
    /// Every container the case's weights were published in.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        // Two halves that belong together.
        if self.folder.join("encoder.jit").exists() {
            return vec![self.folder.clone()];
        }
        const WEIGHTS: &[&str] = &["safetensors", "ckpt", "pt", "pth", "bin", "pkl"];
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.folder)
            .expect("the case")
            .map(|entry| entry.expect("an entry").path())
            .filter(|p| p.extension().is_some_and(|e| WEIGHTS.iter().any(|w| e == *w)))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{}: no weights", self.name);
        files
    }

    /// The case's configuration where none was published beside the weights.
    pub fn config(&self) -> Option<&Value> {
        let published = std::fs::read_dir(&self.folder).expect("the case").any(|entry| {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with("config.json")
        });
        if published { None } else { self.json.get("config") }
    }
}

/// Images `[N, H, W, C]`.
pub fn pixel_batch(images: &NpzArray) -> PixelBatch {
    let [count, height, width, channels] = images.shape[..] else {
        panic!("images are [N, H, W, C]")
    };
    PixelBatch { pixels: images.u8(), count, height, width, channels }
}

/// Infinite where one isn't a number.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference =
        |(a, b): (&f32, &f32)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY };
    a.iter().zip(b).map(difference).fold(0.0, f32::max)
}
