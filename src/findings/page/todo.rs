//! Owns what was found in plain words, with what to do about it. Must not know: how the parts look that
//! show it.

use std::fmt::Write;

use super::frame::About;
use super::shown::Shown;
use super::words;
use crate::findings::result::{Findings, Kind};
use crate::findings::sizes::Sizes;
use crate::util::html::escape;
use crate::util::numbers::{count, counted};
use crate::util::settings::REMOVE_LIST;

/// One thing to do, in markup.
struct Line {
    /// The part of the page that shows it.
    id: &'static str,
    what: String,
    advice: String,
}

pub(super) fn draw(page: &mut String, findings: &Findings, shown: &Shown<'_>, about: &About<'_>) {
    let lines = lines(findings, shown, about);
    let remarks: Vec<_> = findings.remarks.iter().filter(|remark| remark.finding).collect();
    page.push_str("<section id=todo><h2>What was found, and what to do</h2>");
    if lines.is_empty() && remarks.is_empty() {
        page.push_str("<p>Nothing that needs doing.</p>");
    }
    page.push_str("<ul class=todo>");
    for Line { id, what, advice } in lines {
        let _ = write!(page, "<li><b>{what}</b><p>{advice} <a href=#{id}>See them</a></p></li>");
    }
    for remark in remarks {
        let _ = write!(page, "<li><b>{}</b></li>", words::sentence(&remark.text));
    }
    page.push_str("</ul>");
    if shown.outliers.len() > 0 {
        page.push_str(
            "<p class=soft>Beside that, <a href=#outliers>the images least like the others</a> are \
             worth a look.</p>",
        );
    }
    page.push_str("</section>");
}

fn lines(findings: &Findings, shown: &Shown<'_>, about: &About<'_>) -> Vec<Line> {
    let lines = [
        conflicts(shown.conflicts.len()),
        leaks(findings.leaked(), about),
        duplicates(findings, shown, about),
        low(shown.low.iter().map(|(_, part)| part.len()).sum()),
        sizes(&findings.sizes),
        failures(findings.failures.count),
        unusable(findings),
        unusable_there(findings, about),
    ];
    lines.into_iter().flatten().collect()
}

fn verb(number: usize, one: &'static str, many: &'static str) -> &'static str {
    if number == 1 { one } else { many }
}

fn conflicts(number: usize) -> Option<Line> {
    let (groups, hold) = (counted(number, "group"), verb(number, "holds", "hold"));
    (number > 0).then(|| Line {
        id: "conflicts",
        what: format!("{groups} of equal or nearly equal images {hold} several labels."),
        advice: "At most one label of a group is right: correct the others, or drop the group."
            .into(),
    })
}

fn leaks(number: usize, about: &About<'_>) -> Option<Line> {
    let (images, are) = (counted(number, "image"), verb(number, "is", "are"));
    let other = escape(about.against.as_deref().unwrap_or("the other output"));
    (number > 0).then(|| Line {
        id: "leaks",
        what: format!("{images} {are} in {other} as well."),
        advice: "Take them out of the set that you train on, or tests measure memory.".into(),
    })
}

fn duplicates(findings: &Findings, shown: &Shown<'_>, about: &About<'_>) -> Option<Line> {
    let parts = [
        ("near", &shown.near, Kind::Near, "nearly the same as another"),
        ("pixels", &shown.pixels, Kind::ExactPixels, "of the same tokens and size as another file"),
        ("files", &shown.files, Kind::ExactFile, "there several times as one file"),
    ];
    let parts = parts
        .into_iter()
        .map(|(id, part, kind, what)| (shown.section(id, part), findings.images_in(&[kind]), what));
    let parts: Vec<_> = parts.filter(|(_, number, _)| *number > 0).collect();
    let words = parts.iter().map(|(_, number, what)| {
        format!("{} {} {what}", counted(*number, "image"), verb(*number, "is", "are"))
    });
    let words = words::listed(&words.collect::<Vec<_>>());
    let gone = findings.remove_list(about.keep).0.lines().count();
    parts.first().map(|(id, ..)| Line {
        id,
        what: format!("{words}."),
        advice: format!("<code>{REMOVE_LIST}</code> names {} that can go.", count(gone)),
    })
}

fn low(number: usize) -> Option<Line> {
    let (images, show) = (counted(number, "image"), verb(number, "shows", "show"));
    (number > 0).then(|| Line {
        id: "low",
        what: format!("{images} {show} hardly anything."),
        advice: "Look them over by reason, and drop what teaches nothing.".into(),
    })
}

fn sizes(sizes: &Sizes) -> Option<Line> {
    let parts = [
        (sizes.odd.count, "of odd size or shape"),
        (sizes.upscaled.count, "smaller than what the model sees"),
        (sizes.few_modes.count, "of a colour mode that few have"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<_> =
        parts.map(|(number, what)| format!("{} {what}", counted(*number, "image"))).collect();
    sizes.any().then(|| Line {
        id: "sizes",
        what: format!("{}.", words::listed(&parts)),
        advice: "Nothing is wrong with them as such: see whether they belong.".into(),
    })
}

fn failures(number: u64) -> Option<Line> {
    (number > 0).then(|| Line {
        id: "failures",
        what: format!("{} couldn't be tokenized.", counted(number, "image")),
        advice: "Their files are broken or of a kind that isn't read: the table says why.".into(),
    })
}

fn unusable(findings: &Findings) -> Option<Line> {
    let rows = counted(findings.report.unusable, "row");
    (!findings.report.complete()).then(|| Line {
        id: "unusable",
        what: format!("{rows} of the output can't be used, and are in no number here."),
        advice: "`vqtok verify` says what is damaged, `vqtok repair` rebuilds it.".into(),
    })
}

fn unusable_there(findings: &Findings, about: &About<'_>) -> Option<Line> {
    let there = findings.failures.unreadable_against.as_ref().filter(|there| there.rows > 0)?;
    let other = escape(about.against.as_deref().unwrap_or("the other output"));
    Some(Line {
        id: "unusable-there",
        what: format!("{} of {other} can't be used.", counted(there.rows, "row")),
        advice: "Leaks of those images aren't found: repair that output, and audit again.".into(),
    })
}
