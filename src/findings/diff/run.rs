//! Owns the course of a comparison: both outputs are read side by side, what found no counterpart
//! meets at the end. Must not know: how rows are compared or shown.

use std::path::Path;

use super::meeting::meet;
use super::result::{Difference, Images};
use super::settings;
use super::side::{Compared, Side};
use super::tally::Tally;
use super::waiting::Waiting;
use crate::audit::failures;
use crate::error::{Error, Result};
use crate::findings::run::{Event, Observer};
use crate::storage;

/// Compares two outputs.
///
/// # Errors
/// An output that can't be read; a full file system; an interrupt.
pub(crate) fn run(a: &Path, b: &Path, observer: &mut dyn Observer) -> Result<Difference> {
    storage::complete(a, || storage::complete(b, || compare(a, b, observer)))
}

fn compare(a: &Path, b: &Path, observer: &mut dyn Observer) -> Result<Difference> {
    let mut sides = [Side::open(a, observer)?, Side::open(b, observer)?];
    let rows = sides[0].count().saturating_add(sides[1].count());
    observer.event(&Event::Begin { stage: "diff", rows });
    let codes = codes(&sides);
    let (mut tally, mut waiting) = (Tally::new(&codes), Waiting::new());
    let mut remarks = Vec::new();
    for (number, side) in sides.iter_mut().enumerate() {
        for file in side.failures(observer) {
            let mut failed = Ok(());
            let read = failures::each(&file, |failure| {
                let error = format!("{}: {}", failure.stage, failure.error);
                failed = waiting.failure(number as u32, &failure.key, &error);
                failed.is_ok()
            });
            failed?;
            remarks.extend(read.err().map(|error| error.to_string()));
        }
    }
    side_by_side(&mut sides, &mut tally, &mut waiting, observer)?;
    let met = meet(&waiting.finish()?, &mut tally, observer)?;
    let settings = settings::differing(sides[0].entries(), sides[1].entries());
    say(&sides, &codes, &tally, &mut remarks);
    let (shared, [changed, relabelled]) = tally.finish();
    let mut difference = Difference {
        schema: "diff.v1",
        equal: false,
        rows: [0, 1].map(|side| sides[side].rows),
        unreadable: [0, 1].map(|side| sides[side].unreadable),
        settings,
        shared,
        added: Images::default(),
        gone: Images::default(),
        changed,
        relabelled,
        mended: Vec::new(),
        mended_count: 0,
        broken: Vec::new(),
        broken_count: 0,
        failed_in_both: 0,
        failed_in_one: [0; 2],
        further_rows: [0; 2],
        remarks,
    };
    met.into(&mut difference);
    difference.equal = difference.is_equal();
    Ok(difference)
}

/// Reads both to their ends: rows that meet are compared, others wait.
fn side_by_side(
    sides: &mut [Side; 2],
    tally: &mut Tally,
    waiting: &mut Waiting,
    observer: &mut dyn Observer,
) -> Result<()> {
    let [a, b] = sides;
    a.take(observer);
    b.take(observer);
    loop {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let order = a.order(b);
        if order.is_some_and(std::cmp::Ordering::is_eq) {
            if let (Some(a), Some(b)) = (a.take(observer), b.take(observer)) {
                let rows = [Compared::from(&a), Compared::from(&b)];
                match waiting.meets(&a.key)? {
                    true => tally.compare(&rows[0], &rows[1]),
                    false => (0..).zip(&rows).try_for_each(|(of, row)| waiting.row(of, row))?,
                }
            }
            continue;
        }
        let first = match order {
            Some(order) => order.is_lt(),
            None => a.next.is_some(),
        };
        let (number, side) = if first { (0, &mut *a) } else { (1, &mut *b) };
        let Some(row) = side.take(observer) else { return Ok(()) };
        waiting.row(number, &Compared::from(&row))?;
    }
}

/// By level, the number of codes of both, where their metadata says it; `2^D` of lists of bits.
fn codes(sides: &[Side; 2]) -> Vec<[Option<String>; 2]> {
    let further = |kind: &'static str| (1..64).map(move |n| format!("vqtok.codes_{kind}_{n}"));
    let further = further("residual").chain(further("book"));
    let names = ["vqtok.codes".to_string(), "vqtok.codes_top".to_string()].into_iter();
    let said = |side: usize, name: &str| -> Option<String> {
        let codes: u64 = sides[side].entries().get(name)?.parse().ok()?;
        let bits = sides[side].entries().get(&name.replace("codes", "bits"));
        Some(bits.filter(|_| codes == 2).map_or(codes.to_string(), |bits| format!("2^{bits}")))
    };
    let of = |name: String| [0, 1].map(|side| said(side, &name));
    names.chain(further).map(of).filter(|both| *both != [None, None]).collect()
}

/// What a reader of the numbers has to know.
fn say(sides: &[Side; 2], codes: &[[Option<String>; 2]], tally: &Tally, remarks: &mut Vec<String>) {
    let both = |name: &str| [0, 1].map(|side| sides[side].entries().get(name));
    let differs = |name: &str| matches!(both(name), [Some(a), Some(b)] if a != b);
    // ONNX files hold their codebooks where nobody else finds them.
    let unsaid = |name: &str| both(name).into_iter().flatten().any(String::is_empty);
    if let Some([Some(a), Some(b)]) =
        codes.iter().find(|both| matches!(both, [Some(a), Some(b)] if a != b))
    {
        remarks.push(format!(
            "tokens aren't compared, images alone: the codebooks have {a} and {b} codes"
        ));
    } else if differs("vqtok.codebook_sha256") && unsaid("vqtok.codebook_sha256") {
        remarks.push("the models differ, and one doesn't say its codebook's digest".into());
    } else if differs("vqtok.codebook_sha256") {
        remarks.push(
            "the codebooks differ: one number means another code in each, so that equal tokens say \
             little"
                .into(),
        );
    } else if differs("vqtok.weights_sha256") {
        remarks.push("the models differ: other weights, one codebook".into());
    }
    remarks.extend(sides.iter().flat_map(Side::notes));
    if sides.iter().any(|side| side.unkeyed) {
        remarks.push("rows without keys are compared by their numbers".into());
    }
    if tally.without_digests {
        remarks.push(
            "rows without the digest of their file: whether an image changed can't be told of them"
                .into(),
        );
    }
}

impl Difference {
    /// Whether nothing but settings differs.
    fn is_equal(&self) -> bool {
        let shared = &self.shared;
        let images = [&self.added, &self.gone, &self.changed, &self.relabelled];
        shared.equal_rows == shared.rows
            && images.iter().all(|images| images.count == 0)
            && self.mended_count + self.broken_count == 0
            && self.failed_in_one == [0; 2]
            && self.further_rows == [0; 2]
            && self.unreadable == [0; 2]
    }
}

#[cfg(test)]
mod tests;
