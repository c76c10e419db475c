//! Owns a sample of an output's rows, each with the image that it was made of, prepared as the output
//! says. Must not know: what it is compared with.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::codes::{Codes, Grid};
use super::events::{Event, Observer};
use super::inputs::Inputs;
use super::repair::preparation;
use super::tokenizer::Tokenizer;
use crate::audit::{Asked, GridRow, TokenFile};
use crate::data::SourceImage;
use crate::data::prepare::{self, Pixels, Preparation};
use crate::data::source::library::Library;
use crate::error::{Error, Reject, Result};
use crate::storage;
use crate::tokens::identity::Identity;

/// A row of the sample.
pub(super) struct SampledRow {
    pub(super) key: String,
    pub(super) view: Option<i64>,
    pub(super) codes: Codes,
    /// Of its file, where the row says it.
    digest: Option<[u8; 16]>,
    /// Width and height of its image; 0 where the row doesn't say it.
    size: (u32, u32),
    /// The source's images of its key.
    found: Vec<SourceImage>,
}

/// Some rows, evenly over an output.
pub(super) struct Sample {
    pub(super) rows: Vec<SampledRow>,
    /// How images become pixels.
    pub(super) preparation: Preparation,
    /// Whether the output says it; else it is as the model says.
    pub(super) told: bool,
    /// What the tokens were computed by, as the output says: device and precision.
    pub(super) made_by: Option<[String; 2]>,
    library: Library,
}

/// Why a row isn't compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unusable {
    /// The source has no image of its key.
    Missing,
    /// The source's image has another digest.
    Changed,
    /// It can't be read or prepared.
    Failed(Reject),
}

impl Sample {
    /// `count` rows of `input`, with their images among `source`; None where neither the output nor the
    /// model says how images are prepared.
    ///
    /// # Errors
    /// An output or a source that can't be read; settings that this version doesn't know; an
    /// interrupt.
    pub(super) fn take(
        input: &Path,
        source: &Inputs,
        count: usize,
        tokenizer: &Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<Option<Sample>> {
        let asked = Asked { image: true, ..Asked::default() };
        let file = TokenFile::open_as(input, asked)?;
        let entry = |name: &str| file.entries().get(name);
        let identity: Option<Identity> =
            entry("vqtok.identity").and_then(|text| serde_json::from_str(text).ok());
        let channels = tokenizer.config().pixels.channels;
        let told = identity.is_some();
        let preparation = match &identity {
            Some(identity) => preparation(identity, channels)?,
            None => match tokenizer.preparation() {
                Ok(preparation) => preparation,
                Err(_) => return Ok(None),
            },
        };
        let made_by = identity.map(|identity| [identity.device, identity.precision]);
        let mut rows = storage::complete(input, || evenly(file, count, observer))?;
        find(&mut rows, source, observer)?;
        let library = Library::default();
        Ok(Some(Sample { rows, preparation, told, made_by, library }))
    }

    /// The pixels of some rows, in their order.
    ///
    /// # Errors
    /// An outage of a store.
    pub(super) fn pixels(&self, rows: &[SampledRow]) -> Result<Vec<Result<Pixels, Unusable>>> {
        let pixels: Vec<_> = rows.par_iter().map(|row| self.pixels_of(row)).collect();
        for (row, pixels) in rows.iter().zip(&pixels) {
            if let Err(Unusable::Failed(reject)) = pixels {
                reject.refuse_outage(&row.key)?;
            }
        }
        Ok(pixels)
    }

    fn pixels_of(&self, row: &SampledRow) -> Result<Pixels, Unusable> {
        let mut outcome = Err(Unusable::Missing);
        for image in &row.found {
            outcome = self.prepared(row, image);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn prepared(&self, row: &SampledRow, image: &SourceImage) -> Result<Pixels, Unusable> {
        let how = &self.preparation;
        let bytes = self.library.read(image, &how.limits).map_err(Unusable::Failed)?;
        let bucket = how.buckets.as_ref().map(|buckets| buckets.nearest(row.size));
        let views = prepare::views_from_bytes(&bytes, &row.key, bucket, how);
        let views = match views {
            Ok(views) => views,
            // Another file may fail where the row's didn't.
            Err(_) if row.digest.is_some_and(|digest| !is_of(&digest, &bytes)) => {
                return Err(Unusable::Changed);
            }
            Err(reject) => return Err(Unusable::Failed(reject)),
        };
        let number = row.view.and_then(|view| usize::try_from(view).ok()).unwrap_or(0);
        let Some(seen) = views.into_iter().nth(number) else { return Err(Unusable::Missing) };
        match row.digest {
            Some(digest) if digest[..] != seen.content_sha256[..16] => Err(Unusable::Changed),
            _ => Ok(Pixels { bytes: seen.pixels, height: seen.height, width: seen.width }),
        }
    }
}

fn is_of(digest: &[u8; 16], bytes: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes)[..16] == digest[..]
}

/// Rows at even distances. Those that can't be used are passed over: the audit tells them.
fn evenly(
    mut file: TokenFile,
    count: usize,
    observer: &mut dyn Observer,
) -> Result<Vec<SampledRow>> {
    let total = u128::from(file.row_count().max(1));
    let wanted = (count.max(1) as u128).min(total);
    let (mut number, mut rows) = (0u128, Vec::new());
    while let Some(row) = file.next_row() {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let before = number * wanted / total;
        number += match &row {
            Ok(_) => 1,
            Err(bad) => u128::from(bad.count()),
        };
        // The i-th is taken where i * wanted / total moves on.
        if let Ok(row) = row
            && before != number * wanted / total
        {
            rows.push(sampled(row));
        }
    }
    Ok(rows)
}

fn sampled(row: GridRow) -> SampledRow {
    let image = row.beside.image.as_deref();
    let grid = |grid: crate::audit::Grid| Grid {
        codes: grid.codes,
        distances: Vec::new(),
        height: grid.height,
        width: grid.width,
    };
    SampledRow {
        digest: image.and_then(|image| image.content_sha256),
        size: image.map_or((0, 0), |image| (image.width, image.height)),
        key: row.key,
        view: row.view,
        codes: Codes { levels: row.levels.into_iter().map(grid).collect() },
        found: Vec::new(),
    }
}

/// Looks for the rows' images by their keys.
fn find(rows: &mut [SampledRow], source: &Inputs, observer: &mut dyn Observer) -> Result<()> {
    /// Images of one key that are tried: keys are unique within an INPUT.
    const FOUND_MAX: usize = 8;
    let mut wanted: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        wanted.entry(row.key.clone()).or_default().push(at);
    }
    let mut images = source.images(source.take(), false)?;
    for image in images.by_ref() {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let image = image?;
        for &at in wanted.get(&image.key).into_iter().flatten() {
            if rows[at].found.len() < FOUND_MAX {
                rows[at].found.push(image.clone());
            }
        }
    }
    observer.event(&Event::Listed(&images.skipped()));
    Ok(())
}
