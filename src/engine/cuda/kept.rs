//! Owns the table of how convolutions run best, kept from run to run: a file for each version of cuDNN
//! and each kind of GPU in the user's cache. Must not know: how that is found out.
//!
//! Whatever is wrong with a file, it is as if there were none: everything in it can be had again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::program::ConvShape;
use crate::error::{Error, Result};
use crate::nvidia::choice::Choice;
use crate::util::atomic_file::AtomicFile;
use crate::util::cache_folder::cache_folder;
use crate::util::hex::hex;

/// What the table is of; other bytes are another table.
const FORMAT: &str = "vqtok convolutions 1";

/// Choices by shape, and their milliseconds.
pub(super) struct Kept {
    heading: Heading,
    /// None where there is no folder for it.
    file: Option<PathBuf>,
    choices: BTreeMap<ConvShape, Entry>,
    changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Heading {
    format: String,
    cudnn: String,
    gpu: String,
}

/// One convolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    shape: ConvShape,
    choice: Choice,
    ms: f32,
}

#[derive(Serialize, Deserialize)]
struct File {
    heading: Heading,
    /// Of the entries, as they are written.
    sha256: String,
    entries: Vec<Entry>,
}

impl Kept {
    /// The table for this cuDNN on this GPU.
    pub(super) fn open(cudnn: &str, gpu: &str) -> Kept {
        let folder = cache_folder().map(|folder| folder.join("cudnn"));
        Kept::open_in(folder.as_deref(), cudnn, gpu)
    }

    fn open_in(folder: Option<&Path>, cudnn: &str, gpu: &str) -> Kept {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = format!("{cudnn} {gpu}").chars().map(plain).collect();
        let file = folder.map(|folder| folder.join(format!("{name}.json")));
        let heading = Heading { format: FORMAT.into(), cudnn: cudnn.into(), gpu: gpu.into() };
        let mut kept = Kept { heading, file, choices: BTreeMap::new(), changed: false };
        kept.choices = kept.read().unwrap_or_default();
        kept
    }

    /// How a shape ran best, if that is known.
    pub(super) fn get(&self, shape: &ConvShape) -> Option<(&Choice, f32)> {
        self.choices.get(shape).map(|entry| (&entry.choice, entry.ms))
    }

    /// Takes a finding in.
    pub(super) fn put(&mut self, shape: ConvShape, choice: Choice, ms: f32) {
        self.choices.insert(shape, Entry { shape, choice, ms });
        self.changed = true;
    }

    /// Writes what was found out since the last time, beside what others have found out.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn write(&mut self) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return Ok(()) };
        self.changed = false;
        let mut all = self.read().unwrap_or_default();
        all.append(&mut self.choices.clone());
        let entries: Vec<Entry> = all.into_values().collect();
        let whole = File { heading: self.heading.clone(), sha256: digest(&entries)?, entries };
        let text = serde_json::to_vec_pretty(&whole).map_err(unwritable)?;
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        // Several processes may come to it at once.
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let whole = AtomicFile::new(file, &format!("{name}.{}", std::process::id()));
        whole.write(|out| std::io::Write::write_all(out, &text).map_err(Error::io(file)))?;
        whole.commit()
    }

    /// What the file holds; None where it isn't whole, or is of something else.
    fn read(&self) -> Option<BTreeMap<ConvShape, Entry>> {
        let text = std::fs::read(self.file.as_ref()?).ok()?;
        let file: File = serde_json::from_slice(&text).ok()?;
        let whole = file.heading == self.heading && digest(&file.entries).ok()? == file.sha256;
        whole.then(|| file.entries.into_iter().map(|entry| (entry.shape, entry)).collect())
    }
}

fn digest(entries: &[Entry]) -> Result<String> {
    Ok(hex(Sha256::digest(serde_json::to_vec(entries).map_err(unwritable)?)))
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::internal(format!("the table of convolutions: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(images: usize) -> ConvShape {
        ConvShape {
            images,
            height: 16,
            width: 8,
            inputs: 8,
            outputs: 8,
            kernel: 3,
            stride: 1,
            before: 1,
            after: 1,
            residual: false,
        }
    }

    #[test]
    fn a_table_is_read_again_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let open = |cudnn| Kept::open_in(Some(folder.path()), cudnn, "NVIDIA H200/2");
        let [one, two] = [41, 10].map(|engine| Choice::new(engine, vec![(2, 8), (7, -1)]));
        let mut first = open("9.19.0");
        assert!(first.get(&shape(64)).is_none());
        first.put(shape(64), one.clone(), 0.25);
        first.write().unwrap();
        // Another process has opened it before, and adds to it.
        let mut second = Kept { choices: BTreeMap::new(), ..open("9.19.0") };
        second.put(shape(4), two.clone(), 0.5);
        second.write().unwrap();
        let both = open("9.19.0");
        assert_eq!(both.get(&shape(64)), Some((&one, 0.25)));
        assert_eq!(both.get(&shape(4)), Some((&two, 0.5)));
        assert!(open("9.20.0").get(&shape(64)).is_none(), "of another version");
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        let path = files[0].as_ref().unwrap().path();
        assert_eq!(
            (files.len(), path.file_name().unwrap()),
            (1, "9-19-0-nvidia-h200-2.json".as_ref())
        );
        let good = std::fs::read(&path).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        for damaged in [
            good[..good.len() / 2].to_vec(),
            text.replace("\"engine\": 41", "\"engine\": 10").into_bytes(),
            text.replace("9.19.0", "9.18.0").into_bytes(),
            text.replace("convolutions 1", "convolutions 2").into_bytes(),
            b"null".to_vec(),
        ] {
            assert_ne!(damaged, good);
            std::fs::write(&path, damaged).unwrap();
            let mut made_anew = open("9.19.0");
            assert!(made_anew.get(&shape(64)).is_none() && made_anew.get(&shape(4)).is_none());
            made_anew.put(shape(64), one.clone(), 0.25);
            made_anew.write().unwrap();
            assert!(open("9.19.0").get(&shape(64)).is_some());
        }
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let mut kept = Kept::open_in(None, "9.19.0", "a card");
        kept.put(shape(1), Choice::new(1, Vec::new()), 1.0);
        assert!(kept.get(&shape(1)).is_some());
        kept.write().unwrap();
    }
}
