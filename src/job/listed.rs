//! Owns listing the inputs for a plan: image by image, save for containers that the plan that is
//! there knows and that look unchanged. Must not know: what becomes of it.

use std::collections::HashMap;
use std::time::SystemTime;

use super::inputs::Inputs;
use super::listings::Listings;
use crate::data::source::file;
use crate::data::source::stream::{Found, SourceStream};
use crate::data::{Skipped, SourceFile, Take};
use crate::error::Result;
use crate::pipeline::row_of;
use crate::tokens::{Container, ContainerFile, Plan, PlanFile, Today};

/// What is found of the inputs, in order.
pub(super) struct Listed {
    stream: SourceStream,
    known: Vec<Known>,
    /// Whether what is known may come anywhere, rather than at its ordinal.
    anywhere: bool,
    /// Of the next image.
    ordinal: u64,
    unchanged: u64,
    /// What [`Listed::is_empty`] came to.
    ahead: Vec<Today>,
}

/// The containers of a plan.
struct Known {
    containers: Vec<Container>,
    /// By their keys, where they lie in `containers`; empty where they are looked for by ordinal.
    by_key: HashMap<String, Vec<usize>>,
    listed_at: SystemTime,
}

impl Listed {
    /// Of these inputs; `plan`: the one that is there.
    ///
    /// # Errors
    /// Those of [`Inputs::images`].
    pub(super) fn new(inputs: &Inputs, take: Take, plan: Option<&Plan>) -> Result<Listed> {
        let stream = inputs.images(take, true)?;
        let first = plan.and_then(|plan| plan.files().first());
        let known = first.and_then(|file| Known::of(file, inputs)).into_iter().collect();
        let (anywhere, ahead) = (false, Vec::new());
        Ok(Listed { stream, known, anywhere, ordinal: 0, unchanged: 0, ahead })
    }

    /// The same, of files that workers listed before as they did.
    pub(super) fn listed_before(self, listings: &Listings) -> Listed {
        let listings = listings.clone();
        let before = move |file: &SourceFile| listings.take(file);
        Listed { stream: self.stream.listed_before(Box::new(before)), ..self }
    }

    /// Of these inputs, what `plans` know in any order.
    ///
    /// # Errors
    /// Those of [`Inputs::images`].
    pub(super) fn in_any_order(inputs: &Inputs, plans: &Plan) -> Result<Listed> {
        let stream = inputs.images(inputs.take(), true)?;
        let known = plans.files().iter().filter_map(|file| Known::of(file, inputs));
        let known = known.map(Known::by_key).collect();
        let (anywhere, ahead) = (true, Vec::new());
        Ok(Listed { stream, known, anywhere, ordinal: 0, unchanged: 0, ahead })
    }

    /// Whether there is no image at all.
    ///
    /// # Errors
    /// The first of listing.
    pub(super) fn is_empty(&mut self) -> Result<bool> {
        let mut ahead = Vec::new();
        let mut is_empty = true;
        for item in self.by_ref() {
            let item = item?;
            if let Today::Opened(_) | Today::Ended(_) = &item {
                ahead.clear();
                ahead.push(item);
                continue;
            }
            ahead.push(item);
            is_empty = false;
            break;
        }
        ahead.reverse();
        self.ahead = ahead;
        Ok(is_empty)
    }

    /// What was passed over so far.
    pub(super) fn skipped(&self) -> Skipped {
        self.stream.skipped()
    }

    /// Containers so far that look unchanged.
    pub(super) fn unchanged(&self) -> u64 {
        self.unchanged
    }
}

impl Known {
    /// Those of a plan, where the same is taken of them today.
    fn of(file: &PlanFile, inputs: &Inputs) -> Option<Known> {
        let listed_at = file.listed_at().filter(|_| file.taken() == inputs.taken())?;
        let (containers, by_key) = (file.containers().to_vec(), HashMap::new());
        Some(Known { containers, by_key, listed_at })
    }

    fn by_key(mut self) -> Known {
        for (at, container) in self.containers.iter().enumerate() {
            self.by_key.entry(container.file.key.clone()).or_default().push(at);
        }
        self
    }

    /// A container that was planned anywhere, where `file` is it and looks as it did.
    fn unchanged_anywhere(&self, file: &SourceFile) -> Option<Container> {
        let known = self.by_key.get(&file.key).into_iter().flatten();
        known.map(|&at| &self.containers[at]).find(|planned| self.is(planned, file)).cloned()
    }

    /// The container that was planned at an ordinal, where `file` is it and looks as it did: it was
    /// last written before it was listed, and is as large. One that lies elsewhere must be gone from
    /// its place; a copy may be another one.
    fn unchanged(&self, ordinal: u64, file: &SourceFile) -> Option<Container> {
        let at = self.containers.binary_search_by_key(&ordinal, |planned| planned.first).ok()?;
        let planned = &self.containers[at];
        self.is(planned, file).then(|| planned.clone())
    }

    /// Whether a file is a planned container, unchanged.
    fn is(&self, planned: &Container, file: &SourceFile) -> bool {
        let ContainerFile { uri, key, bytes, .. } = &planned.file;
        let same = (key, *bytes) == (&file.key, file.bytes);
        let here = || *uri == file.uri || file::size(uri).is_none();
        let old = || file::written(&file.uri).is_some_and(|written| written < self.listed_at);
        same && old() && here()
    }
}

/// A file as a plan has it, its digest being still to come.
pub(super) fn container_of(file: SourceFile) -> ContainerFile {
    let SourceFile { uri, key, bytes, .. } = file;
    ContainerFile { uri, key, bytes, digest: None }
}

impl Iterator for Listed {
    type Item = Result<Today>;

    fn next(&mut self) -> Option<Result<Today>> {
        if let Some(item) = self.ahead.pop() {
            return Some(Ok(item));
        }
        let Listed { stream, known, anywhere, ordinal, .. } = self;
        let mut planned = None;
        let found = stream.find(&mut |file| {
            planned = known.iter().find_map(|known| match anywhere {
                true => known.unchanged_anywhere(file),
                false => known.unchanged(*ordinal, file),
            });
            planned.is_some()
        })?;
        Some(found.map(|found| match (found, planned) {
            (Found::Image(image), _) => {
                self.ordinal += 1;
                Today::Image(row_of(self.ordinal as i64 - 1, image))
            }
            (Found::Ended(digest), _) => Today::Ended(digest),
            (Found::Unchanged(file), Some(container)) => {
                self.ordinal += container.images;
                self.unchanged += 1;
                Today::Unchanged(container, file.uri)
            }
            (Found::Container(file) | Found::Unchanged(file), _) => {
                Today::Opened(container_of(file))
            }
        }))
    }
}
