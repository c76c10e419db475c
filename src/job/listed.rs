//! Owns listing the inputs for a plan: image by image, save for containers that the plan that is
//! there knows and that look unchanged. Must not know: what becomes of it.

use std::time::SystemTime;

use super::inputs::Inputs;
use crate::data::source::file;
use crate::data::source::stream::{Found, SourceStream};
use crate::data::{Skipped, SourceFile, Take};
use crate::error::Result;
use crate::pipeline::row_of;
use crate::tokens::{Container, ContainerFile, Plan, Today};

/// What is found of the inputs, in order.
pub(super) struct Listed {
    stream: SourceStream,
    known: Option<Known>,
    /// Of the next image.
    ordinal: u64,
    unchanged: u64,
    /// What [`Listed::is_empty`] came to.
    ahead: Vec<Today>,
}

/// The containers of a plan.
struct Known {
    containers: Vec<Container>,
    listed_at: SystemTime,
}

impl Listed {
    /// Of these inputs; `plan`: the one that is there.
    ///
    /// # Errors
    /// Those of [`Inputs::images`].
    pub(super) fn new(inputs: &Inputs, take: Take, plan: Option<&Plan>) -> Result<Listed> {
        let stream = inputs.images(take, true)?;
        let plan = plan.filter(|plan| plan.taken() == inputs.taken());
        let known = plan.and_then(|plan| {
            let containers = plan.containers().to_vec();
            Some(Known { containers, listed_at: plan.listed_at()? })
        });
        Ok(Listed { stream, known, ordinal: 0, unchanged: 0, ahead: Vec::new() })
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
            if let Today::Opened(_) = &item {
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
    /// The container that was planned at an ordinal, where `file` is it and looks as it did: it was
    /// last written before it was listed, and is as large. One that lies elsewhere must be gone from
    /// its place; a copy may be another one.
    fn unchanged(&self, ordinal: u64, file: &SourceFile) -> Option<Container> {
        let at = self.containers.binary_search_by_key(&ordinal, |planned| planned.first).ok()?;
        let planned = &self.containers[at];
        let ContainerFile { uri, key, bytes } = &planned.file;
        let same = (key, *bytes) == (&file.key, file.bytes);
        let here = || *uri == file.uri || file::size(uri).is_none();
        let old = || file::written(&file.uri).is_some_and(|written| written < self.listed_at);
        (same && old() && here()).then(|| planned.clone())
    }
}

impl Iterator for Listed {
    type Item = Result<Today>;

    fn next(&mut self) -> Option<Result<Today>> {
        if let Some(item) = self.ahead.pop() {
            return Some(Ok(item));
        }
        let Listed { stream, known, ordinal, .. } = self;
        let mut planned = None;
        let found = stream.find(&mut |file| {
            planned = known.as_ref().and_then(|known| known.unchanged(*ordinal, file));
            planned.is_some()
        })?;
        Some(found.map(|found| match (found, planned) {
            (Found::Image(image), _) => {
                self.ordinal += 1;
                Today::Image(row_of(self.ordinal as i64 - 1, image))
            }
            (Found::Unchanged(file), Some(container)) => {
                self.ordinal += container.images;
                self.unchanged += 1;
                Today::Unchanged(container, file.uri)
            }
            (Found::Container(file) | Found::Unchanged(file), _) => {
                let SourceFile { uri, key, bytes, .. } = file;
                Today::Opened(ContainerFile { uri, key, bytes })
            }
        }))
    }
}
