//! Owns the list of the images that a training was begun with, beside its checkpoint, and the
//! comparison with those that a resumed run finds: names, sizes, contents. Must not know: files of
//! images.
//!
//! Reading everything again would cost as much as an epoch. So an image's content is digested when
//! training first reads it; a resumed run digests again what was read and looks touched since, and
//! of what doesn't, as much as costs little.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::train::input::train_data::{Stamp, TrainData};
use crate::util::hex::hex;
use crate::util::regular_file::ANY_SIZE;
use crate::util::{atomic_file, regular_file, text};

/// An image as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(flatten)]
    stamp: Stamp,
    /// Hex sha256 of its content; None where it was never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// The images of a training, in their order.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    entries: Vec<Entry>,
}

/// Bytes that are digested again although nothing looks touched.
const UNTOUCHED_BYTES_MAX: u64 = 1 << 30;
/// Images named for each kind of difference.
const NAMED: usize = 3;

impl Manifest {
    /// Of the images as they are; what was read of them is added by [`Manifest::write`]. Nothing
    /// where images can't change.
    pub(crate) fn of(data: &dyn TrainData) -> Manifest {
        let entry = |index| {
            let (key, stamp) = (data.key(index), data.stamp(index)?);
            Some(Entry { key, stamp, sha256: None })
        };
        Manifest { entries: (0..data.len()).map(entry).collect::<Option<_>>().unwrap_or_default() }
    }

    /// Reads what [`Manifest::write`] wrote; None where there is no such file, as in trainings of
    /// older versions.
    ///
    /// # Errors
    /// A file that can't be read, or is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Manifest>> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = regular_file::read(path, ANY_SIZE).map_err(Error::io(path))?;
        let text = String::from_utf8_lossy(&bytes);
        let entries = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        let entries = entries.map_err(|e| Error::corrupt(path, format!("no list of images: {e}")));
        Ok(Some(Manifest { entries: entries? }))
    }

    /// Writes the list, with the digests of what has been read by now.
    ///
    /// # Errors
    /// Where the file can't be written; what was there is still there.
    pub(crate) fn write(&mut self, data: &dyn TrainData, path: &Path) -> Result<()> {
        let mut text = String::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.sha256.is_none() {
                entry.sha256 = data.read_digest(index).map(hex);
            }
            let line = serde_json::to_string(entry)
                .map_err(|e| Error::invalid(format!("a line of the list of images: {e}")))?;
            text.push_str(&line);
            text.push('\n');
        }
        match text.is_empty() {
            true => Ok(()),
            false => atomic_file::write(path, text.as_bytes()),
        }
    }

    /// The images of `data`, which must be those of `then`, where it is known; its digests are taken
    /// over.
    ///
    /// # Errors
    /// Where they are not: how many are new, gone, changed, with examples.
    pub(crate) fn resumed(
        then: Option<Manifest>,
        data: &dyn TrainData,
        folder: &Path,
    ) -> Result<Manifest> {
        let mut now = Manifest::of(data);
        let Some(then) = then.filter(|_| !now.entries.is_empty()) else { return Ok(now) };
        let mut known = by_name(&then.entries);
        let (mut new, mut same) = (Vec::new(), Vec::new());
        for (name, index) in by_name(&now.entries) {
            match known.remove(&name) {
                Some(at) => same.push((index, &then.entries[at])),
                None => new.push(name.0),
            }
        }
        let gone: Vec<&str> = known.into_keys().map(|(key, _)| key).collect();
        let changed = changed(&same, &now.entries, data);
        if new.is_empty() && gone.is_empty() && changed.is_empty() {
            let digests: Vec<_> =
                same.into_iter().map(|(index, then)| (index, then.sha256.clone())).collect();
            for (index, sha256) in digests {
                now.entries[index].sha256 = sha256;
            }
            return Ok(now);
        }
        Err(Error::mismatch(format!(
            "{}: the images are not those that this training was begun with: {} new, {} gone, {} \
             changed{}; give it the same images, or begin another training in another folder",
            text::path(folder),
            new.len(),
            gone.len(),
            changed.len(),
            examples(&[("new", &new), ("gone", &gone), ("changed", &changed)])
        )))
    }
}

/// The place of each image by its key, and by how many images of that key come before it: several
/// inputs may give the same.
fn by_name(entries: &[Entry]) -> BTreeMap<(&str, usize), usize> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let before = seen.entry(&entry.key).or_default();
        places.insert((entry.key.as_str(), *before), index);
        *before += 1;
    }
    places
}

