//! Owns holding planned rows against today's: the first difference, and where files have moved to.
//! Must not know: where either comes from, what becomes of them.

use super::containers::{Change, Container, ContainerFile};
use super::layout::Layout;
use super::merged::Planned;
use crate::error::Result;
use crate::tokens::moved::Moved;
use crate::tokens::rows::PlanRow;
use crate::util::text::{self, shorten};

/// A comparison on its way through a plan.
pub(super) struct Comparison {
    planned: Planned,
    layout: Layout,
    /// Images of today.
    count: u64,
    /// The container that is gone through, as planned and today's.
    open: Option<(ContainerFile, ContainerFile)>,
    /// Where the planned files lie today.
    pub(super) moved: Moved,
    /// Today's images with something beside them that the plan has no columns for.
    pub(super) unplanned_facts: u64,
}

/// The first difference in words; None where there is none.
type Difference = Option<String>;

impl Comparison {
    pub(super) fn new(planned: Planned, layout: Layout) -> Comparison {
        let moved = Moved::default();
        Comparison { planned, layout, count: 0, open: None, moved, unplanned_facts: 0 }
    }

    /// Takes today's next image. `accept` says of a planned row and today's, which differ in size,
    /// whether that is as it should be.
    pub(super) fn image(
        &mut self,
        row: &PlanRow,
        accept: &mut dyn FnMut(&PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Difference> {
        let Some(was) = self.planned.next()? else {
            let (key, count) = (shorten(&row.key), self.count);
            return Ok(Some(format!("it had {count} images, now '{key}' is one more")));
        };
        self.count += 1;
        self.moved.note(&was, row);
        // Outputs of files alone were begun without what may stand beside these now.
        let same_beside = match self.layout {
            Layout::Files => {
                self.unplanned_facts += u64::from(row.is_more_than_a_file());
                row.member.is_none()
            }
            Layout::Parts | Layout::Buckets => same_beside(&was, row),
        };
        let same = (was.position(), &was.key) == (row.position(), &row.key) && same_beside;
        if !same || was.bytes != row.bytes && !accept(&was, row)? {
            return Ok(Some(difference(&was, row)));
        }
        Ok(None)
    }

    /// Takes a container whose images follow, beside those that were planned.
    pub(super) fn opened(&mut self, now: ContainerFile, planned: &[Container]) -> Difference {
        self.open = None;
        let at = planned.binary_search_by_key(&self.count, |container| container.first).ok()?;
        let was = &planned[at].file;
        if was.key == now.key {
            let (was, now) = self.open.insert((was.clone(), now));
            return changed(was, now);
        }
        None
    }

    /// The images of the container that was opened last have come; its digest.
    pub(super) fn ended(&mut self, digest: String) -> Difference {
        let (was, now) = self.open.take()?;
        changed(&was, &ContainerFile { digest: Some(digest), ..now })
    }

    /// Takes a container that looks unchanged, and lies at `uri` today.
    pub(super) fn unchanged(&mut self, container: &Container, uri: &str) -> Result<Difference> {
        if container.first != self.count {
            let Some(was) = self.planned.next()? else { return self.end() };
            let (key, uri) = (shorten(&was.key), text::printable(uri));
            let position = was.position();
            return Ok(Some(format!("image {position} was '{key}' and is now one of {uri}")));
        }
        let row = |uri: &str| PlanRow {
            ordinal: container.first as i64,
            uri: uri.to_string(),
            member: Some(String::new()),
            ..PlanRow::default()
        };
        self.moved.note(&row(&container.file.uri), &row(uri));
        self.planned.skip(container.images);
        self.count += container.images;
        Ok(None)
    }

    /// There are no more images today.
    pub(super) fn end(&mut self) -> Result<Difference> {
        let count = self.count;
        Ok(self.planned.next()?.map(|row| {
            let (key, planned) = (shorten(&row.key), self.planned.count());
            format!("image {count}, '{key}', is gone (it had {planned}, now {count})")
        }))
    }
}

/// What tells of a container that it isn't the planned one, in words.
fn changed(was: &ContainerFile, now: &ContainerFile) -> Difference {
    let key = shorten(&was.key);
    was.change(now).map(|change| match change {
        Change::Size => {
            let (was, now) = (was.bytes, now.bytes);
            format!("'{key}' had {was} bytes and now has {now}: its images may be others")
        }
        Change::Content => {
            format!("'{key}' is another file of the same size: its images may be others")
        }
    })
}

/// Whether an image has the place in its file, and everything beside it, that it was planned with.
fn same_beside(was: &PlanRow, now: &PlanRow) -> bool {
    let of = |row: &PlanRow| PlanRow {
        ordinal: 0,
        key: String::new(),
        uri: String::new(),
        bytes: 0,
        bucket: None,
        ..row.clone()
    };
    of(was) == of(now) && was.file_name() == now.file_name()
}

/// The first difference between a planned row and today's, in words.
fn difference(was: &PlanRow, now: &PlanRow) -> String {
    let (ordinal, key) = (was.position(), shorten(&was.key));
    if ordinal != now.position() {
        return format!("image {ordinal} has become image {}", now.position());
    }
    if was.key != now.key {
        return format!("image {ordinal} was '{key}' and is now '{}'", shorten(&now.key));
    }
    difference_of_one(was, now)
}

/// The first difference of an image, in words, its number aside.
pub(crate) fn difference_of_one(was: &PlanRow, now: &PlanRow) -> String {
    let key = shorten(&was.key);
    for (what, was, now) in [
        ("label", &was.label, &now.label),
        ("caption", &was.caption, &now.caption),
        ("meta_json", &was.meta_json, &now.meta_json),
        ("member", &was.member, &now.member),
        ("fault", &was.fault, &now.fault),
    ] {
        if was != now {
            let told = |text: &Option<String>| match text {
                Some(text) => format!("'{}'", shorten(text)),
                None => "none".to_string(),
            };
            return format!("the {what} of '{key}' was {} and is now {}", told(was), told(now));
        }
    }
    if let (Some(before), Some(after)) = (was.file_name(), now.file_name())
        && (before != after && was.bytes == now.bytes)
    {
        let (before, after) = (shorten(before), shorten(after));
        return format!("'{key}' was {before} and is now {after}, of the same size");
    }
    if was.bytes == now.bytes && was.offset == now.offset {
        return format!("'{key}' may be another image: its file is another one now");
    }
    if was.bytes == now.bytes {
        return format!("'{key}' lies elsewhere in its file");
    }
    format!("'{key}' had {} bytes and now has {}", was.bytes, now.bytes)
}
