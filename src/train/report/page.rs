//! Owns the page at the end of a training, `training.html`: one file, no scripts, nothing fetched.

use std::collections::BTreeMap;
use std::fmt::Write;

use image::{RgbImage, imageops};
use serde_json::Value;

use super::pictures::take_apart;
use super::record::Record;
use crate::data::contact_sheet::png;
use crate::error::Result;
use crate::metrics::LevelUse;
use crate::train::events::TrainSummary;
pub(crate) use crate::train::report::code_map::CodeMap;
use crate::train::report::code_map::data_uri;
use crate::util::charts::{Frame, Series, line_chart};
use crate::util::html::{COLOURS, big, escape, open_page, short, table, text};
use crate::util::numbers;

const STYLE: &str = "
.recon{display:grid;gap:4px;align-items:center;min-width:34rem}.recon img{display:block;width:100%;border-radius:4px}.recon .px{image-rendering:pixelated}
.recon span{font-size:.8rem;line-height:1.25;padding-right:.6rem;font-variant-numeric:tabular-nums}.recon small{display:block;color:var(--soft)}
.wide{overflow-x:auto}.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem 1.2rem;margin-top:1rem}.card h3{margin:.3rem 0;font-weight:600}
.key{font-weight:400;font-size:.8rem;margin-left:.8rem;white-space:nowrap}.key:before{content:\"\";display:inline-block;width:.8rem;height:.2rem;border-radius:1px;background:var(--k);margin-right:.35rem;vertical-align:middle}
.map{display:block;width:100%;image-rendering:pixelated}svg .code{stroke:var(--card);stroke-width:.6}svg .dead{fill:none;stroke:var(--soft)}
.warn{background:var(--warn);border-radius:6px;padding:.5rem 1rem}.warn ul{margin:.2rem 0;padding-left:1.1rem}details summary{cursor:pointer;font-weight:600;margin:.5rem 0}
";

/// Fields that share a chart, its title, and whether its axis may be logarithmic. What is in none of
/// these gets a chart of its own.
const CHARTS: [(&str, &[(&str, &str)], bool); 9] = [
    (
        "PSNR, dB",
        &[
            ("psnr", "batch"),
            ("pictures_psnr", "pictures"),
            ("psnr_trained", "fixed training images"),
            ("psnr_held_out", "fixed held-out images"),
        ],
        false,
    ),
    (
        "Loss",
        &[
            ("loss", "whole"),
            ("reconstruction", "reconstruction"),
            ("commitment", "commitment"),
            ("perceptual", "perceptual"),
            ("code_loss", "codes"),
            ("entropy_loss", "entropy"),
        ],
        true,
    ),
    (
        "Adversarial losses",
        &[("adversarial/loss", "generator"), ("adversarial/discriminator", "discriminator")],
        false,
    ),
    (
        "Adversarial weight",
        &[("adversarial/weight", "weight"), ("adversarial/trust", "share left by falls")],
        false,
    ),
    ("Codes used, share", &[("usage", "usage")], false),
    ("Perplexity", &[("perplexity", "perplexity")], false),
    ("Learning rate", &[("learning_rate", "learning rate")], false),
    ("Gradient norm", &[("gradient_norm", "gradient norm")], true),
    (
        "Length of latents and codes",
        &[("latent_norm", "latents"), ("codebook_norm", "codes")],
        false,
    ),
];

/// Rows of reconstructions, at most.
const ROWS_MAX: usize = 10;
/// Pictures in a row, at most.
const COLUMNS_MAX: usize = 8;
/// Side that a picture is reduced to where it is larger, in pixels.
const SIDE_MAX: u32 = 128;
/// Warnings that are shown, the first ones.
const WARNINGS_MAX: usize = 20;

/// The page of a training from its record, its figures, its recipe and its codes.
pub(crate) fn render(
    record: &Record,
    summary: &TrainSummary,
    recipe: &Value,
    codes: &CodeMap,
) -> Result<String> {
    let lines = record.read_lines()?;
    let name = recipe["model"]["provenance"]["recipe"].as_str().unwrap_or("tokenizer");
    let mut page = open_page(&format!("{name}: how it was trained"), STYLE);
    draw_head(&mut page, summary, recipe);
    draw_warnings(&mut page, &lines);
    draw_reconstructions(&mut page, record, &lines, summary, recipe)?;
    draw_curves(&mut page, &lines);
    draw_levels(&mut page, &summary.evaluation.levels);
    codes.draw(&mut page, summary.evaluation.images)?;
    draw_settings(&mut page, summary, recipe);
    page.push_str("</html>\n");
    Ok(page)
}

fn draw_head(page: &mut String, summary: &TrainSummary, recipe: &Value) {
    let found = &summary.evaluation;
    let side = if summary.held_out { "held-out" } else { "training" };
    let _ = write!(
        page,
        "<p class=soft>{} of {}, on {}; {}. The figures are of {}.</p><p>",
        numbers::counted(summary.steps, "step"),
        numbers::counted(recipe["train"]["batch_size"].as_u64().unwrap_or(0), "image"),
        numbers::count(summary.images),
        numbers::counted(summary.parameters, "parameter"),
        numbers::counted(found.images, &format!("{side} image")),
    );
    big(page, &format!("{:.2} dB", found.psnr), "PSNR");
    if let Some(ssim) = found.ssim {
        big(page, &format!("{ssim:.3}"), "SSIM");
    }
    big(page, &format!("{:.1} %", 100.0 * found.usage), "of the codes used");
    let mean =
        if found.levels.is_empty() { "perplexity" } else { "perplexity, mean of the levels" };
    big(page, &format!("{:.1}", found.perplexity), mean);
    if summary.skipped_steps > 0 {
        big(page, &numbers::count(summary.skipped_steps), "steps skipped");
    }
    page.push_str("</p>");
}

/// The use of the codes by residual level, of which the head has the means.
fn draw_levels(page: &mut String, levels: &[LevelUse]) {
    if levels.is_empty() {
        return;
    }
    page.push_str("<h2>Residual levels</h2>");
    let cell = |value: f64| format!("<td class=n>{value:.1}</td>");
    // Counted as in codebook.parquet.
    let rows = levels.iter().enumerate().map(|(n, level)| {
        vec![text(&n.to_string()), cell(100.0 * level.usage), cell(level.perplexity)]
    });
    table(page, &["level", "codes used, %", "perplexity"], rows);
}

fn draw_warnings(page: &mut String, lines: &[Value]) {
    let warnings: Vec<_> = lines.iter().filter_map(|l| l["warning"].as_str()).collect();
    if warnings.is_empty() {
        return;
    }
    page.push_str("<div class=warn><b>Warnings</b><ul>");
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let _ = write!(page, "<li>{}</li>", escape(warning));
    }
    if let Some(more @ 1..) = warnings.len().checked_sub(WARNINGS_MAX) {
        let _ = write!(page, "<li>and {more} more in training.jsonl</li>");
    }
    page.push_str("</ul></div>");
}

