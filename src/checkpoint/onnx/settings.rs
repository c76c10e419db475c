//! Owns what is said about ONNX files: `tokenizer.json` beside them, and what the caller says.
//! Must not know: what the files say themselves.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::setting_names;
use crate::model::config::{NUMBERED_BITS_MAX, PixelLayout, PixelScale};
use crate::util::settings::{MEAN, STD};
use crate::util::text::{printable, shorten};

/// The file beside `encoder.onnx` and `decoder.onnx`.
pub(crate) const SETTINGS_FILE: &str = "tokenizer.json";

/// What a caller says about an ONNX file; it stands above what `tokenizer.json` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OnnxSettings {
    /// The number of codes of a level.
    pub codes: Option<usize>,
    /// The order of the sides of picture tensors.
    pub layout: Option<PixelLayout>,
    /// Mean of pixels of 0 to 255, one number or one a channel.
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of the same.
    pub std: Option<Vec<f32>>,
}

/// One of something, or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrEach<T> {
    One(T),
    Each(Vec<T>),
}

/// The settings of an object that have not been read yet.
struct Written {
    /// The object's name and a dot; nothing at the top.
    within: String,
    entries: Map<String, Value>,
}

impl Written {
    fn of(within: &str, value: Option<Value>) -> Result<Written, String> {
        let entries = match value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(entries)) => entries,
            Some(other) => {
                let what = if within.is_empty() { "it" } else { &format!("`{within}`") };
                return Err(format!("{what} is {}, where {{...}} belongs", shown(&other)));
            }
        };
        let within = if within.is_empty() { String::new() } else { format!("{within}.") };
        Ok(Written { within, entries })
    }

    /// Takes a setting out, as one of `kind`; None where it isn't there or null.
    fn take<T: DeserializeOwned>(&mut self, name: &str, kind: &str) -> Result<Option<T>, String> {
        let Some(value) = self.entries.remove(name) else { return Ok(None) };
        let read = Option::<T>::deserialize(&value);
        read.map_err(|_| {
            format!("`{}{name}` is {}, where {kind} belongs", self.within, shown(&value))
        })
    }

    /// The names of what is left, which say nothing to us.
    fn rest(self, port: Option<&str>) -> Result<Vec<String>, String> {
        setting_names::check(self.entries.keys(), port)?;
        let names = self.entries.into_iter().map(|(name, _)| name);
        Ok(names.map(|name| format!("{}{}", self.within, printable(&name))).collect())
    }
}

fn shown(value: &Value) -> String {
    shorten(&value.to_string())
}

/// What is said of pixels that go in or come out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) layout: Option<PixelLayout>,
    pub(super) mean: Option<Vec<f32>>,
    pub(super) std: Option<Vec<f32>>,
}

/// All that is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stated {
    pub(super) codes: Option<usize>,
    /// For how many levels the number of codes is written, where it's written for each.
    pub(super) levels: Option<usize>,
    pub(super) input: Port,
    pub(super) output: Port,
    /// The encoder's outputs of codes, level by level; none where that isn't said.
    pub(super) tokens: Vec<String>,
    /// The decoder's inputs of them, in the same order.
    pub(super) decoder_tokens: Vec<String>,
    pub(super) size: Option<u32>,
    pub(super) resize: Option<String>,
    pub(super) alpha: Option<String>,
    pub(super) orientation: Option<String>,
    pub(super) pillow: Option<u32>,
    pub(super) grid: Option<[usize; 2]>,
    pub(super) factor: Option<[usize; 2]>,
    /// Names that say nothing to us.
    pub(super) unknown: Vec<String>,
}

impl Stated {
    /// Of a settings file, with what the caller says on top.
    ///
    /// # Errors
    /// A value of another kind, or one that can't be.
    pub(super) fn read(written: Option<&Value>, said: &OnnxSettings) -> Result<Stated, String> {
        let mut written = Written::of("", written.cloned())?;
        let (number, text) = ("a whole number", "a text");
        let each = written.take("codes", "a whole number, or one for each level,")?;
        let (codes, levels) = codes(each)?;
        let (input, output) = (port("input", &mut written)?, port("output", &mut written)?);
        let tokens = names("tokens", "output", &mut written)?;
        let decoder_tokens = names("decoder_tokens", "input", &mut written)?;
        let factor = written.take("factor", "a whole number, or one for height and width,")?;
        let stated = Stated {
            codes: said.codes.or(codes),
            levels,
            tokens,
            decoder_tokens,
            size: written.take("size", number)?,
            resize: written.take("resize", text)?,
            alpha: written.take("alpha", text)?,
            orientation: written.take("orientation", text)?,
            pillow: written.take("pillow", number)?,
            grid: written.take("grid", "[height, width]")?,
            factor: match factor {
                None => None,
                Some(OneOrEach::One(side)) => Some([side, side]),
                Some(OneOrEach::Each(sides)) => Some(both("factor", &sides)?),
            },
            unknown: [written.rest(None)?, input.1, output.1].concat(),
            input: input.0.under(said),
            output: output.0.under(said),
        };
        stated.checked()
    }

