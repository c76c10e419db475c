//! Owns what listing an archive must know before it gives the first image: which of several members
//! of a name is the last, and where the texts beside images are. Must not know: what they say.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::bytes::Trouble;
use super::directory::Entries;
use super::entry::Entry;
use super::kind::{Kind, stem};
use crate::data::source::sidecar::Side;

/// Archives of more members are no archives of images; the index would need gigabytes.
const LINES_MAX: u64 = 1 << 25;

/// Half a SHA-256: names may be long, and none may be taken for another.
type Digest = [u8; 16];

/// The directory's lines by their names.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Where the last line of a name is, of what may be an image.
    last: HashMap<Digest, u64>,
    /// Where the last texts are, by the name without extension.
    beside: HashMap<Digest, [Option<Beside>; Side::ALL.len()]>,
    /// How many lines can be read.
    pub(super) lines: u64,
    /// How many of them are texts that may belong to an image.
    texts: u64,
    /// How many texts belong to one.
    used: u64,
    /// Why there are no more.
    pub(super) damage: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Beside {
    at: u64,
    used: bool,
}

impl Index {
    /// Goes over all lines.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of(mut entries: Entries, hidden: bool) -> std::io::Result<Index> {
        let mut index = Index::default();
        loop {
            match entries.next() {
                Ok(None) => break,
                Ok(Some(_)) if index.lines == LINES_MAX => {
                    index.damage = Some(format!("it has more than {LINES_MAX} members; split it"));
                    break;
                }
                Ok(Some(entry)) => index.add(&entry, hidden),
                Err(Trouble::System(error)) => return Err(error),
                Err(Trouble::Content(reason)) => {
                    index.damage = Some(format!(
                        "{reason}, after {} members; what follows is lost: repair it with `zip -FF`",
                        index.lines
                    ));
                    break;
                }
            }
        }
        Ok(index)
    }

    fn add(&mut self, entry: &Entry, hidden: bool) {
        self.lines += 1;
        match Kind::of(entry, hidden) {
            Kind::Image | Kind::Nameless => {
                self.last.insert(digest(&entry.key), entry.at);
            }
            Kind::Beside(side) => {
                self.texts += 1;
                let slots = self.beside.entry(digest(stem(&entry.key))).or_default();
                slots[side as usize] = Some(Beside { at: entry.at, used: false });
            }
            _ => {}
        }
    }

    /// Whether a later line has the same name.
    pub(super) fn is_superseded(&self, entry: &Entry) -> bool {
        self.last.get(&digest(&entry.key)).is_some_and(|last| *last != entry.at)
    }

    /// The lines of the texts beside an image, in the order in which they are asked.
    pub(super) fn beside(&mut self, entry: &Entry) -> Vec<(Side, u64)> {
        let Some(slots) = self.beside.get_mut(&digest(stem(&entry.key))) else { return Vec::new() };
        let mut found = Vec::new();
        for side in Side::ALL {
            if let Some(beside) = &mut slots[side as usize] {
                self.used += u64::from(!beside.used);
                beside.used = true;
                found.push((side, beside.at));
            }
        }
        found
    }

    /// How many texts belong to no image that [`Index::beside`] was asked for.
    pub(super) fn unused(&self) -> u64 {
        self.texts - self.used
    }
}

fn digest(text: &str) -> Digest {
    let whole: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    std::array::from_fn(|at| whole[at])
}