fn draw_reconstructions(
    page: &mut String,
    record: &Record,
    lines: &[Value],
    summary: &TrainSummary,
    recipe: &Value,
) -> Result<()> {
    let train = &recipe["train"];
    let side = recipe["model"]["preprocess"]["size"].as_u64().unwrap_or(0) as usize;
    let count = train["pictures"].as_u64().unwrap_or(0) as usize;
    let sheets = record.read_pictures(lines);
    let psnr: BTreeMap<u64, f64> = lines
        .iter()
        .filter_map(|l| Some((l["step"].as_u64()?, l["pictures_psnr"].as_f64()?)))
        .collect();
    let rows = evenly(sheets.len(), ROWS_MAX).filter_map(|i| {
        let (step, sheet) = &sheets[i];
        // Fewer images than asked for, where there were no more.
        let apart = (1..=count).rev().find_map(|count| take_apart(sheet, count, side))?;
        Some((*step, apart))
    });
    let rows: Vec<_> = rows.collect();
    let Some((_, (originals, _))) = rows.first() else { return Ok(()) };
    let columns = originals.len().min(COLUMNS_MAX);
    let whose = if summary.held_out { "Held-out" } else { "Training" };
    let _ = write!(
        page,
        "<h2>Reconstructions over time</h2><p class=soft>{whose} images, and what the averaged \
         weights made of them.</p><div class=wide><div class=recon \
         style=\"grid-template-columns:5.2rem repeat({columns},1fr)\"><span>original</span>"
    );
    draw_row(page, &originals[..columns])?;
    for (step, (_, reconstructions)) in &rows {
        let _ = write!(page, "<span>step {}", numbers::count(*step as u64));
        if let Some(psnr) = psnr.get(&(*step as u64)) {
            let _ = write!(page, "<small>{psnr:.2} dB</small>");
        }
        page.push_str("</span>");
        draw_row(page, &reconstructions[..columns])?;
    }
    page.push_str("</div></div>");
    Ok(())
}

