//! Owns what all parts of the page share: what it may do, what it says of its subject, how a part of it
//! begins. Must not know: what a part shows.

use crate::util::html::escape;

/// What a page says beside the findings.
#[derive(Debug, Clone, Default)]
pub(crate) struct About<'a> {
    /// What was audited, in a few words.
    pub name: String,
    /// The other output, where there is one.
    pub against: Option<String>,
    /// Beginnings of keys that aren't on the list of what can go.
    pub keep: &'a [String],
}

/// The beginning of a part of the page, which ends with `</section>`.
pub(super) fn open_section(page: &mut String, id: &str, title: &str, count: Option<String>) {
    page.push_str(&format!("<section id={id}><h2>{}", escape(title)));
    if let Some(count) = count {
        page.push_str(&format!("<span class=n>{}</span>", escape(&count)));
    }
    page.push_str("</h2>");
}
