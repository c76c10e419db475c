//! Owns finding, by presence and size alone, that a finished output has lost files that it is summed up
//! from, or in. Must not know: how they come back.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::dataset::{DatasetSummary, FileSummary, ShardSummary};
use super::files::{Sidecar, within};
use super::plan::Plan;
use crate::error::{Error, FOLDER_IN_THE_WAY, Result};
use crate::storage;

/// Whether what an output is summed up in lies there: `codebook.parquet`, and the parts of a large one.
///
/// # Errors
/// What can't be looked at.
pub(super) fn has_sums(dir: &Path, summary: &DatasetSummary) -> Result<bool> {
    let parts = summary.parts.iter().flat_map(|part| [&part.shards, &part.codebook]);
    for file in parts.chain([&summary.codebook.file]) {
        if !is_there(dir, file)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_there(dir: &Path, file: &FileSummary) -> Result<bool> {
    let path = dir.join(&file.path);
    Ok(bytes_at(&path)? == Some(file.bytes))
}

/// The length of a file; None where there is none.
fn bytes_at(path: &Path) -> Result<Option<u64>> {
    match storage::facts(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
        Ok(facts) if facts.is_folder => Err(Error::corrupt(path, FOLDER_IN_THE_WAY)),
        Ok(facts) => Ok(Some(facts.bytes)),
    }
}

/// Refuses a plan that has lost one of the files that it names.
///
/// # Errors
/// [`Error::Corrupt`] naming that; what can't be looked at.
pub(super) fn refuse_lost_rows(plan: &Plan) -> Result<()> {
    for file in plan.files() {
        let number = file.base().number;
        for (piece, named) in file.named().iter().enumerate() {
            let path = plan.dir().join(named.path(number, piece));
            let Some(bytes) = bytes_at(&path)? else {
                return Err(Error::damaged(path, "it is missing"));
            };
            if bytes != named.bytes {
                let what = format!("it has {bytes} bytes, where its plan says {}", named.bytes);
                return Err(Error::damaged(path, what));
            }
        }
    }
    Ok(())
}

/// Refuses an output that has lost a file beside a shard. A folder is listed once, whatever it holds.
///
/// # Errors
/// [`Error::Corrupt`] naming the first such file; a folder that can't be listed.
pub(super) fn refuse_lost(plan: &Plan, summary: &DatasetSummary) -> Result<()> {
    let mut listed = Listed { below: None, sizes: BTreeMap::new() };
    // Who sums up a part anew that can't be read looks at its files.
    for shard in summary.all_shards(plan.dir()).filter_map(Result::ok) {
        listed.look(plan, &shard)?;
    }
    Ok(())
}

/// The files of one folder of each kind.
struct Listed {
    below: Option<String>,
    /// By kind and name, with their lengths where listing gave these.
    sizes: BTreeMap<(&'static str, String), Option<u64>>,
}

impl Listed {
    fn look(&mut self, plan: &Plan, shard: &ShardSummary) -> Result<()> {
        let (dir, partition) = (plan.dir(), shard.partition as usize);
        let below = plan.folders_of(partition).below(partition);
        if self.below.as_ref() != Some(&below) {
            self.sizes.clear();
            for kind in Sidecar::ALL {
                let folder = within(&dir.join(kind.folder()), &below);
                let entries = match storage::list(&folder) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
                    entries => entries.map_err(Error::io(&folder))?,
                };
                for entry in entries {
                    let name = entry.name.to_string_lossy().into_owned();
                    let bytes = entry.facts.map(|facts| facts.bytes);
                    self.sizes.insert((kind.folder(), name), bytes);
                }
            }
            self.below = Some(below);
        }
        for kind in Sidecar::ALL {
            let file = shard.sidecar(kind);
            let path = dir.join(&file.path);
            let name = file.path.rsplit('/').next().unwrap_or_default().to_string();
            let Some(listed) = self.sizes.get(&(kind.folder(), name)) else {
                return Err(Error::damaged(path, "it is missing"));
            };
            let bytes = match listed {
                Some(bytes) => *bytes,
                None => storage::facts(&path).map_err(Error::io(&path))?.bytes,
            };
            if bytes != file.bytes {
                let what = format!("it has {bytes} bytes, where dataset.json has {}", file.bytes);
                return Err(Error::damaged(path, what));
            }
        }
        Ok(())
    }
}
