//! Owns an object store as a place of files.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::list::PaginatedListStore;
use object_store::path::Path as Key;
use object_store::{
    Error, GetOptions, GetRange, ListResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload,
};

use super::errors::{nothing_there, told};
use super::{odd_names, runtime};
use crate::storage::address::parts;
use crate::storage::bytes_at::BytesAt;
use crate::storage::coming::Coming;
use crate::storage::facts::{Entry, Facts, Listing, Odd};
use crate::storage::outage::{self, Outage};
use crate::storage::remote_file::RemoteFile;
use crate::storage::stores::Store;

/// A bucket as it is reached.
pub(super) struct Client {
    objects: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
}

impl Client {
    pub(super) fn of<S: ObjectStore + PaginatedListStore>(store: S) -> Client {
        let store = Arc::new(store);
        Client { objects: Arc::clone(&store) as _, lists: store }
    }
}

/// A bucket.
pub(super) struct Objects {
    /// For what is answered soon.
    reading: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    /// For sending files, which takes longer.
    writing: Arc<dyn ObjectStore>,
    down: Arc<Down>,
}

/// How a store has answered so far.
type Down = Mutex<Answers>;

#[derive(Debug, Default)]
struct Answers {
    /// Whether it has.
    any: bool,
    /// The last outage: when, and what is to be said of it.
    outage: Option<(Instant, Outage)>,
}

/// As long after an outage nobody asks again: who looks for several files is patient once.
const DOWN_FOR: Duration = Duration::from_secs(5);

impl Objects {
    pub(super) fn new(reading: Client, writing: Client) -> Objects {
        let Client { objects: reading, lists } = reading;
        Objects { reading, lists, writing: writing.objects, down: Arc::default() }
    }
}

fn key(address: &Path) -> io::Result<Key> {
    let parts = parts(address).ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    Key::parse(parts.key).map_err(|error| told(error.into()))
}

fn facts_of(object: &ObjectMeta) -> Facts {
    let written = Some(object.last_modified.into());
    Facts { bytes: object.size, is_folder: false, is_file: true, written }
}

impl Store for Objects {
    fn facts(&self, address: &Path) -> io::Result<Facts> {
        let key = key(address)?;
        let asks_for_folder = address.as_os_str().as_encoded_bytes().ends_with(b"/");
        let store = Arc::clone(&self.reading);
        runtime::wait(asked(Arc::clone(&self.down), move || {
            let (store, key) = (Arc::clone(&store), key.clone());
            async move {
                if !asks_for_folder && !key.as_ref().is_empty() {
                    match store.head(&key).await {
                        Err(Error::NotFound { .. }) => {}
                        object => return Ok(facts_of(&object.map_err(told)?)),
                    }
                }
                match any_below(&*store, &key).await? {
                    true => Ok(Facts::folder()),
                    false => Err(nothing_there()),
                }
            }
        }))
    }

