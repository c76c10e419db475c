//! Owns finding and loading ONNX Runtime's library, once for the process, and saying what is missing.
//! Must not know: models.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;

use super::{arena, python};
use crate::error::{Error, Result};
use crate::util::settings::ONNXRUNTIME;
use crate::util::text;

/// The variable that other programs of ONNX Runtime's name its library by, too.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// A library that is loaded, and what all its sessions share.
#[derive(Clone)]
pub(super) struct Library {
    pub(super) path: PathBuf,
    pub(super) environment: Environment,
}

/// The process's own, which stays to its end.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// Loads the library that `asked` names, a file or a folder with it, or else the one that is found.
/// The process keeps the first.
///
/// # Errors
/// None that is found or can be loaded; another one than is loaded already.
pub(super) fn load(asked: Option<&Path>) -> Result<Library> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = &*loaded {
        let is_it = |asked| library(asked).is_some_and(|found| found == there.path);
        return match asked.is_some_and(|asked| !is_it(asked)) {
            false => Ok(there.clone()),
            true => Err(Error::setting(
                ONNXRUNTIME,
                format!("another one is in use already: {}", text::path(&there.path)),
            )),
        };
    }
    let found = find(asked)?;
    Ok(loaded.insert(found).clone())
}

/// The candidates in their order; whoever is named must be it.
fn find(asked: Option<&Path>) -> Result<Library> {
    if let Some(asked) = asked {
        let named =
            |reason| Error::setting(ONNXRUNTIME, format!("{}: {reason}", text::path(asked)));
        let found =
            library(asked).ok_or_else(|| named("there is no library of ONNX Runtime".into()))?;
        return begin(&found).map_err(named);
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let named = |reason| Error::invalid(format!("{VARIABLE} {}: {reason}", text::path(&path)));
        let found = library(Path::new(&path));
        let found = found.ok_or_else(|| named("there is no library of ONNX Runtime".into()))?;
        return begin(&found).map_err(named);
    }
    let mut why = None;
    for path in wheels().into_iter().chain(names()) {
        match begin(&path) {
            Ok(found) => return Ok(found),
            // A library that is there and doesn't load says more than a name that isn't.
            Err(reason) if path.is_absolute() => {
                why.get_or_insert(format!("{}: {reason}", text::path(&path)));
            }
            Err(_) => {}
        }
    }
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    Err(Error::invalid(format!(
        "ONNX Runtime, which runs ONNX models, isn't found{why}: `pip install onnxruntime`, or pass \
         {ONNXRUNTIME} with its library"
    )))
}

/// Of Python's packages.
fn wheels() -> Vec<PathBuf> {
    let folders = python::site_packages();
    let found: Vec<PathBuf> =
        folders.iter().filter_map(|folder| library(&folder.join("onnxruntime"))).collect();
    match found.is_empty() {
        false => found,
        true => python::asked("onnxruntime").as_deref().and_then(library).into_iter().collect(),
    }
}

/// What the system's loader looks for.
fn names() -> Vec<PathBuf> {
    let names: &[&str] = match () {
        () if cfg!(windows) => &["onnxruntime.dll"],
        () if cfg!(target_os = "macos") => &["libonnxruntime.dylib", "libonnxruntime.1.dylib"],
        () => &["libonnxruntime.so.1", "libonnxruntime.so"],
    };
    names.iter().map(PathBuf::from).collect()
}

/// The library that a path means: itself, or one in the folder or where packages keep it below.
fn library(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return path.canonicalize().ok();
    }
    let below = ["", "capi", "onnxruntime/capi", "lib"];
    below.iter().find_map(|below| {
        let folder = path.join(below);
        let names = std::fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter(|name| is_library(&name.to_string_lossy())).collect();
        names.sort();
        folder.join(names.first()?).canonicalize().ok()
    })
}

fn is_library(name: &str) -> bool {
    let of_linux = name.starts_with("libonnxruntime.so");
    of_linux
        || name == "onnxruntime.dll"
        || name.starts_with("libonnxruntime.") && name.ends_with(".dylib")
}

/// Loads a library and sets up what all sessions share: nothing is sent anywhere, nothing is printed.
fn begin(path: &Path) -> Result<Library, String> {
    let builder = ort::init_from(path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => format!(
            "version {}, and 1.{} or newer is needed",
            text::shorten(&version_str),
            ort::MINOR_VERSION
        ),
        error => super::session::one_line(&error),
    })?;
    let silent = Arc::new(|_: ort::logging::LogLevel, _: &str, _: &str, _: &str, _: &str| {});
    let builder = builder.with_name("vqtok").with_telemetry(false).with_logger(silent);
    let environment = builder.build().map_err(|error| super::session::one_line(&error))?;
    arena::bound(&environment).map_err(|error| super::session::one_line(&error))?;
    Ok(Library { path: path.to_path_buf(), environment })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_the_library_in_it_or_in_the_package_below() {
        let dir = tempfile::tempdir().unwrap();
        let capi = dir.path().join("onnxruntime/capi");
        std::fs::create_dir_all(&capi).unwrap();
        assert_eq!(library(dir.path()), None);
        let file = capi.join("libonnxruntime.so.1.32.0");
        for name in ["libonnxruntime_providers_shared.so", "libonnxruntime.so.1.32.0"] {
            std::fs::write(capi.join(name), "").unwrap();
        }
        let real = file.canonicalize().unwrap();
        for place in [dir.path(), &dir.path().join("onnxruntime"), &capi, &file] {
            assert_eq!(library(place).as_ref(), Some(&real), "{}", place.display());
        }
        assert_eq!(library(&dir.path().join("nothing")), None);
    }

    #[test]
    fn what_is_no_library_is_refused_by_the_name_it_was_given_by() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libonnxruntime.so");
        std::fs::write(&file, "no library").unwrap();
        for path in [file.as_path(), &dir.path().join("nothing")] {
            let said = find(Some(path)).err().unwrap().to_string();
            assert!(said.starts_with("onnxruntime ") && said.lines().count() == 1, "{said}");
        }
    }
}
