//! Owns the images that a page shows, read from where they came from. Must not know: what they are
//! shown for.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::events::Observer;
use super::inputs::Inputs;
use crate::data::source::library::Library;
use crate::data::{Alpha, Limits, SourceImage, decode};
use crate::error::{Error, Reject, Result};
use crate::findings::{Picture, Side, Small, Thumbnails};
use crate::storage;

/// Images that are read together: each is whole in memory until it is reduced.
const TOGETHER: usize = 16;

/// Takes the images of `keys` into `thumbnails`. One that isn't among the inputs or can't be read is
/// passed over.
///
/// # Errors
/// Inputs that can't be listed; an outage of a store; an interrupt.
pub(super) fn take(
    inputs: &Inputs,
    keys: &BTreeSet<String>,
    thumbnails: &mut Thumbnails,
    observer: &dyn Observer,
) -> Result<()> {
    storage::resumable(|| {
        let library = Library::default();
        for some in chosen(inputs, keys, observer)?.chunks(TOGETHER) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let read: Vec<_> = some.par_iter().map(|image| read(&library, image)).collect();
            for (image, small) in some.iter().zip(read) {
                match small {
                    Ok(Some(small)) => thumbnails.insert(Side::Here, &image.key, small),
                    Ok(None) => {}
                    Err(reject) => reject.refuse_outage(&image.key)?,
                }
            }
        }
        Ok(())
    })
}

/// The images of `keys`; of several of one key the first.
fn chosen(
    inputs: &Inputs,
    keys: &BTreeSet<String>,
    observer: &dyn Observer,
) -> Result<Vec<SourceImage>> {
    let mut left: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let mut chosen = Vec::new();
    for image in inputs.images(inputs.take(), false)? {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let image = image?;
        if left.remove(image.key.as_str()) {
            chosen.push(image);
        }
        if left.is_empty() {
            break;
        }
    }
    Ok(chosen)
}

fn read(library: &Library, image: &SourceImage) -> Result<Option<Small>, Reject> {
    let limits = Limits::default();
    let decoded = decode(&library.read(image, &limits)?, &limits, Alpha::White)?.image;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Small::of(Picture { width, height, rgb: decoded.into_raw() }, false))
}
