//! Owns the pieces of the self-contained pages: style, tables, inline SVG charts; no scripts,
//! nothing fetched. Must not know: what is shown.
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

/// Colours of series in a chart, by position.
pub(crate) const COLOURS: [&str; 5] =
    ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)"];

/// The head of a page up to its heading; `style` adds to the common one.
pub(crate) fn open_page(title: &str, style: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>{HTML_MARK}<meta name=viewport \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}{style}</style><h1>{0}</h1>",
        escape(title)
    )
}

/// Size of a chart and the room for its axes, in SVG units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    width: f64,
    height: f64,
    left: f64,
    bottom: f64,
}

impl Frame {
    /// As wide as the page.
    pub(crate) const WIDE: Frame = Frame { width: 860.0, height: 240.0, left: 64.0, bottom: 28.0 };
    /// Half of that.
    pub(crate) const HALF: Frame = Frame { width: 420.0, height: 190.0, left: 52.0, bottom: 26.0 };

    const TOP: f64 = 12.0;
    const RIGHT: f64 = 16.0;

    /// The place of a share from 0 (left) to 1 of the horizontal axis.
    pub(crate) fn x(&self, share: f64) -> f64 {
        self.left + (self.width - self.left - Frame::RIGHT) * share
    }

    /// The place of a share from 0 (bottom) to 1 of the vertical axis.
    pub(crate) fn y(&self, share: f64) -> f64 {
        Frame::TOP + (self.height - Frame::TOP - self.bottom) * (1.0 - share)
    }

    pub(crate) fn open(&self, page: &mut String) {
        let _ = write!(page, "<svg viewBox=\"0 0 {} {}\" role=img>", self.width, self.height);
    }

    pub(crate) fn tick_x(&self, page: &mut String, share: f64, label: &str) {
        let (x, y) = (self.x(share), self.height - 9.0);
        let label = escape(label);
        let _ = write!(page, "<text x={x:.1} y={y} text-anchor=middle>{label}</text>");
    }

    pub(crate) fn tick_y(&self, page: &mut String, share: f64, label: &str) {
        let (left, x, y) = (self.left, self.left - 6.0, self.y(share));
        let _ = write!(
            page,
            "<line x1={left} x2={} y1={y:.1} y2={y:.1} class=grid /><text x={x} y={:.1} \
             text-anchor=end>{}</text>",
            self.width - Frame::RIGHT,
            y + 4.0,
            escape(label)
        );
    }
}

/// Uses of codes by rank, both axes logarithmic; points are (rank from 1, uses).
pub(crate) fn rank_frequency(page: &mut String, frame: Frame, points: &[(u64, u64)]) {
    let high = points.first().map_or(1, |point| point.1).max(2) as f64;
    let far = points.last().map_or(1, |point| point.0).max(2) as f64;
    let (x, y) = (|rank: f64| rank.ln() / far.ln(), |uses: f64| uses.ln() / high.ln());
    frame.open(page);
    let decades = |limit: f64| (0..).map(|i| 10_f64.powi(i)).take_while(move |v| *v <= limit);
    for rank in decades(far) {
        frame.tick_x(page, x(rank), &numbers::count(rank as u64));
    }
    for uses in decades(high) {
        frame.tick_y(page, y(uses), &numbers::count(uses as u64));
    }
    let points: Vec<(f64, f64)> =
        points.iter().map(|&(rank, uses)| (x(rank as f64), y(uses as f64))).collect();
    polyline(page, frame, &points, COLOURS[0]);
    page.push_str("</svg>");
}

/// A line through points given as shares of the axes.
fn polyline(page: &mut String, frame: Frame, points: &[(f64, f64)], colour: &str) {
    let mut places = String::new();
    for &(x, y) in points {
        let _ = write!(places, "{:.1},{:.1} ", frame.x(x), frame.y(y));
    }
    let places = places.trim_end();
    let _ = write!(page, "<polyline class=line points=\"{places}\" style=\"stroke:{colour}\" />");
}

