//! Owns the unit tests of `tar`: what they share.

use std::io;
use std::sync::Arc;

use super::*;
use crate::data::formats::raw_image::Limits;
use crate::data::source::container::bytes_at::BytesAt;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, ReadForward, ReadPart, Remarks};
use crate::data::source::image::SourceImage;

mod real;

/// A file in memory.
struct Memory(Vec<u8>);

impl BytesAt for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

fn memory(tar: &[u8]) -> Arc<dyn BytesAt> {
    Arc::new(Memory(tar.to_vec()))
}

fn listed(tar: &[u8], fields: &Fields) -> (Vec<SourceImage>, Remarks) {
    let mut listing = list(memory(tar), "file:///x.tar", "x.tar", fields).unwrap();
    let images = listing.by_ref().map(Result::unwrap).collect();
    (images, listing.remarks().clone())
}

/// What each image that has a part reads back as.
fn contents(tar: &[u8], images: &[SourceImage]) -> Vec<Result<Vec<u8>, String>> {
    let limits = Limits::default();
    let compression = compression(&tar[..tar.len().min(512)]);
    let reader = TarReader::new(memory(tar));
    let mut stream = compression.map(|compression| TarStream::new(memory(tar), compression));
    let parts = images.iter().filter_map(|image| Some((image.part.as_ref()?, image.bytes)));
    let read = parts.map(|(part, bytes)| match &mut stream {
        Some(stream) => stream.read(part, bytes, &limits),
        None => reader.read(part, bytes, &limits),
    });
    read.map(|read| read.map_err(|reject| reject.message)).collect()
}
