//! Owns reaching places whose paths are longer than the system takes in one call (4,096 bytes on
//! Linux), in steps from folder to folder.

use std::io;
use std::path::Path;

/// Does `act` with a path to the same place that the system takes; on other systems than Linux,
/// with `path` itself.
///
/// # Errors
/// Those of `act`; a folder on the way that can't be entered.
pub(crate) fn reach<T>(path: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    #[cfg(target_os = "linux")]
    if path.as_os_str().len() >= linux::BYTES_MAX {
        return linux::in_steps(path, act);
    }
    act(path)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    /// Below PATH_MAX by more than `/proc/self/fd/<n>/` needs.
    pub(crate) const BYTES_MAX: usize = 4000;

    /// An open folder is reached as `/proc/self/fd/<n>`, which is where the next step starts.
    pub(crate) fn in_steps<T>(path: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let mut rest = path.as_os_str().as_bytes();
        let mut folder: Option<File> = None;
        let from = |folder: &Option<File>, part: &[u8]| match folder {
            Some(open) => Path::new(&format!("/proc/self/fd/{}", open.as_raw_fd()))
                .join(OsStr::from_bytes(part)),
            None => PathBuf::from(OsStr::from_bytes(part)),
        };
        while rest.len() >= BYTES_MAX {
            // A name has at most 255 bytes, so that there is a `/` among so many.
            let Some(end) = rest[..BYTES_MAX].iter().rposition(|&b| b == b'/').filter(|&at| at > 0)
            else {
                return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
            };
            let next = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
                .open(from(&folder, &rest[..end]))?;
            folder = Some(next);
            // What follows is relative to the folder: `join` would take a leading `/` as the root.
            let skip = rest[end..].iter().take_while(|&&b| b == b'/').count();
            rest = &rest[end + skip..];
        }
        act(&from(&folder, rest))
    }
}