/// Codes by number of uses as bars: `by_uses[0]` were never used, `by_uses[i]` 2^(i-1) to 2^i - 1
/// times.
pub(crate) fn codes_by_uses(page: &mut String, frame: Frame, by_uses: &[u64]) {
    let label = |i: usize| match i {
        0 => "0".to_string(),
        1 => "1".to_string(),
        i => format!("{}+", numbers::count(1 << (i - 1))),
    };
    let bars: Vec<_> = by_uses.iter().enumerate().map(|(i, &n)| (label(i), n)).collect();
    bar_chart(page, frame, &bars);
}

/// (label, count) as bars.
pub(crate) fn bar_chart(page: &mut String, frame: Frame, bars: &[(String, u64)]) {
    let high = bars.iter().map(|bar| bar.1).max().unwrap_or(0).max(1) as f64;
    let step = 1.0 / bars.len().max(1) as f64;
    let wide = (frame.x(step) - frame.x(0.0) - 1.0).max(0.5);
    let labelled = (bars.len() as f64 * 60.0 / frame.width).ceil().max(1.0) as usize;
    frame.open(page);
    frame.tick_y(page, 1.0, &numbers::count(high as u64));
    frame.tick_y(page, 0.0, "0");
    for (i, (label, count)) in bars.iter().enumerate() {
        let (share, x) = (*count as f64 / high, frame.x(step * i as f64));
        let top = frame.y(share);
        let _ = write!(
            page,
            "<rect x={x:.1} y={top:.1} width={wide:.1} height={:.1} style=\"fill:{}\"><title>{}: \
             {}</title></rect>",
            frame.y(0.0) - top,
            COLOURS[0],
            escape(label),
            numbers::count(*count)
        );
        if i % labelled == 0 {
            frame.tick_x(page, step * (i as f64 + 0.5), label);
        }
    }
    page.push_str("</svg>");
}

/// One line of a [`line_chart`].
pub(crate) struct Series {
    /// (x, y), x rising.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Points that a line is drawn with at most; of more, the means of equal parts are drawn, with a
/// band from the least to the largest.
const POINTS_MAX: usize = 240;

/// Lines over one axis, each in its colour. With `log`, where all values are above 0 and differ
/// widely, the vertical axis is logarithmic. `marks` are places on the horizontal axis.
pub(crate) fn line_chart(
    page: &mut String,
    frame: Frame,
    series: &[Series],
    log: bool,
    marks: &[f64],
) {
    let all = || series.iter().flat_map(|s| &s.points);
    let far = all().map(|p| p.0).fold(1.0, f64::max);
    let low = all().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let scale = Scale::new(low, high, log);
    frame.open(page);
    for (share, label) in scale.ticks() {
        frame.tick_y(page, share, &label);
    }
    let across = Scale { low: 0.0, high: far, log: false };
    for (share, label) in across.ticks() {
        frame.tick_x(page, share, &label);
    }
    for mark in marks {
        let (x, y) = (frame.x(across.share(*mark)), frame.y(0.0));
        let _ = write!(
            page,
            "<path d=\"M{x:.1} {y:.1}l-4 7h8z\" style=\"fill:var(--c1)\"><title>warning, step \
             {mark}</title></path>"
        );
    }
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        draw_series(page, frame, series, (&across, &scale), colour);
    }
    page.push_str("</svg>");
}

fn draw_series(
    page: &mut String,
    frame: Frame,
    series: &Series,
    (across, scale): (&Scale, &Scale),
    colour: &str,
) {
    let part = series.points.len().div_ceil(POINTS_MAX).max(1);
    let mean = |part: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| {
        part.iter().map(pick).sum::<f64>() / part.len() as f64
    };
    let parts = || series.points.chunks(part);
    let x = |part: &[(f64, f64)]| across.share(mean(part, |p| p.0));
    if part > 1 {
        let edge = |part: &[(f64, f64)], low: bool| {
            let value = part.iter().map(|p| p.1);
            let value = if low {
                value.fold(f64::INFINITY, f64::min)
            } else {
                value.fold(f64::NEG_INFINITY, f64::max)
            };
            format!("{:.1},{:.1}", frame.x(x(part)), frame.y(scale.share(value)))
        };
        let mut places: Vec<String> = parts().map(|part| edge(part, false)).collect();
        places.extend(series.points.chunks(part).rev().map(|part| edge(part, true)));
        let places = places.join(" ");
        let _ = write!(page, "<polygon class=band points=\"{places}\" style=\"fill:{colour}\" />");
    }
    let points: Vec<(f64, f64)> =
        parts().map(|part| (x(part), scale.share(mean(part, |p| p.1)))).collect();
    match points.as_slice() {
        [(x, y)] => {
            let (x, y) = (frame.x(*x), frame.y(*y));
            let _ = write!(page, "<circle cx={x:.1} cy={y:.1} r=3 style=\"fill:{colour}\" />");
        }
        points => polyline(page, frame, points, colour),
    }
}

