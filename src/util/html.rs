//! Owns the pieces of the self-contained pages: style, tables, numbers; no scripts, nothing fetched. Must not know: what is shown.
//!
//! The same facts give the same bytes.

use crate::util::overwrite::HTML_MARK;
use crate::util::text;
use std::fmt::Write;

use crate::util::numbers;

const STYLE: &str = "
:root{--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--paper:#fff;--card:#f6f8fa;--c0:#0969da;--c1:#bc4c00;--c2:#1a7f37;--c3:#8250df;--c4:#bf3989;--warn:#fff8c5}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#30363d;--paper:#0d1117;--card:#161b22;--c0:#4493f8;--c1:#db6d28;--c2:#3fb950;--c3:#ab7df8;--c4:#db61a2;--warn:#2e2a1f}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem}h3{font-size:.95rem;margin:1.2rem 0 .4rem}.soft{color:var(--soft)}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{font-weight:600;border-bottom:1px solid var(--line)}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{display:block;width:100%;height:auto;background:var(--card);border-radius:6px}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg .grid{stroke:var(--line)}svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}svg .band{opacity:.16}
.pair{display:flex;gap:3rem;flex-wrap:wrap}.big{display:inline-block;font-size:1.4rem;font-weight:600;margin:.4rem 2rem .4rem 0;font-variant-numeric:tabular-nums}.big small{display:block;font-size:.75rem;font-weight:400;color:var(--soft)}
";

/// Nothing is fetched and nothing runs, whatever a name says.
pub(crate) const POLICY: &str = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; \
                      img-src data:; style-src 'unsafe-inline'\">";

/// Colours of series in a chart, by position.
pub(crate) const COLOURS: [&str; 5] =
    ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)"];

/// A page up to its heading; `style` adds to the common one.
pub(crate) fn open_page(title: &str, style: &str) -> String {
    format!("{}<h1>{}</h1>", open_head(title, style), escape(title))
}

/// The head of a page that has a heading of its own.
pub(crate) fn open_head(title: &str, style: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>{HTML_MARK}<meta name=viewport \
         content=\"width=device-width\"><title>{}</title><style>{STYLE}{style}</style>",
        escape(title)
    )
}

/// A number in few characters.
pub(crate) fn short(value: f64) -> String {
    significant(value, 3)
}

/// A number rounded to that many digits that count, without an exponent where it can be read so.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 {
        return numbers::number(value);
    }
    if !(1e-5..1e7).contains(&size) {
        let text = format!("{value:.*e}", digits.saturating_sub(2));
        // Of the form `1.5e-7`, since the number is finite.
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let power = format!("10{}", superscript(exponent));
        return match without_zeros(mantissa) {
            "1" => power,
            "-1" => format!("-{power}"),
            mantissa => format!("{mantissa}×{power}"),
        };
    }
    let after = (digits as i32 - 1 - size.log10().floor() as i32).clamp(0, 15) as usize;
    let text = format!("{size:.after$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let whole = numbers::count(whole.parse::<u64>().unwrap_or(0));
    let sign = if value < 0.0 { "-" } else { "" };
    match part.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part}"),
    }
}

/// Labels of rising values, with as many digits as tell them apart.
pub(crate) fn labels(values: &[f64]) -> Vec<String> {
    let labelled =
        |digits: usize| values.iter().map(|v| significant(*v, digits)).collect::<Vec<_>>();
    let apart = |labels: &Vec<String>| labels.windows(2).all(|pair| pair[0] != pair[1]);
    (3..12).map(labelled).find(apart).unwrap_or_else(|| labelled(12))
}

fn without_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

fn superscript(number: &str) -> String {
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = |c: char| c.to_digit(10).map_or('⁻', |digit| digits[digit as usize]);
    number.chars().map(raised).collect()
}

pub(crate) fn big(page: &mut String, value: &str, name: &str) {
    let (value, name) = (escape(value), escape(name));
    let _ = write!(page, "<span class=big>{value}<small>{name}</small></span>");
}

pub(crate) fn table(page: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
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

/// A cell of text.
pub(crate) fn text(value: &str) -> String {
    format!("<td>{}</td>", escape(value))
}

/// A cell with a count.
pub(crate) fn number(value: u64) -> String {
    format!("<td class=n>{}</td>", numbers::count(value))
}

pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// Text of the data set's owner, or of an attacker, as text: markup and control characters lose
/// their meaning.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text::printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_say_what_they_are() {
        let said = [0.0, 1.0, -0.25, 23.456, 512.0, 12_345.6, -2000.0, 2e6, 0.0004, 99.96, 0.012]
            .map(short);
        let expected = [
            "0",
            "1",
            "-0.25",
            "23.5",
            "512",
            "12,346",
            "-2,000",
            "2,000,000",
            "0.0004",
            "100",
            "0.012",
        ];
        assert_eq!(said, expected);
        let odd = [1e7, -2.5e9, 1e300, 4e-6, f64::NAN].map(short);
        assert_eq!(odd, ["10⁷", "-2.5×10⁹", "10³⁰⁰", "4×10⁻⁶", "not a number"]);
        assert_eq!(labels(&[1.125, 1.1255, 1.126]), ["1.125", "1.1255", "1.126"]);
        assert_eq!(labels(&[0.5, 1.0]), ["0.5", "1"]);
    }
}
