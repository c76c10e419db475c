//! Owns listing the images of an archive. Must not know: how a member is compressed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::bytes::Trouble;
use super::content;
use super::directory::{Directory, Entries, entry_at};
use super::entry::Entry;
use super::index::Index;
use super::kind::Kind;
use crate::data::formats::sniff;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{ARCHIVES, Listing, Remarks};
use crate::data::source::container::odd::Oddities;
use crate::data::source::image::{Facts, Part, SourceImage};
use crate::data::source::names::KEY_BYTES_MAX;
use crate::data::source::{lists, peek, sidecar, uri};
use crate::error::{Error, Result};
use crate::storage::BytesAt;
use crate::util::text;

const TWICE: &str = "names that stand in its directory more than once; the last one is taken";
const LINKS: &str = "symbolic links in it are not followed";
const METADATA: &str =
    "metadata of a folder isn't read inside an archive; unpack it, or name the images by a list";
const LOCKED: &str = "members without extension that can't be looked at are taken for no images";

/// The images of an archive, in the order of its directory.
pub(crate) struct ZipListing {
    bytes: Arc<dyn BytesAt>,
    uri: String,
    name: String,
    fields: Fields,
    /// None once all are given.
    open: Option<Open>,
    /// Why there is nothing more, once what there is has been given.
    damage: Option<String>,
    odd: Oddities,
    remarks: Remarks,
    digest: Option<String>,
}

struct Open {
    directory: Directory,
    index: Index,
    entries: Entries,
    given: u64,
}

/// Lists the archive `bytes` at `uri`, which is called `name` where it is spoken of as a whole: a
/// damaged one is one image of that name, which fails.
///
/// # Errors
/// The system's.
pub(crate) fn list(
    bytes: Arc<dyn BytesAt>,
    uri: &str,
    name: &str,
    fields: &Fields,
) -> Result<ZipListing> {
    let mut listing = ZipListing {
        bytes,
        uri: uri.to_string(),
        name: name.to_string(),
        fields: fields.clone(),
        open: None,
        damage: None,
        odd: Oddities::default(),
        remarks: Remarks::default(),
        digest: None,
    };
    match listing.begin() {
        Ok(()) => Ok(listing),
        Err(Trouble::System(error)) => Err(listing.failed(error)),
        Err(Trouble::Content(reason)) => {
            listing.damage = Some(reason);
            Ok(listing)
        }
    }
}

impl ZipListing {
    fn begin(&mut self) -> Result<(), Trouble> {
        let directory = Directory::find(self.bytes.as_ref())?;
        let entries = || Entries::new(Arc::clone(&self.bytes), directory);
        let index = Index::of(entries()?, self.fields.hidden)?;
        self.digest = directory.digest(self.bytes.as_ref())?.filter(|_| index.damage.is_none());
        self.open = Some(Open { directory, index, entries: entries()?, given: 0 });
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        let path = uri::to_path(&self.uri).unwrap_or_else(|| PathBuf::from(&self.uri));
        Error::io(path)(error)
    }

    /// The next member; at the end says what there is to say. What the first look found readable
    /// ends early only where the file is changed meanwhile.
    fn member(&mut self) -> Result<Option<Entry>, Trouble> {
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.given < open.index.lines {
            let entry = open.entries.next()?.ok_or("it changed while it was listed")?;
            open.given += 1;
            return Ok(Some(entry));
        }
        self.remarks.other += open.index.unused();
        self.damage = open.index.damage.take();
        let contradicted = open.directory.contradicts(open.index.lines);
        if let Some(count) = contradicted.filter(|_| self.damage.is_none()) {
            let lines = open.index.lines;
            self.odd.note(format!("its end says {count} members, its directory has {lines}"), "");
        }
        self.open = None;
        Ok(None)
    }

