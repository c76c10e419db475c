//! Owns reading images wherever they lie: files of their own, parts of containers. Must not know:
//! what an image holds.

use std::path::PathBuf;
use std::sync::Arc;

use super::container::fields::Fields;
use super::container::listing::ReadPart;
use super::container::open::{Container, InOrder};
use super::file;
use super::image::{Part, Planned, SourceImage};
use super::library::Library;
use super::stream;
use super::walk::Take;
use super::watched::watched;
use crate::data::formats::dimensions::{HEAD_BYTES, Said, said_by};
use crate::data::formats::raw_image::Limits;
use crate::data::orientation::Orientation;
use crate::error::{Error, Reject, Stage};
use crate::storage::Coming;

/// Reads images in the order of a plan, from one thread; what any thread can read is left to others.
pub(crate) struct Fetcher {
    limits: Limits,
    /// Whether headers alone are looked at.
    heads: bool,
    /// Whether archives are taken as they are today, whatever was planned.
    present: bool,
    /// The container read last.
    current: Option<Current>,
}

/// A container that is open. As planned: one that has grown is planned again, with its new rows.
struct Current {
    uri: String,
    planned: Option<Planned>,
    opened: Result<InOrder, Reject>,
}

/// How the bytes of an image are had.
pub(crate) enum Fetched {
    /// They have been read, or can't be.
    Read(Result<Vec<u8>, Reject>),
    /// They are a file's.
    File,
    /// They are a file's in a store, and on their way.
    Coming(Coming),
    /// They are a part of a container.
    Part(Arc<dyn ReadPart>, Part),
}

impl Fetcher {
    /// Under these bounds.
    pub(crate) fn new(limits: Limits) -> Fetcher {
        Fetcher { limits, heads: false, present: false, current: None }
    }

    /// The same, for images that may have been mended since they were planned. Members of archives
    /// tell themselves whether they are the planned ones; rows of tables don't.
    pub(crate) fn of_present(limits: Limits) -> Fetcher {
        Fetcher { present: true, ..Fetcher::new(limits) }
    }

    /// The same, for those who look at headers alone: [`Fetched::size`].
    pub(crate) fn of_heads(limits: Limits) -> Fetcher {
        Fetcher { heads: true, ..Fetcher::new(limits) }
    }

    /// The bytes of the next image, or how to have them.
    pub(crate) fn fetch(&mut self, image: &SourceImage) -> Fetched {
        match watched(|| self.fetch_now(image)) {
            Ok(fetched) => fetched,
            Err(reject) => Fetched::Read(Err(reject)),
        }
    }

    fn fetch_now(&mut self, image: &SourceImage) -> Result<Fetched, Reject> {
        if let Some(fault) = &image.fault {
            return Err(Reject::new(Stage::Read, fault.clone()));
        }
        let Some(part) = &image.part else {
            let coming = match self.heads {
                true => file::begin_head(&image.uri, HEAD_BYTES)?,
                false => file::begin(&image.uri, &self.limits)?,
            };
            return Ok(coming.map_or(Fetched::File, Fetched::Coming));
        };
        let is_open = |c: &Current| c.uri == image.uri && c.planned == image.planned;
        if !self.current.as_ref().is_some_and(is_open) {
            let opened = watched(|| {
                let container = Container::open(&image.uri)?;
                match self.present && !container.is_table() {
                    true => container.in_order(),
                    false => container.unless_changed(image.planned.as_ref())?.in_order(),
                }
            });
            let (uri, planned) = (image.uri.clone(), image.planned.clone());
            self.current = Some(Current { uri, planned, opened });
        }
        // It was set just now.
        let Some(Current { opened, .. }) = &mut self.current else { return Ok(Fetched::File) };
        match opened {
            Err(reject) => Err(reject.clone()),
            Ok(InOrder::Anywhere(reader)) => Ok(Fetched::Part(Arc::clone(reader), part.clone())),
            Ok(InOrder::Forward(reader)) => {
                reader.read(part, image.bytes, &self.limits).map(|bytes| Fetched::Read(Ok(bytes)))
            }
        }
    }
}

