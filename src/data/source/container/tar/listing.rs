//! Owns listing a tar: from members to samples to images, with what is odd, and one image more that
//! stands for what damage took. Must not know: how a tar is compressed.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use std::sync::Arc;

use super::facts::Wanted;
use super::member::{Kind, Member};
use super::name::{self, Place};
use super::notes::Notes;
use super::sample::{Image, Sample, Taken};
use super::stream::{Broken, Damage, Stream};
use super::walker::{Step, Walker};
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{ARCHIVES, Listing, Remarks};
use crate::data::source::container::odd::Oddities;
use crate::data::source::file_kind;
use crate::data::source::image::{Part, SourceImage};
use crate::data::source::names::{FACT_BYTES_MAX, KEY_BYTES_MAX};
use crate::data::source::uri::{self, readable};
use crate::error::{Error, Result};
use crate::storage::BytesAt;
use crate::util::text::quoted;

const LINKS: &str = "links in it are not followed; unpack it to have what they lead to";

/// So many keys are remembered to find samples that were torn apart.
const KEYS_MAX: usize = 1 << 20;

/// The images of a tar in its order, made by [`list`].
pub(crate) struct TarListing {
    walker: Walker,
    uri: String,
    name: String,
    image_field: Option<String>,
    /// Whether hidden members are taken.
    hidden: bool,
    wanted: Wanted,
    /// Whose members are still coming.
    sample: Option<Sample>,
    ready: VecDeque<Taken>,
    /// By hashes of keys: whether an image was there.
    keys: HashMap<u64, bool>,
    notes: Notes,
    odd: Oddities,
    remarks: Remarks,
    /// Known at a sound end.
    digest: Option<String>,
    over: bool,
}

/// Lists the tar in `bytes`, plain or compressed as its first bytes say. `uri` leads to it, and
/// `name` is the key of an image that stands for what can't be read.
///
/// # Errors
/// As the system or the store says.
pub(crate) fn list(
    bytes: Arc<dyn BytesAt>,
    uri: &str,
    name: &str,
    fields: &Fields,
) -> Result<TarListing> {
    let stream = Stream::open(bytes).map_err(Error::io(uri::place(uri)))?;
    Ok(TarListing {
        walker: Walker::new(stream),
        uri: uri.to_owned(),
        name: name.to_owned(),
        image_field: fields.image.as_ref().map(|field| field.to_lowercase()),
        hidden: fields.hidden,
        wanted: Wanted::new(fields),
        sample: None,
        ready: VecDeque::new(),
        keys: HashMap::new(),
        notes: Notes::default(),
        odd: Oddities::default(),
        remarks: Remarks::default(),
        digest: None,
        over: false,
    })
}

impl Listing for TarListing {
    fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    fn digest(&self) -> Option<String> {
        self.digest.clone()
    }
}

impl Iterator for TarListing {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.over {
            if let Err(error) = self.advance() {
                self.over = true;
                return Some(Err(Error::io(uri::place(&self.uri))(error)));
            }
        }
        let (image, facts) = self.ready.pop_front()?;
        Some(Ok(SourceImage { facts: Arc::unwrap_or_clone(facts), ..image }))
    }
}

impl TarListing {
    fn advance(&mut self) -> io::Result<()> {
        match self.walker.step()? {
            Step::Member(member) => return self.take(&member),
            Step::End => {
                self.close();
                self.digest = Some(std::mem::take(&mut self.walker.headers).finish());
            }
            Step::Damage(damage) => {
                let fault = self.fault(&damage);
                self.close();
                let (key, uri) = (self.name.clone(), self.uri.clone());
                let fault = Some(fault);
                let lost = SourceImage { key, uri, fault, ..SourceImage::default() };
                self.ready.push_back((lost, Arc::default()));
            }
        }
        self.over = true;
        self.remarks.further_images = self.notes.left_out;
        self.remarks.odd = self.notes.lines();
        self.remarks.odd.extend(self.odd.lines());
        self.remarks.odd.extend(self.walker.oddities.lines());
        Ok(())
    }

