//! Owns what is asked of the places that results go to, before any work: the right kind of name,
//! and not among the files of an output.

use std::path::{Path, PathBuf};

use crate::audit::sources;
use crate::checkpoint::folder;
use crate::data::source::uri;
use crate::error::{Error, Result};
use crate::storage;
use crate::train;
use crate::util::overwrite::Foreign;
use crate::util::settings::{OUT, SHEET, SOURCE, Setting};
use crate::util::{error_text, overwrite, text};

/// Formats that a name can promise.
const PICTURES: [&str; 12] =
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "qoi", "avif", "heic"];

/// Checks the name of a single PNG file, which `setting` gives.
///
/// # Errors
/// An extension of another format; a file that would be overwritten; a place among the shards of an
/// output.
pub(crate) fn check_png(setting: Setting, path: &Path, foreign: Foreign) -> Result<()> {
    check_file(setting, path, &["png"], "PNG", foreign)
}

/// The same for a page.
///
/// # Errors
/// As for [`check_png`].
#[cfg(feature = "cli")]
pub(crate) fn check_page(setting: Setting, path: &Path, foreign: Foreign) -> Result<()> {
    check_file(setting, path, &["html", "htm"], "HTML", foreign)
}

/// Refuses a path that is none, and would be the current folder to whoever joins names to it, and an
/// address that nothing is written to.
///
/// # Errors
/// That.
pub(crate) fn refuse_empty(setting: Setting, path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(Error::setting(setting, "is an empty path; name a place for what is written"));
    }
    let shown = text::path(path);
    if let Some(scheme) = storage::unknown_scheme(path) {
        let text = format!(
            "{shown}: {scheme}:// is no place that vqtok knows; stores are s3://, gs:// and az://"
        );
        return Err(Error::setting(setting, text));
    }
    match storage::is_on_the_web(path) {
        true => Err(Error::setting(setting, format!("{shown}: nothing can be written to the web"))),
        false => Ok(()),
    }
}

/// The same for what is written into folders of the system alone.
///
/// # Errors
/// That; an address in a store.
pub(crate) fn refuse_remote(setting: Setting, path: &Path) -> Result<()> {
    refuse_empty(setting, path)?;
    match storage::is_remote(path) {
        true => Err(Error::setting(
            setting,
            format!("{}: only tokens are written to stores; name a local place", text::path(path)),
        )),
        false => Ok(()),
    }
}

/// The same for a file of any name.
///
/// # Errors
/// As for [`check_png`].
pub(crate) fn check_plain(setting: Setting, path: &Path, foreign: Foreign) -> Result<()> {
    refuse_remote(setting, path)?;
    if path == Path::new("-") {
        let text =
            "-: a file is written here, not the standard output; name one, or ./- for that name";
        return Err(Error::setting(setting, text));
    }
    if let Some(output) = around(path)
        && path_in(&output, path).is_some_and(|inner| inner.components().count() > 1)
    {
        return Err(among(setting, path, &output));
    }
    overwrite::check(path, foreign)
}

/// What a job reads, none of which its results may take the place of.
#[derive(Debug, Default)]
pub(crate) struct Inputs<'a> {
    /// Outputs, and other files of tokens.
    pub tokens: Vec<&'a Path>,
    /// A model, and what is given beside it.
    pub model: Vec<&'a Path>,
    /// Images, by the places that are named.
    pub source: Option<&'a super::inputs::Inputs>,
}

/// A file that a job writes: the setting that names it, its place, and whether what lies there is the
/// same of an earlier run.
pub(crate) type Written<'a> = (Setting, &'a Path, bool);