/// The keys of the images whose content is another one, in their order. An image that was never
/// read had no part in the training yet: its size alone is compared.
fn changed<'a>(same: &[(usize, &'a Entry)], now: &[Entry], data: &dyn TrainData) -> Vec<&'a str> {
    let mut untouched = 0;
    let looked_at: Vec<_> = same
        .iter()
        .map(|(index, then)| {
            let stamp = now[*index].stamp;
            let touched = stamp.modified.is_none() || stamp.modified != then.stamp.modified;
            untouched += if touched { 0 } else { stamp.bytes };
            (*index, *then, touched || untouched <= UNTOUCHED_BYTES_MAX)
        })
        .collect();
    let differs = |(index, then, read): &&(usize, &Entry, bool)| {
        if now[*index].stamp.bytes != then.stamp.bytes {
            return true;
        }
        let Some(sha256) = then.sha256.as_ref().filter(|_| *read) else { return false };
        data.content_digest(*index).map(hex).as_ref() != Some(sha256)
    };
    let different: Vec<_> = looked_at.par_iter().filter(differs).collect();
    different.into_iter().map(|(_, then, _)| then.key.as_str()).collect()
}

/// ` (new: a, b; gone: c, d, e, ...)`.
fn examples(kinds: &[(&str, &[&str])]) -> String {
    let shown = |(kind, keys): &(&str, &[&str])| {
        let more = if keys.len() > NAMED { ", ..." } else { "" };
        let keys: Vec<_> = keys.iter().take(NAMED).copied().collect();
        (!keys.is_empty()).then(|| format!("{kind}: {}{more}", keys.join(", ")))
    };
    let shown: Vec<_> = kinds.iter().filter_map(shown).collect();
    format!(" ({})", shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reject;

    /// Keys, contents and times.
    struct Files(Vec<(&'static str, &'static str, i64)>);

    impl TrainData for Files {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn key(&self, index: usize) -> String {
            self.0[index].0.into()
        }

        fn example(&self, _: usize, _: u64) -> Result<Vec<u8>, Reject> {
            Ok(vec![])
        }

        fn stamp(&self, index: usize) -> Option<Stamp> {
            let (_, content, modified) = self.0[index];
            Some(Stamp { bytes: content.len() as u64, modified: Some(modified) })
        }

        /// All but the last were read.
        fn read_digest(&self, index: usize) -> Option<[u8; 32]> {
            (index + 1 < self.len()).then(|| self.content_digest(index)).flatten()
        }

        fn content_digest(&self, index: usize) -> Option<[u8; 32]> {
            let mut digest = [0; 32];
            digest[..self.0[index].1.len()].copy_from_slice(self.0[index].1.as_bytes());
            Some(digest)
        }
    }

    const THEN: [(&str, &str, i64); 4] =
        [("a", "one", 1), ("a", "two", 1), ("b", "three", 1), ("c", "four", 1)];

    fn resumed(now: &[(&'static str, &'static str, i64)]) -> Result<Manifest> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        let then = Files(THEN.to_vec());
        Manifest::of(&then).write(&then, &path).unwrap();
        let then = Manifest::read(&path).unwrap().unwrap();
        Manifest::resumed(Some(then), &Files(now.to_vec()), Path::new("m"))
    }

    #[test]
    fn the_same_images_are_the_same_wherever_they_lie_and_whenever_they_were_written() {
        let again = resumed(&THEN).unwrap();
        assert_eq!(again.entries.iter().filter(|e| e.sha256.is_some()).count(), 3);
        resumed(&THEN.map(|(key, content, _)| (key, content, 9))).unwrap();
        // In another order of the inputs they would be others: the two of one name are told apart
        // by their order alone.
        assert!(resumed(&[THEN[1], THEN[0], THEN[2], THEN[3]]).is_err());
    }

    #[test]
    fn what_differs_is_counted_and_named() {
        let said = |now: &[_]| resumed(now).unwrap_err().to_string();
        let text = said(&[("a", "one", 1), ("b", "threw", 2), ("c", "four", 1), ("d", "x", 1)]);
        assert!(text.starts_with("m: the images are not"), "{text}");
        assert!(text.contains("1 new, 1 gone, 1 changed (new: d; gone: a; changed: b)"), "{text}");
        // A content of the same size, written at the same time.
        assert!(said(&[("a", "one", 1), ("a", "owt", 1), THEN[2], THEN[3]]).contains("1 changed"));
        // One that was never read: of the same size it had no part yet.
        resumed(&[THEN[0], THEN[1], THEN[2], ("c", "five", 2)]).unwrap();
        assert!(said(&[THEN[0], THEN[1], THEN[2], ("c", "longer", 1)]).contains("changed: c"));
        let many = ["e", "f", "g", "h"].map(|key| (key, "", 1));
        assert!(
            said(&[&THEN[..], &many].concat())
                .contains("4 new, 0 gone, 0 changed (new: e, f, g, ...)")
        );
    }

    #[test]
    fn older_trainings_have_no_list_and_a_broken_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        assert!(Manifest::read(&path).unwrap().is_none());
        std::fs::write(&path, "{").unwrap();
        assert!(Manifest::read(&path).unwrap_err().to_string().contains("no list of images"));
    }
}
