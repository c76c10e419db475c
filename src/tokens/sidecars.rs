//! Owns bringing back the files beside a shard that is whole, from what lies in the output: they may have
//! been moved, and failures where there are none are known. Must not know: how shards are made.

use std::path::{Path, PathBuf};

use parquet::file::metadata::KeyValue;

use super::files::{Sidecar, TOKENS_FOLDER, folders_below};
use super::identity::Identity;
use super::{columns, commit, untrusted};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::hex::{hex, sha256_hex};
use crate::util::regular_file::ANY_SIZE;

/// Where the content of a file beside a shard comes from.
enum Source {
    /// It lies at its place.
    There,
    /// It lies elsewhere.
    Moved(PathBuf),
    /// It follows from the shard.
    Known(Vec<u8>),
}

/// Whether the files beside a whole shard are there, or [`restore`] brings them back.
///
/// # Errors
/// A shard or a folder that can't be read.
pub(crate) fn come_back(dir: &Path, partition: usize, shard: &Path) -> Result<bool> {
    let sources = sources(dir, partition, shard)?;
    Ok(sources.iter().all(|(_, source)| source.is_some()))
}

/// Puts what can be had of the files beside a whole shard in their places, byte for byte as they were;
/// one that lay elsewhere is removed there.
///
/// # Errors
/// Those of [`come_back`]; what the system refuses.
pub(super) fn restore(dir: &Path, partition: usize, shard: &Path) -> Result<()> {
    for (path, source) in sources(dir, partition, shard)? {
        let bytes = match &source {
            None | Some(Source::There) => continue,
            Some(Source::Moved(from)) => &storage::read(from, ANY_SIZE).map_err(Error::io(from))?,
            Some(Source::Known(bytes)) => bytes,
        };
        commit::create_folder(path.parent().unwrap_or(&path))?;
        commit::write_sidecar(&path, bytes)?;
        if let Some(Source::Moved(from)) = &source {
            commit::remove_durably(from)?;
        }
    }
    Ok(())
}

/// Where each of the two belongs, and where it comes from.
fn sources(dir: &Path, partition: usize, shard: &Path) -> Result<[(PathBuf, Option<Source>); 2]> {
    let sha256 = hex(commit::digest_file(shard)?.0);
    let find = |kind: Sidecar| -> Result<(PathBuf, Option<Source>)> {
        let key = match kind {
            Sidecar::Failures => "vqtok.failures_sha256",
            Sidecar::Codebook => "vqtok.codebook_part_sha256",
        };
        let due = untrusted::entry_of(shard, key)?;
        let path = beside(shard, kind, partition, &sha256);
        if is(&path, &due) {
            return Ok((path, Some(Source::There)));
        }
        let source = match elsewhere(dir, kind, &path, &due)? {
            Some(from) => Some(Source::Moved(from)),
            None => known(kind, partition, shard, &due)?.map(Source::Known),
        };
        Ok((path, source))
    };
    Ok([find(Sidecar::Failures)?, find(Sidecar::Codebook)?])
}

fn is(path: &Path, sha256: &str) -> bool {
    let is_file = storage::facts(path).is_ok_and(|facts| facts.is_file);
    is_file && commit::digest_file(path).is_ok_and(|(found, _)| hex(found) == sha256)
}

/// A file of the same name and content in another folder of its kind.
fn elsewhere(dir: &Path, kind: Sidecar, place: &Path, sha256: &str) -> Result<Option<PathBuf>> {
    let folder = dir.join(kind.folder());
    let below = folders_below(&folder)?.into_iter().map(|below| folder.join(below));
    let name = place.file_name().unwrap_or_default();
    let mut paths = std::iter::once(folder.clone()).chain(below).map(|folder| folder.join(name));
    Ok(paths.find(|path| path != place && is(path, sha256)))
}

/// The content that follows from a shard: that of failures where it says that there are none.
fn known(kind: Sidecar, partition: usize, shard: &Path, due: &str) -> Result<Option<Vec<u8>>> {
    if kind != Sidecar::Failures || untrusted::entry_of(shard, "vqtok.failed")? != "0" {
        return Ok(None);
    }
    let identity = untrusted::entry_of(shard, "vqtok.identity")?;
    let Ok(identity) = serde_json::from_str::<Identity>(&identity) else { return Ok(None) };
    let bytes = columns::failures_file(shard, &[], entries(kind, &identity, partition))?;
    Ok((sha256_hex(&bytes) == due).then_some(bytes))
}

/// Metadata of a file beside the shard of a partition.
pub(super) fn entries(kind: Sidecar, identity: &Identity, partition: usize) -> Vec<KeyValue> {
    vec![
        KeyValue::new("vqtok.schema".into(), kind.schema(identity).to_string()),
        KeyValue::new("vqtok.identity_sha256".into(), identity.digest()),
        KeyValue::new("vqtok.partition".into(), partition.to_string()),
    ]
}

/// Where a file beside a shard lies, wherever that one does.
pub(super) fn beside(shard: &Path, kind: Sidecar, partition: usize, sha256: &str) -> PathBuf {
    let folder = shard.parent().unwrap_or(shard);
    let (dir, folders) = match folder.ends_with(TOKENS_FOLDER) {
        true => (folder.parent().unwrap_or(folder).join(kind.folder()), None),
        false => {
            let dir = folder.parent().and_then(Path::parent).unwrap_or(folder);
            (dir.join(kind.folder()), folder.file_name())
        }
    };
    let folder = folders.map_or(dir.clone(), |below| dir.join(below));
    folder.join(format!("part-{partition:05}-{}.parquet", &sha256[..16]))
}
