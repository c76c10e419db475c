//! Owns how the use of the bits of codes is shown, where codes are too many to be counted. Must not know:
//! where the facts come from.

use std::fmt::Write;

use super::facts::wide;
use crate::audit::report::{AuditReport, BitsReport};
use crate::util::charts::{Frame, bar_chart};
use crate::util::html::{big, number, percent, short, table, text};
use crate::util::numbers::{count, counted};

/// The numbers at a page's head.
pub(super) fn draw_head(page: &mut String, report: &AuditReport) {
    for level in &report.bits {
        big(page, &format!("{} of {}", count(level.varying), count(level.bits)), "bits vary");
        big(page, &format!("{:.1}", level.entropy_sum), "bits of entropy at most");
    }
}

/// The part of a page about bits.
pub(super) fn draw(page: &mut String, report: &AuditReport) {
    for (nth, level) in report.bits.iter().enumerate() {
        draw_level(page, nth, level);
    }
}

fn draw_level(page: &mut String, nth: usize, level: &BitsReport) {
    let id = if nth == 0 { "codebook".to_string() } else { format!("codebook-{nth}") };
    let what = if level.list { "lists of bits" } else { "numbers" };
    let _ = write!(
        page,
        "<section id={id}><h2>Bits of <code>{}</code></h2><p>{}, {what} of {}; {} are 0 in some and 1 \
         in others; their entropies sum to {} bits, which is the most that a token holds.</p><p \
         class=soft>2<sup>{}</sup> codes are too many for a counter each: bits are counted.</p>",
        level.column,
        counted(level.tokens, "token"),
        counted(level.bits, "bit"),
        count(level.varying),
        short(level.entropy_sum),
        level.bits,
    );
    page.push_str("<div class=charts><div><h3>Tokens with each bit set</h3>");
    let bars = level.ones.iter().enumerate();
    let bars: Vec<_> = bars.map(|(bit, &ones)| (bit.to_string(), ones)).collect();
    bar_chart(page, Frame::HALF.named("Tokens with each bit set"), &bars);
    page.push_str("<details><summary>The numbers</summary>");
    wide(page, |page| {
        let row = |(bit, &ones): (usize, &u64)| {
            vec![number(bit as u64), number(ones), text(&percent(ones, level.tokens))]
        };
        table(page, &["bit", "tokens", "share"], level.ones.iter().enumerate().map(row));
    });
    page.push_str("</details></div></div></section>");
}
