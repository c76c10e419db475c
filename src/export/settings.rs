//! Owns what an export is asked for, what of it fits together, and what of it the bytes depend on.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::fields::{Field, Fields};
use super::split::Splits;
use super::target::{Files, Target};
use crate::error::{Error, Result};
use crate::util::settings::{
    BOS, CLASS_TOKENS, EOS, FIELDS, HEADER, LEVELS, SHARD_ROWS, Setting, TO, VOCAB_OFFSET,
};

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowOrder {
    /// That of the shards: the plan's, views of an image one behind the other.
    #[default]
    Plan,
    /// By a hash of the seed, the key and the view.
    Shuffle(u64),
}

impl FromStr for RowOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<RowOrder, String> {
        let seed = text.strip_prefix("shuffle=").and_then(|seed| seed.parse().ok());
        match (text, seed) {
            ("plan", _) => Ok(RowOrder::Plan),
            (_, Some(seed)) => Ok(RowOrder::Shuffle(seed)),
            _ => Err("plan, or shuffle=SEED with a whole number".into()),
        }
    }
}

/// Which levels of a row are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelChoice {
    /// `tokens` alone.
    First,
    /// All, one behind the other; codes of a level come after those of the levels before.
    All,
}

impl FromStr for LevelChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<LevelChoice, String> {
        match text {
            "first" => Ok(LevelChoice::First),
            "all" => Ok(LevelChoice::All),
            _ => Err("first or all".into()),
        }
    }
}

/// What stands before bare ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Header {
    /// llm.c's 256 numbers, which modded-nanogpt reads as well.
    Llmc,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Header, String> {
        match text {
            "llmc" => Ok(Header::Llmc),
            _ => Err("llmc".into()),
        }
    }
}

/// What an export is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub input: PathBuf,
    pub out: PathBuf,
    pub to: Target,
    pub order: RowOrder,
    pub split: Option<Splits>,
    pub vocab_offset: u32,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub class_tokens: Option<u32>,
    pub label_map: Option<PathBuf>,
    pub levels: Option<LevelChoice>,
    pub codes: Option<u64>,
    pub shard_rows: Option<u64>,
    pub fields: Option<Fields>,
    pub header: Option<Header>,
    pub columns: Vec<String>,
    pub grid: Option<(usize, usize)>,
    pub check: bool,
    pub partial: bool,
}

impl Settings {
    pub(crate) fn new(input: PathBuf, out: PathBuf, to: Target) -> Settings {
        Settings {
            input,
            out,
            to,
            order: RowOrder::Plan,
            split: None,
            vocab_offset: 0,
            bos: None,
            eos: None,
            class_tokens: None,
            label_map: None,
            levels: None,
            codes: None,
            shard_rows: None,
            fields: None,
            header: None,
            columns: Vec::new(),
            grid: None,
            check: true,
            partial: false,
        }
    }

    /// Refuses what the format has no place for.
    ///
    /// # Errors
    /// That, by the setting's name.
    pub(crate) fn check(&self) -> Result<()> {
        let traits = self.to.traits();
        let asked = [
            (VOCAB_OFFSET, self.vocab_offset > 0),
            (BOS, self.bos.is_some()),
            (EOS, self.eos.is_some()),
            (CLASS_TOKENS, self.class_tokens.is_some()),
        ];
        if let Some((setting, _)) = asked.iter().find(|(_, asked)| *asked && traits.grids) {
            return Err(Error::setting(
                *setting,
                format!(
                    "is of sequences of ids, and {} holds grids of codes: its trainers add offsets \
                     and special ids themselves; leave it out",
                    self.to
                ),
            ));
        }
        if traits.grids && self.levels == Some(LevelChoice::All) {
            let text = format!("all: {} holds one grid a row; use first", self.to);
            return Err(Error::setting(LEVELS, text));
        }
        self.check_fields()?;
        if self.header.is_some() && self.to != Target::Bin {
            let text = format!("is of bin, and {} has one of its own; leave it out", self.to);
            return Err(Error::setting(HEADER, text));
        }
        let text = match (self.shard_rows, traits.files) {
            (None, _) | (Some(1..), Files::Shards(_)) => return Ok(()),
            (Some(0), _) => "0: a file has at least one row".to_string(),
            (_, Files::One) => {
                format!("is of formats of many files, and {} is one; leave it out", self.to)
            }
            (_, _) => format!("is of shards, and {} has files for each row; leave it out", self.to),
        };
        Err(Error::setting(SHARD_ROWS, text))
    }

