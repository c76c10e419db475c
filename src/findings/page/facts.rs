//! Owns the end of the page: labels, failures, what can't be used, how the output was made. Must not
//! know: findings.

use std::fmt::Write;

use super::frame::open_section;
use crate::audit::report::AuditReport;
use crate::findings::result::FailuresFound;
use crate::util::html::{escape, number, table, text};
use crate::util::numbers;

/// Labels that are listed.
const LABELS_MAX: usize = 200;
/// Errors, and failed images, that are listed.
const ERRORS_MAX: usize = 50;
const FAILURES_MAX: usize = 200;

pub(super) fn draw(page: &mut String, report: &AuditReport) {
    draw_labels(page, report);
    draw_failures(page, report);
    draw_unusable(page, report);
    open_section(page, "made", "How it was made", None);
    page.push_str("<details><summary>What the shards say of themselves</summary>");
    wide(page, |page| made_by(page, report));
    page.push_str("</details></section>");
}

/// A table that is scrolled by itself where it is wider than the page.
pub(super) fn wide(page: &mut String, inner: impl FnOnce(&mut String)) {
    page.push_str("<div class=wide tabindex=0>");
    inner(page);
    page.push_str("</div>");
}

fn draw_labels(page: &mut String, report: &AuditReport) {
    if report.labels.is_empty() {
        return;
    }
    open_section(page, "labels", "Labels", Some(numbers::count(report.labels.len())));
    further_labels(page, report);
    page.push_str("<details><summary>Images by label</summary>");
    wide(page, |page| labels(page, report));
    page.push_str("</details></section>");
}

fn draw_failures(page: &mut String, report: &AuditReport) {
    if report.failed == 0 {
        return;
    }
    open_section(page, "failures", "Failures", Some(numbers::counted(report.failed, "image")));
    wide(page, |page| errors(page, report));
    page.push_str("<details><summary>The first of them</summary>");
    wide(page, |page| failures(page, report));
    page.push_str("</details></section>");
}

fn draw_unusable(page: &mut String, report: &AuditReport) {
    if report.complete() && report.notes.is_empty() {
        return;
    }
    let rows = (!report.complete()).then(|| numbers::counted(report.unusable, "row"));
    open_section(page, "unusable", "What can't be used", rows);
    for note in &report.notes {
        let _ = write!(page, "<p><b>{}</b></p>", escape(note));
    }
    if !report.problems.is_empty() {
        wide(page, |page| problems(page, &report.problems));
    }
    page.push_str("</section>");
}

/// What can't be used of the other output.
pub(super) fn draw_there(page: &mut String, failures: &FailuresFound) {
    let Some(there) = failures.unreadable_against.as_ref().filter(|there| there.rows > 0) else {
        return;
    };
    let rows = numbers::counted(there.rows, "row");
    open_section(page, "unusable-there", "What can't be used of the other output", Some(rows));
    wide(page, |page| problems(page, &there.list));
    page.push_str("</section>");
}

/// The first rows that can't be used.
pub(super) fn problems(page: &mut String, problems: &[String]) {
    table(page, &[""], problems.iter().map(|problem| vec![text(problem)]));
}

/// How many rows have labels beyond those that are counted.
pub(super) fn further_labels(page: &mut String, report: &AuditReport) {
    if report.further_labels > 0 {
        let rows = numbers::counted(report.further_labels, "row");
        let have = if report.further_labels == 1 { "has" } else { "have" };
        let _ = write!(page, "<p>{rows} {have} further ones.</p>");
    }
}

/// Rows by label, the most frequent first.
pub(super) fn labels(page: &mut String, report: &AuditReport) {
    let mut labels: Vec<_> = report.labels.iter().collect();
    labels.sort_by_key(|(name, label)| (std::cmp::Reverse(label.rows), *name));
    let rows = labels.into_iter().take(LABELS_MAX).map(|(name, label)| {
        let error = label.mean_error.map_or(String::new(), |error| format!("{error:.6}"));
        vec![text(name), number(label.rows), format!("<td class=n>{error}</td>")]
    });
    table(page, &["label", "rows", "mean quantization error"], rows);
}

/// Failures by error, the most frequent first.
pub(super) fn errors(page: &mut String, report: &AuditReport) {
    let mut kinds: Vec<_> = report.failed_by_error.iter().collect();
    kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), *kind));
    let kinds = kinds.into_iter().take(ERRORS_MAX);
    table(page, &["images", "error"], kinds.map(|(kind, &count)| vec![number(count), text(kind)]));
}

/// The first images that failed.
pub(super) fn failures(page: &mut String, report: &AuditReport) {
    let rows = report.failures.iter().take(FAILURES_MAX);
    let rows = rows.map(|f| vec![text(&f.key), text(&f.stage), text(&f.error)]);
    table(page, &["key", "stage", "error"], rows);
}

/// What the shards say of how they were made.
pub(super) fn made_by(page: &mut String, report: &AuditReport) {
    let rows = report.made_by.iter().map(|(key, value)| vec![text(key), text(value)]);
    table(page, &["", ""], rows);
}
