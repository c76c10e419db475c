//! Owns which symbolic links a walk follows. Must not know: what they lead to.
//!
//! One that leads outside every input is followed, to a file or a folder. One that leads to
//! something inside an input is skipped, since that is read at its own place and nothing may be
//! tokenized twice; it is followed where its own place is a hidden one (stores that keep every file
//! once, with links to them). A link to a folder that holds an input, or to a folder that another
//! link led to already, would never end or read twice and is skipped too.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::data::source::hidden;

/// The places that matter to links.
#[derive(Debug)]
pub(super) struct Links {
    /// Every input, links resolved.
    roots: BTreeSet<PathBuf>,
    /// Every folder outside the inputs that a link led to, links resolved.
    followed: BTreeSet<PathBuf>,
}

/// Whether a link is followed.
pub(super) enum Follow {
    Yes,
    /// No: what it leads to is read at its own place.
    Inside,
    /// No: that would never end, or read twice.
    Loop,
}

impl Links {
    pub(super) fn new(roots: BTreeSet<PathBuf>) -> Links {
        Links { roots, followed: BTreeSet::new() }
    }

    /// Every input, links resolved.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(PathBuf::as_path)
    }

    /// Whether a link to `real`, links resolved, is followed. `hidden`: hidden places are walked too.
    pub(super) fn follow(&mut self, real: &Path, is_folder: bool, hidden: bool) -> Follow {
        if let Some(root) = real.ancestors().find(|place| self.roots.contains(*place)) {
            let below = real.strip_prefix(root).unwrap_or(real);
            if hidden || !below.iter().any(|part| hidden::whose(part.as_bytes()).is_some()) {
                return Follow::Inside;
            }
        }
        let seen = real.ancestors().any(|place| self.followed.contains(place));
        let holds = |places: &BTreeSet<PathBuf>| {
            let behind = (Bound::Included(real), Bound::Unbounded);
            places.range::<Path, _>(behind).next().is_some_and(|place| place.starts_with(real))
        };
        if seen || is_folder && (holds(&self.roots) || holds(&self.followed)) {
            return Follow::Loop;
        }
        if is_folder {
            self.followed.insert(real.to_path_buf());
        }
        Follow::Yes
    }
}
