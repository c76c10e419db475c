//! Owns what a Parquet file is: images, a list of them, vqtok's own, or something else.

use std::sync::Arc;

use super::detect::{NoImages, image_column};
use super::features::{Feature, Features};
use super::table::{Table, Unopened};
use super::tree::Column;
use crate::data::source::container::fields::Fields;
use crate::data::source::uri;
use crate::error::{Error, Result};
use crate::storage::BytesAt;
use crate::util::settings::IMAGE_COLUMN;
use crate::util::text;

/// What a Parquet file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// A table of images. So is one that is damaged, or whose images can't be told: listing it says
    /// why.
    Images,
    /// A plan, shard or sidecar of an output of vqtok.
    Vqtok,
    /// img2dataset's account of what it downloaded: the images are in a tar or a folder beside it.
    Account,
    /// It names images by paths or addresses.
    List,
    /// Nothing of the kind.
    Other,
}

/// Whether a file that begins with `head` is Parquet, encrypted or not.
pub(crate) fn is_parquet(head: &[u8]) -> bool {
    head.starts_with(b"PAR1") || head.starts_with(b"PARE")
}

/// What the Parquet file at `uri` is.
///
/// # Errors
/// Those of reading it. What is wrong with its content is said where it is listed.
pub(crate) fn kind(bytes: Arc<dyn BytesAt>, uri: &str, fields: &Fields) -> Result<TableKind> {
    let table = match Table::open(bytes) {
        Ok(table) => table,
        Err(Unopened::Failed(failure)) => return Err(Error::io(uri::place(uri))(failure)),
        Err(Unopened::Damaged(_)) => return Ok(TableKind::Images),
    };
    if is_vqtok(&table) {
        return Ok(TableKind::Vqtok);
    }
    let features = Features::of(&table);
    let found = image_column(&table, &features, fields);
    Ok(match found {
        Ok(_) => TableKind::Images,
        Err(NoImages::Refused(_)) if fields.image.is_none() => TableKind::Images,
        Err(_) if has_text(&table, ["url", "key", "status"]) => TableKind::Account,
        Err(_) if is_asked_for(&table, fields) => TableKind::List,
        Err(_) if table.columns().iter().any(|c| names_images(c, &features)) => TableKind::List,
        // A column was asked for that isn't there, or holds no images: listing says so.
        Err(NoImages::Refused(_)) => TableKind::Images,
        Err(_) => TableKind::Other,
    })
}

/// Why no image comes of the Parquet file `bytes`, which holds nothing of the kind.
///
/// # Errors
/// As the system or the store says.
pub(crate) fn why_none(bytes: Arc<dyn BytesAt>, uri: &str) -> Result<String> {
    let table = match Table::open(bytes) {
        Ok(table) => table,
        Err(Unopened::Failed(failure)) => return Err(Error::io(uri::place(uri))(failure)),
        Err(Unopened::Damaged(reason)) => return Ok(reason),
    };
    let names: Vec<&str> = table.columns().iter().map(|column| column.name.as_str()).collect();
    Ok(format!(
        "it holds no images, and none of its columns is known to name them; {IMAGE_COLUMN} says which \
         one does. It has {}",
        text::shorten(&names.join(", "))
    ))
}

/// Columns of what vqtok writes: plans, shards, failures, codebooks.
const OWN: [&[&str]; 4] = [
    &["ordinal", "key", "uri", "bytes"],
    &["key", "uri", "ordinal", "tokens", "grid_height", "grid_width"],
    &["ordinal", "key", "uri", "stage", "error"],
    &["level", "code", "count", "distance_sum"],
];

/// Whether vqtok wrote it, or another program from what vqtok wrote.
fn is_vqtok(table: &Table) -> bool {
    let is_ours = |name: &&str| table.column(name).is_some_and(|column| !column.is_bytes());
    let has = |names: &[&str]| names.iter().all(&is_ours);
    table.entry("vqtok.schema").is_some() || OWN.into_iter().any(has)
}

pub(super) fn has_text<const N: usize>(table: &Table, names: [&str; N]) -> bool {
    names.iter().all(|name| table.column(name).is_some_and(Column::is_text))
}

/// Names of columns of paths or addresses, in any case of letters.
const LISTS: [&str; 14] = [
    "image",
    "img",
    "url",
    "uri",
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "image_url",
    "image_file",
    "img_path",
];

/// Whether the column that is asked for holds texts: what else could they be than paths?
fn is_asked_for(table: &Table, fields: &Fields) -> bool {
    fields.image.as_ref().is_some_and(|name| table.column(name).is_some_and(Column::is_text))
}

fn names_images(column: &Column, features: &Features) -> bool {
    let named = LISTS.iter().any(|name| column.name.eq_ignore_ascii_case(name));
    let marked = features.of_column(&column.name) == Some(&Feature::Image);
    column.is_text() && (named || marked)
}
