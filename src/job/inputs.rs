//! Owns the inputs of a job: what is taken of them, and that no output becomes one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::places::resolved;
use crate::data::source::container::fields::Fields;
use crate::data::source::labels::{LabelLayout, may_hold_splits};
use crate::data::source::patterns;
use crate::data::source::stream::{self, SourceStream};
use crate::data::{ImageWalk, Take, walk_taking};
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::PLAN_FILE;
use crate::util::settings::OUT;
use crate::util::text;

/// Folders (searched recursively, in sorted order) and image files.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub(crate) paths: Vec<PathBuf>,
    /// Take hidden and system files and folders too.
    pub(crate) hidden: bool,
    /// What to take of containers and lists.
    pub(crate) fields: Fields,
}

impl Inputs {
    /// Of these places.
    pub(crate) fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Inputs {
        let paths = paths.into_iter().flat_map(|path| patterns::expanded(path.into())).collect();
        Inputs { paths, hidden: false, fields: Fields::default() }
    }

    /// What to take of containers and lists, hidden members or not.
    pub(super) fn all_fields(&self) -> Fields {
        Fields { hidden: self.hidden, ..self.fields.clone() }
    }

    /// What is taken of them.
    pub(crate) fn take(&self) -> Take {
        Take { hidden: self.hidden, ..Take::default() }
    }

    /// What is taken of containers, in a word that is the same where that is.
    pub(crate) fn taken(&self) -> String {
        let Fields { image, key, label, caption, pass, hidden: _ } = &self.fields;
        serde_json::json!({
            "image_column": image, "key_column": key, "label_column": label,
            "caption_column": caption, "pass": pass, "hidden": self.hidden,
        })
        .to_string()
    }

    /// The images of them, in order, those in containers and lists among them. `facts`: also what
    /// stands beside files.
    ///
    /// # Errors
    /// Those of [`walk_taking`].
    pub(crate) fn images(&self, take: Take, facts: bool) -> Result<SourceStream> {
        stream::images(&self.paths, take, facts, &self.fields)
    }

    /// What the first folders of their images look like.
    pub(crate) fn label_layout(&self) -> LabelLayout {
        let layout = LabelLayout::of(self.paths.iter().map(|path| path.as_path()), self.take());
        if layout != LabelLayout::default() || !self.paths.iter().any(|p| may_hold_splits(p)) {
            return layout;
        }
        // Whoever lists them hears of what is wrong with them.
        self.images(self.take(), false).map(LabelLayout::within).unwrap_or_default()
    }

    /// The files under them, in order.
    ///
    /// # Errors
    /// Those of [`walk_taking`].
    pub(crate) fn walk(&self) -> Result<ImageWalk> {
        walk_taking(&self.paths, self.take())
    }

    /// Their names for a message: the first few where there are many.
    pub(crate) fn names(&self) -> String {
        const NAMES_MAX: usize = 3;
        let names: Vec<_> = self.paths.iter().take(NAMES_MAX).map(text::path).collect();
        match self.paths.len().checked_sub(NAMES_MAX) {
            Some(more @ 1..) => format!("{} and {more} more", names.join(", ")),
            _ => names.join(", "),
        }
    }

    /// Refuses an output folder that is an INPUT, or that an INPUT lies in. One inside an INPUT is
    /// harmless: nothing of it is ever an image, and it is passed over.
    ///
    /// # Errors
    /// That, and those of [`walk_taking`].
    pub(crate) fn check_folder(&self, out: &Path) -> Result<()> {
        if storage::is_remote(out) {
            return self.check_remote(out);
        }
        let place = whole(out);
        let identity = |path: &Path| path.metadata().ok().map(|m| (m.dev(), m.ino()));
        let known = identity(&place);
        let outer = !out.join(PLAN_FILE).exists(); // A local folder's.
        for root in self.walk()?.roots() {
            // The same folder may be mounted in two places.
            if root == place || known.is_some() && known == identity(root) {
                return Err(Error::setting(
                    OUT,
                    format!("{}: that is the INPUT; give a folder of its own", text::path(out)),
                ));
            }
            if outer && root.starts_with(&place) {
                return Err(Error::setting(
                    OUT,
                    format!(
                        "{}: the INPUT {} lies in it; give a folder of its own",
                        text::path(out),
                        text::path(root)
                    ),
                ));
            }
        }
        Ok(())
    }

    fn check_remote(&self, out: &Path) -> Result<()> {
        let text = match self.paths.iter().find(|input| storage::same_or_below(input, out)) {
            None => return Ok(()),
            Some(input) if storage::same_or_below(out, input) => {
                format!("{}: that is the INPUT; give a folder of its own", text::path(out))
            }
            Some(input) => format!(
                "{}: the INPUT {} lies in it; give a folder of its own",
                text::path(out),
                text::path(input)
            ),
        };
        Err(Error::setting(OUT, text))
    }

    /// Refuses a picture as output that would be an image of the next run.
    ///
    /// # Errors
    /// That, and those of [`walk_taking`].
    pub(crate) fn check_picture(&self, out: &Path) -> Result<()> {
        let place = whole(out);
        match self.walk()?.roots().find(|root| place.starts_with(root)) {
            Some(root) if root == place => Err(Error::setting(
                OUT,
                format!("{}: that is the INPUT; give another name", text::path(out)),
            )),
            Some(root) => Err(Error::setting(
                OUT,
                format!(
                    "{}: in the INPUT {} it would be an image of the next run; give a place \
                 outside of it",
                    text::path(out),
                    text::path(root)
                ),
            )),
            None => Ok(()),
        }
    }
}

/// A path with links resolved, as far as it exists.
fn whole(path: &Path) -> PathBuf {
    resolved(path).unwrap_or_else(|| path.to_path_buf())
}
