//! Owns what a file system may refuse, and what is done instead: locks, syncing folders, maps, hard
//! links and exclusive renames. Must not know: what the files mean.
//!
//! | asked for | refused by | instead |
//! |---|---|---|
//! | a lock | NFS without a lock service, Lustre without `flock`, some FUSE | nothing is locked, and a notice says what that leaves unprotected |
//! | syncing a folder | CIFS, FUSE, 9p | nothing: such a file system gives no more than it gives |
//! | syncing all files at once | macOS, FUSE | each file is synced |
//! | a file in memory (`mmap`) | FUSE without a page cache, 9p | a private map, else the file is read |
//! | a hard link, for a name that is given once | exFAT, FAT, CIFS, FUSE, some overlays | an exclusive rename; where that is refused too, a rename once nobody has the name |

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::util::text;

/// Whether the file system doesn't know an operation, which says nothing of the file.
fn is_unknown(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || matches!(
            error.raw_os_error(),
            Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY)
        )
}

/// Makes a file's content durable, as far as its file system does that.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    pass_unknown(file.sync_all())
}

/// Makes everything durable that was written to a file's file system so far, and says so; where the
/// system has no such call nothing is done.
pub(crate) fn sync_file_system(file: &File) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is that of an open file, and the call takes nothing else.
        match unsafe { libc::syncfs(file.as_raw_fd()) } {
            0 => Ok(true),
            _ => pass_unknown(Err(io::Error::last_os_error())).map(|()| false),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        Ok(false)
    }
}

/// Makes the entries of a folder durable, as far as its file system does that.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let opened = match File::open(folder) {
        // FUSE without `opendir`, or a folder that may be entered and written, but not listed.
        Err(error) if is_unknown(&error) || error.kind() == ErrorKind::PermissionDenied => {
            return Ok(());
        }
        opened => opened?,
    };
    match opened.sync_all() {
        // Some say that a folder is no open file.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBADF | libc::EISDIR)) => Ok(()),
        synced => pass_unknown(synced),
    }
}

fn pass_unknown(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if is_unknown(&error) => Ok(()),
        done => done,
    }
}

/// How taking a lock ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    /// It is ours until the file is closed.
    Held,
    /// Somebody else has it.
    Busy,
    /// The file system has none.
    Unknown,
}

/// Takes a lock on an open file, shared or exclusive, without waiting.
pub(crate) fn try_lock(file: &File, exclusive: bool) -> io::Result<Locked> {
    let taken = if exclusive { file.try_lock() } else { file.try_lock_shared() };
    match taken {
        Ok(()) => Ok(Locked::Held),
        Err(TryLockError::WouldBlock) => Ok(Locked::Busy),
        Err(TryLockError::Error(error)) if has_no_locks(&error) => Ok(Locked::Unknown),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// An open file that lets go of its lock when it is dropped, also while a process that was forked meanwhile
/// still has the file open: closing it alone would leave the lock to that one.
pub(crate) struct LockedFile(pub(crate) File);

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Where that fails, closing it is what is left.
        let _ = self.0.unlock();
    }
}

fn has_no_locks(error: &io::Error) -> bool {
    // NFS makes locks of bytes from it, which need a file that is open for writing (EBADF); a
    // sandbox may forbid the call (EPERM).
    is_unknown(error)
        || matches!(
            error.raw_os_error(),
            Some(libc::ENOLCK | libc::EBADF | libc::EPERM | libc::EACCES)
        )
}

/// Whether a file's system doesn't map files, or not in this way.
pub(crate) fn has_no_maps(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    is_unknown(error) || matches!(number, Some(libc::ENODEV | libc::EACCES | libc::EPERM))
}

/// Gives the file at `from` the name `to` as well or instead, unless that is taken: then
/// [`ErrorKind::AlreadyExists`].
pub(crate) fn name_exclusively(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if has_no_links(&error) => {}
        done => return done,
    }
    match rename_exclusively(from, to) {
        Err(error) if has_no_links(&error) => {}
        done => return done,
    }
    // Two who come here in the same instant have made the same file, or the later one's stays,
    // which is whole too.
    if fs::symlink_metadata(to).is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

fn has_no_links(error: &io::Error) -> bool {
    is_unknown(error)
        || matches!(
            error.raw_os_error(),
            Some(libc::EPERM | libc::EACCES | libc::EMLINK | libc::EXDEV)
        )
}

#[cfg(target_os = "linux")]
fn rename_exclusively(from: &Path, to: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let [from, to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (from, to) = (from?, to?);
    let here = libc::AT_FDCWD;
    // By number, since older C libraries have no function for it.
    // SAFETY: both texts end in 0 and outlive the call, which only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            here,
            from.as_ptr(),
            here,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn rename_exclusively(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// What file systems refused and the user should know; each is told once.
static NOTICES: Mutex<Notices> = Mutex::new(Notices { subjects: Vec::new(), untold: Vec::new() });

struct Notices {
    subjects: Vec<PathBuf>,
    untold: Vec<String>,
}

/// Keeps a sentence for [`take_notices`], unless one about `subject` was kept before.
pub(crate) fn notice(subject: &Path, sentence: &str) {
    let mut notices = NOTICES.lock().unwrap_or_else(PoisonError::into_inner);
    if !notices.subjects.iter().any(|known| known == subject) {
        notices.subjects.push(subject.to_path_buf());
        notices.untold.push(format!("{}: {sentence}", text::path(subject)));
    }
}

/// The sentences that nobody has taken yet.
pub(crate) fn take_notices() -> Vec<String> {
    let mut notices = NOTICES.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut notices.untold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_whichever_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for give in [name_exclusively, rename_exclusively] {
            let (from, to) = (path("from"), path("to"));
            fs::write(&from, "new").unwrap();
            match give(&from, &to) {
                // Not everywhere is there such a rename.
                Err(error) if has_no_links(&error) => continue,
                done => done.unwrap(),
            }
            assert_eq!(fs::read(&to).unwrap(), b"new");
            // After a hard link both names are one file.
            let _ = fs::remove_file(&from);
            fs::write(&from, "later").unwrap();
            assert_eq!(give(&from, &to).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&to).unwrap(), b"new");
            fs::remove_file(&to).unwrap();
        }
    }

    #[test]
    fn a_notice_is_taken_once() {
        let own = Path::new("a test's own");
        notice(own, "one");
        notice(own, "two");
        let ours = |all: Vec<String>| {
            all.into_iter().filter(|told| told.starts_with("a test's")).collect::<Vec<_>>()
        };
        assert_eq!(ours(take_notices()), ["a test's own: one"]);
        notice(own, "three");
        assert_eq!(ours(take_notices()), [""; 0]);
    }
}
