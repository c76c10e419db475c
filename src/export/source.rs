//! Owns opening the rows of an export, and refusing a source that isn't whole. Must not know: formats.

use sha2::{Digest, Sha256};

use super::settings::{LevelChoice, Settings};
use super::target::Target;
use super::whole::Whole;
use crate::audit::sources::Sources;
use crate::audit::{Asked, BadRows, GridRow, MadeBy, TokenFile};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::hex::hex;
use crate::util::numbers::{count, counted};
use crate::util::settings::{CODES, LEVELS, PARTIAL, TO};
use crate::util::text;

/// The rows of an export, as far as footers say.
pub(super) struct Source<'a> {
    settings: &'a Settings,
    rows: u64,
    /// What identifies the files.
    pub digest: String,
    /// By level, how many codes there are.
    pub codes: Vec<u64>,
    /// Values of a token: 1, or how many bits it is a list of.
    pub values: usize,
    /// Height and width of all grids, where the files say that they are alike.
    pub grid: Option<(usize, usize)>,
    /// Codes of a row's chosen levels, where they are alike and the files say how many.
    pub length: Option<usize>,
    /// Whether the files are vqtok's own.
    pub ours: bool,
    /// What the source's `dataset.json` says.
    pub whole: Whole,
    /// Side of the images in pixels, where they say it.
    pub pixels: Option<u32>,
}

impl<'a> Source<'a> {
    /// # Errors
    /// A source that can't be read, isn't whole, or doesn't say what has to be known of it.
    pub(super) fn open(settings: &'a Settings) -> Result<(Source<'a>, TokenFile)> {
        let file = TokenFile::open_as(&settings.input, asked(settings, false))?;
        let whole = match &file.sources().output {
            Some(output) => Whole::read(output)?,
            None => Whole::default(),
        };
        if !settings.partial {
            refuse_parts(&file)?;
            whole.check(&file)?;
        }
        let levels = levels_of(settings, &file)?;
        let codes = codes_of(settings, &file, levels)?;
        let values = values_of(settings, &file)?;
        let digest = digest(&file, &whole)?;
        let ours =
            settings.columns.is_empty() && file.tables().all(|table| table.made_by.is_some());
        let grids: Vec<Option<(usize, usize)>> =
            (0..codes.len()).map(|level| grid_of(&file, level).filter(|_| ours)).collect();
        let length =
            grids.iter().map(|grid| grid.map(|(height, width)| height * width * values)).sum();
        let pixels = file.entries().get("vqtok.size").and_then(|size| size.parse().ok());
        let (rows, grid) = (file.row_count(), grids[0]);
        let source =
            Source { settings, rows, digest, codes, values, grid, length, ours, whole, pixels };
        Ok((source, file))
    }

    /// Rows, as far as they can be counted.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows once more, without their tokens.
    ///
    /// # Errors
    /// A source that has changed since.
    pub(super) fn again(&self, without_tokens: bool) -> Result<TokenFile> {
        TokenFile::open_as(&self.settings.input, asked(self.settings, without_tokens))
    }

    /// The chosen levels of a row as one list of codes, with its grid's height and width.
    ///
    /// # Errors
    /// In a few words: levels that the first file lacks, a code beyond the codebook.
    pub(super) fn codes_of(&self, row: &mut GridRow) -> Result<(Vec<u32>, usize, usize), String> {
        if self.settings.to.traits().stacked {
            return self.views_of(row);
        }
        let mut levels = std::mem::take(&mut row.levels).into_iter();
        let first = levels.next().ok_or("has no tokens")?;
        let (mut codes, height, width) = (first.codes, first.height, first.width);
        within(&codes, self.codes[0])?;
        let mut shift = 0;
        for (level, before) in self.codes[1..].iter().zip(&self.codes) {
            shift += before;
            let grid = levels.next().ok_or("has fewer levels than the rows before")?;
            within(&grid.codes, *level)?;
            codes.extend(grid.codes.iter().map(|code| code + shift as u32));
        }
        Ok((codes, height, width))
    }

