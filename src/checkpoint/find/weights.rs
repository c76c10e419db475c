//! Owns the search: which files of a folder are the weights, and which configurations lie beside
//! them.

use std::path::{Path, PathBuf};

use super::configs::Config;
use crate::checkpoint::folder;
use crate::error::{Error, Result};
use crate::util::text;
use crate::util::text::quoted;

/// Names under which weights are published as the ones to take, preferred ones first.
const CONVENTIONAL: [[&str; 2]; 2] = [
    ["model.safetensors", "diffusion_pytorch_model.safetensors"],
    ["pytorch_model.bin", "diffusion_pytorch_model.bin"],
];

/// Extensions of pickled checkpoints, TorchScript's among them.
const PICKLES: [&str; 6] = ["ckpt", "pt", "pth", "bin", "pkl", "jit"];

/// Whether a path is named as files of weights are.
pub(crate) fn named_as_weights(path: &Path) -> bool {
    let known = ["safetensors", "onnx"];
    path.extension().is_some_and(|e| known.iter().chain(&PICKLES).any(|x| e == *x))
}

/// Most candidates named in a message.
const LISTED_MAX: usize = 8;

/// What to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WeightFiles {
    /// One file.
    One(PathBuf),
    /// An index (`*.safetensors.index.json`, `*.bin.index.json`) over shards beside it.
    Sharded(PathBuf),
}

/// The outcome of the search.
#[derive(Debug)]
pub(crate) struct LocatedCheckpoint {
    /// What to read.
    pub weights: WeightFiles,
    /// Configurations beside it, sorted; see [`Config`].
    pub configs: Vec<Config>,
    /// What was passed over.
    pub notes: Vec<String>,
}

/// Finds the weights that `path` (a file or a folder) means.
///
/// # Errors
/// Where there is no candidate, or more than one; all are listed.
pub(crate) fn locate(path: &Path) -> Result<LocatedCheckpoint> {
    let meta = std::fs::metadata(path).map_err(Error::io(path))?;
    if !meta.is_dir() {
        let name = name_of(path);
        let weights = match name.ends_with(".index.json") {
            true => WeightFiles::Sharded(path.to_path_buf()),
            false => WeightFiles::One(path.to_path_buf()),
        };
        return Ok(LocatedCheckpoint { configs: configs_for(path)?, weights, notes: Vec::new() });
    }
    let names = file_names(path)?;
    if let Some(found) = choose(path, &names)? {
        return Ok(found);
    }
    // The layout of Lightning runs: weights in `checkpoints/`, configurations in `configs/`.
    for inner in ["checkpoints", "ckpts"] {
        let inner = path.join(inner);
        if inner.is_dir()
            && let Some(found) = choose(&inner, &file_names(&inner)?)?
        {
            return Ok(found);
        }
    }
    Err(Error::invalid(nothing_found(path)?))
}

/// The weights among the files of `dir`; None where there is no candidate at all.
fn choose(dir: &Path, names: &[String]) -> Result<Option<LocatedCheckpoint>> {
    let found = |name: &str,
                 weights: fn(PathBuf) -> WeightFiles,
                 notes|
     -> Result<Option<LocatedCheckpoint>> {
        let path = dir.join(name);
        Ok(Some(LocatedCheckpoint { configs: configs_for(&path)?, weights: weights(path), notes }))
    };
    if folder::is_own(dir) {
        return found(folder::WEIGHTS_FILE, WeightFiles::One, Vec::new());
    }
    let with = |end: &str| names.iter().filter(|n| n.ends_with(end)).collect::<Vec<_>>();
    let has_extension = |n: &&String, list: &[&str]| {
        Path::new(n.as_str()).extension().is_some_and(|e| list.iter().any(|x| e == *x))
    };
    let tensors = names.iter().filter(|n| has_extension(n, &["safetensors"])).collect::<Vec<_>>();
    let pickles = names.iter().filter(|n| has_extension(n, &PICKLES)).collect::<Vec<_>>();

    for group in CONVENTIONAL {
        let mut there = group.iter().filter(|c| names.iter().any(|n| n == *c));
        if let (Some(name), None) = (there.next(), there.next()) {
            let others = tensors.iter().chain(&pickles).filter(|n| **n != name);
            return found(name, WeightFiles::One, passed_over(name, others));
        }
        // WeightFiles that are no pickle come first, however they are called.
        if !tensors.is_empty() {
            break;
        }
    }
    for (indices, single) in
        [(with(".safetensors.index.json"), &tensors), (with(".bin.index.json"), &pickles)]
    {
        match (&indices[..], &single[..]) {
            ([index], _) => return found(index, WeightFiles::Sharded, Vec::new()),
            ([], [name]) => {
                refuse_part(dir, name)?;
                let others = pickles.iter().filter(|n| *n != name);
                return found(name, WeightFiles::One, passed_over(name, others));
            }
            ([], []) => {}
            _ => return Err(several(dir, indices.iter().chain(single))),
        }
    }
    Ok(None)
}

