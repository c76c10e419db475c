//! Owns reading a table's images by their places. Must not know: which columns stand beside them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::detect::{ImageColumn, with_path};
use super::leaf::{Cells, LeafRows, Stored, TOO_FEW};
use super::table::Table;
use crate::data::formats::raw_image::Limits;
use crate::data::source::container::listing::ReadForward;
use crate::data::source::image::Part;
use crate::data::source::{file, uri};
use crate::error::{Reject, Stage};
use crate::storage::{self, BytesAt};
use crate::util::text;

/// Reads the images of one Parquet file; cheapest in the order of the rows.
pub(crate) struct TableReader {
    /// The table, or why there is none.
    table: Result<Table, String>,
    /// Where relative paths begin, in this order.
    folders: Vec<PathBuf>,
    /// The column that was read last.
    image: Option<ImageColumn>,
    bytes: Option<Rows>,
    paths: Option<Rows>,
}

impl TableReader {
    /// Of the Parquet file at `uri`. Paths in it that are relative begin at its folder, or else at
    /// `input`, the folder that was given as the INPUT.
    pub(crate) fn new(bytes: Arc<dyn BytesAt>, uri: &str, input: Option<&Path>) -> TableReader {
        let own = uri::to_path(uri).and_then(|path| Some(path.parent()?.to_path_buf()));
        let folders = own.into_iter().chain(input.map(Path::to_path_buf)).collect();
        let table = Table::open(bytes).map_err(|unopened| unopened.reason());
        TableReader { table, folders, image: None, bytes: None, paths: None }
    }
}

impl ReadForward for TableReader {
    fn read(&mut self, part: &Part, _unknown: u64, limits: &Limits) -> Result<Vec<u8>, Reject> {
        let table = self.table.as_ref();
        let table =
            table.map_err(|reason| reject(format!("the Parquet file can't be read: {reason}")))?;
        let element = choose(table, &mut self.image, &part.member)?;
        let image = self.image.as_ref().ok_or_else(changed)?;
        let group = table.group_of(part.offset).ok_or_else(changed)?;
        let at = At { group, row: part.offset, element, list: image.list };
        let cell = Rows::cell(&mut self.bytes, table, image.bytes, &at)?;
        if let Some(bytes) = cell {
            if bytes.len() as u64 > limits.file_bytes_max {
                let (bytes, max) = (bytes.len(), limits.file_bytes_max);
                return Err(reject(format!(
                    "the image has {bytes} bytes, more than the limit of {max}"
                )));
            }
            return Ok(bytes.to_vec());
        }
        let path = match image.path {
            Some(leaf) => Rows::cell(&mut self.paths, table, leaf, &at)?,
            None => None,
        };
        match path {
            Some(path) if !path.is_empty() => beside(path, &self.folders, limits),
            _ => Err(reject(format!(
                "there is no image in the row: {}",
                if image.path.is_some() { "neither bytes nor a path" } else { "it is null" }
            ))),
        }
    }
}

/// A cell of a table.
struct At {
    group: usize,
    row: u64,
    element: Option<usize>,
    /// Of a column of lists: definition levels below this one say that there is no element.
    list: Option<i16>,
}

/// Whether a column is of this name, and of lists or not.
fn is(name: &str, list: bool) -> impl Fn(&ImageColumn) -> bool {
    move |image| image.name == name && image.list.is_some() == list
}

/// Makes `image` the column that `member` is in; returns the element of its list.
fn choose(
    table: &Table,
    image: &mut Option<ImageColumn>,
    member: &str,
) -> Result<Option<usize>, Reject> {
    let of_list = member.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    let element = of_list.and_then(|(name, digits)| Some((name, digits.parse::<usize>().ok()?)));
    if image.as_ref().is_some_and(is(member, false)) {
        return Ok(None);
    }
    if let Some((name, element)) = element
        && image.as_ref().is_some_and(is(name, true))
    {
        return Ok(Some(element));
    }
    let find = |name: &str| table.column(name).and_then(|column| with_path(table, column));
    let plain = find(member).filter(is(member, false)).map(|image| (image, None));
    let listed = element
        .and_then(|(name, element)| Some((find(name).filter(is(name, true))?, Some(element))));
    if plain.is_some() && listed.is_some() {
        let name = text::quoted(member);
        return Err(reject(format!("a column {name} and a list mean the same; rename one")));
    }
    let (found, element) = plain.or(listed).ok_or_else(changed)?;
    *image = Some(found);
    Ok(element)
}

