//! Owns open-muse's tars: a sample is `NNNNNNNNN.json` with the caption and `NNNNNNNNN.NAME.pth`, an
//! int64 tensor of the codes; the trainer looks for its tokenizer's name. Must not know: how files get
//! their names.

use serde_json::json;

use crate::error::{Error, Result};
use crate::export::fields::Field;
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::row::Row;
use crate::export::torch::{self, Pickle};
use crate::export::{json, tar};
use crate::util::settings::FIELDS;

/// Bytes of a field's name at most: with the number and `.pth` it has to fit a tar's header.
const NAME_MAX: usize = 80;

pub(super) struct OpenMuse {
    name: String,
}

impl OpenMuse {
    /// # Errors
    /// A name that a tar's member can't have.
    pub(super) fn of(facts: &Facts) -> Result<OpenMuse> {
        let name = facts.fields.name_of(Field::Tokens).unwrap_or("tokens").to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match name.len() <= NAME_MAX && name.chars().all(plain) && !name.starts_with('.') {
            true => Ok(OpenMuse { name }),
            false => Err(Error::setting(
                FIELDS,
                format!(
                    "tokens:{name}: the name of a file's ending has at most {NAME_MAX} letters, \
                     digits, ., _ and -"
                ),
            )),
        }
    }
}

impl Format for OpenMuse {
    fn encode(&self, row: &Row) -> Encoded {
        let mut pickle = Pickle::new();
        pickle.tensor(&[row.codes.len()]);
        let tensor = torch::file("archive", pickle, &row.codes);
        let about = json::dumps(&json!({"caption": row.caption}));
        let mut members = [("json".to_string(), about), (format!("{}.pth", self.name), tensor)];
        members.sort();
        let mut bytes = Vec::new();
        for (field, content) in members {
            tar::member(&mut bytes, &format!("{:09}.{field}", row.number), &content);
        }
        Encoded { bytes, ids: row.codes.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let name = format!("tokens-{:05}.tar", place.number);
        Ok(Box::new(tar::create(place.folder, &name)?))
    }

    fn gives_class(&self) -> bool {
        false
    }

    fn gives_sides(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn tars_are_those_of_open_muse() {
        let Some(rows) = testing::golden() else { return };
        let fields = |name: &str| format!("tokens:{name}").parse().ok();
        let of = |name: &str| OpenMuse::of(&testing::facts(&rows, |s| s.fields = fields(name)));
        let format = of("openMUSE.vqgan-f16-8192-laion").unwrap();
        testing::assert_made(&format, 0, &rows, &["webdataset/openmuse-00000.tar"]);
        for name in ["a/b", ".pth", "é", &"x".repeat(81)] {
            assert!(of(name).is_err(), "{name}");
        }
    }
}
