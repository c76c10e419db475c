//! Owns what is done with files by their addresses, wherever they lie.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::address::is_remote;
use super::bytes_at::{BytesAt, LocalFile, open_without_waiting};
use super::coming::Coming;
use super::facts::{Entry, Facts, Listing};
use super::long_paths::reach;
use super::stores::Store;
use crate::util::regular_file;

/// Bytes of one file that a store takes in one piece at most; S3's bound.
const PUT_BYTES_MAX: u64 = 5 << 30;

/// The store of a remote address.
///
/// # Errors
/// Settings of the environment that can't be used; a vqtok that was built without stores.
#[cfg(feature = "stores")]
fn store_of(address: &Path) -> io::Result<Arc<dyn Store>> {
    super::store::connect(address)
}

#[cfg(not(feature = "stores"))]
fn store_of(_address: &Path) -> io::Result<Arc<dyn Store>> {
    Err(io::Error::new(
        ErrorKind::Unsupported,
        "this vqtok was built without the feature `stores`, which object stores and web addresses \
         need; the README says how to build it",
    ))
}

/// What lies at an address, links followed.
///
/// # Errors
/// [`ErrorKind::NotFound`] where nothing does; as the system or the store says.
pub(crate) fn facts(path: &Path) -> io::Result<Facts> {
    match is_remote(path) {
        true => store_of(path)?.facts(path),
        false => Ok(Facts::of(&reach(path, |path| path.metadata())?)),
    }
}

/// Whether something lies at an address.
///
/// # Errors
/// Where that can't be told.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    match facts(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        // What can't be looked at isn't there for us, as `Path::exists` has it.
        Err(_) if !is_remote(path) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a regular file for reads by place.
///
/// # Errors
/// As the system or the store says; not a regular file.
pub(crate) fn open(path: &Path) -> io::Result<Arc<dyn BytesAt>> {
    match is_remote(path) {
        true => store_of(path)?.open(path),
        false => Ok(Arc::new(LocalFile::open(path)?)),
    }
}

/// The bytes of a regular file.
///
/// # Errors
/// As [`regular_file::read`]; as the store says.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    match is_remote(path) {
        true => Ok(begin(path, bytes_max).wait()?.into()),
        false => regular_file::read(path, bytes_max),
    }
}

/// The same as text.
///
/// # Errors
/// Those of [`read`]; bytes that are no UTF-8.
pub(crate) fn read_to_string(path: &Path, bytes_max: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "it is not text (UTF-8)");
    String::from_utf8(read(path, bytes_max)?).map_err(not_text)
}

/// The first bytes of a regular file: so many, or as many as there are.
///
/// # Errors
/// As [`open`].
pub(crate) fn read_head(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    if is_remote(path) {
        return arrived_head(begin_head(path, bytes));
    }
    let file = open_without_waiting(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut head = Vec::new();
    file.take(bytes).read_to_end(&mut head)?;
    Ok(head)
}

/// Asks for the first bytes of a remote file.
pub(crate) fn begin_head(path: &Path, bytes: u64) -> Coming {
    match store_of(path) {
        Ok(store) => store.begin(path, Some(0..bytes), bytes),
        Err(error) => Coming::failed(error),
    }
}

/// The first bytes that were asked for.
///
/// # Errors
/// As the store says.
pub(crate) fn arrived_head(coming: Coming) -> io::Result<Vec<u8>> {
    match coming.wait() {
        // An empty object has no first byte.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Vec::new()),
        head => Ok(head?.into()),
    }
}

/// Asks for the bytes of a remote file, unless they are more than `bytes_max`.
pub(crate) fn begin(path: &Path, bytes_max: u64) -> Coming {
    match store_of(path) {
        Ok(store) => store.begin(path, None, bytes_max),
        Err(error) => Coming::failed(error),
    }
}

/// The names in a folder, sorted by their bytes. In a store, a folder is there when something lies
/// below it.
///
/// # Errors
/// As the system or the store says.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<Entry>> {
    Ok(list_all(folder)?.entries)
}

/// The same, with what can't be asked for.
///
/// # Errors
/// Those of [`list`].
pub(crate) fn list_all(folder: &Path) -> io::Result<Listing> {
    if is_remote(folder) {
        return match store_of(folder)?.list(folder)? {
            none if none.entries.is_empty() && none.odd.is_empty() => {
                Err(io::Error::new(ErrorKind::NotFound, "nothing lies below this address"))
            }
            listing => Ok(listing),
        };
    }
    let mut entries = Vec::new();
    for entry in reach(folder, |path| fs::read_dir(path))? {
        entries.push(Entry { name: entry?.file_name(), facts: None });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Listing { entries, odd: Vec::new() })
}

/// How a conditional creation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// The object is ours.
    Ours,
    /// Something was there; it may be ours after all, where an answer was lost.
    Exists,
}

/// Puts a local file's content at a remote address, unless something is there.
///
/// # Errors
/// As the store says.
pub(crate) fn create(path: &Path, content: &Path) -> io::Result<Created> {
    match store_of(path)?.put(path, whole(content)?, true) {
        Ok(()) => Ok(Created::Ours),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Exists),
        Err(error) => Err(error),
    }
}

/// Puts a local file's content at a remote address, in place of what may be there.
///
/// # Errors
/// As the store says.
pub(crate) fn put(path: &Path, content: &Path) -> io::Result<()> {
    store_of(path)?.put(path, whole(content)?, false)
}

