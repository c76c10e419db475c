//! Owns the reading of published configurations (taming's YAML, diffusers' and transformers' JSON,
//! Lightning's hyper-parameters): only what names and shapes can't tell.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::setting_names::SettingNames;
use crate::checkpoint::find::interpolate;
use crate::checkpoint::pickle::metadata::SETTINGS;
use crate::error::{Error, Result};
use crate::util::text::printable;
use crate::weights::tensor::RawTensor;

/// The setting that [`Published::add_levels`] makes.
pub(crate) const LEVELS: &str = "levels of digits";

/// Pixels along a side that a configuration may ask for.
const SIDE_MAX: u32 = 1 << 16;

/// All configurations found beside or inside a checkpoint, the decisive one first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    /// Where each comes from, for messages, and its content.
    sources: Vec<(String, Value)>,
    /// Those that are files beside the checkpoint.
    files: Vec<String>,
    /// Whether the user has given one.
    explicit: bool,
    /// How a front end calls what its user may say, for messages.
    pub settings: SettingNames,
    /// The scales (h, w) that the user says.
    pub scales: Option<Vec<[usize; 2]>>,
}

/// A setting that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// The key it stands under.
    pub key: &'a str,
    /// Its value, never null.
    pub value: &'a Value,
    /// The file, or whatever it comes from, for messages.
    pub source: &'a str,
}

impl Setting<'_> {
    /// The error for a value that can't be meant: `where: `key` is VALUE; what belongs there`.
    pub(crate) fn refuse<T>(&self, what: &str) -> Result<T> {
        const CHARS_MAX: usize = 80;
        let value = self.value.to_string();
        let cut = value.chars().take(CHARS_MAX).collect::<String>();
        let more = if cut.len() < value.len() { "..." } else { "" };
        Err(Error::invalid(format!("{}: `{}` is {cut}{more}; {what}", self.source, self.key)))
    }

    /// The error for a value that the weights contradict, which have what was `found`.
    pub(crate) fn other_checkpoint<T>(&self, found: &str) -> Result<T> {
        self.refuse(&format!("but the weights have {found}: it belongs to another checkpoint"))
    }

    /// The types of diffusers' blocks.
    pub(crate) fn blocks(&self) -> Result<&[Value]> {
        match self.value.as_array() {
            Some(blocks) => Ok(blocks),
            None => self.refuse("a list of types of blocks belongs there"),
        }
    }

    /// The value as a number of things, of which there is one at least.
    fn positive(&self) -> Result<usize> {
        match self.value.as_u64().filter(|&number| number > 0) {
            Some(number) => Ok(number as usize),
            None => self.refuse("a whole number above 0 belongs there"),
        }
    }
}

impl Published {
    /// `explicit` was given by the user and comes first; then the files beside the checkpoint, then
    /// what the pickle carries.
    pub(crate) fn new(
        explicit: Option<&Value>,
        files: &[(PathBuf, Value)],
        hparams: Option<&Value>,
    ) -> Published {
        let mut sources = Vec::new();
        let mut add = |name: String, root: &Value| {
            let root = interpolate::resolve(root);
            sources.extend(focus(&root).into_iter().map(|value| (name.clone(), value.clone())));
        };
        if let Some(value) = explicit {
            add("the given configuration".to_owned(), value);
        }
        let name = |path: &PathBuf| {
            path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
        };
        for (path, value) in files {
            add(name(path), value);
        }
        if let Some(value) = hparams {
            // Each is a configuration of its own, which references count from.
            for key in SETTINGS {
                if let Some(inner) = value.get(key).filter(|inner| inner.is_object()) {
                    add(format!("the checkpoint's `{key}`"), inner);
                }
            }
            add("the checkpoint's own settings".to_owned(), value);
        }
        // Where one is called so, others beside it may belong to something else.
        let (own, others): (Vec<String>, Vec<String>) =
            files.iter().map(|(path, _)| name(path)).partition(|name| name.starts_with("config."));
        let files = if own.is_empty() { others } else { own };
        Published {
            sources,
            files,
            explicit: explicit.is_some(),
            settings: SettingNames::default(),
            scales: None,
        }
    }

