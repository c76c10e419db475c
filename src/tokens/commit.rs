//! Owns how bytes become durable and visible: hidden locked temporary files, fsync, link, rename.
//! Every such call of the output goes through here, and passes a fail point
//! (`util::fail_point`). Must not know: what the bytes mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::storage::{self, Created, Cursor};
use crate::tokens::write_refusal::Refusal;
use crate::util::portable_fs::Locked;
use crate::util::{fail_point, portable_fs};

/// Passes a fail point: where `VQTOK_FAILPOINT` says so, the process dies here or an error comes.
pub(super) fn fail_point(operation: &str, path: &Path) -> Result<()> {
    fail_point::pass(operation, path).map_err(Error::io(path))
}

/// sha256 and length of a file, read in blocks.
pub(crate) fn digest_file(path: &Path) -> Result<([u8; 32], u64)> {
    let mut file = Cursor::new(storage::open(path).map_err(Error::io(path))?);
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = match io::Read::read(&mut file, &mut block) {
            Ok(0) => return Ok((hasher.finalize().into(), bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(path)(error)),
        };
        hasher.update(&block[..count]);
        bytes += count as u64;
    }
}

/// Makes the entries of a folder durable; those of a store are.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if storage::is_remote(folder) {
        return Ok(());
    }
    fail_point("sync-folder", folder)?;
    portable_fs::sync_folder(folder).map_err(Error::io(folder))
}

/// Creates a folder (and what leads to it) durably; stores have none.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    if storage::is_remote(folder) || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    fail_point("folder", folder)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => {
            return Err(Error::io(folder)(error));
        }
        _ => {}
    }
    sync_folder(parent_of(folder))
}

/// Removes a file durably; one that is gone already is fine. Says whether there was one.
pub(crate) fn remove_durably(path: &Path) -> Result<bool> {
    fail_point("remove", path)?;
    if storage::is_remote(path) {
        return storage::remove(path).map_err(Error::io(path));
    }
    match fs::remove_file(path) {
        Ok(()) => sync_folder(parent_of(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// Creates `path` with `bytes`, durably and whole. Where it exists with the same bytes that is
/// fine; a broken one (no shard of ours can have written it) is replaced.
pub(crate) fn write_sidecar(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Published::Exists = write_exclusive(path, bytes)? {
        if storage::read(path, bytes.len() as u64).is_ok_and(|existing| existing == bytes) {
            // Its writer may have died between the link and the folder's sync.
            return sync_folder(parent_of(path));
        }
        return replace_durably(path, bytes);
    }
    Ok(())
}

/// Creates `path` with `bytes` unless it exists.
pub(crate) fn write_exclusive(path: &Path, bytes: &[u8]) -> Result<Published> {
    let mut temp = TempFile::create(path)?;
    temp.write_all(bytes).map_err(Error::io(path))?;
    temp.seal()?.publish()
}

/// Puts `bytes` at `path` whether it exists or not; readers see the old file or the new one.
pub(crate) fn replace_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temp = TempFile::create(path)?;
    temp.write_all(bytes).map_err(Error::io(path))?;
    temp.seal()?.replace()
}

/// How an exclusive creation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The file is ours.
    Created,
    /// Somebody else's file has the name; ours is gone.
    Exists,
}

/// A hidden file beside its target (of one in a store: in the system's folder for temporary files),
/// locked while its process lives, removed when dropped. What is written is hashed on the way.
pub(crate) struct TempFile {
    target: PathBuf,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    refusal: Refusal,
}

impl TempFile {
    /// A new temporary file `.<target's name>.<process>-<n>.tmp` in its folder.
    pub(crate) fn create(target: &Path) -> Result<TempFile> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let remote = storage::is_remote(target);
        loop {
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!(".{name}.{}-{n}.tmp", std::process::id());
            let path = match remote {
                true => {
                    let folder = staging_folder();
                    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
                    folder.join(name)
                }
                false => target.with_file_name(name),
            };
            fail_point("create", &path)?;
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                // Somebody found the folder of what goes to stores empty, and removed it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound && remote => continue,
                // Left by a dead process that had our number, or made on another host.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io(&path)(error)),
            };
            // File systems without locks can't tell living from dead: then nothing is cleaned up.
            let _ = file.lock();
            if links(&file) == Some(0) && !path.exists() {
                continue; // A cleaner took it for an orphan before the lock was there.
            }
            let target = target.to_path_buf();
            let refusal = Refusal::default();
            return Ok(TempFile { target, path, file, hasher: Sha256::new(), refusal });
        }
    }

    /// What tells, later on, why a write was refused.
    pub(crate) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    /// When it was last written, by the file system's clock.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|facts| facts.modified()).ok()
    }

    /// Sets when it was last written, where the file system can.
    pub(crate) fn set_modified(&self, time: SystemTime) {
        let _ = self.file.set_modified(time);
    }

    /// Makes the content durable and gives its digest.
    pub(crate) fn seal(mut self) -> Result<Sealed> {
        fail_point("sync", &self.path)?;
        portable_fs::sync_file(&self.file).map_err(Error::io(&self.target))?;
        let sha256 = std::mem::take(&mut self.hasher).finalize().into();
        Ok(Sealed { sha256, temp: self })
    }
}

impl Write for TempFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fail_point::before_write(&self.path, bytes, &mut self.file)
            .map_err(|error| self.refusal.keep(error))?;
        let count = self.file.write(bytes).map_err(|error| self.refusal.keep(error))?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After a rename there is nothing at the name; after a link it is only a second name.
        let _ = fs::remove_file(&self.path);
        if storage::is_remote(&self.target) {
            let _ = fs::remove_dir(parent_of(&self.path)); // Refused while anything lies there.
        }
    }
}

