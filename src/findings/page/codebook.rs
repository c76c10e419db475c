//! Owns how the use of a codebook is shown: a part of the page of an audit, and the whole page of a
//! report. Must not know: where the facts come from, how charts are drawn.

use std::fmt::Write;

use super::bits;
use super::facts::{self, wide};
use super::frame::open_section;
use super::style;
use crate::audit::report::{AuditReport, ErrorReport, LevelReport};
use crate::util::charts::{Frame, bar_chart, codes_by_uses, rank_frequency};
use crate::util::html::{
    POLICY, big, escape, labels, number, open_head, percent, significant, table, text,
};
use crate::util::numbers;

/// The page of a report alone. The same report gives the same bytes.
pub(crate) fn render(report: &AuditReport) -> String {
    let name = report.made_by.get("family").map_or("tokens", String::as_str);
    let mut page = open_head(&format!("{name}: token audit"), style::STYLE);
    page.push_str(POLICY);
    let _ = write!(
        page,
        "<body><header><p class=kick>vqtok report</p><h1>{}: token audit</h1><p>",
        escape(name)
    );
    let total = report.rows + report.failed;
    big(&mut page, &numbers::count(report.rows), "rows of tokens");
    let failed = format!("images failed, of {}", numbers::count(total));
    big(&mut page, &numbers::count(report.failed), &failed);
    for level in &report.levels {
        big(&mut page, &percent(level.used, level.codes), "of the codes used");
        big(&mut page, &format!("{:.1}", level.perplexity), "perplexity");
    }
    bits::draw_head(&mut page, report);
    page.push_str("</p></header>");
    draw(&mut page, report);
    facts::draw(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

/// The part of a page about the codebook.
pub(super) fn draw(page: &mut String, report: &AuditReport) {
    for (nth, level) in report.levels.iter().enumerate() {
        draw_level(page, nth, level);
    }
    bits::draw(page, report);
    if let Some(errors) = &report.quantization_error {
        draw_errors(page, errors);
    }
}

fn draw_level(page: &mut String, nth: usize, level: &LevelReport) {
    let id = if nth == 0 { "codebook".to_string() } else { format!("codebook-{nth}") };
    let _ = write!(
        page,
        "<section id={id}><h2>Codebook of <code>{}</code></h2><p>{}; {} of {} used; entropy {:.4} \
         bits of {:.4}; perplexity {:.1}.</p>",
        level.column,
        numbers::counted(level.tokens, "token"),
        numbers::count(level.used),
        numbers::counted(level.codes, "code"),
        level.entropy_bits,
        (level.codes.max(1) as f64).log2(),
        level.perplexity
    );
    if level.codes > level.used {
        let dead = level.codes - level.used;
        let _ = write!(
            page,
            "<p class=soft>{} never used: room that a model on these tokens pays for and can't \
             fill.</p>",
            if dead == 1 {
                "1 code is".into()
            } else {
                format!("{} codes are", numbers::count(dead))
            }
        );
    }
    draw_uses(page, level);
    page.push_str("<details><summary>Most and least used codes</summary><div class=pair>");
    for (title, codes) in [("Most used", &level.most_used), ("Least used", &level.least_used)] {
        let _ = write!(page, "<div><h3>{title}</h3>");
        let rows = codes.iter().map(|&(code, uses)| {
            vec![number(u64::from(code)), number(uses), text(&percent(uses, level.tokens))]
        });
        table(page, &["code", "uses", "share"], rows);
        page.push_str("</div>");
    }
    page.push_str("</div></details></section>");
}

fn draw_uses(page: &mut String, level: &LevelReport) {
    page.push_str("<div class=charts><div><h3>Uses by rank</h3>");
    let frame = Frame::HALF.named("Uses of the codes by their rank");
    rank_frequency(page, frame, &level.rank_frequency);
    let row = |&(rank, uses): &(u64, u64)| vec![number(rank), number(uses)];
    folded(page, &["rank", "uses"], some(&level.rank_frequency).map(row));
    page.push_str("</div><div><h3>Codes by number of uses</h3>");
    codes_by_uses(page, Frame::HALF.named("Codes by their number of uses"), &level.by_uses);
    let uses = |i: usize| match i {
        0 => "0".to_string(),
        1 => "1".to_string(),
        i => {
            let least = 1_u64 << (i - 1);
            format!("{} to {}", numbers::count(least), numbers::count(2 * least - 1))
        }
    };
    let rows = level.by_uses.iter().enumerate();
    let rows = rows.map(|(i, &codes)| vec![text(&uses(i)), number(codes)]);
    folded(page, &["uses", "codes"], rows);
    page.push_str("</div></div>");
}

/// A chart's numbers beneath it.
fn folded(page: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    page.push_str("<details><summary>The numbers</summary>");
    wide(page, |page| table(page, heads, rows));
    page.push_str("</details>");
}

/// Up to 32 of them at even steps, the last among them.
fn some<T>(points: &[T]) -> impl Iterator<Item = &T> {
    let step = points.len().div_ceil(32).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(move |(i, _)| i % step == 0 || *i == last).map(|(_, p)| p)
}

fn draw_errors(page: &mut String, errors: &ErrorReport) {
    open_section(page, "errors", "Quantization error", None);
    let _ = write!(
        page,
        "<p>Mean squared distance of a row's latents to their codes: mean {}, {} to {}, over {}.</p>",
        significant(errors.mean, 6),
        significant(errors.min, 6),
        significant(errors.max, 6),
        numbers::counted(errors.rows, "row")
    );
    let edges: Vec<f64> = errors.histogram.iter().map(|bar| bar.0).collect();
    let counts = errors.histogram.iter().map(|bar| bar.1);
    let bars: Vec<_> = labels(&edges).into_iter().zip(counts).collect();
    page.push_str("<div class=charts><div>");
    bar_chart(page, Frame::HALF.named("Rows by their quantization error"), &bars);
    let row = |(edge, rows): &(String, u64)| vec![text(edge), number(*rows)];
    folded(page, &["from", "rows"], bars.iter().map(row));
    page.push_str("</div></div></section>");
}
