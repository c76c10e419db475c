//! Owns what a plan records of files that hold several images, so that one that looks unchanged
//! needn't be listed again. Must not know: how files are found, which formats they have.

use crate::error::{Error, Result};
use crate::tokens::rows::PlanRow;

/// The record's texts at most, in bytes: a plan of more containers than that goes without.
const BYTES_MAX: usize = 16 << 20;

/// A file that holds several images, as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFile {
    /// Where it lies.
    pub uri: String,
    /// Its own name below its INPUT, by which its images may be called.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of what it says of its images beside their bytes, where it was taken.
    pub digest: Option<String>,
}

impl ContainerFile {
    /// What tells of a planned one that it isn't the same today; None where nothing does.
    pub(super) fn change(&self, today: &ContainerFile) -> Option<Change> {
        let known = |file: &ContainerFile| file.digest.is_some();
        match self.bytes == today.bytes {
            false => Some(Change::Size),
            true => (known(self) && known(today) && self.digest != today.digest)
                .then_some(Change::Content),
        }
    }
}

/// How a container isn't the planned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is as large or small as another one.
    Size,
    /// It is as large, and says something else of its images.
    Content,
}

/// A file that holds several images, with its place in a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// As it was planned.
    pub file: ContainerFile,
    /// The ordinal of its first image.
    pub first: u64,
    /// How many it has.
    pub images: u64,
}

/// What is found of an input today, in its order.
#[derive(Debug, Clone)]
pub enum Today {
    /// An image.
    Image(PlanRow),
    /// A file whose images follow.
    Opened(ContainerFile),
    /// The end of the file that was opened last, and its digest.
    Ended(String),
    /// A planned file that looks as it did: its images aren't listed. And where it lies today.
    Unchanged(Container, String),
}

/// What is found up to the first image, that one included.
pub(super) fn up_to_an_image(
    items: &mut impl Iterator<Item = Result<Today>>,
) -> Result<Vec<Today>> {
    let mut opened = None;
    loop {
        match items.next().transpose()? {
            None => return Err(Error::invalid("no image in the input")),
            Some(Today::Opened(file)) => opened = Some(Today::Opened(file)),
            Some(Today::Ended(_)) => opened = None,
            Some(item) => return Ok(opened.into_iter().chain([item]).collect()),
        }
    }
}

/// Takes note of the containers of a plan that is being written.
#[derive(Default)]
pub(super) struct Recorder {
    open: Option<Open>,
    done: Vec<Container>,
    bytes: usize,
    too_many: bool,
}

struct Open {
    container: Container,
    has_parts: bool,
    is_damaged: bool,
}

impl Recorder {
    /// The images of `file` follow.
    pub(super) fn open(&mut self, file: ContainerFile) {
        self.close();
        let container = Container { file, first: 0, images: 0 };
        self.open = Some(Open { container, has_parts: false, is_damaged: false });
    }

    /// The images of the current container have come; its digest.
    pub(super) fn ended(&mut self, digest: String) {
        if let Some(open) = &mut self.open {
            open.container.file.digest = Some(digest);
        }
    }

    /// The next row.
    pub(super) fn row(&mut self, row: &PlanRow) {
        let Some(open) = &mut self.open else { return };
        if open.container.file.uri != row.uri {
            return self.close();
        }
        if open.container.images == 0 {
            open.container.first = row.ordinal.unsigned_abs();
        }
        open.container.images += 1;
        open.has_parts |= row.member.is_some();
        open.is_damaged |= row.fault.is_some();
    }

    /// Ends the current container. One that is damaged is looked at again each time: it may come to
    /// be mended.
    fn close(&mut self) {
        let Some(Open { container, has_parts, is_damaged }) = self.open.take() else { return };
        if !has_parts || is_damaged || self.too_many {
            return;
        }
        let ContainerFile { uri, key, digest, .. } = &container.file;
        self.bytes += uri.len() + key.len() + digest.as_ref().map_or(0, String::len);
        self.done.push(container);
        if self.bytes > BYTES_MAX {
            (self.done, self.too_many) = (Vec::new(), true);
        }
    }

    /// The record as it stands in a plan; None where there is nothing to record.
    pub(super) fn finish(mut self) -> Option<String> {
        self.close();
        let entry = |container: &Container| {
            let Container { file, first, images } = container;
            let ContainerFile { uri, key, bytes, digest } = file;
            match digest {
                Some(digest) => serde_json::json!([uri, key, bytes, first, images, digest]),
                None => serde_json::json!([uri, key, bytes, first, images]),
            }
        };
        let entries: Vec<_> = self.done.iter().map(entry).collect();
        (!entries.is_empty()).then(|| serde_json::Value::from(entries).to_string())
    }
}

/// A container as it stands in a plan. Earlier versions took no digest.
#[derive(serde::Deserialize)]
struct Entry(String, String, u64, u64, u64, #[serde(default)] Option<String>);

/// The containers that a plan of `rows` images records; none where the record makes no sense, which
/// costs time alone.
pub(super) fn parse(text: &str, rows: u64) -> Vec<Container> {
    let entries: Vec<Entry> = serde_json::from_str(text).unwrap_or_default();
    let mut end = 0;
    let mut containers = Vec::with_capacity(entries.len());
    for Entry(uri, key, bytes, first, images, digest) in entries {
        let behind = first.checked_add(images).filter(|behind| *behind <= rows);
        let (Some(behind), true) = (behind, first >= end && images > 0) else {
            return Vec::new();
        };
        end = behind;
        let file = ContainerFile { uri, key, bytes, digest };
        containers.push(Container { file, first, images });
    }
    containers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(uri: &str) -> ContainerFile {
        ContainerFile { uri: uri.into(), key: "k".into(), bytes: 7, digest: None }
    }

    fn row(ordinal: i64, uri: &str, member: bool, fault: bool) -> PlanRow {
        PlanRow {
            ordinal,
            uri: uri.into(),
            member: member.then(|| "m".into()),
            fault: fault.then(|| "f".into()),
            ..PlanRow::default()
        }
    }

    #[test]
    fn whole_containers_are_recorded_and_nothing_else() {
        let mut recorder = Recorder::default();
        recorder.row(&row(0, "f:0", false, false));
        recorder.open(file("f:a"));
        (1..4).for_each(|i| recorder.row(&row(i, "f:a", true, false)));
        recorder.row(&row(4, "f:4", false, false));
        recorder.open(file("f:empty"));
        recorder.open(file("f:damaged"));
        recorder.row(&row(5, "f:damaged", true, false));
        recorder.row(&row(6, "f:damaged", false, true));
        // A table that lists files is no container of theirs.
        recorder.open(file("f:list"));
        recorder.row(&row(7, "f:7", false, false));
        recorder.open(file("f:b"));
        recorder.row(&row(8, "f:b", true, false));
        recorder.ended("d1".into());
        let text = recorder.finish().unwrap();
        assert_eq!(text, r#"[["f:a","k",7,1,3],["f:b","k",7,8,1,"d1"]]"#);
        let known = parse(&text, 9);
        assert_eq!(known[0], Container { file: file("f:a"), first: 1, images: 3 });
        assert_eq!((known.len(), parse(&text, 8).len()), (2, 0));
        for broken in ["", "[", r#"[["a","k",7,1,0]]"#, r#"[["a","k",7,3,3],["b","k",7,5,1]]"#] {
            assert_eq!(parse(broken, 9), [], "{broken}");
        }
        let huge = format!(r#"[["a","k",7,1,{}]]"#, u64::MAX);
        assert_eq!(parse(&huge, 9), []);
        assert_eq!(Recorder::default().finish(), None);
    }
}
