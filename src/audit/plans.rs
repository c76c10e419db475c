//! Owns the plans of an output together: which there are, which partition is of which. Must not know:
//! the writer, what is in a shard.

use std::path::Path;

use super::dataset::Dataset;
use super::facts::{FileFacts, Part, VerifyReport};
use super::folders::{self, Folders};
use super::origin;
use super::plan::{self, PlanFacts};
use super::verify::WrittenAnew;
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, FOLDER_IN_THE_WAY, NO_PLAN_OF_OURS, Result};
use crate::storage;
use crate::util::text;

/// The plans of an output that were found right, in order.
#[derive(Default)]
pub(super) struct Plans {
    pub(super) good: Vec<PlanFacts>,
    /// How many there should be.
    pub(super) count: usize,
    /// Where one is lost, how the files of partitions lie, behind the last of each.
    lie: Vec<(usize, Folders)>,
}

impl Plans {
    /// The plan that a partition is of.
    pub(super) fn of(&self, partition: usize) -> Option<&PlanFacts> {
        self.good.iter().find(|plan| plan.numbers().contains(&partition))
    }

    /// How the files of a partition lie.
    pub(super) fn folders_of(&self, partition: usize) -> Folders {
        if let Some(plan) = self.of(partition) {
            return plan.folders;
        }
        let lie = self.lie.iter().find(|(end, _)| partition < *end);
        lie.map_or_else(Folders::default, |(_, folders)| *folders)
    }

    /// Partitions that are folded together; None where all are.
    pub(super) fn together(&self) -> Option<usize> {
        let lost = self.lie.iter().map(|(_, folders)| folders);
        let folders = lost.chain(self.good.iter().map(|plan| &plan.folders));
        folders.rev().find_map(|folders| folders.size())
    }

    /// The digests of the plans that some partitions are of, which ascend.
    pub(super) fn digests_of(&self, partitions: &[usize]) -> Vec<String> {
        let mut digests: Vec<String> = Vec::new();
        for plan in partitions.iter().filter_map(|&partition| self.of(partition)) {
            if digests.last() != Some(&plan.digest) {
                digests.push(plan.digest.clone());
            }
        }
        digests
    }

    /// The first one, where it was found right.
    pub(super) fn first(&self) -> Option<&PlanFacts> {
        self.good.first()
    }

    /// Whether none is missing or damaged.
    pub(super) fn are_whole(&self) -> bool {
        self.count > 0 && self.good.len() == self.count
    }

    /// Behind the last partition of those that were found right.
    pub(super) fn partitions(&self) -> usize {
        self.good.last().map_or(0, |plan| plan.numbers().end)
    }
}

/// What there is to say of a plan that isn't there.
fn missing(dir: &Path, number: usize) -> String {
    let mut files = folders::list(dir, "plan").into_iter();
    let names = match files.any(|entry| is_of(&entry.name, number)) {
        true => ", which names files of plan/",
        false => "",
    };
    format!("{} is missing{names}", plan::name(number))
}

/// Whether a file of `plan/` has the name of one that the plan with so many before it has.
pub(super) fn is_of(name: &str, number: usize) -> bool {
    let own = name.strip_prefix(&format!("{number:05}-"));
    let rest = own.and_then(|name| name.strip_suffix(".parquet")).and_then(|n| n.split_once('-'));
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let hex = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    rest.is_some_and(|(piece, hash)| digits(piece) && hex(hash))
}

/// How many plans an output has by the names of its files: up to the last one.
pub(super) fn count(dir: &Path) -> usize {
    let entries = storage::list(dir).unwrap_or_default().into_iter();
    let number = |name: &str| -> Option<usize> {
        let number = name.strip_prefix("plan-")?.strip_suffix(".parquet")?.parse().ok()?;
        (number > 0 && plan::name(number) == name).then_some(number)
    };
    let appended = entries.filter_map(|entry| number(entry.name.to_str()?)).max();
    // A name is no proof: a million plans are not looked for.
    match appended.filter(|&number| number < 1 << 20) {
        Some(number) => number + 1,
        None => usize::from(storage::exists(&dir.join(plan::NAME)).unwrap_or(false)),
    }
}

/// Reads the plans of an output; what is missing or damaged is a finding.
///
/// # Errors
/// A folder that holds no output; a file that the system doesn't let us read.
pub(super) fn verify(
    dir: &Path,
    (dataset, written_anew): (Option<&Dataset>, &WrittenAnew),
    report: &mut VerifyReport,
) -> Result<Plans> {
    let count = count(dir).max(dataset.map_or(0, Dataset::plans)).max(1);
    let mut plans = Plans { good: Vec::new(), count, lie: Vec::new() };
    for number in 0..count {
        let path = dir.join(plan::name(number));
        if !storage::exists(&path).map_err(Error::io(&path))? {
            if count == 1 && !report.finished {
                refuse_no_output(dir)?;
            }
            let needed = number < dataset.map_or(1, Dataset::plans) || plans.good.len() < number;
            if !needed && folders::highest(dir).is_none_or(|highest| highest < plans.partitions()) {
                // Nothing was ever made of a plan behind it, so that it isn't this output's.
                plans.count = number;
                break;
            }
            report.find(part(number), missing(dir, number));
            continue;
        }
        verify_one(dir, number, (dataset, written_anew), (&mut plans, report))?;
    }
    find_behind(dir, dataset, &mut plans, report);
    if !plans.are_whole() {
        plans.lie = folders::as_they_lie(dir);
    }
    Ok(plans)
}

