//! Owns the page of an audit: one file, no script, nothing fetched, the same bytes for the same
//! findings. Must not know: how anything is found, where pictures come from.
//!
//! Findings come first, in plain words with what to do; then each kind with its pictures; then the
//! codebook, labels, failures, and how the output was made. Only so many findings have pictures, and
//! so many more a row in a table: `shown` decides which.

mod bits;
mod cards;
mod codebook;
mod facts;
mod frame;
mod groups;
mod patterns;
mod shown;
mod singles;
mod sizes;
mod style;
mod summary;
mod thumbnails;
mod todo;
mod with_model;
mod words;

use super::result::Findings;
use crate::util::html::{POLICY, open_head};
use shown::Shown;

pub(crate) use codebook::render as render_report;
pub(crate) use frame::About;
pub(crate) use shown::wanted;
pub(crate) use thumbnails::{Side, Small, Thumbnails};

/// The page. Settings in it stand between the marks of [`crate::util::settings`].
pub(crate) fn render(findings: &Findings, thumbnails: &Thumbnails, about: &About<'_>) -> String {
    let shown = Shown::of(findings);
    let mut page = open_head(&format!("{}: audit", about.name), style::STYLE);
    page.push_str(POLICY);
    page.push_str("<body>");
    summary::draw(&mut page, findings, &shown, about);
    let side = match thumbnails.is_empty() {
        true => None,
        false => Some(thumbnails),
    };
    groups::draw(&mut page, &shown, side);
    singles::draw(&mut page, &shown, side, about);
    sizes::draw(&mut page, findings, &shown, side);
    with_model::draw_sample(&mut page, findings);
    codebook::draw(&mut page, &findings.report);
    patterns::draw(&mut page, findings);
    with_model::draw_codes(&mut page, findings);
    facts::draw_there(&mut page, &findings.failures);
    facts::draw(&mut page, &findings.report);
    summary::draw_end(&mut page, thumbnails);
    page.push_str("</body></html>\n");
    page
}

#[cfg(test)]
mod tests;
