//! Owns what an export is asked for, what of it fits together, and what of it the bytes depend on.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::fields::{Field, Fields};
use super::split::Splits;
use super::target::Target;
use crate::error::{Error, Result};
use crate::util::settings::{
    BOS, CLASS_TOKENS, EOS, FIELDS, LEVELS, SHARD_ROWS, Setting, VOCAB_OFFSET,
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
        if self.fields.is_some() && self.to != Target::Jsonl {
            let text = format!("is of jsonl, and {} has fields of its own; leave it out", self.to);
            return Err(Error::setting(FIELDS, text));
        }
        match (self.shard_rows, traits.shard_rows) {
            (Some(0), _) => Err(Error::setting(SHARD_ROWS, "0: a file has at least one row")),
            (Some(_), None) => {
                let text =
                    format!("is of formats of many files, and {} is one; leave it out", self.to);
                Err(Error::setting(SHARD_ROWS, text))
            }
            _ => Ok(()),
        }
    }

    /// The setting that needs a label of every row, where one does.
    pub(super) fn needs_labels(&self) -> Option<Setting> {
        if self.class_tokens.is_some() {
            return Some(CLASS_TOKENS);
        }
        let fields = self.fields.clone().unwrap_or_default();
        let listed = fields.name_of(Field::ClassId).is_some() && self.to == Target::Jsonl;
        listed.then_some(FIELDS)
    }

    /// Rows of a file, where there are many.
    pub(super) fn rows_of_file(&self) -> u64 {
        self.shard_rows.or(self.to.traits().shard_rows).unwrap_or(u64::MAX)
    }

    /// What the bytes depend on, beside the source.
    pub(super) fn identity(&self) -> Value {
        json!({
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
        })
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