    fn open(self: Arc<Self>, address: &Path) -> io::Result<Arc<dyn BytesAt>> {
        let facts = self.facts(address)?;
        match facts.is_file {
            true => Ok(Arc::new(RemoteFile::new(self, address, facts.bytes))),
            false => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn begin(&self, address: &Path, range: Option<Range<u64>>, bytes_max: u64) -> Coming {
        let key = match key(address) {
            Ok(key) => key,
            Err(error) => return Coming::failed(error),
        };
        let store = Arc::clone(&self.reading);
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        runtime::begin(asked(Arc::clone(&self.down), move || {
            let (store, key, options) = (Arc::clone(&store), key.clone(), options.clone());
            async move {
                let answer = store.get_opts(&key, options).await.map_err(told)?;
                let bytes = answer.range.end.saturating_sub(answer.range.start);
                if bytes > bytes_max {
                    let text =
                        format!("it has more than the {bytes_max} bytes that such a file may have");
                    return Err(io::Error::new(ErrorKind::FileTooLarge, text));
                }
                answer.bytes().await.map_err(told)
            }
        }))
    }

    fn list(&self, folder: &Path) -> io::Result<Listing> {
        let key = key(folder)?;
        let (store, lists) = (Arc::clone(&self.reading), Arc::clone(&self.lists));
        let prefix = key.clone();
        let (found, odd) = runtime::wait(asked(Arc::clone(&self.down), move || {
            let (store, lists, prefix) = (Arc::clone(&store), Arc::clone(&lists), prefix.clone());
            async move {
                let below = (!prefix.as_ref().is_empty()).then_some(&prefix);
                match store.list_with_delimiter(below).await {
                    Err(Error::InvalidPath { .. }) => odd_names::list(&*lists, &prefix).await,
                    found => found.map(|found| (found, Vec::new())),
                }
                .map_err(told)
            }
        }))?;
        Ok(listing(&key, found, odd))
    }

    fn put(&self, address: &Path, bytes: Bytes, once: bool) -> io::Result<()> {
        let (key, store) = (key(address)?, Arc::clone(&self.writing));
        runtime::wait(asked(Arc::clone(&self.down), move || {
            let (store, key, bytes) = (Arc::clone(&store), key.clone(), bytes.clone());
            async move {
                match once {
                    true => create(&*store, &key, bytes).await,
                    false => store.put(&key, bytes.into()).await.map(drop).map_err(told),
                }
            }
        }))
    }

    fn remove(&self, address: &Path) -> io::Result<()> {
        let (key, store) = (key(address)?, Arc::clone(&self.writing));
        runtime::wait(asked(Arc::clone(&self.down), move || {
            let (store, key) = (Arc::clone(&store), key.clone());
            async move {
                match store.delete(&key).await {
                    Err(Error::NotFound { .. }) => Ok(()),
                    done => done.map_err(told),
                }
            }
        }))
    }
}

/// What was found in the folder `key`.
fn listing(key: &Key, found: ListResult, mut odd: Vec<Odd>) -> Listing {
    // The mark of a folder, as some tools put it, is the folder's own key; with something in it, it
    // is somebody's object, whose name can't be asked for.
    let mark = found.objects.iter().find(|object| object.location == *key);
    if let Some(bytes) = mark.map(|mark| mark.size).filter(|&bytes| bytes > 0) {
        let reason =
            format!("an object of {bytes} bytes is called by this name with a / behind it");
        odd.push(Odd { name: String::new(), reason });
    }
    let named = |key: &Key| key.filename().map(|name| name.to_string().into());
    let files = found.objects.iter().filter_map(|object| {
        let facts = Some(facts_of(object));
        let name = named(&object.location).filter(|_| object.location != *key);
        Some(Entry { name: name?, facts })
    });
    let folders = found.common_prefixes.iter();
    let folders =
        folders.filter_map(|key| Some(Entry { name: named(key)?, facts: Some(Facts::folder()) }));
    let mut entries: Vec<Entry> = files.chain(folders).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Listing { entries, odd }
}

/// Asks again where an answer ended in its midst, which the store's client takes for the end of it all.
/// What it has asked for again itself takes longer than anybody is patient.
async fn asked<T, F>(down: Arc<Down>, mut ask: impl FnMut() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let answers = || down.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((since, outage)) = &answers().outage
        && since.elapsed() < DOWN_FOR
    {
        return Err(outage::error(ErrorKind::Other, outage.clone()));
    }
    let started = Instant::now();
    for repeats in 0.. {
        let answer = ask().await;
        let Some(error) = answer.as_ref().err().filter(|e| outage::of(e).is_some()) else {
            answers().any = true;
            return answer;
        };
        let (kind, mut outage) = (error.kind(), outage::of(error).unwrap_or_default());
        if kind == ErrorKind::PermissionDenied {
            return answer;
        }
        outage.passes |= answers().any;
        if started.elapsed() >= runtime::patience() {
            answers().outage = Some((Instant::now(), outage.clone()));
            return Err(outage::error(kind, outage));
        }
        runtime::pause(repeats).await;
    }
    Err(ErrorKind::TimedOut.into())
}

async fn any_below(store: &dyn ObjectStore, key: &Key) -> io::Result<bool> {
    // The first page is enough, of however many.
    match store.list(Some(key)).next().await.transpose() {
        // Something that can't be asked for is among them.
        Err(Error::InvalidPath { .. }) => Ok(true),
        first => Ok(first.map_err(told)?.is_some()),
    }
}

/// Puts an object unless one is there. An answer that was lost is asked for again, and may then say
/// that there is one: ours.
async fn create(store: &dyn ObjectStore, key: &Key, bytes: Bytes) -> io::Result<()> {
    let started = Instant::now();
    for repeats in 0.. {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from(bytes.clone());
        let error = match store.put_opts(key, payload, options).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        // Two at the same instant: nobody may have won yet.
        let nobody = matches!(error, Error::AlreadyExists { .. })
            && matches!(store.head(key).await, Err(Error::NotFound { .. }));
        if !nobody || started.elapsed() > runtime::patience() {
            return Err(told(error));
        }
        runtime::pause(repeats).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it is asked until the answers `kinds` of outages have come, and what comes of it.
    fn asked_of(kinds: &'static [ErrorKind]) -> (usize, io::Result<()>) {
        let mut count = 0;
        let done = runtime::answered(async move {
            let ended = asked(Arc::default(), || {
                let failed = kinds.get(count).copied();
                count += 1;
                async move {
                    match failed {
                        Some(kind) => Err(outage::error(kind, Outage::default())),
                        None => Ok(()),
                    }
                }
            });
            let ended = ended.await;
            Ok((count, ended))
        });
        done.unwrap()
    }

    #[test]
    fn an_answer_that_ends_in_its_midst_is_asked_for_again() {
        let (count, ended) = asked_of(&[ErrorKind::Other, ErrorKind::Other]);
        assert_eq!((count, ended.is_ok()), (3, true));
        let (count, ended) = asked_of(&[ErrorKind::PermissionDenied]);
        assert_eq!((count, ended.is_ok()), (1, false), "other credentials won't come");
    }

    #[test]
    fn who_has_been_patient_once_is_told_at_once() {
        let outage = Outage { why: "down".into(), passes: false };
        let since = |at| Some((at, outage.clone()));
        let down: Arc<Down> = Arc::default();
        down.lock().unwrap().outage = since(Instant::now());
        let ask = || async { Ok(()) };
        let told = runtime::answered(asked(Arc::clone(&down), ask)).unwrap_err();
        assert_eq!(outage::of(&told), Some(outage.clone()));
        down.lock().unwrap().outage = since(Instant::now() - 2 * DOWN_FOR);
        assert!(runtime::answered(asked(Arc::clone(&down), ask)).is_ok());
        assert!(down.lock().unwrap().any, "an outage passes from now on");
    }

    #[test]
    fn names_that_no_store_has_are_refused() {
        let of = |address: &str| key(Path::new(address)).map(|key| key.to_string());
        assert_eq!(of("s3://b/x/y z%41.jpg").unwrap(), "x/y z%41.jpg");
        assert_eq!(of("s3://b/").unwrap(), "");
        for address in ["s3://b/x//y", "s3://b/../y", "s3://b/./y"] {
            assert!(of(address).unwrap_err().to_string().contains("rename it"), "{address}");
        }
    }
}