/// The rows of a leaf in one row group, from wherever it was read last.
struct Rows {
    leaf: usize,
    group: usize,
    /// The number of the row that is at hand.
    row: Option<u64>,
    /// The number of the row behind it.
    next: u64,
    /// Why `next` and all behind it can't be read.
    end: Option<String>,
    rows: LeafRows,
}

impl Rows {
    /// A cell's bytes; None for null.
    fn cell<'a>(
        held: &'a mut Option<Rows>,
        table: &Table,
        leaf: usize,
        at: &At,
    ) -> Result<Option<&'a [u8]>, Reject> {
        let serves = |rows: &Rows| {
            let ahead = rows.row == Some(at.row) || rows.next <= at.row;
            rows.leaf == leaf && rows.group == at.group && ahead
        };
        let rows = match held.take().filter(serves) {
            Some(rows) => rows,
            None => Rows::open(table, leaf, at.group).map_err(damaged)?,
        };
        let rows = held.insert(rows);
        let moved = rows.go_to(at.row);
        // Behind a damaged page of a flat leaf there may be whole ones, which a new start finds. In a
        // nested one there is no way past it, and none is sought again.
        if moved.is_err() && !rows.rows.is_nested() {
            *held = None;
        }
        moved.map_err(damaged)?;
        let rows = held.as_ref().ok_or_else(changed)?;
        value(rows.rows.cells(), at)
    }

    fn open(table: &Table, leaf: usize, group: usize) -> Result<Rows, String> {
        let rows = LeafRows::open(table, group, leaf, 1)?;
        Ok(Rows { leaf, group, row: None, next: table.rows_of(group).0, end: None, rows })
    }

    fn go_to(&mut self, row: u64) -> Result<(), String> {
        if let Some(reason) = &self.end {
            return Err(reason.clone());
        }
        if self.row == Some(row) {
            return Ok(());
        }
        self.row = None;
        if !self.rows.is_nested() && row > self.next {
            let between = usize::try_from(row - self.next).map_err(|e| e.to_string())?;
            self.rows.skip(between)?;
            self.next = row;
        }
        while self.next <= row {
            let moved = match self.rows.advance() {
                Ok(true) => Ok(()),
                Ok(false) => Err(TOO_FEW.into()),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = moved {
                self.end = Some(reason.clone());
                return Err(reason);
            }
            self.next += 1;
        }
        self.row = Some(row);
        Ok(())
    }
}

/// A value of a row; None for null.
fn value<'a>(cells: Cells<'a>, at: &At) -> Result<Option<&'a [u8]>, Reject> {
    let there = |level: &&i16| at.list.is_none_or(|def| **level >= def);
    let wanted = at.element.unwrap_or(0);
    let mut elements = cells.defs.iter().filter(there);
    let before = elements.by_ref().take(wanted);
    let values = before.filter(|level| **level == cells.max_def).count();
    let level = elements.next().ok_or_else(changed)?;
    if *level < cells.max_def {
        return Ok(None);
    }
    match cells.values.get(values) {
        Some(Stored::Bytes(bytes)) => Ok(Some(bytes.data())),
        _ => Err(changed()),
    }
}

/// The image file that a path in a table names.
fn beside(path: &[u8], folders: &[PathBuf], limits: &Limits) -> Result<Vec<u8>, Reject> {
    let name = String::from_utf8_lossy(path);
    let path = uri::to_path(&name).unwrap_or_else(|| PathBuf::from(OsStr::from_bytes(path)));
    if storage::REACHES_STORES && storage::is_remote(&path) {
        return file::read(&name, limits);
    }
    let is_file = |path: &PathBuf| storage::facts(path).is_ok_and(|facts| facts.is_file);
    // An absolute path stays one when it is joined to a folder.
    let bare = path.is_absolute().then(|| path.clone());
    let found = folders.iter().map(|folder| folder.join(&path)).chain(bare).find(is_file);
    match found {
        Some(found) => file::read(&uri::of_path(&found), limits),
        None => Err(reject(format!(
            "the row holds no bytes, only the path {}, where there is no file (`to_parquet` of \
             datasets doesn't store the files, `push_to_hub` does); put the file there",
            text::quoted(&name)
        ))),
    }
}

fn reject(message: impl Into<String>) -> Reject {
    Reject::new(Stage::Read, message)
}

fn damaged(reason: String) -> Reject {
    reject(format!("the row can't be read: {reason}"))
}

fn changed() -> Reject {
    reject("the file has changed since it was planned: there is no such column or row in it now")
}
