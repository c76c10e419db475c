//! Owns what ImageFolder's metadata files say of the images in a folder and below: `metadata.csv`,
//! `metadata.jsonl`, and the rows of a `metadata.parquet`. Must not know: how the folder is walked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::input::trimmed;
use super::place::without_dot;
use super::row::Row;
use super::rows::Rows;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::odd::Oddities;
use crate::data::source::image::Facts;
use crate::data::source::uri;
use crate::error::{Error, Result};
use crate::storage;
use crate::util::text;

/// The column that makes a table the metadata of a folder.
const FILE_NAME: &str = "file_name";
const NAMES: [&str; 2] = ["metadata.csv", "metadata.jsonl"];

/// Most bytes that names and facts may have: they are held until the folder is walked.
const BYTES_MAX: usize = 512 << 20;
/// What a line costs beside its texts.
const LINE_BYTES: usize = 128;

/// What is known of the images in a folder, by their paths relative to it.
#[derive(Debug, Default)]
pub(crate) struct FolderMetadata {
    /// What the file is called.
    name: String,
    facts: BTreeMap<Vec<u8>, Facts>,
    bytes: usize,
    odd: Oddities,
}

/// Whether a file's path ends as that of a folder's metadata does.
pub(crate) fn is_metadata(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    NAMES.contains(&name) || name == "metadata.parquet"
}

fn is_file(path: &Path) -> bool {
    storage::facts(path).is_ok_and(|facts| facts.is_file)
}

/// The metadata of the folder in which `names` lie, where it has such a file. One that can't be
/// used says why in [`FolderMetadata::odd`]: other files are called so as well.
///
/// # Errors
/// The system's; more than can be held.
pub(crate) fn metadata_of(
    folder: &Path,
    names: &[OsString],
    fields: &Fields,
) -> Result<Option<FolderMetadata>> {
    let there =
        |name: &&str| names.iter().any(|other| other == name) && is_file(&folder.join(name));
    let mut found = NAMES.into_iter().filter(there);
    let Some(name) = found.next() else { return Ok(None) };
    let path = folder.join(name);
    let mut metadata = FolderMetadata::new(name);
    for other in found {
        metadata.odd.note(format!("{other} is not used beside {name}"), "");
    }
    let bytes = storage::open(&path).map_err(Error::io(&path))?;
    let fields = Fields { image: Some(FILE_NAME.into()), ..fields.clone() };
    let rows = Rows::open(&path, name, &bytes, &fields, &mut metadata.odd);
    match rows.map_err(Error::io(&path))? {
        Err(reason) => metadata.odd.note(format!("{name} is not used: {reason}"), ""),
        Ok(mut rows) => {
            while let Some((number, row)) =
                rows.next(&mut metadata.odd).map_err(Error::io(&path))?
            {
                let added = metadata.add(number, row);
                added
                    .map_err(|reason| Error::invalid(format!("{}: {reason}", text::path(&path))))?;
            }
        }
    }
    Ok(Some(metadata))
}

impl FolderMetadata {
    /// Of a file of this name, empty.
    pub(crate) fn new(name: &str) -> FolderMetadata {
        FolderMetadata { name: name.to_string(), ..FolderMetadata::default() }
    }

    /// Adds a row, whose number is counted from 1, or why it can't be understood.
    ///
    /// # Errors
    /// It is more than can be held: one line.
    pub(crate) fn add(&mut self, number: u64, row: Result<Row, String>) -> Result<(), String> {
        let place = format!("{}:{number}", self.name);
        let parts = row.and_then(|row| Ok((row.image?, row.facts)));
        let Ok((written, facts)) = parts else {
            self.odd.note("rows of metadata that can't be understood", &place);
            return Ok(());
        };
        let path = without_dot(trimmed(&written)).to_vec();
        if path.is_empty() {
            self.odd.note("rows of metadata that name no file", &place);
            return Ok(());
        }
        let texts = [&facts.label, &facts.caption, &facts.meta_json].into_iter().flatten();
        self.bytes += LINE_BYTES + path.len() + texts.map(String::len).sum::<usize>();
        if self.bytes > BYTES_MAX {
            return Err(format!(
                "its texts take more than {BYTES_MAX} bytes, and all are needed at once; name the \
                 file itself as an input, as a list"
            ));
        }
        if self.facts.insert(path, facts).is_some() {
            self.odd
                .note("files that metadata names more than once; the last row is taken", &place);
        }
        Ok(())
    }

    /// Takes what is said of the image at `path`, relative to the folder.
    pub(crate) fn take(&mut self, path: &Path) -> Facts {
        let path = path.as_os_str().as_bytes();
        self.facts.remove(path).unwrap_or_else(|| {
            self.odd.note(
                format!("images without a row in {} are taken without label or caption", self.name),
                &uri::readable(path),
            );
            Facts::default()
        })
    }

    /// What there is to say of it, once everything was taken.
    pub(crate) fn odd(mut self) -> Vec<String> {
        for path in self.facts.into_keys() {
            let what = format!("rows in {} whose file isn't an image here", self.name);
            self.odd.note(what, &uri::readable(&path));
        }
        self.odd.lines()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::shared;

    #[test]
    fn metadata_of_a_folder_is_found_by_file_name() {
        let Some(folder) = shared("sources/lists/img") else { return };
        let names = ["0.jpg".into(), "metadata.jsonl".into()];
        let mut metadata = metadata_of(&folder, &names, &Fields::default()).unwrap().unwrap();
        let facts = metadata.take(Path::new("sub/3.jpg"));
        assert_eq!((facts.caption.as_deref(), facts.label.as_deref()), (Some("m3"), Some("4")));
        assert_eq!(metadata.take(Path::new("1.jpg")), Default::default());
        assert_eq!(
            metadata.odd(),
            [
                "images without a row in metadata.jsonl are taken without label or caption: 1 (the first: \
             1.jpg)",
                "rows in metadata.jsonl whose file isn't an image here: 1 (the first: 0.jpg)"
            ]
        );
        assert!(metadata_of(&folder, &names[..1], &Fields::default()).unwrap().is_none());
    }

    #[test]
    fn another_table_called_metadata_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("metadata.csv"), "image_id,age\n1,2\n").unwrap();
        std::fs::write(dir.path().join("metadata.jsonl"), "").unwrap();
        let names = ["metadata.csv".into(), "metadata.jsonl".into()];
        let metadata = metadata_of(dir.path(), &names, &Fields::default()).unwrap().unwrap();
        let odd = metadata.odd();
        assert!(
            odd[0].starts_with("metadata.csv is not used: it has no column \"file_name\""),
            "{odd:?}"
        );
        assert_eq!(odd[1], "metadata.jsonl is not used beside metadata.csv");
    }
}
