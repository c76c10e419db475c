//! Owns which files an ONNX tokenizer consists of, and that all of them lie in its folder.
//! Must not know: what they hold.

use std::path::{Component, Path, PathBuf};

use super::outline::{Outline, Unusable};
use super::settings::SETTINGS_FILE;
use crate::checkpoint::container::foreign;
use crate::error::{Error, Result};
use crate::util::text::{self, shorten};
use crate::util::unique_json;
use crate::weights::tensor::Bytes;

/// Pixels to codes.
pub(super) const ENCODER_FILE: &str = "encoder.onnx";

/// Codes to pixels.
pub(super) const DECODER_FILE: &str = "decoder.onnx";

/// Bytes of a file at most: protobuf has no larger ones.
pub(super) const BYTES_MAX: usize = i32::MAX as usize;

/// Bytes of a settings file at most.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// What `--model` means where it means ONNX.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// A folder with one graph or both.
    Folder { encoder: Option<PathBuf>, decoder: Option<PathBuf>, settings: PathBuf },
    /// One graph, whichever of both.
    File { graph: PathBuf, settings: PathBuf },
}

/// The place of an ONNX tokenizer; None for what is something else.
pub(super) fn place(path: &Path) -> Option<Place> {
    let named = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    if named(path) && !path.is_dir() {
        let settings = path.with_file_name(SETTINGS_FILE);
        return Some(Place::File { graph: path.to_path_buf(), settings });
    }
    let there = |name: &str| Some(path.join(name)).filter(|file| file.symlink_metadata().is_ok());
    let (encoder, decoder) = (there(ENCODER_FILE), there(DECODER_FILE));
    let any = encoder.is_some() || decoder.is_some();
    any.then(|| Place::Folder { encoder, decoder, settings: path.join(SETTINGS_FILE) })
}

/// A settings file; None where there is none.
///
/// # Errors
/// One that can't be read, or isn't JSON.
pub(super) fn settings(path: &Path) -> Result<Option<serde_json::Value>> {
    let meta = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(Error::io(path))?,
    };
    if !meta.is_file() || meta.len() > SETTINGS_BYTES_MAX {
        return Err(Error::corrupt(path, "no regular file of at most a megabyte"));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let bytes = text::without_byte_order_mark(&bytes).map_err(|e| Error::corrupt(path, e))?;
    let value = unique_json::from_slice(bytes);
    value.map(Some).map_err(|e| Error::corrupt(path, format!("not JSON: {e}")))
}

/// A graph file and the files beside it that it reads.
pub(super) struct Graph {
    pub(super) path: PathBuf,
    pub(super) outline: Outline,
    pub(super) bytes: Bytes,
    /// By the names in the graph.
    pub(super) beside: Vec<(String, PathBuf, Bytes)>,
}

/// Reads a graph's outline, and finds what it reads.
///
/// # Errors
/// A file that is no whole ONNX model, or that reads what isn't its own.
pub(super) fn graph(path: &Path) -> Result<Graph> {
    let bytes = Bytes::map(path)?;
    if bytes.len() > BYTES_MAX {
        let reason = "larger than 2 GB, which no ONNX file is; weights of that size lie beside it";
        return Err(Error::corrupt(path, reason));
    }
    let outline = Outline::read(&bytes).map_err(|unusable| match unusable {
        Unusable::Refused(reason) => Error::corrupt(path, reason),
        Unusable::Damaged(reason) => match foreign::describe(&bytes) {
            Some(kind) if !kind.contains("ONNX") => Error::corrupt(path, kind),
            _ => Error::corrupt(path, format!("not a whole ONNX model: {reason}")),
        },
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut beside = Vec::new();
    for (name, end) in &outline.external {
        let found = inside(path, folder, name).map_err(|reason| Error::corrupt(path, reason))?;
        let data = Bytes::map(&found)?;
        if (data.len() as u64) < *end {
            let reason = format!(
                "{} bytes where {end} of them are weights of {}",
                data.len(),
                text::path(path)
            );
            return Err(Error::corrupt(&found, reason));
        }
        beside.push((name.clone(), found, data));
    }
    Ok(Graph { path: path.to_path_buf(), outline, bytes, beside })
}

/// The file of weights called `name`, which must lie beside the graph: in `folder`, or, where the
/// graph there is a link as in caches that keep files by their digests, where the graph itself lies.
fn inside(graph: &Path, folder: &Path, name: &str) -> Result<PathBuf, String> {
    let relative = Path::new(name);
    let mut parts = relative.components().filter(|part| *part != Component::CurDir);
    // "*/_ORT_MEM_ADDR_/*" is older ONNX Runtimes' mark of weights that lie in memory, at the address that their
    // offset is.
    let plain = parts.all(|part| matches!(part, Component::Normal(name) if name != "*"));
    let outside = || format!("its weights lie at '{}', outside its folder", shorten(name));
    if !plain || name.is_empty() {
        return Err(outside());
    }
    let file = folder.join(relative);
    let (Ok(root), Ok(real)) = (folder.canonicalize(), file.canonicalize()) else {
        return Err(format!("its weights are in '{}', which isn't beside it", shorten(name)));
    };
    let home = graph.canonicalize().ok();
    let home = home.as_deref().and_then(Path::parent);
    let beside = real.starts_with(root) || home.is_some() && real.parent() == home;
    if beside { Ok(file) } else { Err(outside()) }
}