/// A file's bytes, which the system reads as they are sent.
fn whole(content: &Path) -> io::Result<bytes::Bytes> {
    let file = File::open(content)?;
    let bytes = file.metadata()?.len();
    if bytes > PUT_BYTES_MAX {
        let text = format!("{bytes} bytes are more than a store takes at once; use smaller shards");
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    if bytes == 0 {
        return Ok(bytes::Bytes::new());
    }
    // SAFETY: the file is a temporary one of this process, which nobody writes to any more.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(bytes::Bytes::from_owner(map))
}

/// Removes a remote file; says whether there was one.
///
/// # Errors
/// As the store says.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    let there = exists(path)?;
    if there {
        store_of(path)?.remove(path)?;
    }
    Ok(there)
}

/// What the names of objects begin with by which [`probe`] looks.
const PROBE: &str = ".vqtok-probe-";

/// How old one of them is that nobody looks by any more.
const PROBE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes what killed workers have left in a folder. It is hidden and small: what can't be removed
/// stays.
fn remove_old_probes(store: &dyn Store, folder: &Path) {
    for entry in store.list(folder).unwrap_or_default().entries {
        let written = entry.facts.filter(|facts| facts.is_file).and_then(|facts| facts.written);
        let age = written.and_then(|written| written.elapsed().ok());
        if is_probe(&entry.name) && age.is_some_and(|age| age > PROBE_AGE) {
            let _ = store.remove(&folder.join(&entry.name));
        }
    }
}

/// Whether a name is one that [`probe`] gives. Nothing else is ours to remove.
fn is_probe(name: &OsStr) -> bool {
    let all =
        |text: &str, digit: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| digit(&b));
    let rest = name.to_str().and_then(|name| name.strip_prefix(PROBE)?.split_once('-'));
    rest.is_some_and(|(process, number)| {
        all(process, u8::is_ascii_digit) && number.len() == 16 && all(number, u8::is_ascii_hexdigit)
    })
}

/// Makes sure that names are given once below a remote folder: some stores take a conditional
/// creation for a plain one, and two workers would overwrite each other.
///
/// # Errors
/// One that does; as the store says.
pub(crate) fn probe(folder: &Path) -> io::Result<()> {
    let store = store_of(folder)?;
    let name = format!("{PROBE}{}-{:016x}", std::process::id(), random()?);
    let place: PathBuf = folder.join(name);
    let content = || bytes::Bytes::from_static(b"vqtok looks whether names are given once\n");
    match store.put(&place, content(), true) {
        // A lost answer, asked again.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        created => created?,
    }
    let again = store.put(&place, content(), true);
    // What stays behind is one small object, and no reason to fail.
    let _ = store.remove(&place);
    match again {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            remove_old_probes(&*store, folder);
            Ok(())
        }
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::new(
            ErrorKind::Unsupported,
            "this store ignores If-None-Match: two workers could overwrite each other's shards \
             without a word; write to a folder and copy it, or use a store with conditional writes",
        )),
    }
}

/// A number that no other process has.
fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_probe_is_removed_as_one() {
        let is = |name: &str| is_probe(OsStr::new(name));
        assert!(is(".vqtok-probe-12-0123456789abcdef"));
        for name in [
            ".vqtok-probe-",
            ".vqtok-probe-12",
            ".vqtok-probe-12-0123456789abcde",
            ".vqtok-probe-x-0123456789abcdef",
            ".vqtok-probe-12-0123456789abcdef.png",
            "x.vqtok-probe-12-0123456789abcdef",
            "part-00000.parquet",
        ] {
            assert!(!is(name), "{name}");
        }
    }

    /// A store of names, each of them so old.
    struct Names(std::sync::Mutex<Vec<(&'static str, Duration)>>);

    impl Store for Names {
        fn facts(&self, _: &Path) -> io::Result<Facts> {
            Err(ErrorKind::Unsupported.into())
        }

        fn open(self: Arc<Self>, _: &Path) -> io::Result<Arc<dyn BytesAt>> {
            Err(ErrorKind::Unsupported.into())
        }

        fn begin(&self, _: &Path, _: Option<std::ops::Range<u64>>, _: u64) -> Coming {
            Coming::failed(ErrorKind::Unsupported.into())
        }

        fn list(&self, _: &Path) -> io::Result<Listing> {
            let entry = |&(name, age): &(&'static str, Duration)| {
                let written = Some(std::time::SystemTime::now() - age);
                let facts = Some(Facts { bytes: 1, is_folder: false, is_file: true, written });
                Entry { name: name.into(), facts }
            };
            let entries = self.0.lock().unwrap().iter().map(entry).collect();
            Ok(Listing { entries, odd: Vec::new() })
        }

        fn put(&self, _: &Path, _: bytes::Bytes, _: bool) -> io::Result<()> {
            Err(ErrorKind::Unsupported.into())
        }

        fn remove(&self, address: &Path) -> io::Result<()> {
            let gone = address.file_name().unwrap();
            self.0.lock().unwrap().retain(|(name, _)| OsStr::new(name) != gone);
            Ok(())
        }
    }

    #[test]
    fn probes_of_yesterday_go_and_those_of_today_stay() {
        const OLD: &str = ".vqtok-probe-1-0123456789abcdef";
        const NEW: &str = ".vqtok-probe-2-0123456789abcdef";
        let names = [(OLD, 2 * PROBE_AGE), (NEW, PROBE_AGE / 2), ("plan.parquet", 2 * PROBE_AGE)];
        let store = Names(std::sync::Mutex::new(names.to_vec()));
        remove_old_probes(&store, Path::new("s3://b/out"));
        let left: Vec<_> = store.0.lock().unwrap().iter().map(|(name, _)| *name).collect();
        assert_eq!(left, [NEW, "plan.parquet"]);
    }
}