/// A temporary file whose content is complete and durable, but not yet seen.
pub(crate) struct Sealed {
    /// Of the content.
    pub sha256: [u8; 32],
    temp: TempFile,
}

impl Sealed {
    /// The temporary file's own path.
    pub(crate) fn path(&self) -> &Path {
        &self.temp.path
    }

    /// Gives the file its final name unless that is taken. This is the commit.
    pub(crate) fn publish(self) -> Result<Published> {
        self.publish_keeping().map(|(published, _)| published)
    }

    /// The same, handing back the temporary file for a comparison with whoever was faster.
    pub(crate) fn publish_keeping(self) -> Result<(Published, Sealed)> {
        Ok((self.publish_as(&self.temp.target)?, self))
    }

    /// Gives the file another name than it was begun for, in the same file system or store, unless that
    /// is taken.
    pub(crate) fn publish_as(&self, target: &Path) -> Result<Published> {
        let TempFile { path, file, .. } = &self.temp;
        fail_point("link", target)?;
        if storage::is_remote(target) {
            // The commit of a store: one conditional creation.
            return match storage::create(target, path).map_err(Error::io(target))? {
                Created::Ours => Ok(Published::Created),
                Created::Exists => Ok(Published::Exists),
            };
        }
        match portable_fs::name_exclusively(path, target) {
            Ok(()) => {}
            // NFS can make the link, lose its answer and try again.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !same_file(file, target) {
                    return Ok(Published::Exists);
                }
            }
            Err(error) => return Err(Error::io(target)(error)),
        }
        sync_folder(parent_of(target))?;
        fail_point("remove", path)?;
        Ok(Published::Created)
    }

    /// Gives the file its final name in place of whatever has it.
    pub(crate) fn replace(self) -> Result<()> {
        self.replace_as(&self.temp.target)
    }

    /// The same of another name than it was begun for.
    pub(crate) fn replace_as(&self, target: &Path) -> Result<()> {
        fail_point("rename", target)?;
        if storage::is_remote(target) {
            return storage::put(target, &self.temp.path).map_err(Error::io(target));
        }
        fs::rename(&self.temp.path, target).map_err(Error::io(target))?;
        sync_folder(parent_of(target))
    }
}

/// Where files of stores are written before they are sent; gone where there are none.
fn staging_folder() -> PathBuf {
    std::env::temp_dir().join("vqtok-to-stores")
}

/// Removes the temporary files of dead processes from a folder: those whose lock is free. Of one in a
/// store, from where they are written before.
pub(crate) fn remove_orphans(folder: &Path) -> Result<usize> {
    let mut removed = 0;
    let folder = match storage::is_remote(folder) {
        true => staging_folder(),
        false => folder.to_path_buf(),
    };
    for path in list(&folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !is_temporary(&name) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        // Without locks nobody can tell who is alive: then all stay.
        if matches!(portable_fs::try_lock(&file, true), Ok(Locked::Held)) {
            fail_point("remove", &path)?;
            removed += usize::from(fs::remove_file(&path).is_ok());
        }
    }
    Ok(removed)
}

/// Whether a name is one that [`TempFile::create`] gives. Nothing else is ours to remove.
fn is_temporary(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp")?.rsplit_once('.'));
    let id = id.filter(|(target, _)| !target.is_empty()).and_then(|(_, id)| id.split_once('-'));
    id.is_some_and(|(process, n)| number(process) && number(n))
}

/// The files of a folder, sorted by name; none where there is no folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    match storage::list(folder) {
        Ok(entries) => Ok(entries.iter().map(|entry| folder.join(&entry.name)).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(folder)(error)),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn links(file: &File) -> Option<u64> {
    file.metadata().ok().map(|m| m.nlink())
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::hex::hex;

    #[test]
    fn exclusive_creation_keeps_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(write_exclusive(&path, b"one").unwrap(), Published::Created);
        assert_eq!(write_exclusive(&path, b"two").unwrap(), Published::Exists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace_durably(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        write_sidecar(&path, b"four").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
        assert_eq!(list(folder.path()).unwrap(), [path], "no temporary file stays");
    }

    #[test]
    fn sealing_gives_the_digest_of_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut temp = TempFile::create(&folder.path().join("a")).unwrap();
        temp.write_all(b"hello").unwrap();
        temp.write_all(b" world").unwrap();
        let sealed = temp.seal().unwrap();
        assert_eq!(fs::metadata(sealed.path()).unwrap().len(), 11);
        assert_eq!(
            hex(sealed.sha256),
            "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
        );
        assert_eq!(sealed.publish().unwrap(), Published::Created);
        let (sha256, bytes) = digest_file(&folder.path().join("a")).unwrap();
        assert_eq!((hex(sha256).starts_with("b94d27"), bytes), (true, 11));
    }

    #[test]
    fn orphans_go_and_living_temporary_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let alive = TempFile::create(&folder.path().join("part")).unwrap();
        fs::write(folder.path().join(".part.1-0.tmp"), b"dead").unwrap();
        let theirs = [".notes.tmp", ".part.1-x.tmp", "mine.tmp"].map(|n| folder.path().join(n));
        theirs.iter().for_each(|path| fs::write(path, b"not ours").unwrap());
        assert_eq!(remove_orphans(folder.path()).unwrap(), 1);
        assert_eq!(list(folder.path()).unwrap().len(), 4);
        drop(alive);
        assert_eq!(list(folder.path()).unwrap(), theirs);
        assert_eq!(remove_orphans(&folder.path().join("absent")).unwrap(), 0);
    }
}
