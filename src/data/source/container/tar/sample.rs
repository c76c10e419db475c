//! Owns what is gathered of a sample: its image, chosen among several, and what is read beside it.
//! Must not know: how members are found.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Wanted;
use super::notes::Notes;
use crate::data::formats::sniff;
use crate::data::source::image::{Part, SourceImage};
use crate::data::source::uri::readable;
use crate::util::text::quoted;

/// What a sample's names of fields may take in all; more are the rubbish of a hostile file.
const FIELD_BYTES_MAX: usize = 1 << 20;

/// Members of one key that stand side by side.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// As it stands in the tar.
    pub(super) key: Vec<u8>,
    pub(super) image: Option<Image>,
    images: u64,
    fields: BTreeSet<String>,
    field_bytes: usize,
    /// Fields of images that came again.
    twice: BTreeSet<String>,
    /// Contents of other fields.
    pub(super) texts: BTreeMap<String, Vec<u8>>,
}

/// A member that is an image.
#[derive(Debug)]
pub(super) struct Image {
    /// Smaller is taken first.
    rank: usize,
    field: String,
    pub(super) part: Part,
    bytes: u64,
    fault: Option<String>,
}

impl Image {
    /// A member as an image; None where its field isn't one's, or isn't the `chosen` one.
    pub(super) fn new(field: &str, chosen: Option<&str>, part: Part, bytes: u64) -> Option<Image> {
        let rank = match chosen {
            Some(chosen) => (field == chosen).then_some(0)?,
            None => rank(field)?,
        };
        Some(Image { rank, field: field.to_owned(), part, bytes, fault: None })
    }

    /// The same, which can't be read.
    pub(super) fn with_fault(self, fault: Option<String>) -> Image {
        Image { fault, ..self }
    }
}

/// Trainers' order, then the other images, then those whose field has several parts (`seg.png`).
fn rank(field: &str) -> Option<usize> {
    const ORDER: [&str; 4] = ["jpg", "png", "jpeg", "webp"];
    let extension = field.rsplit('.').next().unwrap_or_default();
    if !sniff::is_image_extension(extension.as_bytes()) {
        return None;
    }
    let plain = ORDER.iter().position(|known| *known == field);
    Some(plain.unwrap_or(ORDER.len() + usize::from(extension != field)))
}

impl Sample {
    pub(super) fn new(key: Vec<u8>) -> Sample {
        Sample { key, ..Sample::default() }
    }

    /// Whether the field comes for the first time; it is noted where it doesn't.
    pub(super) fn is_new(&mut self, field: &str, is_image: bool, notes: &mut Notes) -> bool {
        if self.fields.contains(field) {
            if is_image {
                self.twice.insert(field.to_owned());
            } else {
                notes.repeated_fields += 1;
            }
            return false;
        }
        if self.field_bytes <= FIELD_BYTES_MAX {
            self.field_bytes += field.len() + 1;
            self.fields.insert(field.to_owned());
        }
        true
    }

    /// Takes an image where it comes before what there is.
    pub(super) fn add(&mut self, image: Image) {
        self.images += 1;
        if self.image.as_ref().is_none_or(|other| image.rank < other.rank) {
            self.image = Some(image);
        }
    }

    /// The sample as a source's image; None where it has none.
    pub(super) fn finish(
        self,
        uri: &str,
        wanted: &Wanted,
        notes: &mut Notes,
    ) -> Option<SourceImage> {
        let Image { field, part, bytes, fault, .. } = self.image?;
        let others = self.twice.iter().filter(|twice| **twice != field).count();
        notes.repeated_fields += others as u64;
        notes.several_images += u64::from(self.images > 1);
        let twice = || {
            let twice = self.twice.contains(&field);
            twice.then(|| format!("its sample has the field {} more than once", quoted(&field)))
        };
        let overfull = || {
            let overfull = self.field_bytes > FIELD_BYTES_MAX;
            overfull.then(|| "its sample has too many members".to_owned())
        };
        Some(SourceImage {
            planned: None,
            key: readable(&self.key),
            uri: uri.to_owned(),
            bytes,
            part: Some(part),
            forward: false,
            facts: wanted.facts(&self.texts, notes),
            fault: fault.or_else(twice).or_else(overfull),
        })
    }
}