/// Refuses results that would take the place of each other or of what is read, even where files are
/// overwritten.
///
/// # Errors
/// That; a place that is none.
pub(crate) fn refuse_inputs(written: &[Written<'_>], inputs: &Inputs<'_>) -> Result<()> {
    for (at, &(setting, path, ours)) in written.iter().enumerate() {
        refuse_remote(setting, path)?;
        // Devices and pipes hold nothing that could be lost.
        let stream = path.metadata().is_ok_and(|facts| !facts.is_file() && !facts.is_dir());
        let Some(real) = resolved(path).filter(|_| !stream) else { continue };
        let same = |other: &&Written<'_>| resolved(other.1).is_some_and(|other| other == real);
        let what = match written[..at].iter().find(same) {
            Some((other, ..)) => Some(format!("{other} is written there")),
            None => inputs.holding(&real, ours).map(|what| format!("that is {what}")),
        };
        if let Some(what) = what {
            let text = format!("{}: {what}; give another name", text::path(path));
            return Err(Error::setting(setting, text));
        }
    }
    Ok(())
}

impl Inputs<'_> {
    /// What of it lies at a place, which is without links.
    fn holding(&self, real: &Path, ours: bool) -> Option<String> {
        let is = |path: &&&Path| !storage::is_remote(path) && is_of_tokens(path, real);
        if let Some(input) = self.tokens.iter().find(is) {
            return Some(match resolved(input).is_some_and(|input| input == real) {
                true => format!("the input {} itself", text::path(input)),
                false => format!("a file of the input {}", text::path(input)),
            });
        }
        let is = |path: &&&Path| is_of_model(path, real, ours);
        if let Some(model) = self.model.iter().find(is) {
            return Some(format!("a file of the model {}", text::path(model)));
        }
        let source = self.source.filter(|source| is_of_source(source, real, ours))?;
        // Where there are no tokens, images are the input.
        let what = if self.tokens.is_empty() { "INPUT".into() } else { SOURCE.to_string() };
        Some(format!("a file of the {what} {}", source.names()))
    }
}

/// Whether a place is a file of tokens, or one of an output's own names.
fn is_of_tokens(input: &Path, real: &Path) -> bool {
    let output = sources::output(input).and_then(|output| resolved(&output));
    let inner = output.as_deref().and_then(|output| real.strip_prefix(output).ok());
    if inner.is_some_and(sources::is_own) {
        return true;
    }
    if !real.exists() {
        return false;
    }
    let files = sources::of(input).map_or(Vec::new(), |found| found.files);
    files.iter().any(|file| resolved(file).is_some_and(|file| file == real))
}

/// Whether a place is a model, or a file in its folder, or what may describe it beside it.
fn is_of_model(model: &Path, real: &Path, ours: bool) -> bool {
    let Some(model) = resolved(model) else { return false };
    if model.is_dir() {
        return real.starts_with(&model) && real.exists() && !ours;
    }
    let beside = real.parent() == model.parent() && real.exists() && !ours;
    let named = |names: &[&str]| real.extension().is_some_and(|it| names.iter().any(|n| it == *n));
    let describes = named(&["yaml", "yml"])
        || real.file_stem().is_some_and(|stem| stem == "config" || Some(stem) == model.file_stem());
    real == model || (beside && describes)
}

/// Whether a place is an image, or another file of what is named.
fn is_of_source(source: &super::inputs::Inputs, real: &Path, ours: bool) -> bool {
    let local = source.paths.iter().filter(|path| !storage::is_remote(path));
    let mut places = local.filter_map(|path| resolved(path));
    // A picture of ours among images is one of them all the same.
    let ours = ours && extension(real).is_none_or(|it| !PICTURES.contains(&it.as_str()));
    let below = |place: PathBuf| real == place || (real.starts_with(place) && !ours);
    if !real.exists() || ours {
        return places.any(|place| real == place);
    }
    // Links lead anywhere, and so do lists. What can't be listed is told by whoever reads it.
    let all_here = !source.paths.iter().any(|path| storage::is_remote(path));
    places.any(below)
        || all_here
            && source.images(source.take(), false).is_ok_and(|images| {
                let places = images.filter_map(|image| uri::to_path(&image.ok()?.uri));
                places.into_iter().any(|place| resolved(&place).is_some_and(|place| place == real))
            })
}

fn check_file(
    setting: Setting,
    path: &Path,
    extensions: &[&str],
    format: &str,
    foreign: Foreign,
) -> Result<()> {
    if let Some(extension) = extension(path)
        && !extensions.contains(&extension.as_str())
    {
        let better = path.with_extension(extensions[0]);
        return Err(Error::invalid(format!(
            "{setting} {}: what is written is {format}; name it {}",
            text::path(path),
            text::path(better)
        )));
    }
    check_plain(setting, path, foreign)
}

/// Checks a folder for many pictures, which `setting` gives.
///
/// # Errors
/// A file in its place, or a name that promises one; a place inside an output.
pub(crate) fn check_folder(setting: Setting, path: &Path) -> Result<()> {
    refuse_remote(setting, path)?;
    if let Some(extension) = extension(path)
        && PICTURES.contains(&extension.as_str())
        && !path.is_dir()
    {
        return Err(Error::invalid(format!(
            "{setting} {}: one PNG a row is written into a folder; name a folder, or draw them on one \
             picture with {SHEET}",
            text::path(path)
        )));
    }
    if let Some(output) = around(path) {
        return Err(among(setting, path, &output));
    }
    overwrite::check_folders(path)
}