    fn checked(self) -> Result<Stated, String> {
        let sides = [("grid", self.grid), ("factor", self.factor)];
        if let Some((name, _)) =
            sides.iter().find(|(_, sides)| sides.is_some_and(|s| s.contains(&0)))
        {
            return Err(format!("`{name}` has a side of 0"));
        }
        match (self.codes, self.size) {
            (Some(0), _) => Err("`codes` is 0".into()),
            (Some(codes), _) if codes > 1 << NUMBERED_BITS_MAX => {
                Err(format!("`codes` is {codes}, and a code has {NUMBERED_BITS_MAX} bits at most"))
            }
            (_, Some(0)) => Err("`size` is 0".into()),
            _ => Ok(self),
        }
    }
}

/// The names of some of a graph's inputs or outputs.
fn names(setting: &str, kind: &str, written: &mut Written) -> Result<Vec<String>, String> {
    let belongs = format!("an {kind}'s name, or a list of them,");
    let names: Vec<String> = match written.take(setting, &belongs)? {
        None => return Ok(Vec::new()),
        Some(OneOrEach::One(name)) => vec![name],
        Some(OneOrEach::Each(names)) => names,
    };
    match (1..names.len()).find(|&n| names[..n].contains(&names[n])) {
        Some(twice) => Err(format!("`{setting}` names '{}' twice", shorten(&names[twice]))),
        None if names.is_empty() => Err(format!("`{setting}` names no {kind}")),
        None => Ok(names),
    }
}

/// The number of codes of all levels, and the number of levels where each says its own.
fn codes(written: Option<OneOrEach<usize>>) -> Result<(Option<usize>, Option<usize>), String> {
    match written {
        None => Ok((None, None)),
        Some(OneOrEach::One(codes)) => Ok((Some(codes), None)),
        Some(OneOrEach::Each(codes)) => match codes.first() {
            Some(first) if codes.iter().all(|code| code == first) => {
                Ok((Some(*first), Some(codes.len())))
            }
            _ => Err(format!("`codes` are {codes:?}: levels have one number of codes here")),
        },
    }
}

fn both(name: &str, sides: &[usize]) -> Result<[usize; 2], String> {
    let wrong = |_| format!("`{name}` is {sides:?}, where [height, width] belongs");
    sides.try_into().map_err(wrong)
}

/// What is said of one side, and the names in it that say nothing.
fn port(of: &str, written: &mut Written) -> Result<(Port, Vec<String>), String> {
    let mut written = Written::of(of, written.entries.remove(of))?;
    let each = |found: Option<OneOrEach<f32>>| {
        found.map(|numbers| match numbers {
            OneOrEach::One(number) => vec![number],
            OneOrEach::Each(numbers) => numbers,
        })
    };
    let numbers = "a number, or one for each channel,";
    let name = written.take("name", "a text")?;
    let layout = match written.take::<String>("layout", "a text")? {
        None => None,
        Some(word) => Some(word.parse().map_err(|reason| format!("`{of}.layout` is {reason}"))?),
    };
    let mean = each(written.take("mean", numbers)?);
    let std = each(written.take("std", numbers)?);
    Ok((Port { name, layout, mean, std }, written.rest(Some(of))?))
}

impl Port {
    fn under(self, said: &OnnxSettings) -> Port {
        Port {
            layout: said.layout.or(self.layout),
            mean: said.mean.clone().or(self.mean),
            std: said.std.clone().or(self.std),
            ..self
        }
    }

