//! Owns what an [`AuditReport`] looks like as one self-contained page. Must not know: where the facts
//! come from, how charts are drawn.

use std::fmt::Write;

use super::report::{AuditReport, ErrorReport, LevelReport};
use crate::util::charts::{Frame, bar_chart, codes_by_uses, rank_frequency};
use crate::util::html::{
    big, escape, labels, number, open_page, percent, significant, table, text,
};
use crate::util::numbers;

/// The page. The same report gives the same bytes.
pub(crate) fn render(report: &AuditReport) -> String {
    let name = report.made_by.get("family").map_or("tokens", String::as_str);
    let mut page = open_page(&format!("{name}: token audit"), "");
    page.push_str("<p>");
    let total = report.rows + report.failed;
    big(&mut page, &numbers::count(report.rows), "rows of tokens");
    big(
        &mut page,
        &numbers::count(report.failed),
        &format!("images failed, of {}", numbers::count(total)),
    );
    for level in &report.levels {
        big(&mut page, &percent(level.used, level.codes), "of the codes used");
        big(&mut page, &format!("{:.1}", level.perplexity), "perplexity");
    }
    page.push_str("</p>");
    draw_problems(&mut page, report);
    for level in &report.levels {
        draw_level(&mut page, level);
    }
    if let Some(errors) = &report.quantization_error {
        draw_errors(&mut page, errors);
    }
    draw_labels(&mut page, report);
    draw_failures(&mut page, report);
    page.push_str("<h2>How it was made</h2>");
    let rows = report.made_by.iter().map(|(key, value)| vec![text(key), text(value)]);
    table(&mut page, &["", ""], rows);
    page.push_str("</html>\n");
    page
}

/// What is missing from the numbers below, before them.
fn draw_problems(page: &mut String, report: &AuditReport) {
    for note in &report.notes {
        let _ = write!(page, "<p><b>{}</b></p>", escape(note));
    }
    if report.unusable == 0 && report.problems.is_empty() {
        return;
    }
    let rows = numbers::counted(report.unusable, "row");
    let _ = write!(page, "<h2>What can't be used</h2><p>{rows}. The first:</p>");
    table(page, &[""], report.problems.iter().map(|problem| vec![text(problem)]));
}

fn draw_level(page: &mut String, level: &LevelReport) {
    let _ = write!(
        page,
        "<h2>Codebook of <code>{}</code></h2><p>{}; {} of {} used; entropy {:.4} \
         bits of {:.4}; perplexity {:.1}.</p>",
        level.column,
        numbers::counted(level.tokens, "token"),
        numbers::count(level.used),
        numbers::counted(level.codes, "code"),
        level.entropy_bits,
        (level.codes.max(1) as f64).log2(),
        level.perplexity
    );
    page.push_str("<h3>Uses by rank</h3>");
    rank_frequency(page, Frame::WIDE, &level.rank_frequency);
    page.push_str("<h3>Codes by number of uses</h3>");
    codes_by_uses(page, Frame::WIDE, &level.by_uses);
    page.push_str("<div class=pair>");
    for (title, codes) in [("Most used", &level.most_used), ("Least used", &level.least_used)] {
        let _ = write!(page, "<div><h3>{title}</h3>");
        let rows = codes.iter().map(|&(code, uses)| {
            vec![number(u64::from(code)), number(uses), text(&percent(uses, level.tokens))]
        });
        table(page, &["code", "uses", "share"], rows);
        page.push_str("</div>");
    }
    page.push_str("</div>");
}

fn draw_errors(page: &mut String, errors: &ErrorReport) {
    let _ = write!(
        page,
        "<h2>Quantization error</h2><p>Mean squared distance of a row's latents to their codes: \
         mean {}, {} to {}, over {}.</p>",
        significant(errors.mean, 6),
        significant(errors.min, 6),
        significant(errors.max, 6),
        numbers::counted(errors.rows, "row")
    );
    let edges: Vec<f64> = errors.histogram.iter().map(|bar| bar.0).collect();
    let counts = errors.histogram.iter().map(|bar| bar.1);
    let bars: Vec<_> = labels(&edges).into_iter().zip(counts).collect();
    bar_chart(page, Frame::WIDE, &bars);
}

fn draw_labels(page: &mut String, report: &AuditReport) {
    if report.labels.is_empty() {
        return;
    }
    let _ = write!(page, "<h2>Labels</h2><p>{}.", numbers::counted(report.labels.len(), "label"));
    if report.further_labels > 0 {
        let rows = numbers::counted(report.further_labels, "row");
        let have = if report.further_labels == 1 { "has" } else { "have" };
        let _ = write!(page, " {rows} {have} further ones.");
    }
    page.push_str("</p>");
    let mut labels: Vec<_> = report.labels.iter().collect();
    labels.sort_by_key(|(name, label)| (std::cmp::Reverse(label.rows), *name));
    let rows = labels.into_iter().take(200).map(|(name, label)| {
        let error = label.mean_error.map_or(String::new(), |error| format!("{error:.6}"));
        vec![text(name), number(label.rows), format!("<td class=n>{error}</td>")]
    });
    table(page, &["label", "rows", "mean quantization error"], rows);
}

fn draw_failures(page: &mut String, report: &AuditReport) {
    let _ = write!(page, "<h2>Failures</h2><p>{}.</p>", numbers::counted(report.failed, "image"));
    if report.failed == 0 {
        return;
    }
    let mut kinds: Vec<_> = report.failed_by_error.iter().collect();
    kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), *kind));
    let rows = kinds.into_iter().take(50).map(|(kind, &count)| vec![number(count), text(kind)]);
    table(page, &["images", "error"], rows);
    page.push_str("<h3>The first of them</h3>");
    let rows = report.failures.iter().take(200);
    let rows = rows.map(|f| vec![text(&f.key), text(&f.stage), text(&f.error)]);
    table(page, &["key", "stage", "error"], rows);
}