fn draw_row(page: &mut String, images: &[RgbImage]) -> Result<()> {
    for image in images {
        let (class, bytes) = match image.width() > SIDE_MAX {
            true => {
                let filter = imageops::FilterType::Triangle;
                ("", png(&imageops::resize(image, SIDE_MAX, SIDE_MAX, filter))?)
            }
            false => (" class=px", png(image)?),
        };
        let _ = write!(page, "<img{class} alt=\"\" src=\"{}\">", data_uri(&bytes));
    }
    Ok(())
}

/// `wanted` of the numbers below `count` at even distances, the first and the last among them.
fn evenly(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let taken = wanted.min(count);
    (0..taken).map(move |i| match taken {
        1 => count - 1,
        _ => i * (count - 1) / (taken - 1),
    })
}

/// The finite numbers of the lines by field (`a/b` inside others), in the order of their first
/// appearance, as (step, value).
fn curves(lines: &[Value]) -> Vec<(String, Vec<(f64, f64)>)> {
    fn take(found: &mut Vec<(String, Vec<(f64, f64)>)>, step: f64, name: &str, value: &Value) {
        let value = match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(n, v)| take(found, step, &format!("{name}/{n}"), v));
                return;
            }
            Value::Bool(yes) => f64::from(u8::from(*yes)),
            value => match value.as_f64() {
                Some(number) => number,
                None => return,
            },
        };
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, points)) => points.push((step, value)),
            None => found.push((name.to_string(), vec![(step, value)])),
        }
    }
    let mut found = Vec::new();
    for line in lines {
        let (Some(step), Value::Object(fields)) = (line["step"].as_f64(), line) else { continue };
        let fields = fields.iter().filter(|(name, _)| *name != "step");
        fields.for_each(|(name, value)| take(&mut found, step, name, value));
    }
    found
}

fn draw_curves(page: &mut String, lines: &[Value]) {
    let mut curves = curves(lines);
    let marks: Vec<f64> = lines
        .iter()
        .filter(|line| line["warning"].is_string())
        .filter_map(|line| line["step"].as_f64())
        .collect();
    page.push_str("<h2>Curves</h2><div class=charts>");
    for (title, fields, log) in CHARTS {
        let mut series = Vec::new();
        for (field, name) in fields {
            if let Some(at) = curves.iter().position(|(known, _)| known == field) {
                series.push((*name, curves.remove(at).1));
            }
        }
        draw_chart(page, title, series, log, &marks);
    }
    for (field, points) in curves {
        // A number that never moves, as a count of what never happened, says nothing.
        if points.iter().any(|p| p.1 != points[0].1) {
            let title = capitalised(&field.replace(['_', '/'], " "));
            draw_chart(page, &title, vec![(field.as_str(), points)], true, &marks);
        }
    }
    page.push_str("</div>");
}

