//! Owns how many small files become durable and visible together: written into a hidden, locked
//! folder beside theirs, synced all at once, then linked to their names. A sync for each would be the
//! most of the work. Must not know: what the bytes mean.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::commit::{create_folder, fail_point, sync_folder};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::portable_fs::{self, Locked};

/// Files of one series, which differ in their numbers.
pub(crate) struct Series {
    /// What stands before the number, with the folder below the parent.
    pub before: String,
    /// Digits of the number at least.
    pub digits: usize,
    /// What stands behind it.
    pub after: &'static str,
    /// The number of the first file.
    pub first: u64,
    /// How many there are so far.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    hasher: Sha256,
}

impl Series {
    pub(crate) fn new(before: String, digits: usize, after: &'static str, first: u64) -> Series {
        Series { before, digits, after, first, count: 0, bytes: 0, hasher: Sha256::new() }
    }

    /// The name of file `number`.
    pub(crate) fn name(&self, number: u64) -> String {
        let Series { before, digits, after, .. } = self;
        format!("{before}{number:0digits$}{after}")
    }

    /// The folder that all lie in.
    fn folder(&self, parent: &Path) -> PathBuf {
        let (below, _) = self.before.rsplit_once('/').unwrap_or_default();
        parent.join(below)
    }

    /// All names as one, with their numbers in braces.
    pub(crate) fn pattern(&self) -> String {
        let Series { before, digits, after, first, count, .. } = self;
        let last = first + count - 1;
        format!("{before}{{{first:0digits$}..{last:0digits$}}}{after}")
    }

    /// Of all files, one behind the other.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }
}

/// Files on their way; those without names are gone when it is dropped.
pub(crate) struct ManyFiles {
    parent: PathBuf,
    hidden: PathBuf,
    /// Locked while we live.
    lock: File,
    pub series: Vec<Series>,
}

impl ManyFiles {
    /// Begins files below a folder.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn create(parent: &Path, series: Vec<Series>) -> Result<ManyFiles> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        for series in &series {
            create_folder(&series.folder(parent))?;
        }
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let hidden = parent.join(format!(".files.{}-{number}.tmp", std::process::id()));
            fail_point("folder", &hidden)?;
            match fs::create_dir(&hidden) {
                // Left by a dead process that had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(Error::io(&hidden))?,
            }
            let lock = File::open(&hidden).map_err(Error::io(&hidden))?;
            // Where there are no locks nothing is cleaned up.
            let _ = lock.lock();
            return Ok(ManyFiles { parent: parent.to_path_buf(), hidden, lock, series });
        }
    }

    /// Where a file lies before it has its name.
    fn hidden(&self, series: usize, number: u64) -> PathBuf {
        self.hidden.join(format!("{series}-{number}"))
    }

    /// Writes the next files of a series, on all threads.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn add(&mut self, series: usize, files: &[&[u8]]) -> Result<()> {
        let from = self.series[series].first + self.series[series].count;
        let place = |at: usize| self.hidden(series, from + at as u64);
        files.par_iter().enumerate().try_for_each(|(at, bytes)| write(&place(at), bytes))?;
        let series = &mut self.series[series];
        for bytes in files {
            series.hasher.update(bytes);
            series.count += 1;
            series.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Makes all of them durable.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn seal(self) -> Result<ManyFiles> {
        fail_point("sync", &self.hidden)?;
        if !portable_fs::sync_file_system(&self.lock).map_err(Error::io(&self.hidden))? {
            self.paths().par_iter().flatten().try_for_each(|path| -> Result<()> {
                let file = File::open(path).map_err(Error::io(path))?;
                portable_fs::sync_file(&file).map_err(Error::io(path))
            })?;
        }
        Ok(self)
    }

    /// By series, where the files lie.
    pub(crate) fn paths(&self) -> Vec<Vec<PathBuf>> {
        let of = |(at, series): (usize, &Series)| -> Vec<PathBuf> {
            let numbers = series.first..series.first + series.count;
            numbers.map(|number| self.hidden(at, number)).collect()
        };
        self.series.iter().enumerate().map(of).collect()
    }

    /// Gives all files their names. Gives back one whose name is taken by a file of other bytes.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn publish(&self) -> Result<Option<PathBuf>> {
        let mut taken = None;
        for (at, series) in self.series.iter().enumerate() {
            let numbers = series.first..series.first + series.count;
            let foreign = numbers.into_par_iter().map(|number| -> Result<Option<PathBuf>> {
                let to = self.parent.join(series.name(number));
                Ok((!link(&self.hidden(at, number), &to)?).then_some(to))
            });
            let foreign = foreign.collect::<Result<Vec<_>>>()?;
            taken = taken.or(foreign.into_iter().flatten().next());
            sync_folder(&series.folder(&self.parent))?;
        }
        Ok(taken)
    }
}