    fn check_fields(&self) -> Result<()> {
        let Some(fields) = &self.fields else { return Ok(()) };
        let text = match self.to {
            Target::Jsonl => return Ok(()),
            Target::OpenMuse if fields.iter().all(|(field, _)| field == Field::Tokens) => {
                return Ok(());
            }
            Target::OpenMuse => {
                "names one field of open-muse, tokens:NAME; leave out the others".to_string()
            }
            other => {
                format!(
                    "is of jsonl and open-muse, and {other} has fields of its own; leave it out"
                )
            }
        };
        Err(Error::setting(FIELDS, text))
    }

    /// Whether rows have to be equally long.
    pub(super) fn needs_one_grid(&self) -> bool {
        self.to.traits().alike || self.header.is_some()
    }

    /// The setting that needs a label of every row, where one does.
    pub(super) fn needs_labels(&self) -> Option<Setting> {
        if self.class_tokens.is_some() {
            return Some(CLASS_TOKENS);
        }
        if self.to == Target::LlamaGen {
            return Some(TO);
        }
        let fields = self.fields.clone().unwrap_or_default();
        let listed = fields.name_of(Field::ClassId).is_some() && self.to == Target::Jsonl;
        listed.then_some(FIELDS)
    }

    /// Rows of a part that is full.
    pub(super) fn rows_of_part(&self) -> u64 {
        match self.to.traits().files {
            Files::One => u64::MAX,
            Files::Shards(rows) => self.shard_rows.unwrap_or(rows),
            Files::Each(rows) => rows,
        }
    }

    /// What the bytes depend on, beside the source.
    pub(super) fn identity(&self) -> Value {
        let mut identity = json!({
            "to": self.to.to_string(),
            "order": match self.order {
                RowOrder::Plan => "plan".to_string(),
                RowOrder::Shuffle(seed) => format!("shuffle={seed}"),
            },
            "split": self.split.as_ref().map(Splits::text),
            "vocab_offset": self.vocab_offset,
            "bos": self.bos,
            "eos": self.eos,
            "class_tokens": self.class_tokens,
            "levels": match self.levels {
                None => Value::Null,
                Some(LevelChoice::First) => "first".into(),
                Some(LevelChoice::All) => "all".into(),
            },
            "codes": self.codes,
            "shard_rows": self.shard_rows,
            "fields": self.fields.as_ref().map(Fields::text),
            "columns": self.columns,
            "grid": self.grid,
            "partial": self.partial,
        });
        // Only where it is asked for, so that exports from before there was one go on.
        if let Some(Header::Llmc) = self.header {
            identity["header"] = "llmc".into();
        }
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_special_ids_are_refused_where_there_are_grids() {
        let settings = |to| Settings::new("in".into(), "out".into(), to);
        for (set, name) in [
            (
                Box::new(|s: &mut Settings| s.vocab_offset = 1) as Box<dyn Fn(&mut Settings)>,
                "vocab_offset",
            ),
            (Box::new(|s| s.bos = Some(1)), "bos"),
            (Box::new(|s| s.eos = Some(1)), "eos"),
            (Box::new(|s| s.class_tokens = Some(1)), "class_tokens"),
            (Box::new(|s| s.levels = Some(LevelChoice::All)), "levels"),
        ] {
            let (mut grids, mut ids) = (settings(Target::WebDataset), settings(Target::Megatron));
            set(&mut grids);
            set(&mut ids);
            let error = grids.check().unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains("webdataset"), "{error}");
            ids.check().unwrap();
        }
        let mut rows = settings(Target::Megatron);
        rows.shard_rows = Some(5);
        assert!(rows.check().unwrap_err().to_string().contains("shard_rows"));
    }
}