fn draw_chart(
    page: &mut String,
    title: &str,
    series: Vec<(&str, Vec<(f64, f64)>)>,
    log: bool,
    marks: &[f64],
) {
    if series.is_empty() {
        return;
    }
    let _ = write!(page, "<div class=card><h3>{}", escape(title));
    for ((name, points), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let last = points.last().map_or(String::new(), |p| short(p.1));
        let name = if series.len() > 1 { format!("{name} {last}") } else { last };
        let name = escape(&name);
        let _ = write!(page, "<span class=key style=\"--k:{colour}\">{name}</span>");
    }
    page.push_str("</h3>");
    let series: Vec<Series> = series.into_iter().map(|(_, points)| Series { points }).collect();
    line_chart(page, Frame::HALF, &series, log, marks);
    page.push_str("</div>");
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn draw_settings(page: &mut String, summary: &TrainSummary, recipe: &Value) {
    page.push_str("<h2>How it was made</h2>");
    let summary = serde_json::to_value(summary).unwrap_or_default();
    let tables = [
        ("Training", &recipe["train"]),
        ("Model", &recipe["model"]),
        ("Data", &recipe["data"]),
        ("Result", &summary),
    ];
    for (title, value) in tables {
        let mut rows = Vec::new();
        flatten(value, "", &mut rows);
        let _ = write!(page, "<details><summary>{title}</summary>");
        let rows = rows.into_iter().map(|(name, value)| vec![text(&name), text(&value)]);
        table(page, &["", ""], rows);
        page.push_str("</details>");
    }
}

/// The leaves of a JSON value by their path; arrays as one.
fn flatten(value: &Value, path: &str, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(value, &format!("{path}{dot}{name}"), rows);
            }
        }
        Value::String(words) => rows.push((path.into(), words.clone())),
        other => rows.push((path.into(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_number_becomes_a_curve_and_what_is_known_shares_a_chart() {
        let lines = [
            json!({"step": 10, "loss": 2.0, "psnr": 15.5, "d": {"real": 0.5}, "still": 3, "x<y": 1}),
            json!({"step": 20, "loss": 1.0, "psnr": 17.5, "d": {"real": 0.25}, "still": 3, "x<y": 2}),
            json!({"step": 20, "pictures_psnr": 16.0, "picture": "samples/step-000020.png"}),
            json!({"step": 20, "warning": "a <b> too far"}),
            json!({"steps": 20, "images": 3}),
        ];
        let found = curves(&lines);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["loss", "psnr", "d/real", "still", "x<y", "pictures_psnr"]);
        assert_eq!(found[0].1, [(10.0, 2.0), (20.0, 1.0)]);
        let mut page = String::new();
        draw_curves(&mut page, &lines);
        for words in
            ["PSNR, dB", "batch 17.5", "pictures 16", "D real", "X&lt;y", "warning, step 20"]
        {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(!page.contains("Still") && !page.contains("x<y"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        draw_warnings(&mut page, &lines);
        assert!(page.contains("a &lt;b&gt; too far"));
    }

    #[test]
    fn rows_are_taken_evenly_with_both_ends() {
        let take = |count, wanted| evenly(count, wanted).collect::<Vec<_>>();
        assert_eq!(take(3, 10), [0, 1, 2]);
        assert_eq!(take(101, 5), [0, 25, 50, 75, 100]);
        assert_eq!((take(0, 4), take(7, 1)), (vec![], vec![6]));
    }

    #[test]
    fn settings_are_listed_by_path() {
        let mut rows = Vec::new();
        flatten(&json!({"a": {"b": [1, 2], "c": "<d>"}, "e": null}), "", &mut rows);
        let rows: Vec<_> = rows.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(rows, [("a.b", "[1,2]"), ("a.c", "<d>"), ("e", "null")]);
    }
}