/// Errors where the only candidate is a part of a checkpoint whose index isn't there.
fn refuse_part(dir: &Path, name: &str) -> Result<()> {
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str());
    let Some((_, parts)) = stem.and_then(part_of) else { return Ok(()) };
    Err(Error::invalid(format!(
        "{}: {} is one of {parts} parts, and their index isn't there; download the others and the \
         index, or give this part itself as the model",
        text::path(dir),
        quoted(name)
    )))
}

/// A note on candidates that were not taken.
fn passed_over<'a>(taken: &str, others: impl Iterator<Item = &'a &'a String>) -> Vec<String> {
    let others: Vec<String> = others.map(|n| quoted(n)).collect();
    if others.is_empty() {
        return Vec::new();
    }
    vec![format!("took {taken}; also there: {}", listed(&others))]
}

/// The error for more than one candidate.
fn several<'a>(dir: &Path, names: impl Iterator<Item = &'a &'a String>) -> Error {
    let names: Vec<String> = names.map(|n| quoted(n)).collect();
    let dir = text::path(dir);
    Error::invalid(format!(
        "{dir}: {} files could be the weights: {}; give one of them as the model",
        names.len(),
        listed(&names)
    ))
}

/// The message for a folder without weights, with a hint where a subfolder has some.
fn nothing_found(folder: &Path) -> Result<String> {
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.path().is_dir() {
            continue;
        }
        if matches!(choose(&entry.path(), &file_names(&entry.path())?), Ok(Some(_)) | Err(_)) {
            inside.push(quoted(&entry.file_name().to_string_lossy()));
        }
    }
    inside.sort();
    let dir = text::path(folder);
    if inside.is_empty() {
        let kinds = PICKLES.map(|e| format!(".{e}")).join(", ");
        let others = others(&file_names(folder)?);
        return Ok(format!("{dir}: no weights in this folder (.safetensors, {kinds}){others}"));
    }
    Ok(format!("{dir}: no weights here, but in {}; give that folder", listed(&inside)))
}

/// What the files of a folder without weights are instead, where their names say so.
fn others(names: &[String]) -> String {
    const KINDS: [(&[&str], &str); 5] = [
        (&[".incomplete", ".part", ".crdownload", ".aria2"], "an unfinished download"),
        (
            &[".distcp"],
            "a part of a torch.distributed checkpoint (its dcp_to_torch makes one file)",
        ),
        (&[".msgpack", ".h5", ".pb", ".tflite"], "for another framework than PyTorch"),
        (
            &[".onnx"],
            "an ONNX file: name that file itself, or call it encoder.onnx or decoder.onnx",
        ),
        (&[".gguf", ".engine"], "for running a model elsewhere"),
    ];
    let of = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    let found = KINDS.iter().find_map(|(ends, what)| Some((of(ends)?, what)));
    found.map_or(String::new(), |(name, what)| format!("; {} is {what}", quoted(name)))
}

