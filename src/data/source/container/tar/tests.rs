//! Owns the unit tests of `tar`: what they share.

use std::io;
use std::sync::Arc;

use super::*;
use crate::data::formats::raw_image::Limits;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, ReadForward, ReadPart, Remarks};
use crate::data::source::image::{Part, SourceImage};
use crate::storage::{BytesAt, Memory};

mod damage;
mod headers;
mod make;
mod packed;
mod random;
mod real;
mod samples;

fn memory(tar: &[u8]) -> Arc<dyn BytesAt> {
    Arc::new(Memory(tar.to_vec()))
}

fn listed_as(tar: &[u8], fields: &Fields) -> (Vec<SourceImage>, Remarks) {
    let mut listing = list(memory(tar), "file:///x.tar", "x.tar", fields).unwrap();
    let images: Vec<SourceImage> = listing.by_ref().map(Result::unwrap).collect();
    assert!(images.iter().all(|image| image.uri == "file:///x.tar"));
    (images, listing.remarks().clone())
}

fn listed(tar: &[u8]) -> (Vec<SourceImage>, Remarks) {
    listed_as(tar, &Fields::default())
}

/// What reads the images of a tar, whichever way it must be.
enum Reader {
    Plain(TarReader),
    Packed(Box<TarStream>),
}

impl Reader {
    fn new(tar: &[u8]) -> Reader {
        match compression(&tar[..tar.len().min(512)]) {
            Some(compression) => Reader::Packed(Box::new(TarStream::new(memory(tar), compression))),
            None => Reader::Plain(TarReader::new(memory(tar))),
        }
    }

    /// The content of an image that has a part, or why there is none.
    fn read(&mut self, image: &SourceImage) -> Result<Vec<u8>, String> {
        let (part, limits) = (image.part.as_ref().unwrap(), Limits::default());
        let read = match self {
            Reader::Plain(reader) => reader.read(part, image.bytes, &limits),
            Reader::Packed(stream) => stream.read(part, image.bytes, &limits),
        };
        read.map_err(|reject| reject.message)
    }
}

/// Images without a fault, by key, with what they read back as.
fn contents(tar: &[u8]) -> Vec<(String, Result<Vec<u8>, String>)> {
    let mut reader = Reader::new(tar);
    let images = listed(tar).0.into_iter().filter(|image| image.fault.is_none());
    images.map(|image| (image.key.clone(), reader.read(&image))).collect()
}

fn keys(images: &[SourceImage]) -> Vec<&str> {
    images.iter().map(|image| image.key.as_str()).collect()
}

/// The fault of the image that stands for damage; it comes last.
#[track_caller]
fn last_fault(images: &[SourceImage]) -> &str {
    let last = images.last().unwrap();
    assert_eq!((last.key.as_str(), &last.part), ("x.tar", &None));
    last.fault.as_deref().unwrap()
}
