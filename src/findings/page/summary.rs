//! Owns the head of the page, what was found in figures and what is to be known of it, and its foot.
//! Must not know: how the parts below look.

use std::fmt::Write;

use super::frame::About;
use super::shown::Shown;
use super::thumbnails::Thumbnails;
use super::todo;
use super::words;
use crate::findings::result::{Findings, Kind};
use crate::util::html::{escape, short};
use crate::util::numbers::{count, counted};
use crate::util::settings::{AGAINST, JSON, MODEL, SOURCE, THRESHOLD};

/// A figure at the head of the page.
struct Tile {
    /// The part of the page that it leads to, where there is one.
    id: Option<&'static str>,
    number: String,
    what: &'static str,
    /// Of its edge.
    colour: &'static str,
}

pub(super) fn draw(page: &mut String, findings: &Findings, shown: &Shown<'_>, about: &About<'_>) {
    let _ = write!(
        page,
        "<header><p class=kick>vqtok audit</p><h1>{}</h1><p class=lead>{} seen through {} tokens",
        escape(&about.name),
        counted(findings.images, "image"),
        if findings.images == 1 { "its" } else { "their" },
    );
    if let (Some(images), Some(other)) = (findings.against, &about.against) {
        let _ =
            write!(page, ", and held against {} of {}", counted(images, "image"), escape(other));
    }
    page.push_str(".</p>");
    draw_tiles(page, findings, shown);
    page.push_str("</header>");
    todo::draw(page, findings, shown, about);
    draw_remarks(page, findings);
}

fn draw_tiles(page: &mut String, findings: &Findings, shown: &Shown<'_>) {
    page.push_str("<ul class=tiles>");
    for Tile { id, number, what, colour } in tiles(findings, shown) {
        let inner = format!("<b>{number}</b><span>{what}</span>");
        let _ = match id {
            None => write!(page, "<li><div class=\"tile zero\">{inner}</div></li>"),
            Some(id) => write!(
                page,
                "<li><a class=tile style=\"--k:var(--{colour})\" href=#{id}>{inner}</a></li>"
            ),
        };
    }
    page.push_str("</ul>");
}

fn tiles(findings: &Findings, shown: &Shown<'_>) -> Vec<Tile> {
    let tile = |id, number: usize, what, colour| {
        let id = Some(id).filter(|_| number > 0);
        Tile { id, number: count(number), what, colour }
    };
    let unseen = |what| Tile { id: None, number: "–".into(), what, colour: "" };
    let exact = match shown.section("pixels", &shown.pixels) {
        "conflicts" => shown.section("files", &shown.files),
        section => section,
    };
    let equal = findings.images_in(&[Kind::ExactFile, Kind::ExactPixels]);
    let low: usize = shown.low.iter().map(|(_, part)| part.len()).sum();
    let (used, codes) = (findings.report.levels.iter())
        .fold((0, 0), |(used, codes), level| (used + level.used, codes + level.codes));
    let usage = match (codes, findings.report.bits.first()) {
        (0, Some(level)) => Tile {
            id: Some("codebook"),
            number: format!("{} of {}", count(level.varying), count(level.bits)),
            what: "bits vary",
            colour: "c2",
        },
        (0, None) => unseen("codes used"),
        _ => Tile {
            id: Some("codebook"),
            number: format!("{:.0} %", 100.0 * used as f64 / codes as f64),
            what: "of the codes used",
            colour: "c2",
        },
    };
    vec![
        tile("conflicts", shown.conflicts.len(), "groups under several labels", "bad"),
        match findings.against {
            Some(_) => tile("leaks", findings.leaked(), "images in both sets", "bad"),
            None => unseen("leaks: no other set given"),
        },
        match findings.threshold {
            Some(_) => tile(
                shown.section("near", &shown.near),
                findings.images_in(&[Kind::Near]),
                "images nearly the same",
                "c0",
            ),
            None => unseen("near duplicates: not looked for"),
        },
        tile(exact, equal, "images of the same file or tokens", "c0"),
        tile("low", low, "show hardly anything", "c3"),
        tile("outliers", shown.outliers.len(), "least like the others", "c3"),
        tile("failures", findings.failures.count as usize, "failed to be tokenized", "c4"),
        usage,
    ]
}

/// What is to be known, and what can't be told.
fn draw_remarks(page: &mut String, findings: &Findings) {
    let mut notes = Vec::new();
    if let Some(threshold) = findings.threshold {
        let mut note = format!(
            "Two images count as one from a similarity of {} on",
            words::similarity(threshold)
        );
        if let Some(pairs) = findings.expected_false_pairs {
            let _ = match pairs.round() {
                0.0 => write!(note, "; no pair is expected to be so alike by chance"),
                1.0 => write!(note, "; about 1 pair is expected to be so alike by chance"),
                _ => write!(
                    note,
                    "; about {} pairs are expected to be so by chance",
                    short(pairs.round())
                ),
            };
        }
        let _ = write!(note, ". <code>{THRESHOLD}</code> sets another.");
        notes.push(note);
    }
    if findings.against.is_none() {
        notes.push(format!(
            "Leaks weren't looked for: <code>{AGAINST}</code> names the output that shouldn't share \
             images with this one."
        ));
    }
    let told = findings.remarks.iter().filter(|remark| !remark.finding);
    notes.extend(told.map(|remark| words::sentence(&remark.text)));
    if notes.is_empty() {
        return;
    }
    page.push_str("<div class=notes>");
    for note in notes {
        let _ = write!(page, "<p>{note}</p>");
    }
    page.push_str("</div>");
}

pub(super) fn draw_end(page: &mut String, thumbnails: &Thumbnails) {
    let pictures = match thumbnails.origins() {
        (false, false) => format!(
            "There are no pictures: <code>{SOURCE}</code> takes them from the images themselves, \
             <code>{MODEL}</code> draws them from tokens."
        ),
        (true, false) => {
            "Pictures are drawn from the tokens: what a model trained on them sees.".into()
        }
        (false, true) => {
            "Pictures are the images themselves, as the source has them now, reduced.".into()
        }
        (true, true) => {
            "Pictures are the images themselves, as the source has them now, reduced; those that \
             the source lacks are drawn from the tokens."
                .to_string()
        }
    };
    let _ = write!(
        page,
        "<footer><p>{pictures} Only the first findings of each kind have one: the file of \
         <code>{JSON}</code> has them all.</p><p>Made by vqtok. Nothing on this page runs, and \
         nothing is fetched.</p></footer>"
    );
}
