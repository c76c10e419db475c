//! Owns what settings name beside images, and whether an image has it. Must not know: where that
//! comes from.

use serde_json::Value;

use super::container::fields::Fields;
use super::image::Facts;
use crate::util::settings::{CAPTION_COLUMN, KEY_COLUMN, LABEL_COLUMN, PASS, Setting};
use crate::util::text;

/// What is asked for and no image of a source has had yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    label: Option<String>,
    caption: Option<String>,
    pass: Vec<String>,
    /// Whether a column of names is asked for, and images are called by their paths.
    key: bool,
    paths: bool,
    /// Whether there was an image at all.
    any: bool,
    /// Whether there are images that weren't looked at.
    unseen: bool,
}

impl Asked {
    pub(super) fn of(fields: &Fields) -> Asked {
        let Fields { label, caption, pass, key, .. } = fields.clone();
        Asked { label, caption, pass, key: key.is_some(), ..Asked::default() }
    }

    /// There are images that aren't looked at.
    pub(super) fn pass_over(&mut self) {
        self.unseen = true;
    }

    /// An image has these; `path` says that it is called by its path, so that a column of names is
    /// of no use.
    pub(super) fn seen(&mut self, facts: &Facts, path: bool) {
        self.any = true;
        self.paths |= path;
        self.label.take_if(|_| facts.label.is_some());
        self.caption.take_if(|_| facts.caption.is_some());
        if let Some(meta) = facts.meta_json.as_ref().filter(|_| !self.pass.is_empty()) {
            self.pass.retain(|name| !has(meta, name));
        }
    }

    /// A line for each that no image had.
    pub(super) fn lines(&self) -> Vec<String> {
        if !self.any || self.unseen {
            return Vec::new();
        }
        let line = |name: &String, setting: Setting, what: &str| {
            format!("{}, which {setting} names, gives no image a {what}", text::quoted(name))
        };
        let label = self.label.iter().map(|name| line(name, LABEL_COLUMN, "label"));
        let caption = self.caption.iter().map(|name| line(name, CAPTION_COLUMN, "caption"));
        let pass = self.pass.iter().map(|name| line(name, PASS, "value"));
        let key = (self.paths && self.key)
            .then(|| format!("images are called by their paths; {KEY_COLUMN} is for tables"));
        label.chain(caption).chain(pass).chain(key).collect()
    }
}

/// Whether an object written by serde_json has a field of the name, at any depth, that isn't null.
fn has(object: &str, name: &str) -> bool {
    let name = format!("{}:", Value::from(name));
    let mut found = object.match_indices(&name);
    found.any(|(at, _)| !object[at + name.len()..].starts_with("null"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::settings;

    #[test]
    fn what_no_image_has_is_named() {
        let mut fields = Fields {
            key: Some("id".into()),
            label: Some("kind".into()),
            pass: vec!["score".into(), "width".into()],
            ..Fields::default()
        };
        let mut asked = Asked::of(&fields);
        assert!(asked.lines().is_empty(), "there is no image that could have it");
        let meta_json = Some(r#"{"score":null}"#.into());
        asked.seen(&Facts { meta_json, ..Facts::default() }, true);
        let lines = asked.lines().join("; ");
        for name in ["kind", "score", "width", "paths"] {
            assert!(lines.contains(name), "{lines}");
        }
        fields.key = None;
        let mut asked = Asked::of(&fields);
        let meta_json = Some(r#"{"score":null,"of":{"score":0}}"#.into());
        asked.seen(&Facts { label: Some("cat".into()), meta_json, caption: None }, true);
        let lines: Vec<_> = asked.lines().iter().map(|line| settings::plain(line)).collect();
        assert_eq!(lines, ["\"width\", which pass names, gives no image a value"]);
        asked.pass_over();
        assert!(asked.lines().is_empty(), "what wasn't looked at may have it");
    }
}
