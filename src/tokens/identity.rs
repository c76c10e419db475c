//! Owns what makes two runs the same data set: tokenizer, preprocessing, layout, program.
//! Must not know: files, how any of it was computed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::level_layout::LevelLayout;
use crate::error::{Error, Result};
use crate::util::hex::sha256_hex;
use crate::util::json_diff::{self, Names};
use crate::util::settings::{self, SHARD_ROWS, SIZE};
use crate::util::text;

/// Grids of a row at most.
pub(crate) const LEVELS_MAX: usize = 16;

/// Everything that must be equal for an output folder to be continued. What is equal here gives
/// byte-identical shards on one kind of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The model.
    pub tokenizer: TokenizerId,
    /// From an image file to the model's pixels.
    pub preprocessing: Preprocessing,
    /// Which folder of a key is its label: `1` for the second, ..., or `none`. None stands for the
    /// first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_level: Option<String>,
    /// The grids of a row: the first is `tokens`; `levels` has the others' names.
    pub levels: Vec<LevelLayout>,
    /// Arithmetic of the engine: `f32`, `bf16`, ...
    pub precision: String,
    /// `cpu` or `cuda`: what `Engine::device_kind` says.
    pub device: String,
    /// Images of the plan to a partition.
    pub shard_rows: u64,
    /// The program's version.
    pub version: String,
}

/// Which model made the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerId {
    /// The family's name, as in the model's configuration.
    pub family: String,
    /// Hex sha256 of the weights.
    pub weights_sha256: String,
    /// Hex sha256 of the codebook alone; empty where the quantizer has none (LFQ).
    pub codebook_sha256: String,
    /// K of the first level; 2 where a token is a list of bits.
    pub codes: u64,
    /// D, the length of a code.
    pub dim: u64,
    /// Pixels to a token, along one side.
    pub factor: u64,
}

/// What stands for views or buckets where there are none.
const NONE: &str = "none";

/// How an image file becomes the model's pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Sizes that images are brought to by their aspect ratios, as `512x512,640x384`, each width and
    /// height in pixels. None where all have one size, or their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<String>,
    /// Name of the resize rule.
    pub rule: String,
    /// Side of the square crop in pixels; None where each image keeps its size.
    pub size: Option<u32>,
    /// What lies behind transparent pixels: `white`, `black`, `drop`.
    pub alpha: String,
    /// What becomes of the orientation that a file states: `apply`, `ignore`. None in outputs from
    /// before it could be chosen, which applied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<String>,
    /// Whose resampling the rules of Pillow follow: 12, or 13 from that version on. None in outputs
    /// from before it could be chosen: 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pillow: Option<u32>,
    /// Which views of an image are rows of their own: `flips`, `ten-crop=1.1`, `random-crops=8`, ...
    /// None where an image is one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<String>,
    /// Hex sha256 over every setting that can change a pixel, limits included.
    pub digest: String,
}

impl Preprocessing {
    /// What older outputs leave unsaid, said.
    fn in_full(&self) -> Preprocessing {
        let mut full = self.clone();
        full.orientation.get_or_insert_with(|| "apply".into());
        full.pillow.get_or_insert(12);
        full.views.get_or_insert_with(|| NONE.into());
        full.buckets.get_or_insert_with(|| NONE.into());
        full
    }
}

impl Identity {
    /// Whether statistics are of bits rather than of codes.
    pub(super) fn counts_bits(&self) -> bool {
        self.levels.iter().any(|level| level.bits.is_some())
    }

    /// Width and height of every bucket, in their order; None where images go into none.
    ///
    /// # Errors
    /// A text that names none.
    pub(super) fn buckets(&self) -> Result<Option<Vec<(u32, u32)>>> {
        let Some(text) = &self.preprocessing.buckets else { return Ok(None) };
        let size = |word: &str| {
            let (width, height) = word.split_once('x')?;
            let sides = (width.parse::<u32>().ok()?, height.parse::<u32>().ok()?);
            (sides.0 > 0 && sides.1 > 0).then_some(sides)
        };
        let sizes: Option<Vec<_>> = text.split(',').map(size).collect();
        match sizes {
            Some(sizes) if self.levels.iter().all(|level| level.grid.is_none()) => Ok(Some(sizes)),
            _ => {
                Err(Error::invalid(format!("no output has the buckets '{}'", text::shorten(text))))
            }
        }
    }

