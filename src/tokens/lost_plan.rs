//! Owns what there is to say of a plan that doesn't come back. Must not know: how one does.

use std::path::{Path, PathBuf};

use super::commit;
use super::plan::{self, PlanFile};
use crate::error::Error;
use crate::storage;
use crate::util::hex::hex;
use crate::util::settings::APPEND;

/// What there is to say of a plan that doesn't come back; where its root is there, of the file that isn't
/// as that names it.
pub(super) fn lost(plan: &Path, reason: &str) -> Error {
    let number = plan::number_of(plan).unwrap_or(0);
    let later = storage::exists(&plan.with_file_name(plan::name(number + 1))).unwrap_or(false);
    let part = part_lost(plan, number);
    let root = part.as_ref().map_or("it".to_string(), |_| plan::name(number));
    let there = storage::facts(plan).is_ok();
    let remove =
        if there { format!("remove {root}, and the shards") } else { "remove the shards".into() };
    let advice = match number {
        0 => format!(
            "restore it, or {remove} that are damaged with it, and run the same \
             `vqtok tokenize` again, which plans the same images and keeps the shards that are whole; \
             images that came since must be out of the way until then: {APPEND} adds them"
        ),
        _ if later => {
            "restore it from a copy, since later plans stand upon it; the rows of its shards \
                       can be read without it"
                .to_string()
        }
        _ => format!(
            "restore it, or {remove} that are damaged with it, and give the INPUTs \
             that it was made of again with {APPEND}, which keeps the shards that are whole"
        ),
    };
    match part {
        None => Error::corrupt(plan, format!("it can't be rebuilt: {reason}; {advice}")),
        Some((part, what)) => {
            Error::corrupt(part, format!("it {what}, and can't be rebuilt: {reason}; {advice}"))
        }
    }
}

/// A file that the root of a plan names and that isn't there, or is another one, with what it is.
pub(super) fn part_lost(plan: &Path, number: usize) -> Option<(PathBuf, &'static str)> {
    let file = PlanFile::open(plan, number).ok()?;
    let dir = plan.parent().unwrap_or(plan);
    file.named().iter().enumerate().find_map(|(piece, named)| {
        let path = dir.join(named.path(number, piece));
        let found = commit::digest_file(&path).ok();
        let problem = match found {
            None => "is missing",
            Some((sha256, _)) if hex(sha256) != named.sha256 => "is damaged",
            Some(_) => return None,
        };
        Some((path, problem))
    })
}
