//! Owns the first pass over the rows, as a rule without their tokens: what has to be known of all of
//! them before the first is written. Must not know: formats.

use std::collections::{BTreeMap, BTreeSet};

use super::events::{Event, Observer};
use super::order::stacked;
use super::settings::Settings;
use super::source::{Source, refused};
use crate::audit::GridRow;
use crate::error::{Error, Result};
use crate::util::numbers::{count, counted};
use crate::util::settings::{FIELDS, Setting, TO};
use crate::util::text;

/// Class names at most: what has more is no label.
const NAMES_MAX: usize = 1 << 20;

/// What is known of all rows.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By split, how many rows have so many views in them.
    sizes: Vec<BTreeMap<usize, u64>>,
    /// Class names, each with the one id that its rows give it, if they do.
    pub names: BTreeMap<String, Option<i64>>,
    /// Rows without a label, and the key of the first.
    unlabelled: u64,
    first_unlabelled: Option<String>,
    /// Whether any row has a caption.
    pub captions: bool,
    /// Whether there are several views of an image.
    pub views: bool,
    /// Height and width of all grids; None where they aren't alike, or weren't looked at.
    pub grid: Option<(usize, usize)>,
}

impl Index {
    /// Reads all rows once: with their tokens where rows may be left out, since these aren't counted,
    /// and where nothing else tells whether all grids are alike.
    ///
    /// # Errors
    /// What can't be read, unless such rows are left out; an interrupt.
    pub(super) fn of(
        source: &Source<'_>,
        settings: &Settings,
        observer: &mut dyn Observer,
    ) -> Result<Index> {
        let splits = settings.split.as_ref().map_or(1, |splits| splits.names().count());
        let sizes = vec![BTreeMap::new(); splits];
        let mut index = Index { sizes, grid: source.grid, ..Index::default() };
        let look = settings.partial || source.grid.is_none() && settings.needs_one_grid();
        let mut file = source.again(!look)?;
        observer.event(&Event::Begin { stage: "index", rows: source.rows() });
        let stack = settings.to.traits().stacked;
        let mut plain = std::iter::from_fn(|| file.next_row());
        let rows: Box<dyn Iterator<Item = _>> =
            if stack { Box::new(stacked(&mut plain)) } else { Box::new(plain) };
        let mut grids = BTreeSet::new();
        for row in rows {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            observer.event(&Event::Row);
            let row = row.and_then(|mut row| {
                let views = row.levels.len().max(1);
                if look {
                    let codes = source.codes_of(&mut row).map_err(|why| source.bad(&row, why))?;
                    if grids.len() < 2 {
                        grids.insert((codes.1, codes.2));
                    }
                }
                Ok((row, if stack { views } else { 1 }))
            });
            match row {
                Ok((row, views)) => index.add(row, views, settings)?,
                Err(bad) if settings.partial => drop(bad),
                Err(bad) => return Err(refused(&bad)),
            }
        }
        if index.grid.is_none() && grids.len() == 1 {
            index.grid = grids.pop_first();
        }
        Ok(index)
    }

    fn add(&mut self, row: GridRow, views: usize, settings: &Settings) -> Result<()> {
        let split = settings.split.as_ref().map_or(0, |splits| splits.of(&row.key));
        *self.sizes[split].entry(views).or_default() += 1;
        self.captions |= row.beside.caption.is_some_and(|caption| !caption.is_empty());
        self.views |= row.view.is_some_and(|view| view != 0);
        self.label(row.beside.label, row.beside.label_id, row.key)
    }

    /// Views of an image that has all of them, where they are in one row.
    pub(super) fn views_of_row(&self) -> usize {
        self.sizes.iter().flat_map(BTreeMap::keys).max().copied().unwrap_or(1)
    }

    /// By split, rows that can be used: those with all views.
    pub(super) fn rows(&self) -> Vec<u64> {
        let views = self.views_of_row();
        self.sizes.iter().map(|sizes| sizes.get(&views).copied().unwrap_or(0)).collect()
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
    pub(super) fn require_labels(&self, setting: Setting, settings: &Settings) -> Result<()> {
        let Some(first) = &self.first_unlabelled else { return Ok(()) };
        let needs = match setting {
            TO => format!("{setting} {}", settings.to),
            _ => setting.to_string(),
        };
        Err(Error::invalid(format!(
            "{} no label, the first: '{}'; {needs} needs one of every row{}",
            match self.unlabelled {
                1 => "1 row has".to_string(),
                rows => format!("{} have", counted(rows, "row")),
            },
            text::shorten(first),
            if setting == FIELDS { ", where class_id is among them as by default" } else { "" }
        )))
    }

    /// Refuses grids of several shapes where they have to be alike.
    ///
    /// # Errors
    /// That, by the setting's name.
    pub(super) fn require_one_grid(&self, settings: &Settings) -> Result<()> {
        let rows: u64 = self.rows().iter().sum();
        if self.grid.is_some() || rows == 0 || !settings.needs_one_grid() {
            return Ok(());
        }
        let text = format!(
            "{}{} has rows of one length, and the grids here have several shapes, as images in \
             buckets or of their own sizes give; choose webdataset, mds, hf, \
             tfrecord, emu3, jsonl, megatron or datatrove",
            settings.to,
            if settings.header.is_some() { " with a header" } else { "" }
        );
        Err(Error::setting(TO, text))
    }
}