impl Drop for ManyFiles {
    fn drop(&mut self) {
        // Those that were linked are only second names.
        let _ = fs::remove_dir_all(&self.hidden);
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fail_point("create", path)?;
    let mut file = File::create_new(path).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))
}

/// Gives a file its name. Says whether it is the name of these bytes now, or was before.
fn link(from: &Path, to: &Path) -> Result<bool> {
    fail_point("link", to)?;
    match portable_fs::name_exclusively(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let ours = fs::read(from).map_err(Error::io(from))?;
            Ok(storage::read(to, ours.len() as u64).is_ok_and(|theirs| theirs == ours))
        }
        Err(error) => Err(Error::io(to)(error)),
    }
}

/// Removes what dead processes left in a folder: hidden folders whose lock is free.
///
/// # Errors
/// What the system refuses.
pub(crate) fn remove_orphans(parent: &Path) -> Result<()> {
    for path in super::commit::list(parent)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with(".files.") && name.ends_with(".tmp") && path.is_dir()) {
            continue;
        }
        let Ok(folder) = File::open(&path) else { continue };
        if matches!(portable_fs::try_lock(&folder, true), Ok(Locked::Held)) {
            fail_point("remove", &path)?;
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_their_names_once_and_theirs_stay() {
        let dir = tempfile::tempdir().unwrap();
        let many = || {
            let series =
                vec![Series::new("a/".into(), 1, ".x", 8), Series::new("b".into(), 3, "", 0)];
            let mut many = ManyFiles::create(dir.path(), series).unwrap();
            many.add(0, &[b"one", b"two"]).unwrap();
            many.add(0, &[b"three"]).unwrap();
            many.add(1, &[b"four"]).unwrap();
            many.seal().unwrap()
        };
        let first = many();
        assert!(!dir.path().join("a/8.x").exists());
        assert_eq!(first.series[0].pattern(), "a/{8..10}.x");
        assert_eq!(first.series[1].pattern(), "b{000..000}");
        assert_eq!(first.series[0].bytes, 11);
        assert_eq!(first.series[0].sha256(), <[u8; 32]>::from(Sha256::digest(b"onetwothree")));
        assert_eq!(first.publish().unwrap(), None);
        drop(first);
        assert_eq!(fs::read(dir.path().join("a/10.x")).unwrap(), b"three");
        // Again they are the same; other bytes in their place stay.
        assert_eq!(many().publish().unwrap(), None);
        fs::write(dir.path().join("a/9.x"), "TWO").unwrap();
        assert_eq!(many().publish().unwrap(), Some(dir.path().join("a/9.x")));
        assert_eq!(fs::read(dir.path().join("a/9.x")).unwrap(), b"TWO");
        // A living process's folder stays, a dead one's goes.
        let living = many();
        fs::create_dir(dir.path().join(".files.1-1.tmp")).unwrap();
        remove_orphans(dir.path()).unwrap();
        assert!(living.paths()[0][0].exists() && !dir.path().join(".files.1-1.tmp").exists());
        drop(living);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
