//! Owns charts as SVG in a page: axes, lines, bars.

use std::fmt::Write;

use crate::util::html::{COLOURS, escape, labels, short};
use crate::util::numbers;

/// Size of a chart and the room for its axes, in SVG units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    width: f64,
    height: f64,
    left: f64,
    bottom: f64,
    /// What it shows, for those who can't see it.
    name: &'static str,
}

impl Frame {
    /// Two of them stand beside each other, and one fits a phone.
    pub(crate) const HALF: Frame =
        Frame { width: 420.0, height: 190.0, left: 52.0, bottom: 26.0, name: "" };

    const TOP: f64 = 12.0;
    const RIGHT: f64 = 16.0;

    /// The same with what it shows.
    pub(crate) fn named(self, name: &'static str) -> Frame {
        Frame { name, ..self }
    }

    /// The place of a share from 0 (left) to 1 of the horizontal axis.
    pub(crate) fn x(&self, share: f64) -> f64 {
        self.left + (self.width - self.left - Frame::RIGHT) * share
    }

    /// The place of a share from 0 (bottom) to 1 of the vertical axis.
    pub(crate) fn y(&self, share: f64) -> f64 {
        Frame::TOP + (self.height - Frame::TOP - self.bottom) * (1.0 - share)
    }

    pub(crate) fn open(&self, page: &mut String) {
        let name = match self.name {
            "" => String::new(),
            name => format!(" aria-label=\"{}\"", escape(name)),
        };
        let _ = write!(page, "<svg viewBox=\"0 0 {} {}\" role=img{name}>", self.width, self.height);
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

/// Values of a grid of that width, row by row, the largest in the fullest colour.
pub(crate) fn heat_map(page: &mut String, name: &str, width: usize, values: &[f64]) {
    let (width, height) = (width.max(1), values.len().div_ceil(width.max(1)));
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Cells of ten units.
    let (across, down, name) = (10 * width, 10 * height, escape(name));
    let _ = write!(page, "<svg viewBox=\"0 0 {across} {down}\" role=img aria-label=\"{name}\">");
    for (at, value) in values.iter().enumerate() {
        let (x, y) = (10 * (at % width), 10 * (at / width));
        let span = if high > low { (value - low) / (high - low) } else { 0.5 };
        let share = 0.08 + 0.92 * span;
        let _ = write!(
            page,
            "<rect x={x} y={y} width=10 height=10 fill-opacity={share:.2} style=\"fill:{}\">\
             <title>{}</title></rect>",
            COLOURS[0],
            short(*value)
        );
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_map_has_a_cell_a_value_and_the_largest_is_fullest() {
        let mut page = String::new();
        heat_map(&mut page, "a <map>", 3, &[1.0, 2.0, 3.0, 1.5, 2.0, 2.5]);
        assert!(page.contains("viewBox=\"0 0 30 20\"") && page.contains("a &lt;map&gt;"));
        assert_eq!(
            (page.matches("<rect").count(), page.matches("fill-opacity=1.00").count()),
            (6, 1)
        );
        assert!(page.contains("x=20 y=0 width=10 height=10 fill-opacity=1.00"));
        let mut equal = String::new();
        heat_map(&mut equal, "", 2, &[4.0, 4.0]);
        assert_eq!(equal.matches("fill-opacity=0.54").count(), 2);
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
