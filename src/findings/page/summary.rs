//! Owns the head of the page: what was found in figures and in plain words, with what to do; and its
//! foot. Must not know: how the parts below look.

use std::fmt::Write;

use super::frame::About;
use super::shown::{Part, Shown};
use super::thumbnails::Thumbnails;
use super::words;
use crate::findings::result::{Duplicates, Findings};
use crate::util::html::{escape, short};
use crate::util::numbers::{count, counted};
use crate::util::settings::{AGAINST, JSON, MODEL, REMOVE_LIST, SOURCE, THRESHOLD};

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
    draw_todo(page, findings, shown, about);
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
    let exact = if shown.pixels.len() > 0 { "pixels" } else { "files" };
    let equal = images(&shown.pixels) + images(&shown.files);
    let low: usize = shown.low.iter().map(|(_, part)| part.len()).sum();
    let (used, codes) = (findings.report.levels.iter())
        .fold((0, 0), |(used, codes), level| (used + level.used, codes + level.codes));
    let usage = match codes {
        0 => unseen("codes used"),
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
            Some(_) => tile("near", images(&shown.near), "images nearly the same", "c0"),
            None => unseen("near duplicates: not looked for"),
        },
        tile(exact, equal, "images of the same file or tokens", "c0"),
        tile("low", low, "show hardly anything", "c3"),
        tile("outliers", shown.outliers.pictured.len(), "least like the others", "c3"),
        tile("failures", findings.failures.count as usize, "failed to be tokenized", "c4"),
        usage,
    ]
}

/// Images of all groups.
fn images(part: &Part<'_, Duplicates>) -> usize {
    part.pictured.iter().chain(&part.rest).map(|group| group.members.len()).sum()
}

/// What there is to do: each with what it is, what to do about it, and the part that shows it.
fn todo(
    findings: &Findings,
    shown: &Shown<'_>,
    about: &About<'_>,
) -> Vec<(String, String, String)> {
    let mut lines = Vec::new();
    let mut line = |id: &str, what: String, advice: String| {
        lines.push((id.to_string(), what, advice));
    };
    let is = |number: usize, one: &'static str, many| if number == 1 { one } else { many };
    if shown.conflicts.len() > 0 {
        let what = counted(shown.conflicts.len(), "group");
        let holds = is(shown.conflicts.len(), "holds", "hold");
        line(
            "conflicts",
            format!("{what} of equal or nearly equal images {holds} several labels."),
            "At most one label of a group is right: correct the others, or drop the group.".into(),
        );
    }
    let leaked = findings.leaked();
    if leaked > 0 {
        let (what, stand) = (counted(leaked, "image"), is(leaked, "is", "are"));
        let other = escape(about.against.as_deref().unwrap_or("the other output"));
        line(
            "leaks",
            format!("{what} {stand} in {other} as well."),
            "Take them out of the set that you train on, or tests measure memory.".into(),
        );
    }
    let duplicates = [&shown.near, &shown.pixels, &shown.files];
    if let Some(first) = duplicates.iter().position(|part| part.len() > 0) {
        let parts = [
            (images(&shown.near), "nearly the same as another"),
            (images(&shown.pixels), "of the same tokens and size as another file"),
            (images(&shown.files), "there several times as one file"),
        ];
        let parts = parts.iter().filter(|(number, _)| *number > 0);
        let parts: Vec<String> = parts
            .map(|(n, what)| format!("{} {} {what}", counted(*n, "image"), is(*n, "is", "are")))
            .collect();
        let gone = findings.remove_list(about.keep).lines().count();
        line(
            ["near", "pixels", "files"][first],
            format!("{}.", words::capitalised(&words::listed(&parts))),
            format!("<code>{REMOVE_LIST}</code> names {} that can go.", count(gone)),
        );
    }
    let low: usize = shown.low.iter().map(|(_, part)| part.len()).sum();
    if low > 0 {
        let what = counted(low, "image");
        line(
            "low",
            format!("{what} {} hardly anything.", is(low, "shows", "show")),
            "Look them over by reason, and drop what teaches nothing.".into(),
        );
    }
    let sizes = &findings.sizes;
    if sizes.any() {
        let parts = [
            (sizes.odd.count, "of odd size or shape"),
            (sizes.upscaled.count, "smaller than what the model sees"),
            (sizes.few_modes.count, "of a colour mode that few have"),
        ];
        let parts = parts.iter().filter(|(number, _)| *number > 0);
        let parts: Vec<String> =
            parts.map(|(n, what)| format!("{} {what}", counted(*n, "image"))).collect();
        line(
            "sizes",
            format!("{}.", words::listed(&parts)),
            "Nothing is wrong with them as such: see whether they belong.".into(),
        );
    }
    if findings.failures.count > 0 {
        let what = counted(findings.failures.count, "image");
        line(
            "failures",
            format!("{what} couldn't be tokenized."),
            "Their files are broken or of a kind that isn't read: the table says why.".into(),
        );
    }
    if !findings.report.complete() {
        let what = counted(findings.report.unusable, "row");
        line(
            "unusable",
            format!("{what} of the output can't be used, and are in no number here."),
            "`vqtok verify` says what is damaged, `vqtok repair` rebuilds it.".into(),
        );
    }
    lines
}

fn draw_todo(page: &mut String, findings: &Findings, shown: &Shown<'_>, about: &About<'_>) {
    let mut lines = todo(findings, shown, about);
    for remark in findings.remarks.iter().filter(|remark| remark.finding) {
        lines.push((String::new(), words::sentence(&remark.text), String::new()));
    }
    page.push_str("<section id=todo><h2>What was found, and what to do</h2>");
    if lines.is_empty() {
        page.push_str("<p>Nothing that needs doing.</p>");
    }
    page.push_str("<ul class=todo>");
    for (id, what, advice) in lines {
        let _ = write!(page, "<li><b>{what}</b>");
        if !advice.is_empty() {
            let _ = write!(page, "<p>{advice}");
            let _ = write!(page, " <a href=#{id}>See them</a></p>");
        }
        page.push_str("</li>");
    }
    page.push_str("</ul>");
    if shown.outliers.len() > 0 {
        page.push_str(
            "<p class=soft>Beside that, <a href=#outliers>the images least like the others</a> ",
        );
        page.push_str("are worth a look.</p>");
    }
    page.push_str("</section>");
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
        (false, true) => "Pictures are the images themselves, reduced.".into(),
        (true, true) => {
            "Pictures are the images themselves, reduced; those that the source lacks are \
                         drawn from the tokens."
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
