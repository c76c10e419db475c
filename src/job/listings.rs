//! Owns the lists that workers make of the tars, Parquet files, zips and lists of an input before there is
//! a plan, so that who writes it needn't open them. Must not know: what becomes of the images.
//!
//! ```text
//! DIR/listed/1f/1f03...e2.json       what a file is, and what is to be said of it; written last
//! DIR/listed/1f/1f03...e2.parquet    its images, as planned rows
//! DIR/listed/1f/1f03...e2.buckets    the bucket of each by its place among these, where there are some
//! ```
//!
//! All are written once, by whoever comes first, under a name that the file's place, name and size give,
//! with what is taken of it. Who writes the plan takes them where they are there, whole and no older than the
//! file, and opens the others itself: the plan is byte for byte the same, whoever listed what. They go
//! when the plan is there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::bucketed::Bucketed;
use crate::data::prepare::Preparation;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, Remarks};
use crate::data::source::file;
use crate::data::source::listings::Held;
use crate::data::source::stream;
use crate::data::{Facts, Part, SourceFile, SourceImage};
use crate::error::{Error, Result};
use crate::pipeline::row_of;
use crate::storage;
use crate::tokens::commit;
use crate::tokens::files::LISTED_FOLDER;
use crate::tokens::listing as rows_file;
use crate::tokens::{Identity, PlanRow, Today};
use crate::util::hex::{hex, sha256_hex};
use crate::util::regular_file::ANY_SIZE;

/// The lists of an output's inputs.
#[derive(Debug, Clone)]
pub(super) struct Listings {
    out: PathBuf,
    /// What is taken of files, as the plan records it, and what decides on an image's bucket.
    taken: String,
    preparation: Preparation,
    /// Files whose lists were taken for a plan.
    used: Arc<Mutex<Vec<SourceFile>>>,
}

/// What is said of a file beside its images.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    uri: String,
    key: String,
    bytes: u64,
    taken: String,
    images: u64,
    forward: bool,
    paths: bool,
    digest: Option<String>,
    remarks: Remarks,
    /// Of the file with the images: what is damaged there is no list.
    rows_sha256: String,
    /// Of that with their buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buckets_sha256: Option<String>,
}

impl Listings {
    /// Of an output for images that are prepared so.
    pub(super) fn new(out: &Path, mut taken: String, preparation: &Preparation) -> Listings {
        let Preparation { buckets, orientation, .. } = preparation;
        if let Some(buckets) = buckets {
            taken += &format!("\n{buckets}\n{orientation}");
        }
        let preparation = preparation.clone();
        Listings { out: out.to_path_buf(), taken, preparation, used: Arc::default() }
    }

    fn stem(&self, file: &SourceFile) -> PathBuf {
        let SourceFile { uri, key, bytes, .. } = file;
        let name = sha256_hex(format!("{uri}\n{key}\n{bytes}\n{}", self.taken).as_bytes());
        self.out.join(LISTED_FOLDER).join(&name[..2]).join(&name[..32])
    }

