//! Owns which duplicates no list of what can go may have, and why. Must not know: how they were found.

use std::collections::{BTreeSet, HashMap};

use super::images::{ImageSize, Images};
use super::result::{Duplicates, Kind, Remark};
use crate::util::numbers::counted;

/// Keys of duplicates that are on no list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unlisted {
    /// Several images have them, so that they say nothing of which can go.
    repeated: BTreeSet<String>,
    /// The model saw less than half of their images: that part is a copy, the rest may be anything.
    partly: BTreeSet<String>,
    /// Kinds of groups of which too many may be no copies.
    doubtful: Vec<Kind>,
}

impl Unlisted {
    pub(super) fn of(images: &Images, groups: &[Duplicates], doubtful: Vec<Kind>) -> Unlisted {
        let members = groups.iter().flat_map(|group| &group.members);
        let mut times: HashMap<&str, (u64, bool)> =
            members.map(|member| (member.key.as_str(), (0, false))).collect();
        for at in 0..images.len() {
            if let Some((times, partly)) = times.get_mut(images.keys.get(at)) {
                *times += 1;
                *partly |= is_seen_in_part(&images.sizes[at]);
            }
        }
        let keys = |wanted: &dyn Fn(u64, bool) -> bool| {
            let wanted = times.iter().filter(|(_, (times, partly))| wanted(*times, *partly));
            wanted.map(|(key, _)| key.to_string()).collect()
        };
        let repeated = keys(&|times, _| times > 1);
        Unlisted { repeated, partly: keys(&|_, partly| partly), doubtful }
    }

    /// Whether no list has a member of a group of this kind.
    pub(super) fn has(&self, key: &str, kind: Kind) -> bool {
        // Files that are equal are equal beyond what the model saw.
        self.repeated.contains(key)
            || self.doubtful.contains(&kind)
            || kind != Kind::ExactFile && self.partly.contains(key)
    }

    /// What there is to say of them.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        let several = "several images share one, so that no list of what can go has it";
        let part = "the model saw less than half of each, so that no list of what can go has them \
                    unless their files are equal";
        let kinds =
            [("keys", &self.repeated, "key", several), ("parts", &self.partly, "image", part)];
        let there = kinds.into_iter().filter(|(_, keys, ..)| !keys.is_empty());
        let remark = |(about, keys, thing, why): (_, &BTreeSet<String>, _, _)| {
            let text = format!("{} of duplicates: {why}", counted(keys.len(), thing));
            Remark { about, finding: false, text }
        };
        let doubtful = self.doubtful.iter().map(|kind| {
            let what = match kind {
                Kind::Near => "near copies, of whose pairs too many may be chance",
                _ => "equal tokens, which different images have here",
            };
            let text = format!("no list of what can go is made of {what}");
            Remark { about: "doubtful", finding: false, text }
        });
        there.map(remark).chain(doubtful).collect()
    }
}

/// Whether a row shows less than half of its image.
fn is_seen_in_part(size: &ImageSize) -> bool {
    let area = |width: u32, height: u32| u64::from(width) * u64::from(height);
    let shown = area(size.shown_width, size.shown_height);
    shown > 0 && 2 * shown < area(size.width, size.height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_half_is_a_part_unless_nothing_says_it() {
        let size = |width, height, shown_width, shown_height| ImageSize {
            width,
            height,
            shown_width,
            shown_height,
            ..ImageSize::default()
        };
        let seen = [
            size(128, 32, 32, 32),
            size(64, 32, 32, 32),
            size(65, 32, 32, 32),
            size(0, 0, 32, 32),
            size(128, 32, 0, 0),
        ];
        assert_eq!(seen.map(|size| is_seen_in_part(&size)), [true, false, true, false, false]);
    }
}
