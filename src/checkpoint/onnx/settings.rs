//! Owns what is said about ONNX files: `tokenizer.json` beside them, and what the caller says.
//! Must not know: what the files say themselves.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::model::config::{PixelLayout, PixelScale};
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

/// A number for all channels, or one each.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(f32),
    Each(Vec<f32>),
}

/// A name, or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Each(Vec<String>),
}

/// A number of codes, or one for each level.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Codes {
    One(usize),
    Each(Vec<usize>),
}

/// A side for both, or height and width.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Sides {
    One(usize),
    Both([usize; 2]),
}

/// What the file says, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Written {
    codes: Option<Codes>,
    input: WrittenPort,
    output: WrittenPort,
    tokens: Option<Names>,
    size: Option<u32>,
    resize: Option<String>,
    alpha: Option<String>,
    orientation: Option<String>,
    pillow: Option<u32>,
    grid: Option<[usize; 2]>,
    factor: Option<Sides>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// What is written of pixels that go in or come out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WrittenPort {
    name: Option<String>,
    layout: Option<String>,
    mean: Option<Numbers>,
    std: Option<Numbers>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
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
    pub(super) input: Port,
    pub(super) output: Port,
    pub(super) tokens: Vec<String>,
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
        let written: Written = match written {
            None => Written::default(),
            Some(value) => Deserialize::deserialize(value).map_err(|e| e.to_string())?,
        };
        let Written { size, resize, alpha, orientation, pillow, grid, .. } = written;
        let (input, output) = (port("input", written.input)?, port("output", written.output)?);
        let mut unknown: Vec<String> = written.others.into_keys().collect();
        unknown.extend(input.1.into_iter().chain(output.1));
        let stated = Stated {
            codes: said.codes.or(codes(written.codes)?),
            input: input.0.under(said),
            output: output.0.under(said),
            tokens: match written.tokens {
                None => Vec::new(),
                Some(Names::One(name)) => vec![name],
                Some(Names::Each(names)) => names,
            },
            size,
            resize,
            alpha,
            orientation,
            pillow,
            grid,
            factor: written.factor.map(|sides| match sides {
                Sides::One(side) => [side, side],
                Sides::Both(sides) => sides,
            }),
            unknown,
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
            (_, Some(0)) => Err("`size` is 0".into()),
            _ => Ok(self),
        }
    }
}

fn codes(written: Option<Codes>) -> Result<Option<usize>, String> {
    match written {
        None => Ok(None),
        Some(Codes::One(codes)) => Ok(Some(codes)),
        Some(Codes::Each(codes)) => match codes.iter().all(|&c| Some(&c) == codes.first()) {
            true => Ok(codes.first().copied()),
            false => Err(format!("`codes` are {codes:?}: levels have one number of codes here")),
        },
    }
}

/// What is said of one side, and the names in it that say nothing.
fn port(of: &str, written: WrittenPort) -> Result<(Port, Vec<String>), String> {
    let numbers = |written: Option<Numbers>| {
        written.map(|numbers| match numbers {
            Numbers::One(number) => vec![number],
            Numbers::Each(numbers) => numbers,
        })
    };
    let layout = match written.layout.as_deref() {
        None => None,
        Some(word) => Some(word.parse().map_err(|reason| format!("`{of}.layout` is {reason}"))?),
    };
    let others = written.others.into_keys().map(|name| format!("{of}.{}", printable(&name)));
    let (mean, std) = (numbers(written.mean), numbers(written.std));
    Ok((Port { name: written.name, layout, mean, std }, others.collect()))
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
        let (mean, std) = match (&self.mean, &self.std) {
            (None, None) => return Ok(None),
            (Some(mean), Some(std)) => (each("mean", mean)?, each("std", std)?),
            (Some(_), None) => return Err(format!("it says `{of}.mean` without `{of}.std`")),
            (None, Some(_)) => return Err(format!("it says `{of}.std` without `{of}.mean`")),
        };
        match mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_normal()) {
            true => Ok(Some(PixelScale { mean, std })),
            false => Err(format!("`{of}.mean` and `{of}.std` are {mean:?} and {std:?}")),
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
