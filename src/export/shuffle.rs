//! Owns the shuffled order: rows go by their hash into buckets on disk, and each bucket is sorted in
//! memory; one that is too large for that is spread over buckets of its own first. How many there are
//! makes no difference to the order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;

use super::order::{Chunk, Way};
use super::split::hash;
use crate::audit::{Beside, Grid, GridRow, TokenFile};
use crate::error::{Error, Result};
use crate::util::nameless_file;

/// Rows of a bucket, about, as long as that needs no more buckets than there may be.
const BUCKET_ROWS: u64 = 1 << 16;
/// Bytes of a bucket, about; one that has more than twice as many is spread.
const BUCKET_BYTES: u64 = 1 << 26;
/// Buckets at most that are made at once: each is an open file, of which some systems grant 256.
const BUCKETS_MAX: u64 = 100;
/// How often rows are spread: then a bucket is full of rows with one hash.
const DEPTH_MAX: usize = 5;

/// Rows in buckets on disk.
pub(super) struct Shuffled {
    folder: PathBuf,
    seed: u64,
    /// Whether the views of an image stay together.
    together: bool,
    bucket_bytes: u64,
    /// In the order of their rows.
    buckets: VecDeque<Bucket>,
}

/// A stretch of all hashes.
struct Bucket {
    file: BufWriter<File>,
    bytes: u64,
    /// How many buckets its rows were spread over, time after time.
    counts: Vec<u64>,
}

impl Shuffled {
    /// Spools all rows; what can't be used goes on at once.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn of(
        mut file: TokenFile,
        seed: u64,
        way: &Way<'_>,
        stop: &AtomicBool,
        chunks: &Sender<Chunk>,
    ) -> Result<Shuffled> {
        let count = file.row_count().div_ceil(BUCKET_ROWS);
        let mut shuffled = Shuffled::new(way, seed, count, BUCKET_BYTES)?;
        while let Some(row) = file.next_row() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match row {
                Ok(row) => shuffled.put(&row)?,
                Err(bad) => {
                    if chunks.send(Ok(vec![Err(bad)])).is_err() {
                        shuffled.buckets.clear();
                        break;
                    }
                }
            }
        }
        Ok(shuffled)
    }

    fn new(way: &Way<'_>, seed: u64, count: u64, bucket_bytes: u64) -> Result<Shuffled> {
        let (folder, together) = (way.folder.to_path_buf(), way.stacked);
        let mut shuffled =
            Shuffled { folder, seed, together, bucket_bytes, buckets: VecDeque::new() };
        shuffled.buckets = shuffled.new_buckets(&[], count)?;
        Ok(shuffled)
    }

    fn new_buckets(&self, counts: &[u64], count: u64) -> Result<VecDeque<Bucket>> {
        let count = count.clamp(1, BUCKETS_MAX);
        let counts = [counts, &[count]].concat();
        let bucket = |_| {
            let file = nameless_file::create(&self.folder).map_err(Error::io(&self.folder))?;
            let file = BufWriter::with_capacity(1 << 16, file);
            Ok(Bucket { file, bytes: 0, counts: counts.clone() })
        };
        (0..count).map(bucket).collect()
    }

    fn put(&mut self, row: &GridRow) -> Result<()> {
        let place = place(self.seed, row, self.together);
        put_into(&mut self.buckets, place, row).map_err(Error::io(&self.folder))
    }

    /// The next rows in order; none behind the last.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn next_bucket(&mut self) -> Result<Option<Vec<GridRow>>> {
        let (seed, together) = (self.seed, self.together);
        while let Some(bucket) = self.buckets.pop_front() {
            if bucket.bytes > 2 * self.bucket_bytes && bucket.counts.len() < DEPTH_MAX {
                self.spread(bucket)?;
                continue;
            }
            let mut rows = Vec::new();
            let each = |row| {
                rows.push(row);
                Ok(())
            };
            read(bucket, each).map_err(Error::io(&self.folder))?;
            rows.sort_by_cached_key(|row| (place(seed, row, together), row.key.clone(), row.view));
            return Ok(Some(rows));
        }
        Ok(None)
    }

    /// Puts buckets in the place of one.
    fn spread(&mut self, bucket: Bucket) -> Result<()> {
        let count = bucket.bytes.div_ceil(self.bucket_bytes);
        let mut buckets = self.new_buckets(&bucket.counts, count)?;
        let (seed, together) = (self.seed, self.together);
        let each = |row: GridRow| put_into(&mut buckets, place(seed, &row, together), &row);
        read(bucket, each).map_err(Error::io(&self.folder))?;
        for bucket in buckets.into_iter().rev() {
            self.buckets.push_front(bucket);
        }
        Ok(())
    }
}

