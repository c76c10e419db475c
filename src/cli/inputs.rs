//! Owns the INPUTs of a command: what is taken of them, and that no output becomes one.
//! Must not know: what a command does with the images.

use super::flags;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::progress::Reporter;
use crate::data::{ImageWalk, Skipped, Take, walk_taking};
use crate::error::{Error, Result};
use crate::tokens::PLAN_FILE;
use crate::util::text;
use serde_json::json;
use std::collections::BTreeMap;

/// The inputs, at least one.
#[derive(Debug, Clone, clap::Args)]
pub struct Inputs {
    /// Folders (searched recursively, in sorted order) or image files
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Take hidden and system files and folders too (.*, @eaDir, __MACOSX, lost+found, ...), which
    /// are passed over otherwise
    #[arg(long)]
    pub hidden: bool,
}

impl Inputs {
    /// Of these places.
    pub fn new(inputs: Vec<PathBuf>) -> Inputs {
        Inputs { inputs, hidden: false }
    }

    /// What is taken of them.
    pub fn take(&self) -> Take {
        Take { hidden: self.hidden, own: false }
    }

    /// The images under them, in order.
    ///
    /// # Errors
    /// Those of [`walk_taking`].
    pub fn walk(&self) -> Result<ImageWalk> {
        walk_taking(&self.inputs, self.take())
    }

    /// Their names for a message: the first few where there are many.
    pub fn names(&self) -> String {
        const NAMES_MAX: usize = 3;
        let names: Vec<_> = self.inputs.iter().take(NAMES_MAX).map(text::path).collect();
        match self.inputs.len().checked_sub(NAMES_MAX) {
            Some(more @ 1..) => format!("{} and {more} more", names.join(", ")),
            _ => names.join(", "),
        }
    }

    /// Refuses an output folder that is an INPUT, or that an INPUT lies in. One inside an INPUT is
    /// harmless: nothing of it is ever an image, and it is passed over.
    ///
    /// # Errors
    /// That, and those of [`walk_taking`].
    pub fn check_folder(&self, out: &Path) -> Result<()> {
        let place = resolved(out);
        let identity = |path: &Path| path.metadata().ok().map(|m| (m.dev(), m.ino()));
        let known = identity(&place);
        let outer = !out.join(PLAN_FILE).exists();
        for root in self.walk()?.roots() {
            // The same folder may be mounted in two places.
            if root == place || known.is_some() && known == identity(root) {
                return Err(Error::invalid(format!(
                    "--out {}: that is the INPUT; give a folder of its own",
                    text::path(out)
                )));
            }
            if outer && root.starts_with(&place) {
                return Err(Error::invalid(format!(
                    "--out {}: the INPUT {} lies in it; give a folder of its own",
                    text::path(out),
                    text::path(root)
                )));
            }
        }
        Ok(())
    }

    /// Refuses a picture as output that would be an image of the next run.
    ///
    /// # Errors
    /// That, and those of [`walk_taking`].
    pub fn check_picture(&self, out: &Path) -> Result<()> {
        let place = resolved(out);
        match self.walk()?.roots().find(|root| place.starts_with(root)) {
            Some(root) if root == place => Err(Error::invalid(format!(
                "--out {}: that is the INPUT; give another name",
                text::path(out)
            ))),
            Some(root) => Err(Error::invalid(format!(
                "--out {}: in the INPUT {} it would be an image of the next run; give a place \
                 outside of it",
                text::path(out),
                text::path(root)
            ))),
            None => Ok(()),
        }
    }
}

/// Says what was passed over, where something was.
pub fn say_skipped(skipped: &Skipped, reporter: &Reporter) {
    if skipped.total() > 0 {
        reporter.say("skipped", &flags::remark(&skipped.message()), in_fields(skipped));
    }
}

/// The same for machines.
pub fn in_fields(skipped: &Skipped) -> serde_json::Value {
    json!({"skipped": skipped.total(),
           "skipped_by_reason": skipped.reasons().into_iter().collect::<BTreeMap<_, _>>(),
           "unreadable": skipped.unreadable})
}

/// A path with links resolved, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let real = full.ancestors().find_map(|place| {
        let rest = full.strip_prefix(place).ok()?;
        Some(place.canonicalize().ok()?.join(rest))
    });
    real.unwrap_or(full)
}
