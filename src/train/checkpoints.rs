//! Owns the checkpoints of a training on the disk: the newest, the one before, and which of them is
//! gone on from. Must not know: what they hold.
//!
//! The one before stays until the next is whole, so that a damaged file costs the steps since then
//! and not the training. At any moment at least one of the two has its name.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::train::trainer::state::State;
use crate::util::atomic_file::{AtomicFile, sync_folder_of};
use crate::util::regular_file::ANY_SIZE;
use crate::util::{error_text, fail_point, portable_fs, regular_file, text};

const NEWEST: &str = "checkpoint.safetensors";
const BEFORE: &str = "checkpoint.before.safetensors";

/// Whether a folder holds a checkpoint, usable or not.
pub(super) fn exist(folder: &Path) -> bool {
    [NEWEST, BEFORE].iter().any(|name| folder.join(name).exists())
}

/// The checkpoints in a folder.
pub(super) struct Checkpoints {
    folder: PathBuf,
    /// Whether the newest is worth being kept as the one before: it was written, or read, here.
    newest_is_whole: bool,
}

/// What there is to go on from.
pub(super) struct Taken {
    /// The newest that can be read.
    pub state: State,
    /// Why that isn't the last one, in words.
    pub warning: Option<String>,
}

impl Checkpoints {
    /// Those in `folder`.
    pub(super) fn new(folder: PathBuf) -> Checkpoints {
        Checkpoints { folder, newest_is_whole: false }
    }

    /// Reads the newest that is whole; None where there is none at all.
    ///
    /// # Errors
    /// Where none of them can be used: what their trouble is, and `advice`.
    pub(super) fn take(&mut self, advice: &str) -> Result<Option<Taken>> {
        let [newest, before] = [NEWEST, BEFORE].map(|name| self.folder.join(name));
        if !exist(&self.folder) {
            return Ok(None);
        }
        let trouble = match read(&newest) {
            Ok(state) => {
                self.newest_is_whole = true;
                return Ok(Some(Taken { state, warning: None }));
            }
            Err(trouble) => trouble,
        };
        let state = read(&before).map_err(|other| {
            let before = text::path(&before);
            Error::corrupt(&newest, format!("{trouble}; {before}: {other}; {advice}"))
        })?;
        let (newest, step) = (text::path(&newest), state.counters.step);
        let warning =
            format!("{newest}: {trouble}; the checkpoint before it, of step {step}, is taken");
        Ok(Some(Taken { state, warning: Some(warning) }))
    }

    /// Writes `state` as the newest; what was the newest is the one before then.
    ///
    /// # Errors
    /// Where a file can't be written; what was there is still there.
    pub(super) fn add(&mut self, state: &State) -> Result<()> {
        let [newest, before] = [NEWEST, BEFORE].map(|name| self.folder.join(name));
        let file = AtomicFile::new(&newest, &format!("{NEWEST}.partial"));
        file.write(|out| state.write(out, &newest))?;
        if self.newest_is_whole {
            keep(&newest, &before).map_err(Error::io(&before))?;
        }
        file.commit()?;
        self.newest_is_whole = true;
        sync_folder_of(&newest)
    }
}

/// Gives the newest checkpoint the name of the one before.
fn keep(newest: &Path, before: &Path) -> std::io::Result<()> {
    fail_point::pass("remove", before)?;
    match std::fs::remove_file(before) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fail_point::pass("link", before)?;
    portable_fs::name_exclusively(newest, before)
}

/// The checkpoint at `path`, or why there is none.
fn read(path: &Path) -> Result<State, String> {
    match regular_file::read(path, ANY_SIZE) {
        Ok(bytes) => State::from_bytes(&bytes)
            .map_err(|reason| format!("not a usable training checkpoint ({reason})")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("it is gone".into()),
        Err(error) => Err(error_text::reason(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::trainer::state::tests::fixture;

    fn steps(folder: &Path) -> (Option<usize>, Option<String>) {
        let taken = Checkpoints::new(folder.to_path_buf()).take("").unwrap();
        taken.map_or((None, None), |taken| (Some(taken.state.counters.step), taken.warning))
    }

    fn damage(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_one_before_a_damaged_checkpoint_is_taken_and_kept_until_there_is_a_better_one() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert_eq!(steps(dir), (None, None));
        let mut checkpoints = Checkpoints::new(dir.to_path_buf());
        (1..=3).for_each(|step| checkpoints.add(&fixture(step)).unwrap());
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2);
        assert_eq!(steps(dir), (Some(3), None));
        damage(&dir.join(NEWEST));
        let (step, warning) = steps(dir);
        assert_eq!(step, Some(2));
        let warning = warning.unwrap();
        assert!(warning.contains("not a usable training checkpoint"), "{warning}");
        assert!(warning.ends_with("the checkpoint before it, of step 2, is taken"), "{warning}");
        // The damaged one is never kept in place of a whole one.
        let mut checkpoints = Checkpoints::new(dir.to_path_buf());
        checkpoints.take("").unwrap();
        checkpoints.add(&fixture(4)).unwrap();
        assert_eq!(steps(dir), (Some(4), None));
        std::fs::remove_file(dir.join(NEWEST)).unwrap();
        let (step, warning) = steps(dir);
        assert_eq!(step, Some(2));
        assert!(warning.unwrap().contains("it is gone; "));
        damage(&dir.join(BEFORE));
        let error = Checkpoints::new(dir.to_path_buf()).take("advice").err().unwrap().to_string();
        assert!(error.contains(NEWEST) && error.contains(BEFORE), "{error}");
        assert!(error.ends_with("; advice"), "{error}");
    }
}