/// Refuses a new folder, which `setting` gives, among the files of an output.
///
/// # Errors
/// That.
pub(crate) fn check_new(setting: Setting, path: &Path) -> Result<()> {
    refuse_remote(setting, path)?;
    match around(path).filter(|_| !path.exists()) {
        Some(output) => Err(among(setting, path, &output)),
        None => Ok(()),
    }
}

/// Refuses a folder, new or not, which `setting` gives, that is an output or lies in one.
///
/// # Errors
/// That.
pub(crate) fn check_outside(setting: Setting, path: &Path) -> Result<()> {
    refuse_remote(setting, path)?;
    match around(path) {
        Some(output) => Err(among(setting, path, &output)),
        None => Ok(()),
    }
}

/// Refuses a folder for tokens that a model is, or lies in, or that lies in another output: the one's
/// files would count as strays of the other. One that holds an output already can be finished.
///
/// # Errors
/// That.
pub(crate) fn check_output(out: &Path, model: &Path) -> Result<()> {
    refuse_empty(OUT, out)?;
    if sources::is_output(out) {
        return Ok(());
    }
    if storage::is_remote(out) {
        return match holds_model(out) {
            true => Err(Error::setting(
                OUT,
                format!("{}: it holds a model; give a folder of its own", text::path(out)),
            )),
            false => Ok(()),
        };
    }
    if let Some(output) = around(out) {
        return Err(among(OUT, out, &output));
    }
    let within = || Some(resolved(model)?.starts_with(resolved(out)?));
    let what = match within() {
        Some(true) => format!("the model {} lies there", text::path(model)),
        _ if holds_model(out) => "it holds a model".to_string(),
        _ => return Ok(()),
    };
    Err(Error::setting(OUT, format!("{}: {what}; give a folder of its own", text::path(out))))
}

/// Refuses a folder that couldn't be made or written into; nothing is made. One in a store must give
/// names once.
pub(crate) fn writable_folder(setting: Setting, folder: &Path) -> Result<()> {
    refuse_empty(setting, folder)?;
    let shown = text::path(folder);
    if storage::is_remote(folder) {
        let probe = || storage::probe(folder).map_err(Error::io(folder));
        return storage::opening(probe).map_err(|error| match error {
            Error::Io { source, .. } => {
                Error::setting(setting, format!("{shown}: {}", error_text::reason(&source)))
            }
            error => error,
        });
    }
    let whole = std::path::absolute(folder).map_err(Error::io(folder))?;
    let Some(there) = whole.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    if !there.is_dir() {
        let text = format!("{setting} {shown}: {} is no folder", text::path(there));
        return Err(Error::invalid(text));
    }
    may_write(there).map_err(|error| {
        let (there, reason) = (text::path(there), error_text::reason(&error));
        Error::invalid(format!("{setting} {shown}: {there} can't be written: {reason}"))
    })
}

/// Whether files can be made in a folder, as far as the system tells without trying.
fn may_write(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: `path` is a string that ends in NUL and outlives the call.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Whether a folder is a model's, or a training's.
pub(crate) fn holds_model(dir: &Path) -> bool {
    let weights = storage::facts(&dir.join(folder::WEIGHTS_FILE)).is_ok_and(|facts| facts.is_file);
    folder::is_own(dir) || train::begun(dir) || weights
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase())
}

fn among(setting: Setting, path: &Path, output: &Path) -> Error {
    Error::invalid(format!(
        "{setting} {}: it lies in {}, an output of vqtok, where only its own files belong; choose \
         another place",
        text::path(path),
        text::path(output)
    ))
}

/// The absolute path with links resolved, as far as there is something.
pub(crate) fn resolved(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find_map(|place| Some((place, place.canonicalize().ok()?)));
    let (place, real) = there?;
    let rest = path.strip_prefix(place).ok()?;
    // An empty rest would leave a slash at the end, behind which no file is found.
    Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
}

/// The output of vqtok that a path is or lies in.
fn around(path: &Path) -> Option<PathBuf> {
    let path = resolved(path)?;
    // A file named plan.parquet alone makes no output of a folder.
    let is_output = |place: &&Path| place.join("tokens").is_dir() && sources::is_output(place);
    let found = path.ancestors().find(is_output);
    found.map(Path::to_path_buf)
}

fn path_in(output: &Path, path: &Path) -> Option<PathBuf> {
    resolved(path)?.strip_prefix(output).ok().map(Path::to_path_buf)
}
