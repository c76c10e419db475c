//! Owns where the images lie that a list names, and what they are called. Must not know: the list's
//! format.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::input::trimmed;
use super::row::Row;
use crate::data::source::image::SourceImage;
use crate::data::source::names::KEY_BYTES_MAX;
use crate::data::source::{file, uri};
use crate::storage;
use crate::util::secrets;

/// As of a walk: longer paths would give longer URIs than a plan takes.
const PATH_BYTES_MAX: usize = 20_000;

/// A list's place, which the paths in it are relative to.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    uri: String,
    name: String,
}

impl Place {
    /// Of the list at `path`, which is called `name` where its rows are spoken of.
    ///
    /// # Errors
    /// Where the working folder is needed and can't be told.
    pub(crate) fn of(path: &Path, name: &str) -> io::Result<Place> {
        let path = storage::absolute(path)?;
        let folder = path.parent().unwrap_or(&path).to_path_buf();
        Ok(Place { folder, uri: uri::of_path(&path), name: name.to_string() })
    }

    /// What a row is called: `list.csv:7`.
    pub(crate) fn row(&self, number: u64) -> String {
        format!("{}:{number}", self.name)
    }

    /// The image that a row names. It is called by the path as it is written, without `./` or `/`
    /// before it, or by its address, unless the row has a name for it.
    pub(crate) fn image(&self, row: Row, number: u64) -> SourceImage {
        let found = row.image.and_then(|written| self.find(trimmed(&written)));
        let image = found.and_then(|found| {
            let key = row.key.as_deref().map(str::trim).filter(|key| !key.is_empty());
            let key = key.map_or(found.key, str::to_string);
            if key.len() >= KEY_BYTES_MAX {
                return Err(format!(
                    "its name has {} bytes; a key has under {KEY_BYTES_MAX}",
                    key.len()
                ));
            }
            Ok(SourceImage { key, ..found })
        });
        match image {
            Ok(image) => SourceImage { facts: row.facts, ..image },
            Err(reason) => self.lost(number, reason),
        }
    }

    /// The image that stands for a row that names none.
    pub(crate) fn lost(&self, number: u64, reason: String) -> SourceImage {
        let (key, uri) = (self.row(number), self.uri.clone());
        SourceImage { key, uri, fault: Some(reason), ..SourceImage::default() }
    }

    /// Key, URI and size of what is written so.
    fn find(&self, written: &[u8]) -> Result<SourceImage, String> {
        if written.is_empty() {
            return Err("it names no image: its path is empty".into());
        }
        if is_image_itself(written) {
            return Err(
                "it holds the image itself as base64 text, which isn't read: write the images \
                        into files, a tar or a Parquet column of bytes"
                    .into(),
            );
        }
        if written.len() > PATH_BYTES_MAX {
            return Err(format!("its path has more than {PATH_BYTES_MAX} bytes"));
        }
        let path = match scheme(written) {
            None => Cow::Borrowed(without_dot(written)),
            Some(name) if name.eq_ignore_ascii_case("file") => match of_file_uri(written) {
                Some(path) => Cow::Owned(path),
                None => {
                    let fault = "it is no file:// address of an absolute path, percent-encoded";
                    return Ok(unreadable(written, fault.into()));
                }
            },
            Some(name) => return Ok(elsewhere(written, name)),
        };
        let key = uri::readable(&path).trim_start_matches('/').to_string();
        if key.is_empty() {
            return Err("it names no image: its path is a folder's".into());
        }
        if path.starts_with(b"/") && storage::is_remote(&self.folder) {
            let fault = "a list in a store or on the web names no files of this machine";
            return Ok(unreadable(written, fault.into()));
        }
        let place = self.folder.join(OsStr::from_bytes(&path));
        let Some(place) = storage::without_steps_up(&place) else {
            let fault = "its path leads out of the store's bucket or the server";
            return Ok(unreadable(written, fault.into()));
        };
        let uri = uri::of_path(&storage::absolute(&place).unwrap_or_else(|_| place.to_path_buf()));
        // To ask a store for each would take longer than reading them.
        let bytes = if storage::is_remote(&place) { None } else { file::size(&uri) };
        let bytes = bytes.unwrap_or(0);
        Ok(SourceImage { key, uri, bytes, ..SourceImage::default() })
    }
}

/// An image at an address, which is its name.
fn elsewhere(written: &[u8], scheme: &str) -> SourceImage {
    let key = uri::readable(written);
    let uri = format!("{}{}", scheme.to_ascii_lowercase(), &key[scheme.len()..]);
    if secrets::has_password(&uri) {
        // It would be kept in the plan, and in the row of the failure.
        let fault = "credentials don't belong into addresses; give them by the environment";
        let shown = secrets::without_secrets(&key).into_owned();
        return unreadable(shown.as_bytes(), fault.into());
    }
    match storage::REACHES_STORES && storage::is_remote(Path::new(&uri)) {
        true => SourceImage { key, uri, ..SourceImage::default() },
        false => unreadable(written, not_built_in(scheme)),
    }
}

/// An image whose address is kept as it is written, and why it can't be read.
fn unreadable(written: &[u8], fault: String) -> SourceImage {
    let address = uri::readable(written);
    SourceImage { key: address.clone(), uri: address, fault: Some(fault), ..SourceImage::default() }
}

/// Why addresses of a scheme aren't read.
fn not_built_in(scheme: &str) -> String {
    format!(
        "reading {}:// addresses is not built in; download the images (img2dataset) and list the \
         files",
        scheme.to_ascii_lowercase()
    )
}

/// The scheme of an address: `https` of `https://...`.
pub(super) fn scheme(written: &[u8]) -> Option<&str> {
    let end = written.windows(3).take(20).position(|part| part == b"://")?;
    let scheme = std::str::from_utf8(&written[..end]).ok()?;
    let first = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let others = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    (first && others).then_some(scheme)
}

/// The path of `file:///x` or `file://localhost/x`, in any case.
fn of_file_uri(written: &[u8]) -> Option<Vec<u8>> {
    let rest = std::str::from_utf8(written).ok()?.get("file://".len()..)?;
    let host = rest.get(..9).filter(|host| host.eq_ignore_ascii_case("localhost"));
    let path = host.map_or(rest, |host| &rest[host.len()..]);
    let path = uri::to_path(&format!("file://{path}"))?;
    Some(path.as_os_str().as_bytes().to_vec())
}

/// Whether a text is an image in base64, or a `data:` address: what tables are made of that hold no
/// bytes. It begins as JPEG, PNG, GIF or WebP does there, and goes on like no path.
fn is_image_itself(written: &[u8]) -> bool {
    const BEGINS: [&[u8]; 4] = [b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR"];
    if written.get(..11).is_some_and(|head| head.eq_ignore_ascii_case(b"data:image/")) {
        return true;
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte);
    written.len() >= 100
        && BEGINS.iter().any(|begin| written.starts_with(begin))
        && written.iter().all(is_base64)
}

/// A relative path without `./` before it.
pub(super) fn without_dot(path: &[u8]) -> &[u8] {
    let mut rest = path;
    while let Some(after) = rest.strip_prefix(b"./") {
        let slashes = after.iter().take_while(|&&byte| byte == b'/').count();
        rest = &after[slashes..];
    }
    rest
}
