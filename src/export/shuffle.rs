//! Owns the shuffled order: rows go by their hash into buckets on disk, and each bucket is sorted in
//! memory. Up to 13 million rows that is 65,536 at a time; of more, it is a 200th of them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;

use super::order::Chunk;
use super::split::hash;
use crate::audit::{Beside, Grid, GridRow, TokenFile};
use crate::error::{Error, Result};
use crate::util::nameless_file;

/// Rows of a bucket, about.
const BUCKET_ROWS: u64 = 1 << 16;
/// Buckets at most: each is an open file, of which some systems grant 256.
const BUCKETS_MAX: u64 = 200;

/// Rows in buckets on disk.
pub(super) struct Shuffled {
    folder: PathBuf,
    seed: u64,
    buckets: std::vec::IntoIter<BufWriter<File>>,
}

impl Shuffled {
    /// Spools all rows; what can't be used goes on at once.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn of(
        mut file: TokenFile,
        seed: u64,
        folder: &Path,
        stop: &AtomicBool,
        chunks: &Sender<Chunk>,
    ) -> Result<Shuffled> {
        let count = file.row_count().div_ceil(BUCKET_ROWS).clamp(1, BUCKETS_MAX);
        let mut buckets = Vec::new();
        for _ in 0..count {
            let bucket = nameless_file::create(folder).map_err(Error::io(folder))?;
            buckets.push(BufWriter::with_capacity(1 << 16, bucket));
        }
        while let Some(row) = file.next_row() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match row {
                Ok(row) => {
                    let place = (u128::from(place(seed, &row)) * u128::from(count)) >> 64;
                    put(&mut buckets[place as usize], &row).map_err(Error::io(folder))?;
                }
                Err(bad) => {
                    if chunks.send(Ok(vec![Err(bad)])).is_err() {
                        buckets.clear();
                        break;
                    }
                }
            }
        }
        Ok(Shuffled { folder: folder.to_path_buf(), seed, buckets: buckets.into_iter() })
    }

    /// The next rows in order; none behind the last.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn next_bucket(&mut self) -> Result<Option<Vec<GridRow>>> {
        let Some(bucket) = self.buckets.next() else { return Ok(None) };
        let mut rows = read(bucket).map_err(Error::io(&self.folder))?;
        let seed = self.seed;
        rows.sort_by_cached_key(|row| (place(seed, row), row.key.clone(), row.view));
        Ok(Some(rows))
    }
}

fn place(seed: u64, row: &GridRow) -> u64 {
    hash(format!("vqtok shuffle {seed}").as_bytes(), &row.key, Some(row.view.unwrap_or(0)))
}

fn read(bucket: BufWriter<File>) -> io::Result<Vec<GridRow>> {
    let mut file = bucket.into_inner().map_err(io::IntoInnerError::into_error)?;
    let end = file.stream_position()?;
    file.seek(SeekFrom::Start(0))?;
    let mut file = BufReader::with_capacity(1 << 20, file).take(end);
    let mut rows = Vec::new();
    while file.limit() > 0 {
        rows.push(take(&mut file)?);
    }
    Ok(rows)
}

fn put(out: &mut impl Write, row: &GridRow) -> io::Result<()> {
    text(out, Some(&row.key))?;
    text(out, row.file.to_str())?;
    number(out, row.row)?;
    number(
        out,
        u64::from(row.keyed) | u64::from(row.guessed) << 1 | u64::from(row.view.is_some()) << 2,
    )?;
    number(out, row.view.unwrap_or(0) as u64)?;
    // Ids are needed before the rows are.
    let Beside { label, label_id: _, caption, meta_json } = &row.beside;
    for beside in [label, caption, meta_json] {
        text(out, beside.as_deref())?;
    }
    number(out, row.levels.len() as u64)?;
    for grid in &row.levels {
        number(out, grid.height as u64)?;
        number(out, grid.width as u64)?;
        number(out, grid.codes.len() as u64)?;
        let codes: Vec<u8> = grid.codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        out.write_all(&codes)?;
    }
    Ok(())
}

fn take(from: &mut impl Read) -> io::Result<GridRow> {
    let key = take_text(from)?.unwrap_or_default();
    let file: Arc<Path> = Path::new(&take_text(from)?.unwrap_or_default()).into();
    let row = take_number(from)?;
    let flags = take_number(from)?;
    let view = take_number(from)? as i64;
    let [label, caption, meta_json] = [take_text(from)?, take_text(from)?, take_text(from)?];
    let mut levels = Vec::new();
    for _ in 0..take_number(from)? {
        let (height, width) = (take_number(from)? as usize, take_number(from)? as usize);
        let mut bytes = vec![0; take_number(from)? as usize * 4];
        from.read_exact(&mut bytes)?;
        let codes = bytes.as_chunks::<4>().0.iter().map(|code| u32::from_le_bytes(*code)).collect();
        levels.push(Grid { codes, height, width });
    }
    Ok(GridRow {
        key,
        keyed: flags & 1 > 0,
        view: (flags & 4 > 0).then_some(view),
        levels,
        guessed: flags & 2 > 0,
        file,
        row,
        beside: Beside { label, label_id: None, caption, meta_json },
    })
}

/// A text with its length and one added; 0 for none.
fn text(out: &mut impl Write, text: Option<&str>) -> io::Result<()> {
    number(out, text.map_or(0, |text| text.len() as u64 + 1))?;
    out.write_all(text.unwrap_or_default().as_bytes())
}

fn take_text(from: &mut impl Read) -> io::Result<Option<String>> {
    let Some(length) = take_number(from)?.checked_sub(1) else { return Ok(None) };
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map(Some).map_err(io::Error::other)
}

fn number(out: &mut impl Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

fn take_number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_from_disk_as_it_was() {
        for (view, caption) in [(None, None), (Some(-3), Some("two\nlines 猫".to_string()))] {
            let row = GridRow {
                key: "é/1.png".into(),
                keyed: true,
                view,
                levels: vec![Grid { codes: vec![0, 65_535, 70_000], height: 1, width: 3 }; 2],
                guessed: false,
                file: Path::new("a.parquet").into(),
                row: 9,
                beside: Beside { label: Some(String::new()), caption, ..Beside::default() },
            };
            let mut bytes = Vec::new();
            put(&mut bytes, &row).unwrap();
            assert_eq!(take(&mut &bytes[..]).unwrap(), row);
        }
    }
}