fn part(number: usize) -> Part {
    if number == 0 { Part::Plan } else { Part::AppendedPlan(number) }
}

/// Refuses a folder that has neither a plan nor tokens.
fn refuse_no_output(dir: &Path) -> Result<()> {
    let there = |name: &str| storage::exists(&dir.join(name)).map_err(Error::io(dir.join(name)));
    match (there("tokens")?, there("listed")?) {
        (true, _) => Ok(()),
        (false, true) => Err(Error::only_listed(dir)),
        (false, false) => Err(Error::invalid(format!("{}: no output of vqtok", text::path(dir)))),
    }
}

/// Reads a plan that is there.
fn verify_one(
    dir: &Path,
    number: usize,
    (dataset, written_anew): (Option<&Dataset>, &WrittenAnew),
    (plans, report): (&mut Plans, &mut VerifyReport),
) -> Result<()> {
    let (name, part) = (plan::name(number), part(number));
    // The one before it, unless that is bad.
    let before = plans.good.last().filter(|_| plans.good.len() == number);
    match read(dir, number, before, dataset) {
        Ok(facts) => {
            let files = [&facts.file].into_iter().chain(&facts.named);
            report.bytes += files.map(|file| file.bytes).sum::<u64>();
            let recorded = dataset.and_then(|data| data.plan_text(number, "file/sha256"));
            let problem = otherwise(recorded, &facts.file, || written_anew(dir, number));
            if let Some(problem) = problem {
                report.find(part, format!("{name}: {problem}"));
            }
            plans.good.push(facts);
        }
        Err(error @ Error::Io { .. }) => return Err(error),
        Err(_) if is_recorded_otherwise(dir, number, dataset) => {
            let text = format!(
                "{name} is another output's, or was made anew: it isn't the plan that dataset.json has"
            );
            report.find(part, text);
        }
        Err(error) => {
            let is_used = number == 0
                || number < dataset.map_or(0, Dataset::plans)
                || number + 1 < plans.count
                || plans.good.len() < number
                || folders::highest(dir).is_some_and(|last| last >= plans.partitions());
            let text = match is_used {
                true => error.to_string(),
                false => format!("{error}; {NO_PLAN_OF_OURS}"),
            };
            report.find(part, text);
        }
    }
    Ok(())
}

/// Finds what was made of a plan behind those that are there.
fn find_behind(
    dir: &Path,
    dataset: Option<&Dataset>,
    plans: &mut Plans,
    report: &mut VerifyReport,
) {
    let whole = plans.are_whole();
    let behind = whole.then(|| origin::unplanned(dir, plans)).flatten().or_else(|| {
        // Where `dataset.json` says how large it is, such files are strays.
        (whole && dataset.is_none()).then(|| origin::unplanned_beside(dir, plans)).flatten()
    });
    if let Some(shard) = behind {
        let name = plan::name(plans.count);
        let why =
            format!("{shard} was made with this output's settings and is of no plan that is there");
        report.find(part(plans.count), format!("{name} is missing: {why}"));
        plans.count += 1;
    }
}

/// What there is to say of a plan's file that isn't the one that was written, by what is `recorded`, or else
/// by what it is when written anew.
fn otherwise(
    recorded: Option<&str>,
    file: &FileFacts,
    written_anew: impl Fn() -> Option<String>,
) -> Option<&'static str> {
    match recorded {
        Some(recorded) if recorded != file.sha256 => {
            Some("its sha256 is not the one in dataset.json")
        }
        Some(_) => None,
        None => written_anew()
            .filter(|anew| *anew != file.sha256)
            .map(|_| "it isn't as it was written: it is damaged, though its rows can be read"),
    }
}

/// Whether a plan says of itself that it isn't the one that `dataset.json` has.
fn is_recorded_otherwise(dir: &Path, number: usize, dataset: Option<&Dataset>) -> bool {
    let sheet = ParquetFile::open_plain(&dir.join(plan::name(number)), Some(&[])).ok();
    let said = sheet.and_then(|sheet| sheet.entries.get("vqtok.plan_sha256").cloned());
    let recorded = dataset.and_then(|dataset| dataset.plan_text(number, "digest"));
    said.is_some_and(|said| recorded.is_some_and(|recorded| recorded != said))
}

/// Reads a plan that is there.
///
/// # Errors
/// One that is damaged, or another output's; [`Error::Io`] where the system doesn't let us read.
fn read(
    dir: &Path,
    number: usize,
    before: Option<&PlanFacts>,
    dataset: Option<&Dataset>,
) -> Result<PlanFacts> {
    let name = plan::name(number);
    let wrong = |problem: String| Err(Error::invalid(format!("{name} {problem}")));
    if storage::facts(&dir.join(&name)).is_ok_and(|facts| facts.is_folder) {
        return Err(Error::corrupt(dir.join(&name), FOLDER_IN_THE_WAY));
    }
    let facts = plan::read(dir, number, before)?;
    let known = |pointer: &str| dataset.and_then(|data| data.plan_text(number, pointer));
    if let Some(example) = folders::contradiction(dir, facts.numbers(), facts.folders)
        && !origin::were_moved(dir, &facts, known("file/sha256"))
    {
        let problem = "is of an output whose shards lie otherwise, or was made anew";
        return wrong(format!("{problem}: {example} isn't where it has it"));
    }
    match origin::other_plan(dir, &facts, known("digest")) {
        None => Ok(facts),
        Some(example) => wrong(format!(
            "is of another output than the shards, or was made anew: {example} is of another plan"
        )),
    }
}