    /// Lists a file, unless that was done. Whether it is listed: one that is damaged or has no image is
    /// left to who writes the plan.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn list(
        &self,
        file: &SourceFile,
        fields: &Fields,
        identity: &Identity,
    ) -> Result<bool> {
        if self.find(file).is_some() {
            return Ok(true);
        }
        let Held::Images { mut listing, forward, paths } = stream::open(file, fields)? else {
            return Ok(false);
        };
        let stem = self.stem(file);
        let said = stem.with_extension("json");
        // A list that is whole and not taken is damaged, or of what the file was before.
        if storage::exists(&said).map_err(Error::io(&said))? {
            self.forget(file)?;
        }
        let whole = |row: &Result<PlanRow>| row.as_ref().is_ok_and(|row| row.fault.is_none());
        let row = |(image, at): (Result<SourceImage>, i64)| image.map(|image| row_of(at, image));
        let mut rows = listing.by_ref().zip(0..).map(row).peekable();
        if !rows.peek().is_some_and(whole) {
            return Ok(false);
        }
        let (mut damaged, mut buckets) = (false, Vec::new());
        let path = stem.with_extension("parquet");
        let written = {
            let placed = self.placed(rows, &mut buckets);
            let mut noted = placed.inspect(|row| damaged |= !whole(row));
            rows_file::write_rows(&path, identity, &mut noted)
        };
        let images = match written {
            Ok(images) => images,
            Err(error @ Error::Io { .. }) => return Err(error),
            // Who writes the plan comes to the same.
            Err(_) => return Ok(false),
        };
        if damaged {
            return commit::remove_durably(&path).map(|_| false);
        }
        let buckets = self.preparation.buckets.as_ref().map(|_| &*buckets);
        let record = self.record(file, &*listing, (images, forward, paths), buckets)?;
        let text = serde_json::to_string(&record)
            .map_err(|error| Error::internal(format!("a list that is no JSON: {error}")))?;
        commit::write_sidecar(&said, text.as_bytes())?;
        Ok(true)
    }

    /// Rows as they come, while the place of each one's bucket among all goes to `places`.
    fn placed<'a>(
        &'a self,
        rows: impl Iterator<Item = Result<PlanRow>> + 'a,
        places: &'a mut Vec<u8>,
    ) -> Box<dyn Iterator<Item = Result<PlanRow>> + 'a> {
        let Some(buckets) = &self.preparation.buckets else { return Box::new(rows) };
        let rows = rows.map(|row| row.map(Today::Image));
        let sized = Bucketed::new(rows, buckets, &self.preparation, || false);
        Box::new(sized.filter_map(|item| match item {
            Ok(Today::Image(row)) => {
                let size = row.bucket_size();
                let place = buckets.all().iter().position(|bucket| Some(*bucket) == size);
                // There are 128 at most.
                places.push(place.map_or(u8::MAX, |place| place as u8));
                Some(Ok(PlanRow { bucket: None, ..row }))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// The bucket of each of so many images, where there are some; None where that isn't known.
    fn buckets(&self, record: &Record, stem: &Path) -> Option<Vec<Option<(u32, u32)>>> {
        let Some(buckets) = &self.preparation.buckets else { return Some(Vec::new()) };
        let places = storage::read(&stem.with_extension("buckets"), ANY_SIZE).ok()?;
        let whole = record.buckets_sha256 == Some(sha256_hex(&places))
            && places.len() as u64 == record.images;
        let size = |place: u8| buckets.all().get(usize::from(place)).copied().map(Some);
        places.into_iter().map(size).collect::<Option<_>>().filter(|_| whole)
    }

    /// What is said of a file whose images are written; their `buckets` are written here.
    fn record(
        &self,
        file: &SourceFile,
        listing: &dyn Listing,
        (images, forward, paths): (u64, bool, bool),
        buckets: Option<&[u8]>,
    ) -> Result<Record> {
        let stem = self.stem(file);
        if let Some(places) = buckets {
            commit::write_sidecar(&stem.with_extension("buckets"), places)?;
        }
        let SourceFile { uri, key, bytes, .. } = file.clone();
        Ok(Record {
            uri,
            key,
            bytes,
            taken: self.taken.clone(),
            images,
            forward,
            paths,
            digest: listing.digest(),
            remarks: listing.remarks().clone(),
            rows_sha256: hex(commit::digest_file(&stem.with_extension("parquet"))?.0),
            buckets_sha256: buckets.map(sha256_hex),
        })
    }

    /// What was listed of a file that looks as it did.
    fn find(&self, file: &SourceFile) -> Option<Held> {
        let stem = self.stem(file);
        let path = stem.with_extension("json");
        if !storage::exists(&path).ok()? {
            return None;
        }
        let record: Record =
            serde_json::from_str(&storage::read_to_string(&path, ANY_SIZE).ok()?).ok()?;
        let path = stem.with_extension("parquet");
        let whole = commit::digest_file(&path).is_ok_and(|(sum, _)| hex(sum) == record.rows_sha256);
        let rows = rows_file::open(&path).ok().filter(|_| whole)?;
        let same = (&record.uri, &record.key, record.bytes, &record.taken)
            == (&file.uri, &file.key, file.bytes, &self.taken)
            && record.images == rows.rows();
        let listed_at = rows.listed_at()?;
        let old = file::written(&file.uri).is_some_and(|written| written < listed_at);
        if !(same && old) {
            return None;
        }
        let mut buckets = self.buckets(&record, &stem)?.into_iter();
        let Record { forward, paths, digest, remarks, .. } = record;
        let mut image = move |row| SourceImage { bucket: buckets.next().flatten(), ..image(row) };
        let rows = Box::new(rows.all_rows().ok()?.map(move |row| row.map(&mut image)));
        let listing = Box::new(Listed { rows, remarks, digest });
        Some(Held::Images { listing, forward, paths })
    }

    /// The same for a plan that is written.
    pub(super) fn take(&self, file: &SourceFile) -> Option<Held> {
        let held = self.find(file)?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push(file.clone());
        Some(held)
    }

    /// Removes the lists that were taken: the plan is there.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn forget_taken(&self) -> Result<()> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().try_for_each(|file| self.forget(file))
    }

    fn forget(&self, file: &SourceFile) -> Result<()> {
        let stem = self.stem(file);
        for extension in ["json", "parquet", "buckets"] {
            let path = stem.with_extension(extension);
            if !storage::exists(&path).map_err(Error::io(&path))? {
                continue;
            }
            match commit::remove_durably(&path) {
                // Workers that begin together remove the same lists, and the folders of these.
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                removed => drop(removed?),
            }
        }
        // Where nothing else lies in them.
        let folders = stem.ancestors().skip(1).take(2);
        folders.for_each(|folder| drop(std::fs::remove_dir(folder)));
        Ok(())
    }
}

/// The images that were listed of a file.
struct Listed {
    rows: Box<dyn Iterator<Item = Result<SourceImage>> + Send>,
    remarks: Remarks,
    digest: Option<String>,
}

impl Iterator for Listed {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Result<SourceImage>> {
        self.rows.next()
    }
}

impl Listing for Listed {
    fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    fn digest(&self) -> Option<String> {
        self.digest.clone()
    }
}

/// The image of a row, as it was listed.
fn image(row: PlanRow) -> SourceImage {
    let PlanRow { key, uri, bytes, member, offset, label, caption, meta_json, fault, .. } = row;
    let part = member.zip(offset);
    SourceImage {
        key,
        uri,
        bytes: bytes.unsigned_abs(),
        part: part.map(|(member, offset)| Part { member, offset: offset.unsigned_abs() }),
        planned: None,
        forward: false,
        facts: Facts { label, caption, meta_json },
        fault,
        bucket: None,
    }
}