    /// Mean and deviation for so many channels; None where they aren't said.
    ///
    /// # Errors
    /// Another number of numbers, one that isn't finite, a deviation of zero; one of the two alone.
    pub(super) fn scale(&self, of: &str, channels: usize) -> Result<Option<PixelScale>, String> {
        let each = |name: &str, numbers: &[f32]| match numbers {
            [one] => Ok(vec![*one; channels]),
            all if all.len() == channels => Ok(all.to_vec()),
            all => Err(format!("`{of}.{name}` has {} numbers for {channels} channels", all.len())),
        };
        let one = |said: &str, other: &str| {
            format!(
                "`{of}.{said}` is said without `{of}.{other}`: write both into {SETTINGS_FILE}, or pass \
                 {MEAN} and {STD}"
            )
        };
        let (mean, std) = match (&self.mean, &self.std) {
            (None, None) => return Ok(None),
            (Some(mean), Some(std)) => (each("mean", mean)?, each("std", std)?),
            (Some(_), None) => return Err(one("mean", "std")),
            (None, Some(_)) => return Err(one("std", "mean")),
        };
        match mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| *s > 0.0 && s.is_normal()) {
            true => Ok(Some(PixelScale { mean, std })),
            false => Err(format!(
                "`{of}.mean` and `{of}.std` are {mean:?} and {std:?}: give finite numbers, and \
                 deviations above 0"
            )),
        }
    }
}

impl std::str::FromStr for PixelLayout {
    type Err = String;

    fn from_str(word: &str) -> Result<PixelLayout, String> {
        match word.to_ascii_uppercase().as_str() {
            "NCHW" => Ok(PixelLayout::Nchw),
            "NHWC" => Ok(PixelLayout::Nhwc),
            _ => Err(format!("{}; it is NCHW or NHWC", shorten(word))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Stated, String> {
        Stated::read(Some(&value), &OnnxSettings::default())
    }

    #[test]
    fn one_number_or_one_a_channel_and_the_caller_above_the_file() {
        let value = json!({
            "codes": [8, 8], "tokens": "a", "factor": 4, "note": "x",
            "input": {"layout": "nhwc", "mean": 1, "std": [1, 2, 3], "more": 0}
        });
        let stated = read(value.clone()).unwrap();
        assert_eq!((stated.codes, &stated.tokens[..]), (Some(8), &["a".to_owned()][..]));
        assert_eq!((stated.factor, stated.input.layout), (Some([4, 4]), Some(PixelLayout::Nhwc)));
        assert_eq!(stated.unknown, ["note", "input.more"]);
        let scale = stated.input.scale("input", 3).unwrap().unwrap();
        assert_eq!((scale.mean, scale.std), (vec![1.0; 3], vec![1.0, 2.0, 3.0]));
        assert_eq!(stated.output.scale("output", 3), Ok(None));
        let said =
            OnnxSettings { codes: Some(9), mean: Some(vec![7.0]), ..OnnxSettings::default() };
        let stated = Stated::read(Some(&value), &said).unwrap();
        assert_eq!((stated.codes, stated.input.mean), (Some(9), Some(vec![7.0])));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (value, word) in [
            (json!({"codes": 0}), "`codes` is 0"),
            (json!({"codes": [8, 4]}), "`codes` are [8, 4]"),
            (json!({"grid": [4, 0]}), "`grid`"),
            (json!({"size": 0}), "`size`"),
            (json!({"codes": "50"}), "`codes` is \"50\", where a whole number"),
            (json!({"codes": -1}), "`codes` is -1"),
            (json!({"codes": (1u64 << 32) + 1}), "is 4294967297, and a code has 32 bits at most"),
            (json!({"factor": [1, 2, 3]}), "`factor` is [1, 2, 3]"),
            (json!({"grid": 4}), "`grid` is 4, where [height, width]"),
            (json!({"input": 4}), "`input` is 4"),
            (json!([1]), "it is [1]"),
            (json!({"input": {"mean": "0"}}), "`input.mean` is \"0\""),
            (json!({"codes": []}), "`codes` are []"),
            (json!({"tokens": []}), "`tokens` names no output"),
            (json!({"tokens": ["a", "b", "a"]}), "`tokens` names 'a' twice"),
            (json!({"decoder_tokens": ["a", "a"]}), "`decoder_tokens` names 'a' twice"),
            (json!({"image_size": 64}), "`image_size`"),
            (json!({"input.mean": 0}), "`input.mean` is written {\"input\": {\"mean\": ...}}"),
            (json!({"channel_order": "BGR"}), "`channel_order` is no setting: pictures go in"),
            (json!({"input": {"color": "BGR"}}), "`color` is no setting"),
            (json!({"output": {"means": 1}}), "`output.means`"),
            (json!({"input": {"layout": "HWC"}}), "`input.layout` is HWC"),
        ] {
            let reason = read(value).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
        for (input, word) in [
            (json!({"mean": [1, 2], "std": 1}), "2 numbers for 3 channels"),
            (json!({"mean": 1}), "without `input.std`"),
            (json!({"mean": 1, "std": 0}), "`input.mean` and `input.std` are"),
        ] {
            let stated = read(json!({"input": input})).unwrap();
            let reason = stated.input.scale("input", 3).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
