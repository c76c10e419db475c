//! Owns the walk over the reference cases: their folders, families, configurations and arrays.
//! Must not know: engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vqtok::internals::engine::{CodeGrid, Encoded, PixelBatch};

use crate::support::{NpzArray, npz, shared};

/// The arrays of a file, by name.
pub type Arrays = BTreeMap<String, NpzArray>;

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

/// Every case of a folder, by name; empty where the data isn't there.
pub fn cases(root: &str) -> Vec<Case> {
    let Some(root) = shared(root) else { return vec![] };
    let mut cases = in_folder(&root);
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no case in the golden folder");
    cases
}

/// Every case of the families from 2024 on, in a folder for each family, that vqtok reads.
pub fn family_cases() -> Vec<Case> {
    let Some(root) = shared("golden_families") else { return vec![] };
    let mut cases: Vec<Case> = folders(&root).iter().flat_map(|family| in_folder(family)).collect();
    cases.retain(|case| !UNREAD.contains(&case.json["family"].as_str().expect("a family")));
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no case in the golden folder");
    cases
}

/// Families that vqtok doesn't read yet.
const UNREAD: [&str; 4] = ["infinity", "titok", "unitok", "var"];

/// The folders in a folder.
fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).expect("the golden folder");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
}

/// The cases among the folders of a folder.
fn in_folder(root: &Path) -> Vec<Case> {
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

    /// What a decoder's case holds: the name of each file of arrays, the arrays, and the codes that
    /// `decoded` was made of. `factor` is the model's.
    pub fn decoded(&self, factor: [usize; 2]) -> Vec<(&'static str, Arrays, Encoded)> {
        let files = ["golden.npz", "golden_nonsquare.npz"];
        let there = files.into_iter().filter(|name| self.folder.join(name).exists());
        let read = |name| {
            let golden = npz(self.folder.join(name));
            let decoded = &golden["decoded"];
            let levels = code_levels(&golden, decoded, factor);
            let codes = Encoded { count: decoded.shape[0], levels, failed: Vec::new() };
            (name, golden, codes)
        };
        there.map(read).collect()
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

/// The levels of codes of `[N, h, w]` or `[N, h, w, depth]`.
pub fn levels(tokens: &NpzArray) -> Vec<Vec<i64>> {
    let depth = if tokens.shape.len() == 4 { tokens.shape[3] } else { 1 };
    let all = tokens.i64();
    (0..depth).map(|level| all.iter().skip(level).step_by(depth).copied().collect()).collect()
}

/// The same as an engine decodes them.
pub fn encoded(tokens: &NpzArray) -> Encoded {
    let [count, height, width] = tokens.shape[..3] else { panic!("tokens are [N, h, w]") };
    let level = |codes: Vec<i64>| CodeGrid {
        codes: codes.into_iter().map(|code| u32::try_from(code).expect("a code")).collect(),
        distances: vec![f32::NAN; count * height * width],
        height,
        width,
    };
    let levels = levels(tokens).into_iter().map(level).collect();
    Encoded { count, levels, failed: Vec::new() }
}

/// Tokens `[N, h, w]`, or `[N, T]` of an image of `decoded`'s size.
fn code_grid(tokens: &NpzArray, decoded: &NpzArray, factor: [usize; 2]) -> CodeGrid {
    let codes: Vec<u32> =
        tokens.i64().into_iter().map(|t| u32::try_from(t).expect("a code")).collect();
    let (height, width) = match tokens.shape[..] {
        [_, height, width] => (height, width),
        _ => (decoded.shape[2] / factor[0], decoded.shape[3] / factor[1]),
    };
    CodeGrid { distances: vec![f32::NAN; codes.len()], codes, height, width }
}

/// The levels of codes that a decoder's case holds, the finest first.
fn code_levels(golden: &Arrays, decoded: &NpzArray, factor: [usize; 2]) -> Vec<CodeGrid> {
    if golden.contains_key("tokens_bottom") {
        let grid = |name: &str| code_grid(&golden[name], decoded, [1, 1]);
        return vec![grid("tokens_bottom"), grid("tokens_top")];
    }
    vec![code_grid(&golden["tokens"], decoded, factor)]
}
