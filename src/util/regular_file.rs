//! Owns reading whole files that a name leads to: regular ones alone, since a pipe would be waited
//! for and a device has no end, and of a size that is bounded.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Where a file may be of any size, as it grows with what a job was given.
pub(crate) const ANY_SIZE: u64 = u64::MAX;

/// Bytes of a text that people write, such as a recipe, at most.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 20;

/// The bytes of a regular file.
///
/// # Errors
/// No regular file; more than `bytes_max`; what the system refuses.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let facts = std::fs::metadata(path)?;
    if facts.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if !facts.is_file() {
        // Opening a pipe would wait for whoever writes into it.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    // One that grows meanwhile must not grow past the bound either.
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than the {bytes_max} bytes that such a file may have"),
        ));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// Those of [`read`]; bytes that are no UTF-8.
pub(crate) fn read_to_string(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text (UTF-8)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_and_devices_are_refused_and_files_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_to_string(&file, 5).unwrap(), "12345");
        assert_eq!(read(&file, ANY_SIZE).unwrap(), b"12345");
        let said = |path: &Path, max| read(path, max).unwrap_err().to_string();
        assert!(said(&file, 4).contains("more than the 4 bytes"));
        assert_eq!(read(dir.path(), 4).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(said(Path::new("/dev/zero"), 4), "it is no regular file");
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(said(&pipe, ANY_SIZE), "it is no regular file");
        std::fs::write(&file, b"\xff").unwrap();
        let error = read_to_string(&file, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
