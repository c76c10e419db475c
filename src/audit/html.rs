//! Owns drawing an [`AuditReport`] as one self-contained page: inline SVG, no scripts, nothing
//! fetched. Must not know: where the facts come from.

use std::fmt::Write;

use super::report::{AuditReport, ErrorReport, LevelReport};

const STYLE: &str = "
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{font-weight:600;border-bottom:1px solid #d0d7de}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;background:#f6f8fa;border-radius:6px}svg text{font:11px system-ui,sans-serif;fill:#57606a}
.pair{display:flex;gap:3rem;flex-wrap:wrap}.big{font-size:1.4rem;font-weight:600;margin-right:2rem}.big small{display:block;font-size:.75rem;font-weight:400;color:#57606a}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}svg{background:#161b22}th{border-color:#30363d}svg text,.big small{fill:#9198a1;color:#9198a1}}
";

/// Width and height of a chart, and the room for its axes, in SVG units.
const SIZE: (f64, f64) = (860.0, 240.0);
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 12.0;

/// The page. The same report gives the same bytes.
pub fn render(report: &AuditReport) -> String {
    let mut page = String::new();
    let name = report.made_by.get("family").map_or("tokens", String::as_str);
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width\"><title>{0}: token audit</title><style>{STYLE}</style>\
         <h1>{0}: token audit</h1><p>",
        escape(name)
    );
    let total = report.rows + report.failed;
    big(&mut page, &thousands(report.rows), "rows of tokens");
    big(&mut page, &thousands(report.failed), &format!("images failed, of {}", thousands(total)));
    for level in &report.levels {
        big(&mut page, &percent(level.used, level.codes), "of the codes used");
        big(&mut page, &format!("{:.1}", level.perplexity), "perplexity");
    }
    page.push_str("</p>");
    for (index, level) in report.levels.iter().enumerate() {
        draw_level(&mut page, level, if index == 0 { "tokens" } else { "tokens_top" });
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

fn draw_level(page: &mut String, level: &LevelReport, name: &str) {
    let _ = write!(
        page,
        "<h2>Codebook of <code>{name}</code></h2><p>{} tokens; {} of {} codes used; entropy {:.4} \
         bits of {:.4}; perplexity {:.1}.</p>",
        thousands(level.tokens),
        thousands(level.used),
        thousands(level.codes),
        level.entropy_bits,
        (level.codes.max(1) as f64).log2(),
        level.perplexity
    );
    page.push_str("<h3>Uses by rank</h3>");
    rank_frequency(page, level);
    page.push_str("<h3>Codes by number of uses</h3>");
    let label = |i: usize| match i {
        0 => "0".to_string(),
        1 => "1".to_string(),
        i => format!("{}+", thousands(1 << (i - 1))),
    };
    let bars: Vec<_> = level.by_uses.iter().enumerate().map(|(i, &n)| (label(i), n)).collect();
    bar_chart(page, &bars);
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

/// Both axes logarithmic.
fn rank_frequency(page: &mut String, level: &LevelReport) {
    let (width, height) = SIZE;
    let high = level.rank_frequency.first().map_or(1, |point| point.1).max(2) as f64;
    let far = level.rank_frequency.last().map_or(1, |point| point.0).max(2) as f64;
    let x = |rank: f64| LEFT + (width - LEFT - 16.0) * rank.ln() / far.ln();
    let y = |uses: f64| TOP + (height - TOP - BOTTOM) * (1.0 - uses.ln() / high.ln());
    open_chart(page);
    let decades = |limit: f64| (0..).map(|i| 10_f64.powi(i)).take_while(move |v| *v <= limit);
    for rank in decades(far) {
        tick_x(page, x(rank), &thousands(rank as u64));
    }
    for uses in decades(high) {
        tick_y(page, y(uses), &thousands(uses as u64));
    }
    let mut points = String::new();
    for &(rank, uses) in &level.rank_frequency {
        let _ = write!(points, "{:.1},{:.1} ", x(rank as f64), y(uses as f64));
    }
    let _ = write!(
        page,
        "<polyline points=\"{}\" fill=none stroke=#0969da stroke-width=2 /></svg>",
        points.trim_end()
    );
}

fn draw_errors(page: &mut String, errors: &ErrorReport) {
    let _ = write!(
        page,
        "<h2>Quantization error</h2><p>Mean squared distance of a row's latents to their codes: \
         mean {:.6}, {:.6} to {:.6}, over {} rows.</p>",
        errors.mean,
        errors.min,
        errors.max,
        thousands(errors.rows)
    );
    let bars: Vec<_> = errors.histogram.iter().map(|&(e, n)| (format!("{e:.3e}"), n)).collect();
    bar_chart(page, &bars);
}

fn draw_labels(page: &mut String, report: &AuditReport) {
    if report.labels.is_empty() {
        return;
    }
    let _ = write!(page, "<h2>Labels</h2><p>{} labels.", thousands(report.labels.len() as u64));
    if report.further_labels > 0 {
        let _ = write!(page, " {} rows have further ones.", thousands(report.further_labels));
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
    let _ = write!(page, "<h2>Failures</h2><p>{} images.</p>", thousands(report.failed));
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

fn bar_chart(page: &mut String, bars: &[(String, u64)]) {
    let (width, height) = SIZE;
    let high = bars.iter().map(|bar| bar.1).max().unwrap_or(0).max(1) as f64;
    let step = (width - LEFT - 16.0) / bars.len().max(1) as f64;
    let labelled = bars.len().div_ceil(14).max(1);
    open_chart(page);
    for (i, (label, count)) in bars.iter().enumerate() {
        let x = LEFT + step * i as f64;
        let tall = (height - TOP - BOTTOM) * *count as f64 / high;
        let _ = write!(
            page,
            "<rect x={x:.1} y={:.1} width={:.1} height={tall:.1} fill=#0969da><title>{}: \
             {}</title></rect>",
            height - BOTTOM - tall,
            (step - 1.0).max(0.5),
            escape(label),
            thousands(*count)
        );
        if i % labelled == 0 {
            tick_x(page, x + step / 2.0, label);
        }
    }
    tick_y(page, TOP, &thousands(high as u64));
    tick_y(page, height - BOTTOM, "0");
    page.push_str("</svg>");
}

fn open_chart(page: &mut String) {
    let _ = write!(page, "<svg viewBox=\"0 0 {} {}\" role=img>", SIZE.0, SIZE.1);
}

fn tick_x(page: &mut String, x: f64, label: &str) {
    let y = SIZE.1 - 10.0;
    let label = escape(label);
    let _ = write!(page, "<text x={x:.1} y={y} text-anchor=middle>{label}</text>");
}

fn tick_y(page: &mut String, y: f64, label: &str) {
    let (x, middle) = (LEFT - 6.0, y + 4.0);
    let _ = write!(
        page,
        "<line x1={LEFT} x2={} y1={y:.1} y2={y:.1} stroke=#8886 /><text x={x} y={middle:.1} \
         text-anchor=end>{}</text>",
        SIZE.0 - 16.0,
        escape(label)
    );
}

fn big(page: &mut String, value: &str, name: &str) {
    let _ = write!(
        page,
        "<span class=big style=display:inline-block>{}<small>{}</small></span>",
        escape(value),
        escape(name)
    );
}

fn table(page: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    page.push_str("<table>");
    if heads.iter().any(|head| !head.is_empty()) {
        page.push_str("<tr>");
        for head in heads {
            let _ = write!(page, "<th>{}</th>", escape(head));
        }
        page.push_str("</tr>");
    }
    for row in rows {
        let _ = write!(page, "<tr>{}</tr>", row.concat());
    }
    page.push_str("</table>");
}

fn text(value: &str) -> String {
    format!("<td>{}</td>", escape(value))
}

fn number(value: u64) -> String {
    format!("<td class=n>{}</td>", thousands(value))
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    // Chunks of ASCII digits are valid text.
    let groups: Vec<_> = groups.map(|g| String::from_utf8_lossy(g).into_owned()).collect();
    groups.join(",")
}

/// Text of the data set's owner, or of an attacker, as text: markup and control characters lose
/// their meaning.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Controls, and marks that reorder what is read.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}