    /// Adds a member to its sample.
    fn take(&mut self, member: &Member) -> io::Result<()> {
        let full_name = readable(&member.name);
        let Some(Place { key, field }) = self.place(member, &full_name) else { return Ok(()) };
        if self.sample.as_ref().is_none_or(|sample| sample.key != key) {
            self.close();
        }
        let sample = self.sample.get_or_insert_with(|| Sample::new(key));
        let part = Part { member: full_name.clone(), offset: member.header_at };
        let image = Image::new(&field, self.image_field.as_deref(), part, member.size);
        if !sample.is_new(&field, image.is_some(), &mut self.notes) {
            return Ok(());
        }
        if let Some(image) = image {
            let fault = member.pieces.as_ref().and_then(|pieces| pieces.as_ref().err());
            sample.add(image.with_fault(fault.cloned()));
            if sample.is_full() {
                let given = sample.part(&self.uri, &self.wanted, &mut self.notes);
                self.give(given, true);
            }
            return Ok(());
        }
        if !self.wanted.reads(&field) {
            if file_kind::is_archive(&member.name) {
                sample.archive.get_or_insert(full_name);
            }
            return Ok(());
        }
        if member.size > FACT_BYTES_MAX as u64 {
            self.notes.long_texts += 1;
            return Ok(());
        }
        match self.walker.content(member) {
            Ok(content) => drop(sample.texts.insert(field, content)),
            Err(Broken::System(error)) => return Err(error),
            // Damage of the tar comes again with the next member.
            Err(Broken::Damage(_)) => self.notes.unread += 1,
        }
        Ok(())
    }

    /// Where a member belongs; None, counted, where it is left out.
    fn place(&mut self, member: &Member, full_name: &str) -> Option<Place> {
        if full_name.len() >= KEY_BYTES_MAX {
            self.notes.long_names += 1;
        } else if !self.hidden && name::is_hidden(&member.name) {
            self.remarks.hidden += u64::from(member.kind != Kind::Folder);
            return None;
        } else if member.kind == Kind::Link {
            self.odd.note(LINKS, full_name);
            self.remarks.links += 1;
            return None;
        } else if member.kind == Kind::File
            && let Some(place) = name::place(&member.name)
        {
            return Some(place);
        }
        self.remarks.other += u64::from(member.kind != Kind::Folder);
        None
    }

    /// Ends the current sample.
    fn close(&mut self) {
        let Some(mut sample) = self.sample.take() else { return };
        let (hash, has_image, own) = (hash(&sample.key), sample.has_image(), sample.has_own());
        match sample.archive.take() {
            _ if has_image => {}
            Some(archive) => {
                self.odd.note(ARCHIVES, &archive);
                self.remarks.archive(&archive);
            }
            None => self.remarks.without_image += 1,
        }
        self.note_key(hash, has_image, own);
        let images = sample.finish(&self.uri, &self.wanted, &mut self.notes);
        self.give(images, own);
    }

    /// Gives images of a sample, each of which has its `own` key or that of the sample.
    fn give(&mut self, images: Vec<Taken>, own: bool) {
        for (image, _) in images.iter().filter(|_| own) {
            self.note_key(hash(image.key.as_bytes()), true, false);
        }
        self.ready.extend(images);
    }

    /// Notes samples that were torn apart, and keys of several images; those of a sample may have
    /// their `own`.
    fn note_key(&mut self, hash: u64, has_image: bool, own: bool) {
        let known = self.keys.get(&hash).copied();
        match known {
            Some(true) if has_image && own => {}
            Some(true) if has_image => self.notes.repeated_keys += 1,
            Some(had_image) if had_image != has_image => self.notes.apart += 1,
            _ => {}
        }
        if known.is_some() || self.keys.len() < KEYS_MAX {
            self.keys.insert(hash, has_image || known == Some(true));
        }
    }

    /// What damage took, in one line.
    fn fault(&self, damage: &Damage) -> String {
        let Some(at) = damage.at else { return damage.why.clone() };
        let counted = if self.walker.stream.is_packed() { " of its unpacked content" } else { "" };
        let line = format!("damaged at byte {at}{counted}: {}; what follows is lost", damage.why);
        let Some(sample) = &self.sample else { return line };
        let key = quoted(&readable(&sample.key));
        match damage.within {
            _ if !sample.has_image() => format!("{line}, maybe the image of {key} too"),
            // It fails by itself.
            Some(offset) if sample.has_image_at(offset) => line,
            _ => format!("{line}, maybe what else belongs to {key} too"),
        }
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
