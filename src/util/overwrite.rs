//! Owns writing results where a user's own files may lie: what vqtok didn't write is never replaced
//! unasked, nothing is written through a link, and nobody sees half a file.
//! Must not know: what is written.
//!
//! Pictures and pages that vqtok draws carry its mark, so that a command can be run again: a file
//! with the mark gives way, any other stays.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::util::settings::OVERWRITE;
use crate::util::{portable_fs, text};

/// The mark of a page, in its head.
pub(crate) const HTML_MARK: &str = "<meta name=generator content=vqtok>";
const HTML_START: &[u8] = b"<!doctype html>";
/// The mark of a manual page, its first line.
pub(crate) const MAN_MARK: &[u8] = b".\\\" Written by vqtok.\n";
/// How the JSON files of an audit, of a comparison and of an evaluation begin.
const JSON_MARKS: [&[u8]; 3] = [
    b"{\n  \"schema\": \"audit.",
    b"{\n  \"schema\": \"diff.",
    b"{\n  \"schema\": \"evaluation-figures.",
];
/// How an index of an audit begins as a Parquet file, and what its footer says at its end.
const PARQUET_START: &[u8] = b"PAR1";
const INDEX_MARK: &[u8] = b"vqtok.schema\x18\x08index.v";
/// As far into a page as its mark stands.
const HEAD_BYTES: u64 = 1024;
/// As far from a Parquet file's end as its marks stand: behind what is said of its columns.
const FOOTER_BYTES: u64 = 1 << 13;

const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Signature and IHDR chunk: what stands before the mark of a picture.
const PNG_HEAD: usize = 33;
const PNG_TEXT: &[u8] = b"tEXtSoftware\0vqtok";

/// What becomes of a file that has the name of a result and isn't vqtok's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It stays, and the result is refused.
    Keep,
    /// The result takes its place: `--overwrite`.
    Replace,
}

impl Foreign {
    /// What `--overwrite` means.
    pub(crate) fn overwritten(overwrite: bool) -> Foreign {
        if overwrite { Foreign::Replace } else { Foreign::Keep }
    }
}

/// The same PNG with vqtok's mark: a chunk `Software: vqtok` after its header.
pub(crate) fn mark_png(png: &[u8]) -> Vec<u8> {
    let (head, body) = png.split_at(PNG_HEAD.min(png.len()));
    [head, &png_mark(), body].concat()
}

/// Length, type, text, checksum.
fn png_mark() -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(PNG_TEXT);
    let length = (PNG_TEXT.len() - 4) as u32;
    [&length.to_be_bytes(), PNG_TEXT, &crc.sum().to_be_bytes()].concat()
}

/// Whether the regular file at `path` carries vqtok's mark.
pub(crate) fn is_ours(path: &Path) -> bool {
    let mut head = Vec::new();
    let regular = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_file());
    let mut read = || File::open(path).and_then(|f| f.take(HEAD_BYTES).read_to_end(&mut head));
    if !regular || read().is_err() {
        return false;
    }
    let marked = |page: &[u8]| page.windows(HTML_MARK.len()).any(|w| w == HTML_MARK.as_bytes());
    head.starts_with(PNG_START) && head[PNG_HEAD.min(head.len())..].starts_with(&png_mark())
        || head.starts_with(HTML_START) && marked(&head)
        || head.starts_with(MAN_MARK)
        || JSON_MARKS.iter().any(|mark| head.starts_with(mark))
        || head.starts_with(PARQUET_START) && is_index(path)
}

/// Whether a Parquet file's footer says that it is an index.
pub(crate) fn is_index(path: &Path) -> bool {
    let mut end = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(FOOTER_BYTES)))?;
        file.take(FOOTER_BYTES).read_to_end(&mut end)
    });
    read.is_ok() && end.windows(INDEX_MARK.len()).any(|bytes| bytes == INDEX_MARK)
}

/// What has the name of a result.
enum Standing {
    Nothing,
    /// A file with vqtok's mark.
    Ours,
    /// Any other file, or a link.
    Foreign(&'static str),
    /// A device or pipe: written into, since there is nothing to replace.
    Stream,
}

fn standing(path: &Path) -> Result<Standing> {
    let stream = |kind: fs::FileType| kind.is_char_device() || kind.is_fifo();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Nothing),
        Err(error) => Err(Error::io(path)(error)),
        Ok(facts) if facts.is_dir() => {
            Err(Error::corrupt(path, "it is a folder, where a file is to be written"))
        }
        Ok(facts) if stream(facts.file_type()) => Ok(Standing::Stream),
        Ok(facts) if facts.is_symlink() => {
            match fs::metadata(path).is_ok_and(|facts| stream(facts.file_type())) {
                true => Ok(Standing::Stream),
                false => Ok(Standing::Foreign("it is a link")),
            }
        }
        Ok(_) if is_ours(path) => Ok(Standing::Ours),
        Ok(_) => Ok(Standing::Foreign("vqtok didn't write it")),
    }
}

/// Refuses, before any work, a name that [`write`] would refuse.
///
/// # Errors
/// A folder of that name; a file that isn't vqtok's, where those are kept; a file where a folder
/// on the way is needed.
pub(crate) fn check(path: &Path, foreign: Foreign) -> Result<()> {
    match standing(path)? {
        Standing::Foreign(why) if foreign == Foreign::Keep => Err(refused(path, why)),
        Standing::Nothing => check_folders(folder_of(path)),
        _ => Ok(()),
    }
}

