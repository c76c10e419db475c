//! Owns what is gathered of a sample: its image, chosen among several, or several that are images of
//! their own, and what is read beside them. Must not know: how members are found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::facts::Wanted;
use super::notes::Notes;
use crate::data::formats::sniff;
use crate::data::source::image::{Facts, Part, SourceImage};
use crate::data::source::uri::readable;
use crate::util::text::quoted;

/// What a sample's names of fields may take in all; more are the rubbish of a hostile file, or a
/// film's frames, which are given in several parts.
const FIELD_BYTES_MAX: usize = 1 << 20;

/// Members of one key that stand side by side.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// As it stands in the tar.
    pub(super) key: Vec<u8>,
    /// The one that is taken, of those whose field is an extension and nothing more.
    chosen: Option<Image>,
    /// Where there is no such one: those with fields of several parts, such as the frames of
    /// `frame.0000.png`, of which trainers' order says nothing.
    dotted: Vec<Image>,
    left_out: u64,
    /// Whether some images have been given already, with so many texts.
    parted: bool,
    texts_given: usize,
    fields: BTreeSet<String>,
    field_bytes: usize,
    /// Fields of images that came again.
    twice: BTreeSet<String>,
    /// Contents of other fields.
    pub(super) texts: BTreeMap<String, Vec<u8>>,
    /// An archive among its members.
    pub(super) archive: Option<String>,
}

/// A member that is an image.
#[derive(Debug)]
pub(super) struct Image {
    /// Smaller is taken first.
    rank: usize,
    field: String,
    part: Part,
    bytes: u64,
    fault: Option<String>,
}

/// An image of a sample, and what stands beside all of them.
pub(super) type Taken = (SourceImage, Arc<Facts>);

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

    /// Its member up to the last dot.
    fn stem(&self) -> &str {
        let member = &self.part.member;
        member.rsplit_once('.').map_or(member, |(stem, _)| stem)
    }
}

/// Trainers' order.
const ORDER: [&str; 4] = ["jpg", "png", "jpeg", "webp"];
/// Ranks from here on are those of fields of several parts (`seg.png`).
const DOTTED: usize = ORDER.len() + 1;

/// Trainers' order, then the other images, then those whose field has several parts.
fn rank(field: &str) -> Option<usize> {
    let extension = field.rsplit('.').next().unwrap_or_default();
    if !sniff::is_image_extension(extension.as_bytes()) {
        return None;
    }
    let place = ORDER.iter().position(|known| *known == extension).unwrap_or(ORDER.len());
    Some(if extension == field { place } else { DOTTED + place })
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

    /// Takes an image where it comes before what there is, or stands beside it.
    pub(super) fn add(&mut self, image: Image) {
        let alone = self.chosen.is_none() && image.rank >= DOTTED;
        if self.parted || alone {
            self.dotted.push(image);
            return;
        }
        self.left_out += self.dotted.drain(..).len() as u64;
        let before = self.chosen.as_ref().is_none_or(|other| image.rank < other.rank);
        let other = if before { self.chosen.replace(image) } else { Some(image) };
        self.left_out += u64::from(other.is_some());
    }

    /// Whether so many images of its own are held that those must be given before more are taken.
    pub(super) fn is_full(&self) -> bool {
        self.field_bytes > FIELD_BYTES_MAX && self.dotted.len() > 1
    }

    /// Whether its images have keys of their own.
    pub(super) fn has_own(&self) -> bool {
        self.parted || self.dotted.len() > 1
    }

    pub(super) fn has_image(&self) -> bool {
        self.parted || self.chosen.is_some() || !self.dotted.is_empty()
    }

    /// Whether an image begins at a place of the tar.
    pub(super) fn has_image_at(&self, offset: u64) -> bool {
        self.chosen.iter().chain(&self.dotted).any(|image| image.part.offset == offset)
    }

    /// The images so far, each with its own name; more of the sample follow.
    pub(super) fn part(&mut self, uri: &str, wanted: &Wanted, notes: &mut Notes) -> Vec<Taken> {
        self.parted = true;
        self.texts_given = self.texts.len();
        // What makes it full is no fault here.
        self.field_bytes = 0;
        let taken = self.taken(uri, wanted, notes);
        self.twice.clear();
        self.fields = self.texts.keys().cloned().collect();
        taken
    }

    /// The sample as a source's images; none where it has none.
    pub(super) fn finish(mut self, uri: &str, wanted: &Wanted, notes: &mut Notes) -> Vec<Taken> {
        notes.apart += u64::from(self.parted && self.texts.len() > self.texts_given);
        let taken = self.taken(uri, wanted, notes);
        if self.left_out > 0 {
            notes.left_out += self.left_out;
            notes.first_left_out.get_or_insert_with(|| readable(&self.key));
        }
        taken
    }

    fn taken(&mut self, uri: &str, wanted: &Wanted, notes: &mut Notes) -> Vec<Taken> {
        let own = self.has_own();
        let images = match self.chosen.take() {
            Some(image) => vec![image],
            None if own => self.of_each_stem(),
            None => self.dotted.drain(..).collect(),
        };
        if images.is_empty() {
            return Vec::new();
        }
        let is_taken = |field: &String| images.iter().any(|image| image.field == *field);
        notes.repeated_fields += self.twice.iter().filter(|twice| !is_taken(twice)).count() as u64;
        let facts = Arc::new(wanted.facts(&self.texts, notes));
        let taken = images.into_iter().map(|image| {
            let key = if own { image.stem().to_owned() } else { readable(&self.key) };
            (self.source_image(image, key, uri), Arc::clone(&facts))
        });
        taken.collect()
    }

    /// Of the images that would be called the same, the one that trainers take first.
    fn of_each_stem(&mut self) -> Vec<Image> {
        let images: Vec<Image> = self.dotted.drain(..).collect();
        let mut first: HashMap<&str, (usize, usize)> = HashMap::new();
        for (at, image) in images.iter().enumerate() {
            let place = (image.rank, at);
            first.entry(image.stem()).and_modify(|p| *p = place.min(*p)).or_insert(place);
        }
        let mut kept: Vec<usize> = first.into_values().map(|(_, at)| at).collect();
        kept.sort_unstable();
        self.left_out += (images.len() - kept.len()) as u64;
        let is_kept = |(at, image)| kept.binary_search(&at).is_ok().then_some(image);
        images.into_iter().enumerate().filter_map(is_kept).collect()
    }

    fn source_image(&self, image: Image, key: String, uri: &str) -> SourceImage {
        let Image { field, part, bytes, fault, .. } = image;
        let twice = || {
            let twice = self.twice.contains(&field);
            twice.then(|| format!("its sample has the field {} more than once", quoted(&field)))
        };
        let overfull = || {
            let overfull = self.field_bytes > FIELD_BYTES_MAX;
            overfull.then(|| "its sample has too many members".to_owned())
        };
        SourceImage {
            key,
            uri: uri.to_owned(),
            bytes,
            part: Some(part),
            fault: fault.or_else(twice).or_else(overfull),
            ..SourceImage::default()
        }
    }
}
