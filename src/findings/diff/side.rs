//! Owns one of two outputs while it is read: its next row, and how far its keys have come. Must not
//! know: the other one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

use crate::audit::{Asked, Grid, GridRow, TokenFile};
use crate::error::Result;
use crate::findings::run::{Event, Observer};

/// An output, from its next row on.
pub(super) struct Side {
    file: TokenFile,
    /// Rising keys come in runs: one an input, or one a bucket.
    run: u64,
    pub(super) next: Option<GridRow>,
    /// Rows that were read.
    pub(super) rows: u64,
    pub(super) unreadable: u64,
    /// Whether a row had no key, so that its number stands for it.
    pub(super) unkeyed: bool,
}

impl Side {
    /// # Errors
    /// A path without tokens that can be read; an interrupt.
    pub(super) fn open(path: &Path, observer: &mut dyn Observer) -> Result<Side> {
        let asked = Asked { image: true, beside: true, ..Asked::default() };
        let file = TokenFile::open_as(path, asked)?;
        observer.event(&Event::Sources(file.sources()));
        Ok(Side { file, run: 0, next: None, rows: 0, unreadable: 0, unkeyed: false })
    }

    /// Rows of it, as far as they can be counted.
    pub(super) fn count(&self) -> u64 {
        self.file.row_count()
    }

    /// What its first shard says of itself.
    pub(super) fn entries(&self) -> &BTreeMap<String, String> {
        self.file.entries()
    }

    /// What of it is missing, and what isn't its own.
    pub(super) fn notes(&self) -> Vec<String> {
        self.file.sources().in_words()
    }

    /// The files that say what it gave up. What is lost of them can't be read.
    pub(super) fn failures(&mut self, observer: &mut dyn Observer) -> Vec<std::path::PathBuf> {
        let (files, lost) = self.file.sources().failures();
        for lost in &lost {
            self.unreadable += lost.count().max(1);
            observer.event(&Event::BadRows(lost));
        }
        files
    }

    /// Takes the next row, and reads the one behind it.
    pub(super) fn take(&mut self, observer: &mut dyn Observer) -> Option<GridRow> {
        let next = loop {
            match self.file.next_row() {
                None => break None,
                Some(Ok(row)) => break Some(row),
                Some(Err(bad)) => {
                    // A file that can't be counted is something lost all the same.
                    self.unreadable += bad.count().max(1);
                    observer.event(&Event::BadRows(&bad));
                }
            }
        };
        if let Some(next) = &next {
            observer.event(&Event::Row);
            self.rows += 1;
            self.unkeyed |= !next.keyed;
            if self.next.as_ref().is_some_and(|before| place(next) < place(before)) {
                self.run += 1;
            }
        }
        std::mem::replace(&mut self.next, next)
    }

    /// Which of two next rows stands before the other, were both outputs in one order; None where
    /// one of them has no more.
    pub(super) fn order(&self, other: &Side) -> Option<Ordering> {
        let (a, b) = (self.next.as_ref()?, other.next.as_ref()?);
        match place(a) == place(b) {
            true => Some(Ordering::Equal),
            false => Some((self.run, place(a)).cmp(&(other.run, place(b)))),
        }
    }
}

fn place(row: &GridRow) -> (&str, i64) {
    (&row.key, row.view.unwrap_or(0))
}

/// What is compared of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Compared<'a> {
    pub(super) key: &'a str,
    pub(super) view: Option<i64>,
    /// All 0 where the row doesn't say it.
    pub(super) file: [u8; 16],
    /// Empty where it has none.
    pub(super) label: &'a str,
    pub(super) levels: &'a [Grid],
}

impl<'a> From<&'a GridRow> for Compared<'a> {
    fn from(row: &'a GridRow) -> Compared<'a> {
        let image = row.beside.image.as_deref();
        Compared {
            key: &row.key,
            view: row.view,
            file: image.and_then(|image| image.content_sha256).unwrap_or_default(),
            label: row.beside.label.as_deref().unwrap_or_default(),
            levels: &row.levels,
        }
    }
}
