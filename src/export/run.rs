//! Owns the way of all rows: read in order, encoded on all threads, appended in order. Must not know:
//! formats.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rayon::prelude::*;

use super::check::Reader;
use super::events::{Event, Observer};
use super::format::{Encoded, Facts, Format};
use super::formats;
use super::ids::Ids;
use super::index::Index;
use super::journal::{Journal, LABELS};
use super::labels::Labels;
use super::order::{self, Way};
use super::row::Row;
use super::settings::Settings;
use super::source::{Source, refused};
use super::split::Splits;
use super::target::Target;
use super::write::{SplitWriter, write_whole};
use crate::audit::{BadRows, Beside, GridRow, TokenFile};
use crate::error::{Error, Result};
use crate::tokens::{commit, commit_many};
use crate::util::hex::sha256_hex;
use crate::util::numbers::{count, counted};
use crate::util::settings::{LABEL_MAP, OUT};
use crate::util::text;

/// What an export holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportSummary {
    /// Rows in all files.
    pub rows: u64,
    /// Ids in all files, special ones among them.
    pub tokens: u64,
    /// Files with rows.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows by split; one without a name where there are no splits.
    pub splits: Vec<(Option<String>, u64)>,
    /// Rows of the source that can't be used, where such may be left out.
    pub left_out: u64,
    /// Rows that this run wrote; the others were there.
    pub written: u64,
}

/// Exports all rows, or goes on with it.
///
/// # Errors
/// Settings that don't fit; a source that isn't whole; a place that is another's; what the system
/// refuses; an interrupt.
pub(crate) fn run(settings: &Settings, observer: &mut dyn Observer) -> Result<ExportSummary> {
    settings.check()?;
    let (source, file) = Source::open(settings)?;
    observer.event(&Event::Sources(file.sources()));
    let names = || settings.split.iter().flat_map(Splits::names).map(str::to_string);
    let splits: Vec<Option<String>> = match settings.split {
        Some(_) => names().map(Some).collect(),
        None => vec![None],
    };
    let index = Index::of(&source, settings, observer)?;
    if index.rows().iter().sum::<u64>() == 0 {
        let input = text::path(&settings.input);
        return Err(Error::invalid(format!("{input}: holds no row to export")));
    }
    let facts = facts_of(settings, &source, &index)?;
    // Refused before there is a folder.
    let format = formats::of(settings.to, &facts)?;
    let mut identity = settings.identity();
    identity["labels"] = sha256_hex(facts.labels.file()).into();
    let mut journal =
        Journal::open(&settings.out, identity, &source.digest, splits.iter().cloned())?;
    let mut written = 0;
    if !journal.record.finished {
        let reader = settings.check.then(|| Reader::of(settings.to, &facts));
        let writers = splits.iter().zip(index.rows()).enumerate().map(|(split, (name, rows))| {
            let (root, rows) = (&settings.out, [rows, facts.rows_of_part]);
            SplitWriter::new(format.as_ref(), reader.as_ref(), root, name.as_deref(), split, rows)
        });
        let mut work = Work {
            settings,
            source: &source,
            facts: &facts,
            views: index.views && !settings.to.traits().stacked,
            format: format.as_ref(),
            writers: writers.collect(),
            there: journal.record.splits.iter().map(|split| split.rows).collect(),
            journal: &mut journal,
            observer,
            seen: vec![0; splits.len()],
            expected: index.rows().iter().sum(),
            number: 0,
            left_out: 0,
            written: 0,
        };
        work.run(file)?;
        written = work.written;
    }
    Ok(summary(&journal, written))
}

/// Refuses views where their reader wouldn't find them.
fn refuse_unread_views(settings: &Settings, views: usize) -> Result<()> {
    let out = text::path(&settings.out);
    match settings.to == Target::LlamaGen && views > 1 && !out.contains("flip") {
        true => Err(Error::setting(
            OUT,
            format!(
                "{out}: LlamaGen draws one of an image's {views} views only where the path contains \
                 'flip'; name a folder so"
            ),
        )),
        false => Ok(()),
    }
}

