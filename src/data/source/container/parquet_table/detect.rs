//! Owns which column of a table holds its images, and how they lie in it. Must not know: what stands
//! beside them.

use super::features::{Feature, Features};
use super::table::Table;
use super::tree::{Column, Kind};
use crate::data::source::container::fields::Fields;
use crate::util::settings::IMAGE_COLUMN;
use crate::util::text;

/// Names of columns of bytes that are taken for images, in any case of letters.
const NAMES: [&str; 10] =
    ["image", "img", "jpg", "jpeg", "png", "webp", "images", "image_bytes", "bytes", "content"];

/// What the name of a column of bytes ends in where a struct was flattened.
const FLATTENED: &str = ".bytes";

/// The column that holds the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageColumn {
    pub(super) name: String,
    /// Of a column of lists: definition levels below this one say that there is no element.
    pub(super) list: Option<i16>,
    /// The leaf of the bytes.
    pub(super) bytes: usize,
    /// The leaf of the paths that stand in for bytes.
    pub(super) path: Option<usize>,
}

/// Why no column is taken for the images.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoImages {
    /// Nothing looks like them.
    None,
    /// What looks like them can't be taken, in a line without the file's name.
    Refused(String),
}

/// The column of a table's images.
///
/// # Errors
/// See [`NoImages`].
pub(super) fn image_column(
    table: &Table,
    features: &Features,
    fields: &Fields,
) -> Result<ImageColumn, NoImages> {
    if let Some(name) = &fields.image {
        return named(table, name).map_err(NoImages::Refused);
    }
    let found = by_looks(table, features);
    match &found[..] {
        [] => Err(numbers(table).map_or(NoImages::None, NoImages::Refused)),
        [column] => with_path(table, column).ok_or(NoImages::None),
        [first, second, ..] => Err(NoImages::Refused(format!(
            "its columns {} and {} both hold images; choose one with {IMAGE_COLUMN}",
            text::quoted(&first.name),
            text::quoted(&second.name)
        ))),
    }
}

/// The column `name` of images, whose flattened form has a longer name.
fn named(table: &Table, name: &str) -> Result<ImageColumn, String> {
    let column = table.column(name).or_else(|| table.column(&format!("{name}{FLATTENED}")));
    let Some(column) = column else {
        return Err(format!("it has no column {}; set another {IMAGE_COLUMN}", text::quoted(name)));
    };
    with_path(table, column).ok_or_else(|| {
        format!(
            "its column {} holds {}, no images: those are bytes, or structs with bytes in `bytes`; \
             set another {IMAGE_COLUMN}",
            text::quoted(name),
            text::shorten(&column.words())
        )
    })
}

/// The columns that look like images, by the surest sign that any of them shows.
fn by_looks<'a>(table: &'a Table, features: &Features) -> Vec<&'a Column> {
    let other = |c: &&Column| features.of_column(&c.name) != Some(&Feature::OtherMedia);
    let columns: Vec<&Column> =
        table.columns().iter().filter(|c| images_of(c).is_some()).filter(other).collect();
    let signs: [&dyn Fn(&Column) -> bool; 4] = [
        &|c| features.of_column(&c.name) == Some(&Feature::Image),
        &|c| !element_of(c).is_bytes(),
        &|c| NAMES.iter().any(|name| c.name.eq_ignore_ascii_case(name)),
        &|c| c.name.ends_with(FLATTENED),
    ];
    let found = signs.iter().map(|sign| columns.iter().filter(|c| sign(c)).copied().collect());
    found.into_iter().find(|found: &Vec<_>| !found.is_empty()).unwrap_or_default()
}

/// A line about a column of an image's name that holds its bytes as lists of numbers.
fn numbers(table: &Table) -> Option<String> {
    let is_numbers = |column: &Column| matches!(&column.kind, Kind::List { element, .. } if element.is_whole_number());
    let column = table.columns().iter().find(|column| {
        let named = NAMES.iter().any(|name| column.name.eq_ignore_ascii_case(name));
        let inner = element_of(column).child("bytes");
        named && is_numbers(column) || inner.is_some_and(is_numbers)
    })?;
    Some(format!(
        "its column {} holds {}, not bytes; store images as binary",
        text::quoted(&column.name),
        text::shorten(&column.words())
    ))
}

/// What a column of lists has many of, else the column.
fn element_of(column: &Column) -> &Column {
    match &column.kind {
        Kind::List { element, .. } => element,
        _ => column,
    }
}

/// How images lie in a column; None where there are none.
pub(super) fn images_of(column: &Column) -> Option<ImageColumn> {
    let list = match &column.kind {
        Kind::List { def, .. } => Some(*def),
        _ => None,
    };
    let inner = element_of(column);
    let name = column.name.clone();
    if inner.is_bytes() {
        return Some(ImageColumn { name, list, bytes: inner.leaves.start, path: None });
    }
    let bytes = inner.child("bytes").filter(|bytes| bytes.is_bytes())?;
    let path = inner.child("path").filter(|path| path.is_text() || path.is_bytes());
    Some(ImageColumn {
        name,
        list,
        bytes: bytes.leaves.start,
        path: path.map(|path| path.leaves.start),
    })
}

/// [`images_of`], with the paths beside a flattened struct's bytes.
pub(super) fn with_path(table: &Table, column: &Column) -> Option<ImageColumn> {
    let mut images = images_of(column)?;
    if let (None, None, Some(stem)) =
        (images.path, images.list, column.name.strip_suffix(FLATTENED))
    {
        let beside = table.column(&format!("{stem}.path")).filter(|path| path.is_text());
        images.path = beside.map(|path| path.leaves.start);
    }
    Some(images)
}
