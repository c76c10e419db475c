//! Owns which of today's containers aren't the planned ones any more, and which of their images that
//! makes doubtful. Must not know: how containers are found, what becomes of their images.

use std::collections::HashMap;

use super::containers::{Change, Container, ContainerFile};
use super::plans::Plan;
use crate::tokens::rows::PlanRow;

/// Takes note of today's containers as they come. Memory holds the planned ones.
pub(crate) struct ChangedContainers {
    /// The planned ones, by their own names.
    planned: HashMap<String, Vec<Container>>,
    /// The one whose images come.
    open: Option<Container>,
    /// By where they lie today.
    changed: HashMap<String, Change>,
    /// Whether images are doubtful too that say their sizes, in containers of other sizes.
    strict: bool,
}

impl ChangedContainers {
    /// Of the containers of all plans.
    pub(crate) fn of(plan: &Plan) -> ChangedContainers {
        let mut planned: HashMap<String, Vec<Container>> = HashMap::new();
        for container in plan.files().iter().flat_map(|file| file.containers()) {
            planned.entry(container.file.key.clone()).or_default().push(container.clone());
        }
        ChangedContainers { planned, open: None, changed: HashMap::new(), strict: false }
    }

    /// The same, for which every image is doubtful of a container that has changed at all.
    pub(crate) fn strict(self) -> ChangedContainers {
        ChangedContainers { strict: true, ..self }
    }

    /// A container whose images follow.
    pub(crate) fn opened(&mut self, file: &ContainerFile) {
        let opened = Container { file: file.clone(), first: 0, images: 0 };
        self.note(&opened);
        self.open = Some(opened);
    }

    /// An image.
    pub(crate) fn image(&mut self, row: &PlanRow) {
        if let Some(open) = self.open.as_mut().filter(|open| open.file.uri == row.uri) {
            open.images += 1;
        }
    }

    /// The end of the one that was opened last, and its digest.
    pub(crate) fn ended(&mut self, digest: &str) {
        if let Some(mut open) = self.open.take() {
            open.file.digest = Some(digest.to_string());
            self.note(&open);
        }
    }

    /// Whether none has changed so far.
    pub(crate) fn is_none(&self) -> bool {
        self.changed.is_empty()
    }

    /// The planned one is that at the same place; where there is none, any of the name.
    fn note(&mut self, today: &Container) {
        let Some(named) = self.planned.get(&today.file.key) else { return };
        let here: Vec<_> = named.iter().filter(|was| was.file.uri == today.file.uri).collect();
        let known = if here.is_empty() { named.iter().collect() } else { here };
        let changes: Vec<_> = known.iter().filter_map(|was| change(was, today)).collect();
        if changes.len() < known.len() {
            return;
        }
        let change = match changes.contains(&Change::Content) {
            true => Change::Content,
            false => Change::Size,
        };
        self.changed.insert(today.file.uri.clone(), change);
    }

    /// Whether one of today's images may be another than the planned one of its name and size. In a
    /// container that has grown, those that say their own sizes and places are what they were.
    pub(crate) fn doubts(&self, row: &PlanRow) -> bool {
        row.member.is_some()
            && match self.changed.get(&row.uri) {
                Some(Change::Content) => true,
                Some(Change::Size) => self.strict || row.bytes == 0,
                None => false,
            }
    }
}

/// A tar is filled up to a multiple of some size: it may grow within that, too.
fn change(was: &Container, today: &Container) -> Option<Change> {
    match was.file.change(&today.file)? {
        Change::Content if was.images != today.images => Some(Change::Size),
        change => Some(change),
    }
}
