//! Owns drawing the few images that a page shows, in a second pass over the rows. Must not know: how
//! pictures are made, what the page shows them for.

use std::collections::BTreeSet;
use std::path::Path;

use super::page::{Side, Small, Thumbnails};
use super::picture::Draw;
use super::run::{Event, Observer};
use crate::audit::{Asked, Grid, GridRow, TokenFile};
use crate::error::{Error, Result};
use crate::storage;

/// Rows that are drawn together.
const TOGETHER: usize = 64;

/// Draws the images of `keys` that aren't there yet from their tokens, of several views or rows of a
/// key the first.
///
/// # Errors
/// An output that can't be read; an interrupt; those of `draw`.
pub(crate) fn draw(
    input: &Path,
    side: Side,
    keys: &BTreeSet<String>,
    draw: &mut dyn Draw,
    thumbnails: &mut Thumbnails,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut left: BTreeSet<&str> =
        keys.iter().map(String::as_str).filter(|key| !thumbnails.has(side, key)).collect();
    if left.is_empty() {
        return Ok(());
    }
    storage::complete(input, || {
        let mut rows = TokenFile::open_as(input, Asked::default())?;
        observer.event(&Event::Begin { stage: "audit", rows: rows.row_count() });
        let mut chunk = Vec::with_capacity(TOGETHER);
        // Rows that can't be used were told in the first pass.
        while let Some(row) = rows.next_row().filter(|_| !left.is_empty()) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            observer.event(&Event::Row);
            let Ok(row) = row else { continue };
            if row.view.is_none_or(|view| view == 0) && left.remove(row.key.as_str()) {
                chunk.push(row);
            }
            if chunk.len() == TOGETHER {
                take(&chunk, side, draw, thumbnails)?;
                chunk.clear();
            }
        }
        take(&chunk, side, draw, thumbnails)
    })
}

fn take(
    rows: &[GridRow],
    side: Side,
    draw: &mut dyn Draw,
    thumbnails: &mut Thumbnails,
) -> Result<()> {
    let levels: Vec<&[Grid]> = rows.iter().map(|row| row.levels.as_slice()).collect();
    for (row, picture) in rows.iter().zip(draw.draw(&levels)?) {
        if let Some(small) = picture.and_then(|picture| Small::of(picture, true)) {
            thumbnails.insert(side, &row.key, small);
        }
    }
    Ok(())
}
