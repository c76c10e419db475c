//! Owns how what belongs to a plan is laid out in files and folders: by its size where it is new, as its
//! shards are found to lie where it was lost, or says otherwise. Must not know: what is in them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::dataset::{self, DatasetSummary};
use super::files::{
    ShardFolders, Sidecar, TOKENS_FOLDER, all_shards, each_shard, folders_below, shards_in,
};
use super::plan::{self, Base, Plan, PlanFile};
use super::{commit, displaced, untrusted};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::hex::hex;
use crate::util::scale::Scale;
use crate::util::text;

/// The entry of a shard that names its plan.
const PLAN_DIGEST: &str = "vqtok.plan_sha256";

/// How the files of a plan that is about to be written lie, and its shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrangement {
    /// Partitions of a file of the plan at most.
    pub(super) together: usize,
    /// How its shards lie, where that is settled: else as many partitions as there are.
    folders: Option<ShardFolders>,
}

impl Arrangement {
    /// One file and one folder each, as outputs were before there was a limit.
    pub(super) const ONE: Arrangement =
        Arrangement { together: usize::MAX, folders: Some(ShardFolders::FLAT) };

    /// What outputs are begun with.
    pub(super) fn usual() -> Arrangement {
        Arrangement { together: Scale::current().together, folders: None }
    }

    /// That of a plan upon `base`, whose partitions end before `end` where that is known. Where it was lost
    /// and shards of it are there, it is as these lie, whatever the limits are now.
    ///
    /// # Errors
    /// Shards that can't be of one plan; a folder that can't be listed.
    pub(super) fn of(dir: &Path, base: &Base, end: Option<usize>) -> Result<Arrangement> {
        let all = Arrangement::all_of(dir, base, end)?;
        Ok(all.first().copied().unwrap_or_else(Arrangement::usual))
    }

    /// Those that it may have, the likeliest first.
    ///
    /// # Errors
    /// As for [`Arrangement::of`].
    pub(super) fn all_of(dir: &Path, base: &Base, end: Option<usize>) -> Result<Vec<Arrangement>> {
        let found = Found::of(dir, base.partition..end.unwrap_or(usize::MAX))?;
        match (&found.flat, &found.deep) {
            (None, None) => return Ok(vec![Arrangement::usual()]),
            // Earlier versions put any number of them into one folder.
            (Some(_), None) => return Ok(vec![Arrangement::ONE]),
            (None, Some(_)) if found.least <= found.most => {}
            (flat, deep) => return Err(mixed(dir, flat.as_deref(), deep.as_deref())),
        }
        let of = found.deep.as_ref().and_then(|path| untrusted::entry_of(path, PLAN_DIGEST).ok());
        let known = |summary: &DatasetSummary| {
            summary.plan_of(base.number).map(|(digest, _)| digest) == of.as_deref()
        };
        // That of another output says nothing of this one's.
        let summary = dataset::read(dir).ok().flatten().filter(known);
        let recorded = summary.and_then(|summary| match base.number.checked_sub(1) {
            None => summary.plan.shards_a_folder,
            Some(number) => summary.appended.get(number)?.shards_a_folder,
        });
        let recorded = recorded.and_then(|size| usize::try_from(size).ok());
        let Scale { together, a_folder } = Scale::current();
        let sizes = [recorded, Some(a_folder), Some(Scale::USUAL.a_folder), Some(found.most)];
        let fitting = sizes.into_iter().flatten().find(|size| found.has_size(*size));
        let size = fitting.unwrap_or(found.least);
        let partitions = end.and_then(|end| end.checked_sub(base.partition));
        let root = PlanFile::open(&dir.join(base.name()), base.number).ok();
        let first = root.and_then(|root| Some(root.named().first()?.partitions));
        let parts = plan::parts(dir, base.number)?;
        let of_parts = parts.iter().flat_map(|part| part.cuts(partitions));
        let mut cuts: Vec<usize> = first.into_iter().chain(of_parts).collect();
        if cuts.is_empty() {
            cuts = vec![together, Scale::USUAL.together];
        }
        let mut seen = BTreeSet::new();
        cuts.retain(|&cut| seen.insert(cut));
        let of_cut = |together| Arrangement { together, folders: Some(ShardFolders::of(size)) };
        Ok(cuts.into_iter().map(of_cut).collect())
    }

