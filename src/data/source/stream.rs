//! Owns the stream of all images of the inputs: files as they are found, and what containers and
//! lists hold, each at its place. Must not know: what an image holds.

use std::path::PathBuf;

use super::asked::Asked;
use super::container::fields::Fields;
use super::container::listing::Listing;
use super::file_kind::FileKind;
use super::image::SourceImage;
use super::listings::{self, Held};
use super::skipped::Skipped;
use super::uri;
use super::walk::{ImageWalk, SourceFile, Take, walk_taking};
use crate::error::{Error, GO_ON, Result};
use crate::storage;
use crate::util::text;

/// The stream of [`SourceImage`], made by [`images`].
pub(crate) struct SourceStream {
    walk: ImageWalk,
    fields: Fields,
    /// The container or list that is gone through.
    open: Option<Open>,
    /// What was passed over in containers and lists.
    inside: Skipped,
    /// What is asked for beside images, and whether what stands beside files is looked at.
    asked: Asked,
    beside: bool,
    /// Gives what was listed of files before.
    before: Option<Before>,
}

/// Gives what was listed of a file before, so that it needn't be opened.
pub(crate) type Before = Box<dyn FnMut(&SourceFile) -> Option<Held> + Send>;

/// What a stream comes to.
pub(crate) enum Found {
    /// An image.
    Image(SourceImage),
    /// A container; its images follow.
    Container(SourceFile),
    /// The end of a container, and the digest of what it says of its images.
    Ended(String),
    /// A container that isn't gone into.
    Unchanged(SourceFile),
}

struct Open {
    key: String,
    listing: Box<dyn Listing>,
    /// Whether it can only be read from its beginning on.
    forward: bool,
    /// Whether keys are paths, whose folders may be labels.
    paths: bool,
}

impl Open {
    /// An image of it, with what all of them have in common.
    fn complete(&mut self, mut image: SourceImage) -> SourceImage {
        image.forward = self.forward;
        if !self.paths {
            // None in so many words: no folder of the key stands for it.
            image.facts.label.get_or_insert_default();
        }
        image
    }
}

/// Checks the inputs and starts the stream; nothing below them is touched yet. `facts`: also what
/// stands beside files.
///
/// # Errors
/// Those of [`walk_taking`].
pub(crate) fn images(
    inputs: &[PathBuf],
    take: Take,
    facts: bool,
    fields: &Fields,
) -> Result<SourceStream> {
    let fields = Fields { hidden: take.hidden, ..fields.clone() };
    let mut walk = walk_taking(inputs, take)?;
    if facts {
        walk = walk.with_facts(fields.clone());
    }
    let (asked, inside) = (Asked::of(&fields), Skipped::default());
    Ok(SourceStream { walk, fields, open: None, inside, asked, beside: facts, before: None })
}

/// What a container or list holds.
///
/// # Errors
/// One that can't be read.
pub(crate) fn open(file: &SourceFile, fields: &Fields) -> Result<Held> {
    match (file.kind, uri::to_path(&file.uri)) {
        (FileKind::Container, Some(path)) => {
            listings::of_container(&path, &file.uri, &file.key, fields)
        }
        (FileKind::List, Some(path)) => listings::of_list(&path, &file.key, fields),
        _ => Ok(Held::Nothing("it is an image".into())),
    }
}

impl SourceStream {
    /// The same stream, which asks first what was listed before.
    pub(crate) fn listed_before(self, before: Before) -> SourceStream {
        SourceStream { before: Some(before), ..self }
    }

    /// What was passed over so far; complete once the iterator has ended.
    pub(crate) fn skipped(&self) -> Skipped {
        let mut skipped = self.walk.skipped().clone();
        skipped.add(&self.inside);
        self.walk.odd_beside().iter().for_each(|what| skipped.note("", what));
        self.asked.lines().iter().for_each(|what| skipped.note("", what));
        skipped
    }

    /// What comes next. Containers that `unchanged` knows aren't opened. What a store doesn't show for
    /// now isn't planned as if it weren't there.
    pub(crate) fn find(
        &mut self,
        unchanged: &mut dyn FnMut(&SourceFile) -> bool,
    ) -> Option<Result<Found>> {
        match storage::watching(|| self.find_now(unchanged)) {
            (found, None) => found,
            (_, Some(why)) => {
                Some(Err(Error::busy(format!("while the input was listed: {why}; {GO_ON}"))))
            }
        }
    }

    fn find_now(
        &mut self,
        unchanged: &mut dyn FnMut(&SourceFile) -> bool,
    ) -> Option<Result<Found>> {
        loop {
            if let Some(open) = &mut self.open {
                match open.listing.next() {
                    Some(image) => {
                        let image = image.inspect(|i| self.asked.seen(&i.facts, open.paths));
                        return Some(image.map(|i| Found::Image(open.complete(i))));
                    }
                    None => {
                        if let Some(digest) = self.close() {
                            return Some(Ok(Found::Ended(digest)));
                        }
                    }
                }
            }
            let entered = match self.walk.next()? {
                Ok(file) if file.kind == FileKind::Container && unchanged(&file) => {
                    self.asked.pass_over();
                    return Some(Ok(Found::Unchanged(file)));
                }
                Ok(file) => self.enter(file),
                Err(error) => Err(error),
            };
            if let Some(found) = entered.transpose() {
                return Some(found);
            }
        }
    }

    /// Opens what a file holds; a file that is an image is that.
    fn enter(&mut self, file: SourceFile) -> Result<Option<Found>> {
        let found = (file.kind == FileKind::Container).then(|| Found::Container(file.clone()));
        let Some(path) = uri::to_path(&file.uri).filter(|_| file.kind != FileKind::Image) else {
            let SourceFile { key, uri, bytes, facts, .. } = file;
            if self.beside {
                self.asked.seen(&facts, true);
            }
            let image = SourceImage { key, uri, bytes, facts, ..SourceImage::default() };
            return Ok(Some(Found::Image(image)));
        };
        let held = match self.before.as_mut().and_then(|before| before(&file)) {
            Some(held) => held,
            None => open(&file, &self.fields)?,
        };
        let key = file.key;
        match held {
            Held::Images { listing, forward, paths } => {
                self.open = Some(Open { key, listing, forward, paths });
                return Ok(found);
            }
            Held::Nothing(why) if self.walk.is_in_folder() => {
                self.inside.other_extension += 1;
                self.inside.note(&key, &format!("passed over: {why}"));
            }
            Held::Nothing(why) => {
                return Err(Error::invalid(format!("{}: {why}", text::path(&path))));
            }
        }
        Ok(None)
    }

    /// Takes note of what a container or list was found to be when it has ended; its digest.
    fn close(&mut self) -> Option<String> {
        let Open { key, listing, .. } = self.open.take()?;
        let remarks = listing.remarks();
        self.inside.without_image += remarks.without_image;
        self.inside.members += remarks.other;
        self.inside.hidden += remarks.hidden;
        self.inside.further_images += remarks.further_images;
        self.inside.inner_links += remarks.links;
        self.inside.archives += remarks.archives;
        if let (None, Some(first)) = (&self.inside.first_archive, &remarks.first_archive) {
            self.inside.first_archive = Some(format!("{key}: {first}"));
        }
        remarks.odd.iter().for_each(|what| self.inside.note(&key, what));
        listing.digest()
    }
}

impl Iterator for SourceStream {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Result<SourceImage>> {
        loop {
            match self.find(&mut |_| false)? {
                Ok(Found::Image(image)) => return Some(Ok(image)),
                Ok(Found::Container(_) | Found::Ended(_) | Found::Unchanged(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