    /// A row that can't be used.
    pub(super) fn bad(&self, row: &GridRow, problem: String) -> BadRows {
        BadRows {
            file: row.file.clone(),
            rows: row.row..row.row + 1,
            key: row.keyed.then(|| row.key.clone()),
            problem,
            whole_file: false,
        }
    }

    /// Those of all views of an image, one behind the other.
    fn views_of(&self, row: &mut GridRow) -> Result<(Vec<u32>, usize, usize), String> {
        let views = std::mem::take(&mut row.levels);
        let first = views.first().ok_or("has no tokens")?;
        let (height, width) = (first.height, first.width);
        let mut codes = Vec::with_capacity(first.codes.len() * views.len());
        for view in &views {
            within(&view.codes, self.codes[0])?;
            if (view.height, view.width) != (height, width) {
                return Err("has views of several grids".into());
            }
            codes.extend(&view.codes);
        }
        Ok((codes, height, width))
    }
}

/// Height and width of all of a level's grids, as the files say.
fn grid_of(file: &TokenFile, level: usize) -> Option<(usize, usize)> {
    let names = match level {
        0 => vec!["vqtok.grid".to_string()],
        _ => vec![
            format!("vqtok.grid_residual_{level}"),
            format!("vqtok.grid_book_{level}"),
            "vqtok.grid_top".to_string(),
        ],
    };
    let grid = names.iter().find_map(|name| file.entries().get(name))?;
    let (height, width) = grid.split_once('x')?;
    Some((height.parse().ok()?, width.parse().ok()?))
}

fn within(codes: &[u32], count: u64) -> Result<(), String> {
    match codes.iter().find(|code| u64::from(**code) >= count) {
        Some(code) => Err(format!("token {code} is beyond the {count} codes")),
        None => Ok(()),
    }
}

fn asked(settings: &Settings, without_tokens: bool) -> Asked {
    Asked {
        columns: settings.columns.clone(),
        grids: settings.grid.into_iter().collect(),
        strict: settings.grid.is_some(),
        beside: true,
        crops: settings.to == Target::FourM && !without_tokens,
        image: false,
        values: 1,
        without_tokens,
        choosable: true,
    }
}

/// Refuses a source of which something is missing.
fn refuse_parts(file: &TokenFile) -> Result<()> {
    let Sources { unfinished, output, .. } = file.sources();
    if let Some(bad) = file.lost().next() {
        return Err(refused(bad));
    }
    if let (Some((there, partitions)), Some(output)) = (unfinished, output) {
        let output = text::path(output);
        let what = match there == partitions {
            true => format!("run `vqtok finalize {output}`"),
            false => "run the same `vqtok tokenize` again".to_string(),
        };
        return Err(Error::invalid(format!(
            "{output}: an unfinished output, {} of {} are there: {what}, or take what is there \
             with {PARTIAL}",
            count(*there),
            counted(*partitions, "shard")
        )));
    }
    Ok(())
}

/// What a row that can't be used says where no row may be left out.
pub(super) fn refused(bad: &BadRows) -> Error {
    Error::invalid(format!(
        "{}: an export leaves no row out; `vqtok verify` tells what is wrong, and with {PARTIAL} such \
         rows are passed over",
        bad.in_words()
    ))
}

/// How many levels are taken.
fn levels_of(settings: &Settings, file: &TokenFile) -> Result<usize> {
    let entries = file.entries();
    let levels = match settings.columns.len() {
        0 => 1 + entries.keys().filter(|name| name.starts_with("vqtok.codes_")).count(),
        named => named,
    };
    match settings.levels {
        None if levels > 1 => Err(Error::setting(
            LEVELS,
            format!(
                "must be given, since a row has {levels} levels: first takes the finest alone, all \
                 takes one behind the other, the codes of each after those of the levels before \
                 (sequences only)"
            ),
        )),
        None | Some(LevelChoice::First) => Ok(1),
        Some(LevelChoice::All) if levels == 1 => {
            Err(Error::setting(LEVELS, "all: a row has one level; leave it out"))
        }
        Some(LevelChoice::All) => Ok(levels),
    }
}