    /// How the shards of an output lie that has so many partitions with this plan.
    pub(super) fn folders(self, partitions: usize) -> ShardFolders {
        let Scale { together, a_folder } = Scale::current();
        self.folders.unwrap_or(match partitions > together {
            true => ShardFolders::of(a_folder),
            false => ShardFolders::FLAT,
        })
    }
}

/// Refuses plans by which the shards that are there would not be, and be made again beside them.
///
/// # Errors
/// [`Error::Corrupt`] naming the plan; a folder that can't be listed.
pub(crate) fn must_lie_as_planned(plan: &Plan) -> Result<()> {
    let dir = plan.dir();
    if !is_doubtful(plan)? {
        return Ok(());
    }
    for file in plan.files() {
        let found = Found::of(dir, file.numbers())?;
        if let Some(example) = found.contradicts(file.folders()) {
            if were_moved(plan, file)? {
                displaced::refuse(plan, |partition| plan.has(partition))?;
            }
            let example = example.strip_prefix(dir).unwrap_or(example);
            return Err(Error::corrupt(
                dir.join(file.base().name()),
                format!(
                    "by it shards lie in {}, but they lie otherwise ({}): it was made anew or is \
                     another output's; `vqtok repair` rebuilds it, or restore it",
                    in_words(file.folders()),
                    text::path(example)
                ),
            ));
        }
    }
    Ok(())
}

/// Whether shards that lie otherwise than a plan has them were moved, rather than the plan exchanged:
/// `dataset.json` knows the plan, or what lies beside the shards lies as planned.
fn were_moved(plan: &Plan, file: &PlanFile) -> Result<bool> {
    let dir = plan.dir();
    let root = dir.join(file.base().name());
    let summary = dataset::read(dir).ok().flatten();
    let recorded = summary.as_ref().and_then(|summary| summary.plan_of(file.base().number));
    if let Some((_, recorded)) = recorded
        && hex(commit::digest_file(&root)?.0) == recorded.sha256
    {
        return Ok(true);
    }
    let mut elsewhere = None;
    each_shard(dir, |partition, path| {
        if file.numbers().contains(&partition) && plan.shard_path(partition) != path {
            elsewhere.get_or_insert((partition, path));
        }
    })?;
    let Some((partition, path)) = elsewhere else { return Ok(false) };
    let sha256 = hex(commit::digest_file(&path)?.0);
    let beside = Sidecar::ALL.map(|kind| plan.sidecar_path(kind, partition, &sha256));
    Ok(beside.iter().any(|path| storage::exists(path).unwrap_or(false)))
}

/// Whether some shard lies elsewhere than planned, as far as the fullest look at one folder tells.
fn is_doubtful(plan: &Plan) -> Result<bool> {
    let tokens = plan.dir().join(TOKENS_FOLDER);
    let elsewhere = |shards: Vec<(usize, PathBuf)>| {
        let mut ours = shards.into_iter().filter(|(number, _)| *number < plan.partitions());
        ours.any(|(number, path)| plan.shard_path(number) != path)
    };
    if elsewhere(shards_in(&tokens)?) {
        return Ok(true);
    }
    // The further behind a folder is, the more it says of their size.
    let mut below = folders_below(&tokens)?;
    below.sort();
    for folder in below.iter().rev() {
        let shards = shards_in(&tokens.join(folder))?;
        if !shards.is_empty() {
            return Ok(elsewhere(shards));
        }
    }
    Ok(false)
}

/// What the places of some shards say of how they lie.
struct Found {
    /// One that lies in the one folder of all.
    flat: Option<PathBuf>,
    /// One that lies in a folder below.
    deep: Option<PathBuf>,
    /// Partitions of a folder at least, and at most, by which all lie where they do.
    least: usize,
    most: usize,
}