/// Refuses ids up to so large a one that nobody's names could be listed.
fn refuse_many_names(settings: &Settings, count: u64) -> Result<()> {
    const NAMES_MAX: u64 = 1 << 20;
    match settings.to == Target::Hf && count > NAMES_MAX {
        true => Err(Error::setting(
            LABEL_MAP,
            format!(
                "its largest id is {}: hf lists a name for every id up to it, and takes {NAMES_MAX}",
                count - 1
            ),
        )),
        false => Ok(()),
    }
}

/// What the format may know.
fn facts_of(settings: &Settings, source: &Source<'_>, index: &Index) -> Result<Facts> {
    if let Some(setting) = settings.needs_labels() {
        index.require_labels(setting, settings)?;
    }
    index.require_one_grid(settings)?;
    refuse_unread_views(settings, index.views_of_row())?;
    let classes = &source.whole.classes;
    let labels = Labels::of(&index.names, classes, settings.label_map.as_deref())?;
    refuse_many_names(settings, labels.count())?;
    let codes = index.grid.filter(|_| source.codes.len() == 1).map(|(h, w)| h * w * source.values);
    let codes = source.length.or(codes);
    let specials = [settings.bos, settings.eos, settings.class_tokens].iter().flatten().count();
    let length = codes.map(|codes| codes + specials);
    let ids = Ids::of(settings, source.codes.iter().sum(), labels.count())?;
    Ok(Facts {
        ids,
        labels,
        captions: index.captions,
        fields: settings.fields.clone().unwrap_or_default(),
        views: index.views_of_row(),
        grid: index.grid,
        values: source.values,
        crops: source.ours,
        length,
        pixels: source.pixels,
        rows_of_part: settings.rows_of_part(),
        header: settings.header,
    })
}

fn summary(journal: &Journal, written: u64) -> ExportSummary {
    let mut summary =
        ExportSummary { written, left_out: journal.record.left_out, ..ExportSummary::default() };
    for split in &journal.record.splits {
        summary.rows += split.rows;
        summary.tokens += split.ids;
        summary.splits.push((split.name.clone(), split.rows));
        for file in split.parts.iter().flat_map(|part| &part.files) {
            summary.files += file.count.unwrap_or(1);
            summary.bytes += file.bytes;
        }
    }
    summary
}

/// The rows on their way.
struct Work<'a> {
    settings: &'a Settings,
    source: &'a Source<'a>,
    facts: &'a Facts,
    /// Whether there are several views of an image.
    views: bool,
    format: &'a dyn Format,
    writers: Vec<SplitWriter<'a>>,
    journal: &'a mut Journal,
    observer: &'a mut dyn Observer,
    /// Rows of each split so far, those that were there among them.
    seen: Vec<u64>,
    /// Rows that the first pass counted.
    expected: u64,
    /// Rows of each that were there before.
    there: Vec<u64>,
    /// Of the next row.
    number: u64,
    left_out: u64,
    written: u64,
}