    /// Refuses what can't be written.
    ///
    /// # Errors
    /// No level, more than there are names for, a size of zero or beyond a row, too many codes.
    pub fn check(&self) -> Result<()> {
        let residual = self.levels.iter().filter(|level| level.residual).count();
        let books = self.levels.iter().filter(|level| level.book).count();
        let count = self.levels.len();
        let top = count == 2 && residual + books == 0;
        let first = self.levels.first().is_some_and(|level| !level.residual && !level.book);
        let alike = [residual, books].contains(&count.saturating_sub(1)) && residual * books == 0;
        if !first || count > LEVELS_MAX || (!top && !alike) {
            return Err(Error::invalid(format!(
                "tokens have a first level and after it a coarser one, residual ones or further books, at \
                 most {LEVELS_MAX} in all; this model has {count} levels, {residual} of them residual, \
                 {books} further books"
            )));
        }
        let beside = |level: &&LevelLayout| level.residual || level.book;
        if self.levels.iter().filter(beside).any(|level| level.grid != self.levels[0].grid) {
            return Err(Error::invalid(
                "a residual level or a further book has another grid than the first",
            ));
        }
        for level in &self.levels {
            level.check()?;
            if level.bits != self.levels[0].bits {
                return Err(Error::invalid("levels of codes and levels of bits"));
            }
            let values = level.values() as u64;
            if let Some([height, width]) = level.grid
                && (height == 0
                    || width == 0
                    || u64::from(height) * u64::from(width) * values > 1 << 22)
            {
                return Err(Error::invalid(format!(
                    "a grid of {height}x{width} tokens{} doesn't fit into a row, which takes 1 to {}; \
                     take a smaller {SIZE}",
                    if values > 1 { format!(" of {values} bits each") } else { String::new() },
                    crate::util::numbers::count(1_u64 << 22)
                )));
            }
        }
        self.buckets()?;
        if self.tokenizer.codes != self.levels[0].codes {
            return Err(Error::invalid("tokenizer.codes and levels[0].codes differ"));
        }
        if self.shard_rows == 0 || self.shard_rows > 1 << 24 {
            let reason = format!("is 1 to {}, not {}", 1 << 24, self.shard_rows);
            return Err(Error::setting(SHARD_ROWS, reason));
        }
        Ok(())
    }

    /// The canonical text: compact JSON with every object's names sorted.
    pub fn canonical(&self) -> String {
        self.sorted().to_string()
    }

    /// The same as a value, names sorted at every depth.
    pub fn sorted(&self) -> serde_json::Value {
        // Serializing plain structs of strings and integers has no failing case.
        sort(serde_json::to_value(self).unwrap_or_default())
    }

    /// Hex sha256 of the canonical text.
    pub fn digest(&self) -> String {
        sha256_hex(self.canonical())
    }

    /// The first setting that differs: its dotted name, its value in `self` and in `other`. What an
    /// older output leaves unsaid is no difference to what it meant.
    pub fn difference(&self, other: &Identity) -> Option<(String, String, String)> {
        // In the order of declaration: a setting before what follows from it.
        let full = |identity: &Identity| {
            let preprocessing = identity.preprocessing.in_full();
            let label_level = identity.label_level.clone().or_else(|| Some("0".into()));
            let full = Identity { preprocessing, label_level, ..identity.clone() };
            serde_json::to_value(full).unwrap_or_default()
        };
        let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let (ours, theirs) = (full(self), full(other));
        let (name, a, b) = json_diff::first(&ours, &theirs, Names::Declared)?;
        Some((name, text(a), text(b)))
    }
}

/// What differs, in words: how an output was made, and what this run has instead.
pub(crate) fn difference_in_words(made: &Identity, ours: &Identity) -> Option<(String, String)> {
    let (name, was, now) = made.difference(ours)?;
    let models = [made, ours].map(|identity| identity.tokenizer.to_string());
    if !name.starts_with("tokenizer.") || models[0] == models[1] {
        return Some((as_given(&name, &text::shorten(&was)), text::shorten(&now)));
    }
    let [was, now] = models;
    Some((format!("another model ({was})"), now))
}

impl fmt::Display for TokenizerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = |digest: &str| {
            let start: String = digest.chars().take(12).collect();
            text::printable(&start).into_owned()
        };
        let codebook = match &*self.codebook_sha256 {
            "" => "no codebook".to_string(),
            digest => format!("codebook {}", start(digest)),
        };
        let (family, weights) = (text::shorten(&self.family), start(&self.weights_sha256));
        write!(f, "{family} with weights {weights}, {codebook}")
    }
}

/// A setting of [`Identity::difference`] and its value as a user gives them.
fn as_given(name: &str, value: &str) -> String {
    let setting = match name {
        "preprocessing.size" => settings::SIZE,
        "preprocessing.rule" => settings::RESIZE,
        "preprocessing.alpha" => settings::ALPHA,
        "preprocessing.orientation" => settings::ORIENTATION,
        "preprocessing.pillow" => settings::PILLOW,
        "preprocessing.buckets" if value == NONE => return format!("no {}", settings::BUCKETS),
        "preprocessing.buckets" => settings::BUCKETS,
        "preprocessing.views" if value == NONE => return format!("no {}", settings::VIEWS),
        "preprocessing.views" => settings::VIEWS,
        "shard_rows" => settings::SHARD_ROWS,
        "precision" => settings::PRECISION,
        "device" => settings::DEVICE,
        other => return format!("{other} = {value}"),
    };
    format!("{setting} {}", if value == "null" { "of none" } else { value })
}

