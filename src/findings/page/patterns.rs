//! Owns how it is shown where codes are used, beside what, by which labels and shards. Must not know:
//! how codes are counted.

use std::fmt::Write;

use super::facts::wide;
use super::frame::open_section;
use crate::findings::bits::BitUse;
use crate::findings::codebook::{Codebook, Places};
use crate::findings::drift::Drift;
use crate::findings::result::Findings;
use crate::util::charts::heat_map;
use crate::util::html::{escape, number, short, table};
use crate::util::numbers::count;

/// Labels and shards that are listed.
const LISTED: usize = 20;

/// What is shown of a level.
struct Level<'a> {
    column: &'a str,
    /// Bits that a token holds, where that is known.
    entropy_bits: Option<f64>,
    zipf_exponent: Option<f64>,
    shared_counters: bool,
    neighbour_bits: Option<f64>,
    places: &'a Places,
    labels: &'a [Drift],
    shards: &'a [Drift],
}

impl<'a> Level<'a> {
    fn of_codes(level: &'a Codebook) -> Level<'a> {
        Level {
            column: level.level.column,
            entropy_bits: Some(level.level.entropy_bits),
            zipf_exponent: level.zipf_exponent,
            shared_counters: level.shared_counters,
            neighbour_bits: level.neighbour_bits,
            places: &level.places,
            labels: &level.labels,
            shards: &level.shards,
        }
    }

    fn of_bits(level: &'a BitUse) -> Level<'a> {
        Level {
            column: level.level.column,
            entropy_bits: None,
            zipf_exponent: None,
            shared_counters: true,
            neighbour_bits: level.neighbour_bits,
            places: &level.places,
            labels: &level.labels,
            shards: &level.shards,
        }
    }
}

pub(super) fn draw(page: &mut String, findings: &Findings) {
    let levels = findings.codebook.iter().map(Level::of_codes);
    for (nth, level) in levels.chain(findings.bits.iter().map(Level::of_bits)).enumerate() {
        let said = level.neighbour_bits.is_some() || level.zipf_exponent.is_some();
        let places = level.places.height * level.places.width > 1;
        if said || places || !level.labels.is_empty() || level.shards.len() > 1 {
            draw_level(page, nth, &level, places);
        }
    }
}

fn draw_level(page: &mut String, nth: usize, level: &Level, places: bool) {
    let id = if nth == 0 { "patterns".to_string() } else { format!("patterns-{nth}") };
    let title = match nth {
        0 => "Where codes are used".to_string(),
        _ => format!("Where codes are used, {}", level.column),
    };
    open_section(page, &id, &title, None);
    if let Some(bits) = level.neighbour_bits {
        let _ = write!(
            page,
            "<p>A token's left or upper neighbour tells {} {}: what a model of tokens gets from the \
             nearest one alone.</p>",
            short(bits),
            match level.entropy_bits {
                Some(all) => format!("of the {} bits that it holds", short(all)),
                None => "of its bits".into(),
            }
        );
    }
    if let Some(exponent) = level.zipf_exponent {
        let _ = write!(
            page,
            "<p class=soft>Uses fall with the rank to the power of {}; words of a language, with 1.</p>",
            short(exponent)
        );
    }
    if level.shared_counters {
        page.push_str("<p class=soft>Some codes share a counter here: numbers are at most what they would be.</p>");
    }
    if places {
        draw_places(page, level.places);
    }
    draw_drifts(page, "Labels whose codes differ most from the others'", "label", level.labels);
    draw_drifts(page, "Shards against the others", "shards", level.shards);
    page.push_str("</section>");
}

fn draw_places(page: &mut String, places: &Places) {
    let maps = [
        (
            "Entropy by place",
            "Entropy of the codes at each place of the grid",
            &places.entropy_bits,
        ),
        (
            "Difference by place",
            "How far the codes at each place are from those at all others",
            &places.divergence,
        ),
    ];
    page.push_str("<div class=maps>");
    for (title, name, values) in maps {
        let _ = write!(page, "<div><h3>{title}</h3>");
        heat_map(page, name, places.width, values);
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let _ = write!(page, "<p class=soft>{} (pale) to {} bits</p>", short(low), short(high));
        page.push_str("<details class=long><summary>The numbers</summary>");
        wide(page, |page| {
            let cell = |value: &f64| format!("<td class=n>{}</td>", short(*value));
            let rows = values.chunks(places.width.max(1));
            table(page, &[""], rows.map(|row| row.iter().map(cell).collect()));
        });
        page.push_str("</details></div>");
    }
    page.push_str("</div>");
}

/// The rows that are furthest from the others.
fn draw_drifts(page: &mut String, title: &str, what: &str, drifts: &[Drift]) {
    if drifts.is_empty() {
        return;
    }
    let mut drifts: Vec<&Drift> = drifts.iter().collect();
    drifts.sort_by(|a, b| b.divergence.total_cmp(&a.divergence));
    let shown = drifts.len().min(LISTED);
    let _ = write!(
        page,
        "<details><summary>{} <span class=n>{}</span></summary>",
        escape(title),
        count(shown)
    );
    wide(page, |page| {
        let row = |drift: &&Drift| {
            let z = drift.z.map_or("–".into(), |z| format!("{z:.1}"));
            vec![
                format!("<td>{}</td>", super::cards::cell(&drift.of.join(" to "))),
                number(drift.rows),
                format!("<td class=n>{}</td>", short(drift.divergence)),
                format!("<td class=n>{z}</td>"),
            ]
        };
        let heads = [what, "rows", "divergence, bits", "deviations above chance"];
        table(page, &heads, drifts.iter().take(shown).map(row));
    });
    page.push_str("</details>");
}
