//! Owns reading images in any order, from any thread: of the containers that were opened, the latest
//! stay open. Must not know: what an image holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use super::container::listing::ReadPart;
use super::container::open::Container;
use super::file;
use super::image::SourceImage;
use super::watched::watched;
use crate::data::formats::raw_image::Limits;
use crate::error::{Reject, Stage};

/// Containers that are open at once. Each holds a file; one that is compressed holds its unpacked copy
/// on disk, which takes long to make.
const OPEN_MAX: usize = 384;

/// Those of them in stores, each of which holds some blocks in memory.
const REMOTE_MAX: usize = 64;

/// What opening a container came to.
type Opened = Result<Arc<dyn ReadPart>, Reject>;

/// Reads images in any order, from any thread.
#[derive(Default)]
pub(crate) struct Library {
    shelf: Mutex<Shelf>,
}

/// Containers by their uris.
#[derive(Default)]
struct Shelf {
    places: HashMap<String, Place>,
    /// Counts uses.
    clock: u64,
}

/// A container, opened by the first who reads it while others wait for it alone.
struct Place {
    opened: Arc<OnceLock<Opened>>,
    remote: bool,
    used: u64,
}

impl Library {
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

    fn reader(&self, uri: &str) -> Opened {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = shelf.place(uri);
        drop(shelf);
        // Whoever waits for the one who opens it hears of outages by its words alone.
        let open = || watched(|| Container::open(uri).and_then(Container::anywhere));
        opened.get_or_init(open).clone()
    }
}

impl Shelf {
    fn place(&mut self, uri: &str) -> Arc<OnceLock<Opened>> {
        self.clock += 1;
        if let Some(place) = self.places.get_mut(uri) {
            place.used = self.clock;
            return Arc::clone(&place.opened);
        }
        let remote = !uri.starts_with("file://");
        self.make_room(|_| true, OPEN_MAX);
        if remote {
            self.make_room(|place| place.remote, REMOTE_MAX);
        }
        let opened = Arc::default();
        let place = Place { opened: Arc::clone(&opened), remote, used: self.clock };
        self.places.insert(uri.to_string(), place);
        opened
    }

    /// Gives up the container that was used longest ago where there are so many of a kind. Who is
    /// reading it keeps it.
    fn make_room(&mut self, of_kind: impl Fn(&Place) -> bool, max: usize) {
        let ours = self.places.iter().filter(|(_, place)| of_kind(place));
        if ours.clone().count() < max {
            return;
        }
        let oldest = ours.min_by_key(|(_, place)| place.used).map(|(uri, _)| uri.clone());
        if let Some(uri) = oldest {
            self.places.remove(&uri);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_containers_stay_open() {
        let mut shelf = Shelf::default();
        let uris: Vec<String> = (0..OPEN_MAX + 9).map(|i| format!("file:///{i}.tar")).collect();
        let first = shelf.place(&uris[0]);
        for uri in &uris {
            shelf.place(uri);
            assert!(Arc::ptr_eq(&shelf.place(&uris[0]), &first), "used again and again, it stays");
        }
        assert_eq!(shelf.places.len(), OPEN_MAX);
        assert!(!shelf.places.contains_key(&uris[1]) && shelf.places.contains_key(&uris[OPEN_MAX]));
        (0..REMOTE_MAX + 5).for_each(|i| drop(shelf.place(&format!("s3://b/{i}.tar"))));
        assert_eq!(shelf.places.values().filter(|place| place.remote).count(), REMOTE_MAX);
    }
}