/// Sorts the names of every object.
fn sort(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(k, v)| (k, sort(v))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sort).collect()),
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::util::settings::plain;

    /// An identity for tests: `codes` codes, a fixed `grid`, `shard_rows` to a partition.
    pub(crate) fn identity(codes: u64, grid: Option<[u32; 2]>, shard_rows: u64) -> Identity {
        Identity {
            tokenizer: TokenizerId {
                family: "vqtok".into(),
                weights_sha256: "ab".repeat(32),
                codebook_sha256: "cd".repeat(32),
                codes,
                dim: 8,
                factor: 4,
            },
            preprocessing: Preprocessing {
                buckets: None,
                rule: "bicubic".into(),
                size: Some(16),
                alpha: "white".into(),
                orientation: Some("apply".into()),
                pillow: Some(12),
                views: None,
                digest: "ef".repeat(32),
            },
            label_level: None,
            levels: vec![LevelLayout::new(codes, grid)],
            precision: "f32".into(),
            device: "cpu".into(),
            shard_rows,
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn canonical_text_is_sorted_and_reads_back() {
        let one = identity(512, Some([4, 4]), 10);
        let text = one.canonical();
        assert!(text.starts_with(r#"{"device":"cpu","levels":[{"codes":512,"grid":[4,4]}],"#));
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), one);
        assert_eq!(one.digest().len(), 64);
    }

    #[test]
    fn the_first_difference_is_named() {
        let one = identity(512, Some([4, 4]), 10);
        assert_eq!(one.difference(&one.clone()), None);
        let mut two = one.clone();
        two.tokenizer.weights_sha256 = "00".into();
        let (name, a, b) = one.difference(&two).unwrap();
        assert_eq!((name.as_str(), b.as_str()), ("tokenizer.weights_sha256", "00"));
        assert_eq!(a, "ab".repeat(32));
        let mut three = one.clone();
        three.preprocessing.size = None;
        assert_eq!(one.difference(&three).unwrap().0, "preprocessing.size");
        // A setting before the digest that follows from it.
        let mut four = one.clone();
        four.preprocessing.orientation = Some("ignore".into());
        four.preprocessing.digest = "11".into();
        let (name, a, b) = one.difference(&four).unwrap();
        assert_eq!((&*name, &*a, &*b), ("preprocessing.orientation", "apply", "ignore"));
    }

    #[test]
    fn what_older_outputs_leave_unsaid_is_what_they_did() {
        let now = identity(512, Some([4, 4]), 10);
        let mut old = now.clone();
        (old.preprocessing.orientation, old.preprocessing.pillow) = (None, None);
        assert_eq!((old.difference(&now), now.difference(&old)), (None, None));
        // Their text stays what it was, byte for byte: shards that are added carry the same.
        let text = old.canonical();
        assert!(!text.contains("orientation") && !text.contains("pillow"), "{text}");
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap().canonical(), text);
        let mut views = now.clone();
        views.preprocessing.views = Some("flips".into());
        views.preprocessing.digest = "11".into();
        let (name, was, is) = old.difference(&views).unwrap();
        assert_eq!((&*name, &*was, &*is), ("preprocessing.views", "none", "flips"));
        assert_eq!(plain(&as_given(&name, &was)), "no views");
        assert_eq!(plain(&as_given(&name, &is)), "views flips");
        let mut labels = now.clone();
        labels.label_level = Some("1".into());
        let found = old.difference(&labels).unwrap();
        assert_eq!(found, ("label_level".into(), "0".into(), "1".into()));
        let mut other = now.clone();
        other.preprocessing.pillow = Some(13);
        let (name, was, is) = old.difference(&other).unwrap();
        assert_eq!((&*name, &*was, &*is), ("preprocessing.pillow", "12", "13"));
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let good = identity(512, Some([4, 4]), 10);
        good.check().unwrap();
        for level in [LevelLayout::new(1 << 32, None), LevelLayout::of_bits(256, Some([128, 128]))]
        {
            let mut wide = identity(level.codes, None, 10);
            assert_eq!(wide.levels[0].codes, level.codes);
            wide.levels = vec![level];
            wide.check().unwrap();
        }
        for spoil in [
            (|i: &mut Identity| i.levels.clear()) as fn(&mut Identity),
            |i| i.levels[0].grid = Some([0, 4]),
            |i| i.levels[0].codes = 0,
            |i| (i.tokenizer.codes, i.levels[0].codes) = ((1 << 24) + 1, (1 << 24) + 1),
            |i| i.levels[0].bits = Some(9),
            |i| (i.tokenizer.codes, i.levels[0]) = (2, LevelLayout::of_bits(32, None)),
            |i| (i.tokenizer.codes, i.levels[0]) = (2, LevelLayout::of_bits(257, None)),
            |i| (i.tokenizer.codes, i.levels[0]) = (1 << 33, LevelLayout::new(1 << 33, None)),
            |i| (i.tokenizer.codes, i.levels[0]) = (2, LevelLayout::of_bits(40, Some([512, 256]))),
            |i| i.tokenizer.codes = 7,
            |i| i.shard_rows = 0,
            |i| i.levels[0].residual = true,
            |i| i.levels = vec![i.levels[0].clone(); 3],
            |i| i.levels.push(LevelLayout { residual: true, ..LevelLayout::new(512, None) }),
        ] {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(bad.check().is_err());
        }
    }
}