impl Fetched {
    /// The bytes of `image`. `planned`: they must be as many as when it was planned.
    ///
    /// # Errors
    /// A [`Reject`] of [`Stage::Read`].
    pub(crate) fn bytes(
        self,
        image: &SourceImage,
        planned: bool,
        limits: &Limits,
    ) -> Result<Vec<u8>, Reject> {
        watched(|| match self {
            Fetched::Read(bytes) => bytes,
            Fetched::Coming(coming) if planned => file::arrived(coming, image.bytes),
            Fetched::Coming(coming) => file::arrived(coming, 0),
            Fetched::File if planned => file::read_planned(&image.uri, image.bytes, limits),
            Fetched::File => file::read(&image.uri, limits),
            Fetched::Part(reader, part) => reader.read(&part, image.bytes, limits),
        })
    }

    /// The width and height that the header of `image` says, upright where `rule` applies its
    /// orientation; None where it can't be read.
    ///
    /// # Errors
    /// [`Error::Busy`] where its store can't be reached.
    pub(crate) fn size(
        self,
        image: &SourceImage,
        rule: Orientation,
        limits: &Limits,
    ) -> Result<Option<(u32, u32)>, Error> {
        if let Fetched::Read(Err(reject)) = &self {
            reject.refuse_outage(&image.key)?;
        }
        let nothing = || Reject::new(Stage::Read, "no header");
        let size = watched(|| self.said(image, rule, limits).ok_or_else(nothing));
        match size {
            Ok(size) => Ok(Some(size)),
            Err(reject) => reject.refuse_outage(&image.key).map(|()| None),
        }
    }

    fn said(self, image: &SourceImage, rule: Orientation, limits: &Limits) -> Option<(u32, u32)> {
        let part = match &self {
            Fetched::Part(reader, part) => Some((Arc::clone(reader), part.clone())),
            _ => None,
        };
        let in_file = matches!(self, Fetched::File | Fetched::Coming(_));
        let whole = || match &part {
            Some((reader, part)) => reader.read(part, image.bytes, limits).ok(),
            None if in_file => file::read(&image.uri, limits).ok(),
            None => None,
        };
        let read = match self {
            Fetched::Read(bytes) => bytes.ok()?,
            Fetched::File => file::head(&image.uri, HEAD_BYTES, limits).ok()?,
            Fetched::Coming(coming) => file::arrived_head(coming).ok()?,
            Fetched::Part(reader, part) => {
                reader.head(&part, image.bytes, HEAD_BYTES, limits).ok()?
            }
        };
        // However it is read, the same bytes are looked at.
        let head = &read[..read.len().min(HEAD_BYTES)];
        let said = match said_by(head, head.len() < HEAD_BYTES, rule) {
            Said::More if read.len() > HEAD_BYTES => said_by(&read, true, rule),
            Said::More => said_by(&whole()?, true, rule),
            said => said,
        };
        match said {
            Said::Size(width, height) => Some((width, height)),
            Said::More | Said::Nothing => None,
        }
    }
}

/// An image's bytes, or why it has none.
pub(crate) type Content = Result<Vec<u8>, Reject>;

/// The key of every image of some inputs, and its bytes twice: as they are read in order, and in any.
/// For tests and fuzzing.
///
/// # Errors
/// Those of listing them.
pub fn contents(inputs: &[PathBuf]) -> Result<Vec<(String, Content, Content)>, Error> {
    let (limits, library) = (Limits::default(), Library::default());
    let mut fetcher = Fetcher::new(limits);
    let read = |image: Result<SourceImage, Error>| {
        let image = image?;
        let in_order = fetcher.fetch(&image).bytes(&image, false, &limits);
        let in_any = library.read(&image, &limits);
        Ok((image.key, in_order, in_any))
    };
    stream::images(inputs, Take::default(), true, &Fields::default())?.map(read).collect()
}
