//! Owns the first pass over the rows, without their tokens: what has to be known of all of them before
//! the first is written. Must not know: formats.

use std::collections::BTreeMap;

use super::events::{Event, Observer};
use super::source::{Source, refused};
use crate::error::{Error, Result};
use crate::util::numbers::{count, counted};
use crate::util::settings::{FIELDS, Setting};
use crate::util::text;

/// Class names at most: what has more is no label.
const NAMES_MAX: usize = 1 << 20;

/// What is known of all rows.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Rows that could be read.
    pub rows: u64,
    /// Class names, each with the one id that its rows give it, if they do.
    pub names: BTreeMap<String, Option<i64>>,
    /// Rows without a label, and the key of the first.
    unlabelled: u64,
    first_unlabelled: Option<String>,
    /// Whether any row has a caption.
    pub captions: bool,
    /// Whether there are several views of an image.
    pub views: bool,
}

impl Index {
    /// Reads all rows once.
    ///
    /// # Errors
    /// What can't be read, unless such rows are left out; an interrupt.
    pub(super) fn of(
        source: &Source<'_>,
        partial: bool,
        observer: &mut dyn Observer,
    ) -> Result<Index> {
        let mut index = Index::default();
        let mut rows = source.beside()?;
        observer.event(&Event::Begin { stage: "index", rows: source.rows() });
        while let Some(row) = rows.next_row() {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            observer.event(&Event::Row);
            match row {
                Ok(row) => {
                    index.rows += 1;
                    index.captions |= row.beside.caption.is_some_and(|caption| !caption.is_empty());
                    index.views |= row.view.is_some_and(|view| view != 0);
                    index.label(row.beside.label, row.beside.label_id, row.key)?;
                }
                Err(bad) if partial => drop(bad),
                Err(bad) => return Err(refused(&bad)),
            }
        }
        Ok(index)
    }

    fn label(&mut self, label: Option<String>, id: Option<i64>, key: String) -> Result<()> {
        match label {
            None => {
                self.unlabelled += 1;
                self.first_unlabelled.get_or_insert(key);
            }
            Some(label) => match self.names.get_mut(&label) {
                Some(known) => *known = known.filter(|known| Some(*known) == id),
                None => drop(self.names.insert(label, id)),
            },
        }
        match self.names.len() > NAMES_MAX {
            true => Err(Error::invalid(format!(
                "more than {} different labels: these aren't class names",
                count(NAMES_MAX)
            ))),
            false => Ok(()),
        }
    }

    /// Refuses rows without labels where a setting needs them of all.
    ///
    /// # Errors
    /// That, with their number and the first.
    pub(super) fn require_labels(&self, setting: Setting) -> Result<()> {
        let Some(first) = &self.first_unlabelled else { return Ok(()) };
        Err(Error::invalid(format!(
            "{} no label, the first: '{}'; {setting} needs one of every row{}",
            match self.unlabelled {
                1 => "1 row has".to_string(),
                rows => format!("{} have", counted(rows, "row")),
            },
            text::shorten(first),
            if setting == FIELDS { ", where class_id is among them as by default" } else { "" }
        )))
    }
}
