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
use super::sample::{Image, Sample};
use super::stream::{Broken, Damage, Stream};
use super::walker::{Step, Walker};
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, Remarks};
use crate::data::source::image::{Part, SourceImage};
use crate::data::source::names::{FACT_BYTES_MAX, KEY_BYTES_MAX};
use crate::data::source::uri::{self, readable};
use crate::error::{Error, Result};
use crate::storage::BytesAt;
use crate::util::text::quoted;

/// So many keys are remembered to find samples that were torn apart.
const KEYS_MAX: usize = 1 << 20;

/// The images of a tar in its order, made by [`list`].
pub(crate) struct TarListing {
    walker: Walker,
    uri: String,
    name: String,
    image_field: Option<String>,
    wanted: Wanted,
    /// Whose members are still coming.
    sample: Option<Sample>,
    ready: VecDeque<SourceImage>,
    /// By hashes of keys: whether an image was there.
    keys: HashMap<u64, bool>,
    notes: Notes,
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
        wanted: Wanted::new(fields),
        sample: None,
        ready: VecDeque::new(),
        keys: HashMap::new(),
        notes: Notes::default(),
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
        self.ready.pop_front().map(Ok)
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
                self.ready.push_back(SourceImage { key, uri, fault, ..SourceImage::default() });
            }
        }
        self.over = true;
        self.remarks.odd = self.notes.lines();
        self.remarks.odd.extend(self.walker.oddities.lines());
        Ok(())
    }

    /// Adds a member to its sample.
    fn take(&mut self, member: &Member) -> io::Result<()> {
        let full_name = readable(&member.name);
        let too_long = full_name.len() >= KEY_BYTES_MAX;
        self.notes.long_names += u64::from(too_long);
        let place = name::place(&member.name).filter(|_| member.kind == Kind::File && !too_long);
        let Some(Place { key, field }) = place else {
            self.remarks.other += u64::from(member.kind != Kind::Folder);
            return Ok(());
        };
        if self.sample.as_ref().is_none_or(|sample| sample.key != key) {
            self.close();
        }
        let sample = self.sample.get_or_insert_with(|| Sample::new(key));
        let part = Part { member: full_name, offset: member.header_at };
        let image = Image::new(&field, self.image_field.as_deref(), part, member.size);
        if !sample.is_new(&field, image.is_some(), &mut self.notes) {
            return Ok(());
        }
        if let Some(image) = image {
            let fault = member.pieces.as_ref().and_then(|pieces| pieces.as_ref().err());
            sample.add(image.with_fault(fault.cloned()));
            return Ok(());
        }
        if !self.wanted.reads(&field) {
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

    /// Ends the current sample.
    fn close(&mut self) {
        let Some(sample) = self.sample.take() else { return };
        let hash = hash(&sample.key);
        let image = sample.finish(&self.uri, &self.wanted, &mut self.notes);
        self.note_key(hash, image.is_some());
        match image {
            Some(image) => self.ready.push_back(image),
            None => self.remarks.without_image += 1,
        }
    }

    /// Notes samples that were torn apart, and keys of several images.
    fn note_key(&mut self, hash: u64, has_image: bool) {
        let known = self.keys.get(&hash).copied();
        match known {
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
        match &sample.image {
            None => format!("{line}, maybe the image of {key} too"),
            // It fails by itself.
            Some(image) if damage.within == Some(image.part.offset) => line,
            Some(_) => format!("{line}, maybe what else belongs to {key} too"),
        }
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