    /// What becomes of a member; None where it is no image.
    fn look(&mut self, entry: Entry) -> Result<Option<SourceImage>, Trouble> {
        match Kind::of(&entry, self.fields.hidden) {
            Kind::Image => {}
            Kind::Nameless if self.holds_an_image(&entry)? => {}
            // Whether they belong to an image is known at the end.
            Kind::Beside(_) | Kind::Folder => return Ok(None),
            kind => {
                self.pass_over(kind, &entry.key);
                return Ok(None);
            }
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.index.is_superseded(&entry) {
            self.odd.note(TWICE, &entry.key);
            return Ok(None);
        }
        let facts = self.facts(&entry)?;
        Ok(Some(self.image(entry, facts)))
    }

    /// Counts a member that isn't taken.
    fn pass_over(&mut self, kind: Kind, key: &str) {
        match kind {
            Kind::Hidden => self.remarks.hidden += 1,
            Kind::Link => {
                self.remarks.links += 1;
                self.odd.note(LINKS, key);
            }
            Kind::Archive => {
                self.remarks.archive(key);
                self.odd.note(ARCHIVES, key);
            }
            _ => {
                self.remarks.other += 1;
                if lists::is_metadata(key) {
                    self.odd.note(METADATA, key);
                }
            }
        }
    }

    fn holds_an_image(&mut self, entry: &Entry) -> Result<bool, Trouble> {
        match content::head(&self.bytes, entry, sniff::HEAD_BYTES as u64) {
            Ok(head) => Ok(peek::is_images_head(&head)),
            Err(Trouble::Content(_)) => {
                self.odd.note(LOCKED, &entry.key);
                Ok(false)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// What the texts beside an image say.
    fn facts(&mut self, image: &Entry) -> Result<Facts, Trouble> {
        let mut facts = Facts::default();
        let Some(open) = &mut self.open else { return Ok(facts) };
        for (side, at) in open.index.beside(image) {
            let Some(entry) = entry_at(self.bytes.as_ref(), &open.directory, at)? else { continue };
            match content::read(&self.bytes, &entry, sidecar::BYTES_MAX) {
                Ok(bytes) => {
                    let (fields, odd) = (&self.fields, &mut self.odd);
                    sidecar::take(side, &bytes, &entry.key, fields, &mut facts, odd);
                }
                Err(Trouble::Content(_)) => self.odd.note(sidecar::UNREADABLE, &entry.key),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(facts)
    }

    fn image(&self, entry: Entry, facts: Facts) -> SourceImage {
        let (key, fault) = match entry.key.len() {
            ..KEY_BYTES_MAX => (entry.key.clone(), entry.fault()),
            bytes => {
                // Its place makes it unique.
                let key = format!("{}@{}", text::shorten(&entry.key), entry.at);
                (key, Some(format!("its name has {bytes} bytes; a key has under {KEY_BYTES_MAX}")))
            }
        };
        SourceImage {
            planned: None,
            part: Some(Part { member: key.clone(), offset: entry.at }),
            key,
            uri: self.uri.clone(),
            bytes: entry.bytes,
            facts,
            forward: false,
            fault,
            bucket: None,
        }
    }

    /// The image that stands for what is lost.
    fn lost(&self, reason: String) -> SourceImage {
        SourceImage {
            key: self.name.clone(),
            uri: self.uri.clone(),
            part: Some(Part::default()),
            forward: false,
            fault: Some(reason),
            ..SourceImage::default()
        }
    }
}

impl Iterator for ZipListing {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Result<SourceImage>> {
        loop {
            let found = match self.member() {
                Ok(None) => break,
                Ok(Some(entry)) => self.look(entry),
                Err(trouble) => Err(trouble),
            };
            match found {
                Ok(None) => {}
                Ok(Some(image)) => return Some(Ok(image)),
                Err(Trouble::Content(reason)) => {
                    self.open = None;
                    self.damage = Some(reason);
                    break;
                }
                Err(Trouble::System(error)) => {
                    self.open = None;
                    return Some(Err(self.failed(error)));
                }
            }
        }
        self.remarks.odd = self.odd.lines();
        self.damage.take().map(|reason| Ok(self.lost(reason)))
    }
}

impl Listing for ZipListing {
    fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    fn digest(&self) -> Option<String> {
        self.digest.clone()
    }
}