/// The first of `names` and how many more there are.
fn listed(names: &[String]) -> String {
    let first = names.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Names of the regular files of `dir` (or links to them), sorted; those that are no UTF-8 can't
/// be published names and are passed over, as are hidden ones.
fn file_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        if let Some(name) = entry.file_name().to_str()
            && !name.starts_with('.')
            && entry.path().is_file()
        {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// The configurations that lie beside a weights file: one of the same stem where the name says
/// anything, else every `*.yaml` and the JSON names in use; also those in `../configs`.
fn configs_for(weights: &Path) -> Result<Vec<Config>> {
    let dir = match weights.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // The name that an index and its parts share, without what says which they are.
    let stem = weights.file_stem().unwrap_or_default().to_string_lossy();
    let index = [".safetensors.index", ".bin.index"].iter().find_map(|end| stem.strip_suffix(end));
    let stem = part_of(index.unwrap_or(&stem)).map_or(index.unwrap_or(&stem), |(stem, _)| stem);
    let names = file_names(dir)?;
    let same_stem = |n: &&String| {
        ["yaml", "yml", "json"].iter().any(|e| n.strip_suffix(e) == Some(&format!("{stem}.")))
    };
    let generic = CONVENTIONAL.iter().flatten().any(|c| c.starts_with(&format!("{stem}.")));
    if let Some(name) = names.iter().find(same_stem).filter(|_| !generic) {
        return Ok(vec![Config { path: dir.join(name), required: true }]);
    }
    let mut configs = among(dir, &names);
    let lightning = ["checkpoints", "ckpts"].iter().any(|n| dir.ends_with(n));
    if lightning && configs.is_empty() {
        let beside = dir.join("../configs");
        if beside.is_dir() {
            configs = among(&beside, &file_names(&beside)?);
        }
    }
    configs.sort();
    Ok(configs)
}

/// Of `NAME-00001-of-00003`, the name and how many parts there are, where there is more than one.
fn part_of(stem: &str) -> Option<(&str, usize)> {
    let (start, parts) = stem.rsplit_once("-of-")?;
    let (name, part) = start.rsplit_once('-')?;
    let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.len() == 5);
    (number(part)? >= 1 && number(parts)? > 1).then_some((name, number(parts)?))
}

/// The configurations among the files of a folder.
fn among(dir: &Path, names: &[String]) -> Vec<Config> {
    let json = ["config.json", "params.json", "preprocessor_config.json", "hparams.json"];
    let is_config = |n: &str| {
        n.ends_with(".yaml")
            || n.ends_with(".yml")
            || n.ends_with("_config.json")
            || json.contains(&n)
    };
    let required = |n: &str| ["config.json", "config.yaml", "config.yml"].contains(&n);
    let configs = names.iter().filter(|n| is_config(n));
    configs.map(|n| Config { path: dir.join(n), required: required(n) }).collect()
}

/// The file's name for comparisons.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    fn name(found: &LocatedCheckpoint) -> String {
        match &found.weights {
            WeightFiles::One(path) => name_of(path),
            WeightFiles::Sharded(path) => format!("index {}", name_of(path)),
        }
    }

    #[test]
    fn folders_with_one_meaning() {
        let cases: &[(&[&str], &str)] = &[
            (&["model.safetensors", "x.safetensors", "pytorch_model.bin"], "model.safetensors"),
            (&["only.safetensors", "a.bin", "b.bin"], "only.safetensors"),
            (&["last.ckpt", "README.md"], "last.ckpt"),
            (&["pytorch_model.bin", "training_args.bin", "optimizer.pt"], "pytorch_model.bin"),
            (&["pytorch_model.bin", "vq.safetensors"], "vq.safetensors"),
            (
                &["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"],
                "index model.safetensors.index.json",
            ),
            (
                &["pytorch_model.bin.index.json", "p-1.bin", "p-2.bin"],
                "index pytorch_model.bin.index.json",
            ),
            (&["checkpoints/last.ckpt", "configs/model.yaml"], "last.ckpt"),
        ];
        for (files, expected) in cases {
            let dir = folder_of(files);
            assert_eq!(name(&locate(dir.path()).unwrap()), *expected, "{files:?}");
        }
    }

    #[test]
    fn several_meanings_are_listed() {
        let dir = folder_of(&["a.ckpt", "b.pt"]);
        let message = locate(dir.path()).unwrap_err().to_string();
        assert!(message.contains("\"a.ckpt\", \"b.pt\""), "{message}");
        let dir = folder_of(&["vqvae/diffusion_pytorch_model.safetensors", "readme"]);
        let message = locate(dir.path()).unwrap_err().to_string();
        assert!(message.contains("in \"vqvae\"; give that folder"), "{message}");
        let dir = folder_of(&["readme"]);
        assert!(locate(dir.path()).unwrap_err().to_string().contains("no weights"));
        for (name, words) in [
            ("model.safetensors.incomplete", "is an unfinished download"),
            ("__0_0.distcp", "dcp_to_torch"),
            ("flax_model.msgpack", "for another framework"),
            ("model.onnx", "call it encoder.onnx"),
            ("model.gguf", "for running a model elsewhere"),
        ] {
            let message = locate(folder_of(&[name]).path()).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(words), "{message}");
        }
    }

    #[test]
    fn configurations_beside_the_weights() {
        let names = |path: &Path| -> Vec<(String, bool)> {
            let found = locate(path).unwrap();
            found.configs.iter().map(|c| (name_of(&c.path), c.required)).collect()
        };
        let dir = folder_of(&["vqgan.ckpt", "vqgan.yaml", "other.yaml"]);
        assert_eq!(names(dir.path()), [("vqgan.yaml".into(), true)]);
        let dir = folder_of(&["m.ckpt", "other.yaml", "config.yaml", "case.json"]);
        let expected = [("config.yaml".into(), true), ("other.yaml".into(), false)];
        assert_eq!(names(dir.path()), expected);
        let dir = folder_of(&["checkpoints/last.ckpt", "configs/model.yaml"]);
        assert_eq!(names(dir.path()), [("model.yaml".into(), false)]);
        for index in ["model.safetensors.index.json", "pytorch_model.bin.index.json"] {
            let dir = folder_of(&[index, "config.json", "x.json"]);
            assert_eq!(names(dir.path()), [("config.json".into(), true)], "{index}");
        }
        let dir = folder_of(&["vq-00001-of-00002.safetensors", "vq.yaml", "other.yaml"]);
        let part = dir.path().join("vq-00001-of-00002.safetensors");
        assert_eq!(names(&part), [("vq.yaml".into(), true)]);
        let message = locate(dir.path()).unwrap_err().to_string();
        assert!(message.contains("one of 2 parts"), "{message}");
        let dir = folder_of(&["model.safetensors", "model.json", "config.json"]);
        assert_eq!(names(dir.path()), [("config.json".into(), true)]);
    }
}