/// By level, how many codes there are: as the files say, or the setting.
fn codes_of(settings: &Settings, file: &TokenFile, levels: usize) -> Result<Vec<u64>> {
    let entries = file.entries();
    let told = |name: &str| entries.get(name).and_then(|codes| codes.parse::<u64>().ok());
    let first = told("vqtok.codes");
    if let (Some(asked), Some(told)) = (settings.codes, first)
        && asked != told
    {
        let text = format!("{asked}: the files say that there are {told}; leave it out");
        return Err(Error::setting(CODES, text));
    }
    let other = file
        .tables()
        .find(|table| table.made_by.as_ref().is_some_and(|made_by| made_by.codes != first));
    if let Some(other) = other.filter(|_| first.is_some()) {
        return Err(Error::corrupt(&*other.path, "made with another codebook than the first file"));
    }
    let Some(first) = first.or(settings.codes) else {
        return Err(Error::setting(
            CODES,
            "must be given, since the files don't say how many codes there are: the size of the \
             codebook",
        ));
    };
    let further = |level: usize| {
        let names = [
            format!("vqtok.codes_residual_{level}"),
            format!("vqtok.codes_book_{level}"),
            "vqtok.codes_top".to_string(),
        ];
        names.iter().find_map(|name| told(name)).unwrap_or(first)
    };
    let codes: Vec<u64> = (0..levels).map(|l| if l == 0 { first } else { further(l) }).collect();
    match codes.iter().all(|codes| (1..=1 << 32).contains(codes)) {
        true => Ok(codes),
        false => Err(Error::setting(CODES, "must lie between 1 and 2^32")),
    }
}

/// How many values a token has: as the files say. Refuses lists of bits where no reader takes them.
fn values_of(settings: &Settings, file: &TokenFile) -> Result<usize> {
    let values = |made_by: &MadeBy| made_by.values();
    let mut tables = file.tables().map(|table| table.made_by.as_ref().map_or(1, values));
    let values = tables.next().unwrap_or(1);
    if tables.any(|other| other != values) {
        return Err(Error::corrupt(&*settings.input, "has tokens of several numbers of bits"));
    }
    if values == 1 {
        return Ok(values);
    }
    if !settings.to.traits().bits {
        let able: Vec<_> = Target::ALL.iter().filter(|to| to.traits().bits).collect();
        let able: Vec<String> = able.iter().map(ToString::to_string).collect();
        return Err(Error::setting(
            TO,
            format!(
                "{}: its readers take a number for a token, and here it is a list of {values} bits, \
                 which {} can hold",
                settings.to,
                able.join(", ")
            ),
        ));
    }
    let specials = [settings.bos, settings.eos, settings.class_tokens];
    match settings.vocab_offset > 0 || specials.iter().any(Option::is_some) {
        true => Err(Error::setting(
            TO,
            format!("{}: ids can't be added where a token is a list of {values} bits", settings.to),
        )),
        false => Ok(values),
    }
}

/// What identifies the files that are read: their plans and models, names, sizes and rows; of an output
/// also its `dataset.json`, which has the digests of their contents.
fn digest(file: &TokenFile, whole: &Whole) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(&whole.bytes);
    for table in file.tables() {
        let name = table.path.file_name().unwrap_or_default();
        let bytes = storage::facts(&table.path).map_err(Error::io(&table.path))?.bytes;
        let plan = table.shard.as_ref().map_or("", |shard| &shard.plan);
        let weights = table.made_by.as_ref().map_or("", |made_by| &made_by.weights_sha256);
        let line = format!("{} {bytes} {} {plan} {weights}\n", name.display(), table.rows);
        hasher.update(line);
    }
    Ok(hex(hasher.finalize()))
}
