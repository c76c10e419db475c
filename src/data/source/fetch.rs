//! Owns reading images wherever they lie: files of their own, parts of containers. Must not know:
//! what an image holds.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::container::fields::Fields;
use super::container::listing::ReadPart;
use super::container::open::{Container, InOrder};
use super::file;
use super::image::{Part, SourceImage};
use super::stream;
use super::walk::Take;
use crate::data::formats::raw_image::Limits;
use crate::error::{Error, Reject, Stage};
use crate::storage::{self, Coming};

/// Reads images in the order of a plan, from one thread; what any thread can read is left to others.
pub(crate) struct Fetcher {
    limits: Limits,
    /// The container read last.
    current: Option<(String, Result<InOrder, Reject>)>,
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
        Fetcher { limits, current: None }
    }

    /// The bytes of the next image, or how to have them.
    pub(crate) fn fetch(&mut self, image: &SourceImage) -> Fetched {
        let (fetched, outage) = storage::watching(|| self.fetch_now(image));
        match fetched {
            Fetched::Read(content) => Fetched::Read(content.map_err(|r| by(r, outage))),
            fetched => fetched,
        }
    }

    fn fetch_now(&mut self, image: &SourceImage) -> Fetched {
        if let Some(fault) = &image.fault {
            return Fetched::Read(Err(Reject::new(Stage::Read, fault.clone())));
        }
        let Some(part) = &image.part else {
            return match file::begin(&image.uri, &self.limits) {
                Ok(None) => Fetched::File,
                Ok(Some(coming)) => Fetched::Coming(coming),
                Err(reject) => Fetched::Read(Err(reject)),
            };
        };
        if self.current.as_ref().is_none_or(|(uri, _)| *uri != image.uri) {
            let opened = watched(|| Container::open(&image.uri).and_then(Container::in_order));
            self.current = Some((image.uri.clone(), opened));
        }
        // It was set just now.
        let Some((_, opened)) = &mut self.current else { return Fetched::File };
        match opened {
            Err(reject) => Fetched::Read(Err(reject.clone())),
            Ok(InOrder::Anywhere(reader)) => Fetched::Part(Arc::clone(reader), part.clone()),
            Ok(InOrder::Forward(reader)) => {
                Fetched::Read(reader.read(part, image.bytes, &self.limits))
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
}

/// What `read` gives; where it gives nothing and a store couldn't be reached meanwhile, for that reason.
fn watched<T>(read: impl FnOnce() -> Result<T, Reject>) -> Result<T, Reject> {
    let (content, outage) = storage::watching(read);
    content.map_err(|reject| by(reject, outage))
}

fn by(reject: Reject, outage: Option<String>) -> Reject {
    match outage {
        Some(why) => Reject { outage: true, ..Reject::new(Stage::Read, why) },
        None => reject,
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

/// Reads images in any order, from any thread.
#[derive(Default)]
pub(crate) struct Library {
    /// Containers that were opened, by their uris.
    opened: Mutex<HashMap<String, Result<Arc<dyn ReadPart>, Reject>>>,
}

impl Library {
    /// Containers that are open at once: each holds a file.
    const OPEN_MAX: usize = 64;

    /// The bytes of an image.
    ///
    /// # Errors
    /// A [`Reject`] of [`Stage::Read`].
    pub(crate) fn read(&self, image: &SourceImage, limits: &Limits) -> Result<Vec<u8>, Reject> {
        if let Some(fault) = &image.fault {
            return Err(Reject::new(Stage::Read, fault.clone()));
        }
        watched(|| match &image.part {
            None => file::read(&image.uri, limits),
            Some(part) => self.reader(&image.uri)?.read(part, image.bytes, limits),
        })
    }

    /// sha256 of an image's bytes; None where they can't be read.
    pub(crate) fn digest(&self, image: &SourceImage) -> Option<[u8; 32]> {
        match &image.part {
            None => file::digest(&image.uri),
            Some(_) => {
                let bytes = self.read(image, &Limits::default()).ok()?;
                Some(Sha256::digest(&bytes).into())
            }
        }
    }

    fn reader(&self, uri: &str) -> Result<Arc<dyn ReadPart>, Reject> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = opened.get(uri) {
            return reader.clone();
        }
        if opened.len() >= Library::OPEN_MAX {
            opened.clear(); // Who is reading keeps its own.
        }
        let reader = Container::open(uri).and_then(Container::anywhere);
        opened.insert(uri.to_string(), reader.clone());
        reader
    }
}