/// Refuses a folder that can't be one: it, or what leads to it, is a file.
///
/// # Errors
/// That, by the file's name.
pub(crate) fn check_folders(folder: &Path) -> Result<()> {
    for place in folder.ancestors().filter(|place| !place.as_os_str().is_empty()) {
        match fs::metadata(place) {
            Ok(facts) if facts.is_dir() => return Ok(()),
            Ok(_) => return Err(Error::corrupt(place, "a file stands where a folder is needed")),
            Err(_) => {}
        }
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> Error {
    Error::invalid(format!(
        "{} exists and {why}: nothing is overwritten; give another name, or {OVERWRITE}",
        text::path(path)
    ))
}

/// Makes a folder and what leads to it.
///
/// # Errors
/// As [`check_folders`]; what the system refuses.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    check_folders(folder)?;
    fs::create_dir_all(folder).map_err(Error::io(folder))
}

/// Writes `bytes` as the file `path`, whole, together with the folders that lead to it.
///
/// # Errors
/// As [`check`], at whatever moment the other file came; what the system refuses.
pub(crate) fn write(path: &Path, bytes: &[u8], foreign: Foreign) -> Result<()> {
    write_by(path, foreign, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// The same for a file that is too long to be in memory.
///
/// # Errors
/// As [`write`]; those of `content`.
pub(crate) fn write_by(
    path: &Path,
    foreign: Foreign,
    content: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    check(path, foreign)?;
    create_folder(folder_of(path))?;
    if let Standing::Stream = standing(path)? {
        let mut stream = OpenOptions::new().write(true).open(path).map_err(Error::io(path))?;
        return content(&mut stream);
    }
    let temporary = Temporary::create(path, content)?;
    if let Standing::Nothing = standing(path)? {
        match temporary.publish(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(path, foreign)?,
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
    // Ours, or one that may be replaced: the name goes over to the new file; a link goes, what it
    // leads to stays.
    fs::rename(&temporary.0, path).map_err(Error::io(path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden file of a name that nobody else has, in the folder of its target; gone when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn create(target: &Path, content: impl FnOnce(&mut File) -> Result<()>) -> Result<Temporary> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = target.with_file_name(format!(".vqtok-{}-{n}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let temporary = Temporary(path);
                    content(&mut file)?;
                    return Ok(temporary);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(target)(error)),
            }
        }
    }

    /// Gives the file its name, unless that is taken by now.
    fn publish(&self, path: &Path) -> io::Result<()> {
        portable_fs::name_exclusively(&self.0, path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing of this name.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png() -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        image::RgbImage::new(2, 3).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_marked_picture_is_the_same_picture() {
        let marked = mark_png(&png());
        assert_ne!(marked, png());
        let decoder = png::Decoder::new(io::Cursor::new(&marked));
        let reader = decoder.read_info().unwrap();
        let texts = &reader.info().uncompressed_latin1_text;
        assert_eq!((texts[0].keyword.as_str(), texts[0].text.as_str()), ("Software", "vqtok"));
        assert_eq!(
            image::load_from_memory(&marked).unwrap().into_rgb8(),
            image::RgbImage::new(2, 3)
        );
    }

    #[test]
    fn only_what_carries_the_mark_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/a.png");
        let page = format!("<!doctype html><html><meta charset=utf-8>{HTML_MARK}");
        let manual = [MAN_MARK, b".TH vqtok 1"].concat();
        for ours in [mark_png(&png()), page.into_bytes(), manual] {
            write(&path, &ours, Foreign::Keep).unwrap();
            assert!(is_ours(&path));
        }
        let unmarked = format!("<html>{HTML_MARK}");
        for theirs in [png(), Vec::new(), b"\x89PNG".to_vec(), unmarked.into_bytes()] {
            fs::write(&path, &theirs).unwrap();
            let error = write(&path, b"new", Foreign::Keep).unwrap_err().to_string();
            assert!(error.contains("a.png exists and vqtok didn't write it"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), theirs);
        }
        write(&path, b"new", Foreign::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file is left");
    }

    #[test]
    fn links_are_never_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (original, link) = (dir.path().join("original"), dir.path().join("link.png"));
        fs::write(&original, mark_png(&png())).unwrap();
        std::os::unix::fs::symlink(&original, &link).unwrap();
        let error = write(&link, b"new", Foreign::Keep).unwrap_err().to_string();
        assert!(error.contains("link.png exists and it is a link"), "{error}");
        write(&link, b"new", Foreign::Replace).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file() && is_ours(&original));
        let dangling = dir.path().join("dangling.png");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
        assert!(write(&dangling, b"new", Foreign::Keep).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn files_and_folders_in_each_others_places_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"theirs").unwrap();
        for foreign in [Foreign::Keep, Foreign::Replace] {
            let error = write(dir.path(), b"new", foreign).unwrap_err().to_string();
            assert!(error.contains("it is a folder, where a file is to be written"), "{error}");
            let error = write(&file.join("a/b.png"), b"new", foreign).unwrap_err().to_string();
            assert!(error.ends_with("a file stands where a folder is needed"), "{error}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"theirs");
        write(Path::new("/dev/null"), b"new", Foreign::Keep).unwrap();
    }
}
