//! Owns what becomes of the rows and failures that found no counterpart while both outputs were read.
//! Must not know: how they were read.

use super::result::{Difference, Images, MendedImage};
use super::tally::Tally;
use super::waiting::{Group, Waited};
use crate::error::{Error, Result};
use crate::findings::run::Observer;

/// Images given up by one output that are listed.
const LISTED_MAX: usize = 10_000;

/// What has come of them.
#[derive(Default)]
pub(super) struct Met {
    added: Images,
    gone: Images,
    mended: (u64, Vec<MendedImage>),
    broken: (u64, Vec<MendedImage>),
    failed_in_both: u64,
    failed_in_one: [u64; 2],
    further_rows: [u64; 2],
}

/// Brings together what waited: rows of one key and view are compared, in the order they came in.
///
/// # Errors
/// An interrupt.
pub(super) fn meet(waited: &Waited, tally: &mut Tally, observer: &mut dyn Observer) -> Result<Met> {
    let mut met = Met::default();
    for (number, group) in waited.groups().enumerate() {
        if number % 1024 == 0 && observer.interrupted() {
            return Err(Error::Interrupted);
        }
        met.take(waited, &group, tally);
    }
    Ok(met)
}

impl Met {
    fn take(&mut self, waited: &Waited, group: &Group, tally: &mut Tally) {
        let [mut a, mut b] = pairs(waited, group, tally);
        let failed = [0, 1].map(|side| group.failures[side].first().copied());
        if group.met || group.rows.iter().all(|rows| !rows.is_empty()) {
            // They share the image, and not all of its rows.
            self.further_rows[0] += std::mem::take(&mut a).len() as u64;
            self.further_rows[1] += std::mem::take(&mut b).len() as u64;
        }
        match (a.first(), b.first(), failed) {
            (Some(&at), _, [_, Some(failure)]) => list(&mut self.broken, waited, at, failure),
            (_, Some(&at), [Some(failure), _]) => list(&mut self.mended, waited, at, failure),
            (Some(&at), ..) => self.gone.take(waited.key(at)),
            (_, Some(&at), _) => self.added.take(waited.key(at)),
            (None, None, [Some(_), Some(_)]) => self.failed_in_both += 1,
            (None, None, [Some(_), None]) => self.failed_in_one[0] += 1,
            (None, None, [None, Some(_)]) => self.failed_in_one[1] += 1,
            (None, None, [None, None]) => {}
        }
    }

    /// Puts it into a result.
    pub(super) fn into(self, difference: &mut Difference) {
        difference.added = self.added;
        difference.gone = self.gone;
        (difference.mended_count, difference.mended) = self.mended;
        (difference.broken_count, difference.broken) = self.broken;
        difference.failed_in_both = self.failed_in_both;
        difference.failed_in_one = self.failed_in_one;
        difference.further_rows = self.further_rows;
    }
}

/// Compares the rows of one view, and gives those that are left of each side.
fn pairs(waited: &Waited, group: &Group, tally: &mut Tally) -> [Vec<u32>; 2] {
    let mut left: [Vec<u32>; 2] = Default::default();
    let [mut a, mut b] = [0, 1].map(|side| group.rows[side].iter().copied().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(&a), Some(&b)) => waited.view(a).cmp(&waited.view(b)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return left,
        };
        if order.is_lt() {
            left[0].extend(a.next());
        } else if order.is_gt() {
            left[1].extend(b.next());
        } else if let (Some(a), Some(b)) = (a.next(), b.next()) {
            let levels = [waited.levels(a), waited.levels(b)];
            let (a, b) = (waited.compared(a, &levels[0]), waited.compared(b, &levels[1]));
            tally.compare(&a, &b);
        }
    }
}

fn list((count, listed): &mut (u64, Vec<MendedImage>), waited: &Waited, at: u32, failure: u32) {
    *count += 1;
    if listed.len() < LISTED_MAX {
        let (key, error) = (waited.key(at).to_string(), waited.error(failure).to_string());
        listed.push(MendedImage { key, error });
    }
}
