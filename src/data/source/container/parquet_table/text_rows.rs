//! Owns reading columns of a Parquet file as text, for lists of images. Must not know: what the
//! texts name.

use std::sync::Arc;

use serde_json::Value;

use super::side::SideColumn;
use super::table::{Table, Unopened};
use super::tree::Column;
use crate::data::source::uri;
use crate::error::{Error, Result};
use crate::storage::BytesAt;

/// The names of the columns of the Parquet file at `uri` that can be read as text, in its order.
///
/// # Errors
/// The file can't be read.
pub(crate) fn text_columns(bytes: Arc<dyn BytesAt>, uri: &str) -> Result<Vec<String>> {
    let table = open(bytes, uri)?;
    let columns = table.columns().iter().filter(|column| is_textual(column));
    Ok(columns.map(|column| column.name.clone()).collect())
}

fn open(bytes: Arc<dyn BytesAt>, uri: &str) -> Result<Table> {
    Table::open(bytes).map_err(|unopened| match unopened {
        Unopened::Failed(failure) => Error::io(uri::place(uri))(failure),
        Unopened::Damaged(reason) => Error::corrupt(uri::place(uri), reason),
    })
}

fn is_textual(column: &Column) -> bool {
    column.leaf().is_some() && column.not_json().is_none()
}

/// The rows of some columns, each a text; None for null. Numbers are in decimal.
pub(crate) struct TextRows {
    table: Table,
    uri: String,
    columns: Vec<SideColumn>,
    group: usize,
    row: u64,
    entered: bool,
}

/// Reads `columns` of the Parquet file at `uri`, each of which [`text_columns`] names.
///
/// # Errors
/// The file can't be read; there is no such column.
pub(crate) fn text_rows(bytes: Arc<dyn BytesAt>, uri: &str, columns: &[&str]) -> Result<TextRows> {
    let table = open(bytes, uri)?;
    let side = |name: &&str| {
        let column = table.column(name).filter(|column| is_textual(column));
        let missing =
            || Error::corrupt(uri::place(uri), format!("it has no column {name:?} of text"));
        column.map(SideColumn::new).ok_or_else(missing)
    };
    let columns = columns.iter().map(side).collect::<Result<_>>()?;
    Ok(TextRows { table, uri: uri.into(), columns, group: 0, row: 0, entered: false })
}

impl TextRows {
    /// What is odd in what was read so far: damage, which leaves nulls, and texts of more than 1 MiB,
    /// which are null.
    pub(crate) fn odd(&self) -> Vec<String> {
        self.columns.iter().flat_map(SideColumn::odd).collect()
    }
}

impl Iterator for TextRows {
    type Item = Result<Vec<Option<String>>>;

    fn next(&mut self) -> Option<Result<Vec<Option<String>>>> {
        while self.group < self.table.groups() && self.row >= self.table.rows_of(self.group).1 {
            self.group += 1;
            self.entered = false;
        }
        if self.group >= self.table.groups() {
            return None;
        }
        if !self.entered {
            self.columns.iter_mut().for_each(|column| column.enter(&self.table, self.group));
            self.entered = true;
        }
        let row = self.row;
        self.row += 1;
        let texts = self.columns.iter_mut().map(|column| match column.next(&self.table, row) {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        });
        let texts = texts.collect();
        match self.table.failure() {
            Some(failure) => Some(Err(Error::io(uri::place(&self.uri))(failure))),
            None => Some(Ok(texts)),
        }
    }
}
