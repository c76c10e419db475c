//! Owns the pieces that findings are shown with: pictures with a line beneath, tables of what has
//! none. Must not know: kinds of findings.

use std::fmt::Write;

use super::shown::ROWS_MAX;
use super::thumbnails::{Side, Small, Thumbnails};
use crate::util::html::{escape, table};
use crate::util::numbers::{count, counted};
use crate::util::settings::JSON;

/// Characters of a key that are shown beneath a picture; the JSON has all.
const KEY_MAX: usize = 96;
/// The same in a table, and where a pointer asks.
const TITLE_MAX: usize = 400;

/// One picture of a card.
pub(super) struct Shot<'a> {
    pub side: Side,
    pub key: &'a str,
    /// Whether it is the one to keep.
    pub kept: bool,
    /// Markup above the key.
    pub above: String,
    /// Markup beneath it.
    pub beneath: String,
}

/// A picture with what is said of it.
pub(super) fn figure(page: &mut String, thumbnails: &Thumbnails, shot: &Shot<'_>) {
    page.push_str(if shot.kept { "<figure class=kept>" } else { "<figure>" });
    picture(page, thumbnails, shot.side, shot.key);
    let _ = write!(page, "<figcaption>{}{}", shot.above, key(shot.key));
    if !shot.beneath.is_empty() {
        let _ = write!(page, "<small>{}</small>", shot.beneath);
    }
    page.push_str("</figcaption></figure>");
}

/// The picture of a key alone.
pub(super) fn picture(page: &mut String, thumbnails: &Thumbnails, side: Side, key: &str) {
    match thumbnails.get(side, key) {
        Some(picture) => {
            page.push_str("<span class=shot>");
            image(page, picture, key);
            page.push_str("</span>");
        }
        None => page.push_str("<span class=\"shot none\">no picture of it</span>"),
    }
}

/// A small picture without a frame.
pub(super) fn image(page: &mut String, small: &Small, key: &str) {
    let class = if small.exact { " class=px" } else { "" };
    let _ = write!(
        page,
        "<img{class} decoding=async width={} height={} alt=\"{}\" src=\"{}\">",
        small.width,
        small.height,
        cell(key),
        small.uri
    );
}

/// A key as markup, cut in its middle where it is long. Lines break behind its folders before they do
/// elsewhere.
pub(super) fn key(key: &str) -> String {
    let broken = |text: &str| escape(text).replace('/', "/<wbr>");
    match cut(key, KEY_MAX) {
        None => format!("<span>{}</span>", broken(key)),
        Some(shown) => {
            let whole = cut(key, TITLE_MAX).unwrap_or_else(|| key.into());
            format!("<span title=\"{}\">{}</span>", escape(&whole), broken(&shown))
        }
    }
}

/// A key in a table.
pub(super) fn cell(key: &str) -> String {
    escape(&cut(key, TITLE_MAX).unwrap_or_else(|| key.into()))
}

/// `text` without its middle, where it has more characters than that.
fn cut(text: &str, most: usize) -> Option<String> {
    text.char_indices().nth(most)?;
    let letters: Vec<char> = text.chars().collect();
    let (head, tail) = (&letters[..most / 2], &letters[letters.len() - most / 2..]);
    Some(head.iter().chain(&['…']).chain(tail).collect())
}

/// A small label: `good`, `bad` or neither.
pub(super) fn tag(text: &str, class: &str) -> String {
    match class {
        "" => format!("<span class=tag>{}</span>", escape(text)),
        class => format!("<span class=\"tag {class}\">{}</span>", escape(text)),
    }
}

/// The findings that have no picture, folded away; `thing` is the singular.
pub(super) fn rest<T>(
    page: &mut String,
    rest: &[&T],
    thing: &str,
    heads: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) {
    if rest.is_empty() {
        return;
    }
    let what = counted(rest.len(), thing);
    let _ = write!(page, "<details class=long><summary>{what} more, as a table</summary>");
    page.push_str("<div class=wide tabindex=0>");
    table(page, heads, rest.iter().take(ROWS_MAX).map(|finding| row(finding)));
    page.push_str("</div>");
    if let Some(more @ 1..) = rest.len().checked_sub(ROWS_MAX) {
        let _ = write!(page, "<p class=soft>{} further ones are in the file of ", count(more));
        let _ = write!(page, "<code>{JSON}</code>, as is everything above.</p>");
    }
    page.push_str("</details>");
}