/// Puts a row into one of several buckets that were made together.
fn put_into(buckets: &mut VecDeque<Bucket>, place: u64, row: &GridRow) -> io::Result<()> {
    let Some((count, before)) = buckets.front().and_then(|bucket| bucket.counts.split_last())
    else {
        return Ok(());
    };
    // What is left of a hash when the buckets before are known, again between 0 and 2^64.
    let rest = before.iter().fold(place, |rest, count| rest.wrapping_mul(*count));
    let at = (u128::from(rest) * u128::from(*count)) >> 64;
    let bucket = &mut buckets[at as usize];
    let mut bytes = Vec::new();
    put(&mut bytes, row)?;
    bucket.bytes += bytes.len() as u64;
    bucket.file.write_all(&bytes)
}

fn place(seed: u64, row: &GridRow, together: bool) -> u64 {
    let view = if together { 0 } else { row.view.unwrap_or(0) };
    hash(format!("vqtok shuffle {seed}").as_bytes(), &row.key, Some(view))
}

fn read(bucket: Bucket, mut each: impl FnMut(GridRow) -> io::Result<()>) -> io::Result<()> {
    let mut file = bucket.file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    let mut file = BufReader::with_capacity(1 << 20, file).take(bucket.bytes);
    while file.limit() > 0 {
        each(take(&mut file)?)?;
    }
    Ok(())
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
    let Beside { label, label_id: _, caption, meta_json, crops, image: _ } = &row.beside;
    for beside in [label, caption, meta_json] {
        text(out, beside.as_deref())?;
    }
    number(out, crops.len() as u64)?;
    for side in crops.iter().flatten() {
        number(out, *side as u64)?;
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
    let mut crops = vec![[0; 5]; take_number(from)? as usize];
    for side in crops.iter_mut().flatten() {
        *side = take_number(from)? as i64;
    }
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
        beside: Beside { label, label_id: None, caption, meta_json, crops, image: None },
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
    use crate::export::settings::RowOrder;

    #[test]
    fn buckets_that_are_too_large_are_spread_and_the_order_stays() {
        let row = |number: u64| GridRow {
            key: format!("{}.png", number / 2),
            keyed: true,
            view: Some(number as i64 % 2),
            levels: vec![Grid { codes: vec![number as u32; 4], height: 2, width: 2 }],
            guessed: false,
            file: Path::new("a.parquet").into(),
            row: number,
            beside: Beside::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        for stacked in [false, true] {
            let way = Way { order: RowOrder::Shuffle(3), stacked, folder: dir.path() };
            let order = |count, bucket_bytes| {
                let mut shuffled = Shuffled::new(&way, 3, count, bucket_bytes).unwrap();
                (0..4000).for_each(|number| shuffled.put(&row(number)).unwrap());
                let (mut rows, mut largest) = (Vec::new(), 0);
                while let Some(bucket) = shuffled.next_bucket().unwrap() {
                    largest = largest.max(bucket.len());
                    rows.extend(bucket.into_iter().map(|row| row.row));
                }
                (rows, largest)
            };
            let (expected, all) = order(1, u64::MAX / 4);
            assert_eq!((expected.len(), all), (4000, 4000));
            let mut sorted = expected.clone();
            sorted.sort();
            assert_eq!(sorted, (0..4000).collect::<Vec<_>>());
            assert_eq!(stacked, expected.chunks(2).all(|two| two[0] / 2 == two[1] / 2));
            // A row takes 150 bytes: from 60 buckets, from 3 by way of 70 each, from 1 by way of more.
            for (count, bucket_bytes) in [(60, 1 << 20), (3, 3000), (1, 1000)] {
                let (rows, largest) = order(count, bucket_bytes);
                assert!(rows == expected && largest < 150, "{count}: {largest}");
            }
        }
    }

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
                beside: Beside {
                    label: Some(String::new()),
                    caption,
                    crops: vec![[-1, 2, 3, 4, 1]; 2],
                    ..Beside::default()
                },
            };
            let mut bytes = Vec::new();
            put(&mut bytes, &row).unwrap();
            assert_eq!(take(&mut &bytes[..]).unwrap(), row);
        }
    }
}
