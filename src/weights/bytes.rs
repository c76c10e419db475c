//! Owns where the bytes of a checkpoint lie: a mapped file or the heap.

use std::fs::{File, Metadata};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::util::{portable_fs, text};

/// A shared, read-only range of bytes; cloning and slicing copy nothing.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

/// What keeps the bytes alive.
enum Owner {
    Map(MappedFile),
    Heap(Vec<u8>),
}

/// A mapped file, and what it was when it was mapped.
struct MappedFile {
    map: memmap2::Mmap,
    file: File,
    path: PathBuf,
    state: (u64, Option<SystemTime>),
}

/// What a write to a file changes: its size or the time of its last change.
fn state(meta: &Metadata) -> (u64, Option<SystemTime>) {
    (meta.len(), meta.modified().ok())
}

/// The whole of a file, mapped to be read; None where its file system can't map (FUSE that goes
/// around the page cache, 9p): shared is refused more often than private.
fn mapped(file: &File) -> std::io::Result<Option<memmap2::Mmap>> {
    // SAFETY: the maps are only read. As with every mapped file, another process that truncates a
    // checkpoint while it is being read ends this one by SIGBUS; writers of checkpoints (ours too)
    // replace files by rename, which leaves this mapping intact.
    let ways = [
        |file: &File| unsafe { memmap2::Mmap::map(file) },
        |file: &File| unsafe { memmap2::MmapOptions::new().map_copy_read_only(file) },
    ];
    for way in ways {
        match way(file) {
            Err(error) if portable_fs::has_no_maps(&error) => {}
            done => return done.map(Some),
        }
    }
    Ok(None)
}

impl Bytes {
    /// The content of a file, mapped: pages are read when they are used, and not held twice.
    ///
    /// # Errors
    /// Where `path` is no regular file (a FIFO would block) or can't be opened.
    pub fn map(path: &Path) -> Result<Bytes> {
        let meta = std::fs::metadata(path).map_err(Error::io(path))?;
        if !meta.is_file() {
            return Err(Error::invalid(format!("{}: not a regular file", text::path(path))));
        }
        if meta.len() == 0 {
            return Ok(Bytes::from(Vec::new()));
        }
        let file = File::open(path).map_err(Error::io(path))?;
        let Some(map) = mapped(&file).map_err(Error::io(path))? else {
            return std::fs::read(path).map(Bytes::from).map_err(Error::io(path));
        };
        let range = 0..map.len();
        let state = state(&file.metadata().map_err(Error::io(path))?);
        let mapped = MappedFile { map, file, path: path.to_path_buf(), state };
        Ok(Bytes { owner: Arc::new(Owner::Map(mapped)), range })
    }

    /// Errors where somebody has written to the mapped file since: what was read before and after
    /// wouldn't belong together. A file that was replaced by rename lives on unchanged.
    ///
    /// # Errors
    /// With the file's name.
    pub fn check_unchanged(&self) -> Result<()> {
        let Owner::Map(mapped) = &*self.owner else { return Ok(()) };
        let now = state(&mapped.file.metadata().map_err(Error::io(&mapped.path))?);
        if now == mapped.state {
            return Ok(());
        }
        let reason = "it was written to while it was in use; start again when that is over";
        Err(Error::corrupt(&mapped.path, reason))
    }

    /// A part of these bytes; None where the range is not inside.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(Bytes { owner: self.owner.clone(), range })
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        let range = 0..bytes.len();
        Bytes { owner: Arc::new(Owner::Heap(bytes)), range }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.owner {
            Owner::Map(mapped) => &mapped.map,
            Owner::Heap(bytes) => bytes,
        };
        &all[self.range.clone()]
    }
}