    /// Takes the levels of a quantizer's digits, which Cosmos' modules hold as a tensor, for a setting.
    ///
    /// # Errors
    /// Halves that have other levels than each other.
    pub(crate) fn add_levels(&mut self, tensors: &BTreeMap<String, RawTensor>) -> Result<()> {
        let named = |name: &str| name.ends_with("quantizer._levels");
        let mut all = tensors.iter().filter(|(name, tensor)| named(name) && tensor.len() <= 64);
        let Some((name, levels)) = all.next() else { return Ok(()) };
        if let Some((other, _)) = all.find(|(_, other)| other.to_f32() != levels.to_f32()) {
            return Err(Error::invalid(format!(
                "`{}` and `{}` differ: the halves belong to different models",
                printable(name),
                printable(other)
            )));
        }
        // Whole numbers below 2^24, or refused as settings are.
        let levels: Vec<i64> = levels.to_f32().iter().map(|&level| level as i64).collect();
        let source = format!("the checkpoint's `{}`", printable(name));
        self.sources.push((source, serde_json::json!({ LEVELS: levels })));
        Ok(())
    }

    /// The first value of any of `keys` in any scope.
    ///
    /// # Errors
    /// Where it, or a table it may stand in, is a reference that can't be resolved.
    pub(crate) fn find(&self, keys: &[&'static str]) -> Result<Option<Setting<'_>>> {
        for (source, value) in &self.sources {
            let scopes = scopes(value).map_err(|reason| unresolved(source, reason))?;
            let hit = keys
                .iter()
                .find_map(|key| scopes.iter().find_map(|scope| Some((*key, scope.get(*key)?))));
            if let Some((key, value)) = hit.filter(|(_, value)| !value.is_null()) {
                return match interpolate::unresolved(value) {
                    Some(reason) => Err(unresolved(source, reason)),
                    None => Ok(Some(Setting { key, value, source })),
                };
            }
        }
        Ok(None)
    }

    /// A positive integer under any of `keys`.
    ///
    /// # Errors
    /// Where there is something else, as for the other types.
    pub(crate) fn usize(&self, keys: &[&'static str]) -> Result<Option<(usize, &str)>> {
        let Some(setting) = self.find(keys)? else { return Ok(None) };
        Ok(Some((setting.positive()?, setting.source)))
    }

    /// A number of pixels under any of `keys`.
    pub(crate) fn side(&self, keys: &[&'static str]) -> Result<Option<(u32, &str)>> {
        let Some(setting) = self.find(keys)? else { return Ok(None) };
        match u32::try_from(setting.positive()?) {
            Ok(side) if side <= SIDE_MAX => Ok(Some((side, setting.source))),
            _ => setting.refuse(&format!("a side of at most {SIDE_MAX} pixels belongs there")),
        }
    }

    /// The same within the table `side` (`encoder`, `decoder`), where it has its own.
    pub(crate) fn usize_of(&self, side: &str, key: &'static str) -> Result<Option<(usize, &str)>> {
        for (source, value) in &self.sources {
            for scope in scopes(value).map_err(|reason| unresolved(source, reason))? {
                if let Some(value) = scope.get(side).and_then(|inner| inner.get(key)) {
                    if let Some(reason) = interpolate::unresolved(value) {
                        return Err(unresolved(source, reason));
                    }
                    return Ok(Some((Setting { key, value, source }.positive()?, source)));
                }
            }
        }
        self.usize(&[key])
    }

    /// One integer, or a pair (height, width).
    pub(crate) fn pair(&self, keys: &[&'static str]) -> Result<Option<([usize; 2], &str)>> {
        let Some(setting) = self.find(keys)? else { return Ok(None) };
        let int = |v: &Value| v.as_u64().filter(|&v| v > 0).map(|v| v as usize);
        let pair = match setting.value {
            Value::Array(items) if items.len() == 2 => int(&items[0]).zip(int(&items[1])),
            value => int(value).map(|side| (side, side)),
        };
        match pair {
            Some((height, width)) => Ok(Some(([height, width], setting.source))),
            None => setting.refuse("a whole number above 0, or two, belong there"),
        }
    }

    /// A list of non-negative integers under any of `keys`; no lone one, which the reference
    /// classes can't go through.
    pub(crate) fn list(&self, keys: &[&'static str]) -> Result<Option<(Vec<usize>, Setting<'_>)>> {
        let Some(setting) = self.find(keys)? else { return Ok(None) };
        let list: Option<Vec<usize>> = setting
            .value
            .as_array()
            .and_then(|items| items.iter().map(|item| Some(item.as_u64()? as usize)).collect());
        match list {
            Some(list) => Ok(Some((list, setting))),
            None => setting.refuse("a list of whole numbers belongs there"),
        }
    }

    /// A number under `key`.
    pub(crate) fn number(&self, key: &'static str) -> Result<Option<(f64, &str)>> {
        let Some(setting) = self.find(&[key])? else { return Ok(None) };
        match setting.value.as_f64() {
            Some(number) => Ok(Some((number, setting.source))),
            None => setting.refuse("a number belongs there"),
        }
    }

    /// A boolean under `key`, also as YAML of old wrote it.
    pub(crate) fn bool(&self, key: &'static str) -> Result<Option<(bool, &str)>> {
        let Some(setting) = self.find(&[key])? else { return Ok(None) };
        let on = match setting.value {
            Value::Bool(on) => Some(*on),
            Value::String(word) => match word.to_lowercase().as_str() {
                "yes" | "on" | "true" => Some(true),
                "no" | "off" | "false" => Some(false),
                _ => None,
            },
            _ => None,
        };
        match on {
            Some(on) => Ok(Some((on, setting.source))),
            None => setting.refuse("true or false belongs there"),
        }
    }

    /// A word under any of `keys`; None where something else stands there.
    pub(crate) fn word(&self, keys: &[&'static str]) -> Result<Option<(&str, &str)>> {
        let found = self.find(keys)?;
        Ok(found.and_then(|setting| Some((setting.value.as_str()?, setting.source))))
    }

    /// What two files say differently of `key`, where the user has given no configuration that
    /// would decide.
    pub(crate) fn contradiction(&self, key: &'static str) -> Option<[Setting<'_>; 2]> {
        let settings = self.sources.iter().filter_map(|(source, value)| {
            let scopes = scopes(value).ok()?;
            let value = scopes.iter().find_map(|scope| scope.get(key))?;
            let plain = !value.is_null() && interpolate::unresolved(value).is_none();
            plain.then_some(Setting { key, value, source })
        });
        let of_files = |setting: &Setting| self.files.iter().any(|file| file == setting.source);
        let mut settings = settings.filter(of_files);
        let first = settings.next().filter(|_| !self.explicit)?;
        let other =
            |setting: &Setting| setting.source != first.source && setting.value != first.value;
        settings.find(other).map(|second| [first, second])
    }

    /// Names in the tables that describe the network (`ddconfig`, the root of diffusers' JSON), with
    /// their sources.
    pub(crate) fn network_settings(&self) -> Vec<(&str, &str)> {
        let mut names = Vec::new();
        for (source, value) in &self.sources {
            let Ok(scopes) = scopes(value) else { continue };
            let of = |map: &&Map<String, Value>| map.contains_key("_class_name");
            let tables = scopes.iter().filter_map(|scope| scope.get("ddconfig")?.as_object());
            let tables = tables.chain(scopes.iter().copied().filter(of).take(1));
            names.extend(
                tables.flat_map(|table| table.keys().map(|key| (key.as_str(), source.as_str()))),
            );
        }
        names
    }
}

/// The error for a setting that is needed and can't be resolved.
fn unresolved(source: &str, reason: &str) -> Error {
    Error::invalid(format!("{source}: {reason}"))
}

/// The part of a larger model's configuration that speaks of its tokenizer, before the whole.
fn focus(root: &Value) -> Vec<&Value> {
    // A latent-diffusion model's own `image_size` is that of its latents.
    for path in
        ["/model/params/first_stage_config", "/params/first_stage_config", "/first_stage_config"]
    {
        if let Some(inner) = root.pointer(path) {
            return vec![inner];
        }
    }
    root.get("vq_config").into_iter().chain([root]).collect()
}

/// The maps of a configuration in which settings are looked up: the root and the known nestings;
/// or why one of them can't be resolved.
fn scopes(root: &Value) -> Result<Vec<&Map<String, Value>>, &str> {
    const NESTINGS: &[&str] = &[
        "model",
        "params",
        "init_args",
        "ddconfig",
        "encoder",
        "decoder",
        "quantizer",
        "vq_model",
        "arch",
        "hparams",
        "dataset",
        "preprocessing",
    ];
    if let Some(reason) = interpolate::unresolved(root) {
        return Err(reason);
    }
    let mut scopes: Vec<&Map<String, Value>> = root.as_object().into_iter().collect();
    let mut next = 0;
    // Breadth first, so that an outer setting wins over an inner one of the same name; bounded,
    // since a configuration is a few levels deep.
    while next < scopes.len() && scopes.len() < 64 {
        let scope = scopes[next];
        for inner in NESTINGS.iter().filter_map(|key| scope.get(*key)) {
            if let Some(reason) = interpolate::unresolved(inner) {
                return Err(reason);
            }
            scopes.extend(inner.as_object());
        }
        next += 1;
    }
    Ok(scopes)
}

#[cfg(test)]
mod tests;