impl Work<'_> {
    fn run(&mut self, file: TokenFile) -> Result<()> {
        // First of all: by it the folder is known as an export's from now on.
        self.journal.save()?;
        commit::remove_orphans(&self.settings.out)?;
        for writer in &self.writers {
            commit::create_folder(writer.folder())?;
            commit::remove_orphans(writer.folder())?;
            commit_many::remove_orphans(writer.folder())?;
        }
        if !self.facts.labels.is_empty() {
            commit::replace_durably(&self.settings.out.join(LABELS), &self.facts.labels.file())?;
        }
        self.observer.event(&Event::Begin { stage: "export", rows: self.source.rows() });
        let done = self.rows(file);
        if done.is_err() {
            // What is whole is kept; the error is what counts.
            let _ = self.journal.save();
        }
        done?;
        self.check_count()?;
        for writer in &mut self.writers {
            writer.finish(self.journal)?;
        }
        // A split without rows has no files.
        let names = self.settings.split.iter().flat_map(Splits::names).zip(&self.seen);
        let names: Vec<&str> = names.filter(|(_, seen)| **seen > 0).map(|(name, _)| name).collect();
        if let Some((name, bytes)) = self.format.root(&names) {
            let out = &self.settings.out;
            write_whole(out, out, name, std::iter::once(bytes))?;
        }
        self.journal.record.finished = true;
        self.journal.record.left_out = self.left_out;
        self.journal.save()
    }

    /// Every row that was counted has come, or was left out.
    fn check_count(&self) -> Result<()> {
        let (seen, expected) = (self.seen.iter().sum::<u64>(), self.expected);
        match seen == expected {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "{}: gave {} where {} had been counted: its files changed meanwhile; run it again in \
                 another folder",
                text::path(&self.settings.input),
                counted(seen, "row"),
                count(expected)
            ))),
        }
    }

    /// Takes rows until there are no more.
    fn rows(&mut self, file: TokenFile) -> Result<()> {
        let stacked = self.settings.to.traits().stacked;
        let way = Way { order: self.settings.order, stacked, folder: &self.settings.out };
        let (sender, chunks) = order::channel();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The reader ends with the receiver, which this closure owns, or where it is told to.
            let (chunks, stop, way) = (chunks, &stop, &way);
            scope.spawn(move || order::read(file, way, stop, &sender));
            let done = self.take(&chunks);
            stop.store(true, Ordering::Relaxed);
            done
        })
    }

    fn take(&mut self, chunks: &Receiver<order::Chunk>) -> Result<()> {
        loop {
            if self.observer.interrupted() {
                return Err(Error::Interrupted);
            }
            match chunks.recv_timeout(Duration::from_millis(100)) {
                Ok(chunk) => self.chunk(chunk?)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn chunk(&mut self, items: Vec<order::Item>) -> Result<()> {
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            match item.and_then(|row| self.row(row)) {
                Ok((split, row)) => {
                    self.seen[split] += 1;
                    match self.seen[split] <= self.there[split] {
                        true => self.observer.event(&Event::Row),
                        false => rows.push((split, row)),
                    }
                }
                Err(bad) if self.settings.partial => {
                    // Of a file that can't be read nobody knows how many they were.
                    self.left_out += bad.count().max(1);
                    self.observer.event(&Event::BadRows(&bad));
                }
                Err(bad) => return Err(refused(&bad)),
            }
        }
        let format = self.format;
        let encoded: Vec<Encoded> = rows.par_iter().map(|(_, row)| format.encode(row)).collect();
        for ((split, row), encoded) in rows.iter().zip(&encoded) {
            self.writers[*split].push(row, encoded, self.journal)?;
            self.written += 1;
            self.observer.event(&Event::Row);
        }
        Ok(())
    }

    /// A row with its split.
    fn row(&mut self, mut row: GridRow) -> Result<(usize, Row), BadRows> {
        let views = if self.settings.to.traits().stacked { row.levels.len() } else { 1 };
        if views < self.facts.views {
            let why = format!("has {views} of {}", counted(self.facts.views, "view"));
            return Err(self.source.bad(&row, why));
        }
        let codes = self.source.codes_of(&mut row);
        let (codes, height, width) = codes.map_err(|why| self.source.bad(&row, why))?;
        let split = self.settings.split.as_ref().map_or(0, |splits| splits.of(&row.key));
        let number = self.number;
        self.number += 1;
        let key = match self.views {
            true => format!("{}/v{}", row.key, row.view.unwrap_or(0)),
            false => row.key,
        };
        let class = row.beside.label.as_deref().and_then(|label| self.facts.labels.id(label));
        let Beside { label, label_id: _, caption, meta_json, crops, image: _ } = row.beside;
        let row = Row {
            number,
            key,
            label,
            class,
            caption,
            meta_json,
            codes,
            height,
            width,
            views,
            crops,
        };
        Ok((split, row))
    }
}
