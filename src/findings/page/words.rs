//! Owns what kinds, relations and reasons are called on the page. Must not know: pages.

use std::borrow::Cow;

use crate::findings::result::Kind;
use crate::util::html::escape;
use crate::util::settings;

/// What images of such a group are, after a number of them.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::ExactFile => "the same file",
        Kind::ExactPixels => "the same tokens and size in different files",
        Kind::Near => "nearly the same picture",
    }
}

/// What a member is of the one to keep.
pub(super) fn relation(relation: &'static str) -> &'static str {
    match relation {
        "same" => "copy",
        other => other,
    }
}

/// What a reason for low information means, in a sentence.
pub(super) fn reason(reason: &str) -> &'static str {
    match reason {
        "constant" => {
            "One colour from edge to edge, as far as tokens tell: faint skies, fine stripes and textures \
             that the model doesn't see look the same."
        }
        "near-constant" => "Hardly more than one colour.",
        "gradient" => "A smooth run of colour and nothing in it.",
        "dark" => "So dark that little can be seen.",
        "overexposed" => "So bright that little can be seen.",
        "letterbox" => {
            "Mostly empty: between black bars, or a small thing on a white, black or grey page."
        }
        "blurred" => "Too blurred to show detail.",
        _ => "",
    }
}

/// `near-constant` as `Near-constant`.
pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A similarity, which is at most 1.
pub(super) fn similarity(score: f64) -> String {
    format!("{score:.3}")
}

/// Our own message as markup: the names of settings keep their marks, so that whoever shows the page
/// can call them as its reader does.
pub(super) fn message(text: &str) -> String {
    let text: Cow<'_, str> = settings::printable(text);
    let mut out = String::with_capacity(text.len());
    let mut plain = String::new();
    for c in text.chars() {
        match settings::is_mark(c) {
            true => {
                out.push_str(&escape(&std::mem::take(&mut plain)));
                out.push(c);
            }
            false => plain.push(c),
        }
    }
    out + &escape(&plain)
}

/// Our own message, which stands after a name elsewhere, as a sentence of its own, in markup. Where it
/// begins with a name, that stays as it is.
pub(super) fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    let is_word = first.bytes().all(|byte| byte.is_ascii_lowercase());
    let end = if text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
    match is_word {
        true => capitalised(&message(text)) + end,
        false => message(text) + end,
    }
}

/// Text as part of a sentence: `a`, `a and b`, `a, b and c`.
pub(super) fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::settings::SOURCE;

    #[test]
    fn messages_keep_the_marks_of_settings_and_nothing_else() {
        let text = message(&format!("<b> {SOURCE} \u{2}none\u{3}\n"));
        let shown = settings::named(&text, |name| format!("[{name}]"));
        assert_eq!(shown, "&lt;b&gt; [source] \\u{2}none\\u{3}\\n");
        assert_eq!(listed(&["a".into(), "b".into(), "c".into()]), "a, b and c");
        assert_eq!(capitalised("near-constant"), "Near-constant");
        let said = ["a & b", "Done.", "deer: some", "part-0.parquet is odd"].map(sentence);
        assert_eq!(said, ["A &amp; b.", "Done.", "deer: some.", "part-0.parquet is odd."]);
    }
}
