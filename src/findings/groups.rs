//! Owns groups of images that are one: whom to keep, whether their labels agree. Must not know: how
//! they were found.

use super::images::{Images, NO_LABEL};
use super::result::{Duplicates, Kind, Member};

/// A group of images that are exactly one.
pub(super) fn exact(images: &Images, group: &[u32], kind: Kind, keep: &[String]) -> Duplicates {
    let members = group.iter().map(|&at| (at, 1.0, "same")).collect();
    made(images, members, kind, keep)
}

/// A group of members with their scores and relations.
fn made(
    images: &Images,
    mut members: Vec<(u32, f64, &'static str)>,
    kind: Kind,
    keep: &[String],
) -> Duplicates {
    let rank = |at: u32| {
        let (key, size) = (images.keys.get(at as usize), images.sizes[at as usize]);
        let prefix = keep.iter().position(|prefix| key.starts_with(prefix.as_str()));
        let area = u64::from(size.width) * u64::from(size.height);
        (prefix.unwrap_or(keep.len()), std::cmp::Reverse(area), at)
    };
    members.sort_by_key(|member| rank(member.0));
    let labels = members.iter().map(|member| images.labels[member.0 as usize]);
    let mut labels: Vec<u32> = labels.filter(|&label| label != NO_LABEL).collect();
    labels.sort_unstable();
    labels.dedup();
    let member = |&(at, score, relation): &(u32, f64, &'static str)| Member {
        key: images.keys.get(at as usize).to_string(),
        score,
        relation,
        label: images.label(at as usize).map(str::to_string),
    };
    let members: Vec<Member> = members.iter().map(member).collect();
    let keep = members[0].key.clone();
    Duplicates { kind, members, keep, label_conflict: labels.len() > 1 }
}