impl Found {
    /// Of the shards of some partitions.
    fn of(dir: &Path, partitions: Range<usize>) -> Result<Found> {
        let mut found = Found { flat: None, deep: None, least: 1, most: usize::MAX };
        for (partition, path) in all_shards(dir)? {
            if partitions.contains(&partition) {
                found.take(partition, path);
            }
        }
        Ok(found)
    }

    fn take(&mut self, partition: usize, path: PathBuf) {
        let above = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let Some(folder) = above.and_then(|name| name.parse::<usize>().ok()) else {
            self.flat.get_or_insert(path);
            return;
        };
        self.least = self.least.max(partition / folder.saturating_add(1) + 1);
        self.most = self.most.min(partition.checked_div(folder).unwrap_or(usize::MAX));
        self.deep.get_or_insert(path);
    }

    fn has_size(&self, size: usize) -> bool {
        (self.least..=self.most).contains(&size)
    }

    /// A shard that shows that they lie otherwise than so, all of them in one way.
    fn contradicts(&self, folders: ShardFolders) -> Option<&Path> {
        match (&self.flat, &self.deep, folders.size()) {
            (None, Some(deep), None) if self.least <= self.most => Some(deep),
            (Some(flat), None, Some(_)) => Some(flat),
            (None, Some(deep), Some(size)) if self.least <= self.most && !self.has_size(size) => {
                Some(deep)
            }
            _ => None,
        }
    }
}

/// `tokens`, or what folders below it.
fn in_words(folders: ShardFolders) -> String {
    match folders.size() {
        None => format!("{TOKENS_FOLDER}/ itself"),
        Some(size) => format!("folders of {size} below {TOKENS_FOLDER}/"),
    }
}

fn mixed(dir: &Path, flat: Option<&Path>, deep: Option<&Path>) -> Error {
    let below = |path: &Path| text::path(path.strip_prefix(dir).unwrap_or(path));
    let reason = match (flat, deep) {
        (Some(flat), Some(deep)) => {
            format!(
                "there are shards in it ({}) and in folders below ({})",
                below(flat),
                below(deep)
            )
        }
        _ => "the shards in the folders below it don't lie in folders of one size".to_string(),
    };
    let advice = "no plan has both: move away those that aren't this output's, and run again";
    Error::corrupt(dir.join(TOKENS_FOLDER), format!("{reason}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shards: &[(usize, &str)]) -> Found {
        let mut found = Found { flat: None, deep: None, least: 1, most: usize::MAX };
        for (partition, folder) in shards {
            found.take(*partition, Path::new("out/tokens").join(folder).join("part"));
        }
        found
    }

    #[test]
    fn places_of_shards_give_the_size_of_their_folders() {
        for (shards, sizes) in [
            (&[(0, "00000"), (7, "00000")][..], (8, usize::MAX)),
            (&[(0, "00000"), (2, "00001")], (2, 2)),
            (&[(7, "00002"), (10, "00003")], (3, 3)),
            (&[(1, "00000"), (5, "00002")], (2, 2)),
        ] {
            let found = found(shards);
            assert_eq!((found.least, found.most), sizes, "{shards:?}");
            assert!(found.contradicts(ShardFolders::FLAT).is_some());
            assert!(found.contradicts(ShardFolders::of(sizes.0)).is_none());
            assert!(found.contradicts(ShardFolders::of(sizes.0 - 1)).is_some());
        }
        assert!(found(&[(5, "")]).contradicts(ShardFolders::of(2)).is_some());
        assert!(found(&[(5, "")]).contradicts(ShardFolders::FLAT).is_none());
    }

    #[test]
    fn what_lies_in_two_ways_contradicts_no_plan() {
        for shards in [&[(0, ""), (1, "00000")][..], &[(1, "00001"), (4, "00001")]] {
            let found = found(shards);
            let plans = [ShardFolders::FLAT, ShardFolders::of(1), ShardFolders::of(2)];
            assert!(plans.iter().all(|plan| found.contradicts(*plan).is_none()), "{shards:?}");
        }
    }
}