/// The way from values to shares of an axis.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    /// Over values from `low` to `high`, with a little room.
    fn new(low: f64, high: f64, log: bool) -> Scale {
        if !low.is_finite() || !high.is_finite() {
            return Scale { low: 0.0, high: 1.0, log: false };
        }
        if log && low > 0.0 && high / low > 8.0 {
            return Scale { low: low / 1.1, high: high * 1.1, log: true };
        }
        let room = match high - low {
            0.0 => low.abs().max(1.0) * 0.5,
            span => span * 0.05,
        };
        // What is never negative starts at 0 where that is near.
        let bottom = if low >= 0.0 && low < (high - low) * 0.5 { 0.0 } else { low - room };
        Scale { low: bottom, high: high + room, log: false }
    }

    fn share(&self, value: f64) -> f64 {
        match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        }
    }

    /// Round values with their places.
    fn ticks(&self) -> Vec<(f64, String)> {
        let values: Vec<f64> = if self.log {
            let decades = (self.high / self.low).log10();
            let first = self.low.log10().floor() as i32;
            let digits: &[f64] = if decades > 2.5 { &[1.0] } else { &[1.0, 3.0] };
            let every = (decades / 5.0).ceil().max(1.0) as usize;
            (first..=self.high.log10().ceil() as i32)
                .step_by(every)
                .flat_map(|e| digits.iter().map(move |d| d * 10_f64.powi(e)))
                .collect()
        } else {
            let step = round_step((self.high - self.low) / 4.0);
            let first = (self.low / step).ceil() as i64;
            (first..=(self.high / step).floor() as i64).map(|i| i as f64 * step).collect()
        };
        let inside = values.into_iter().filter(|v| (self.low..=self.high).contains(v));
        let inside: Vec<f64> = inside.collect();
        inside.iter().map(|v| self.share(*v)).zip(labels(&inside)).collect()
    }
}

/// The round number (1, 2 or 5 times a power of ten) next above `value`.
fn round_step(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|d| d * power >= value * 0.999_999);
    digit.unwrap_or(10.0) * power
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

    #[test]
    fn ticks_are_round_and_inside() {
        let labels = |low, high, log| {
            let ticks = Scale::new(low, high, log).ticks();
            assert!(ticks.iter().all(|(share, _)| (0.0..=1.0).contains(share)), "{ticks:?}");
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(0.0, 1000.0, false), "0 500 1,000");
        assert_eq!(labels(17.2, 23.4, false), "18 20 22");
        assert_eq!(labels(-3.0, 3.0, false), "-2 0 2");
        assert_eq!(labels(5.0, 5.0, false), "4 6");
        assert_eq!(labels(0.01, 2.0, true), "0.01 0.03 0.1 0.3 1");
        assert_eq!(labels(1e-7, 10.0, true), "10⁻⁶ 0.0001 0.01 1");
        assert_eq!(labels(f64::INFINITY, f64::NEG_INFINITY, true), "0 0.5 1");
    }

    #[test]
    fn long_lines_are_drawn_by_parts_and_single_points_as_dots() {
        let draw = |n: usize| {
            let points = (0..n).map(|i| (i as f64, (i % 7) as f64)).collect();
            let mut page = String::new();
            line_chart(&mut page, Frame::HALF, &[Series { points }], false, &[2.0]);
            page
        };
        let long = draw(10_000);
        assert!(long.contains("polygon class=band") && long.len() < 12_000, "{}", long.len());
        assert!(!draw(100).contains("polygon") && draw(100).contains("polyline"));
        assert!(draw(1).contains("<circle") && draw(1).contains("warning, step 2"));
        assert!(draw(0).ends_with("</svg>"));
    }
}
