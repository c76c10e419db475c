//! Owns counting what is odd about a tar's samples, and saying so. Must not know: how it is found.

use crate::data::source::names::{FACT_BYTES_MAX, KEY_BYTES_MAX};
use crate::util::numbers::counted;
use crate::util::settings::IMAGE_COLUMN;
use crate::util::text;

/// How often what was seen.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Images of samples of which another one is taken, and the key of the first such sample.
    pub(super) left_out: u64,
    pub(super) first_left_out: Option<String>,
    /// Samples whose image, or whose text, stands elsewhere in the tar.
    pub(super) apart: u64,
    /// Images whose key another one has.
    pub(super) repeated_keys: u64,
    pub(super) repeated_fields: u64,
    pub(super) long_names: u64,
    pub(super) long_texts: u64,
    pub(super) no_text: u64,
    pub(super) no_object: u64,
    pub(super) unread: u64,
}

impl Notes {
    /// One line for each kind that was seen.
    pub(super) fn lines(&self) -> Vec<String> {
        let several = format!(
            " left out of samples with several (the first: {}): jpg is taken before png, jpeg, webp, \
             then what comes first; {IMAGE_COLUMN} takes another",
            text::shorten(self.first_left_out.as_deref().unwrap_or_default())
        );
        let apart = " whose captions stand apart from their images: only what lies side by side is \
                     joined";
        let long_name = format!(" left out: names of {KEY_BYTES_MAX} bytes or more");
        let long_text = format!(" left out: longer than {FACT_BYTES_MAX} bytes");
        let lines = [
            (self.left_out, "image", several.as_str()),
            (self.apart, "sample", apart),
            (self.repeated_keys, "image", " with the key of an earlier one"),
            (self.repeated_fields, "member", " with a field that its sample has: the first counts"),
            (self.long_names, "member", &long_name),
            (self.long_texts, "field", &long_text),
            (self.no_text, "field", " left out: not text (UTF-8)"),
            (self.no_object, "field", " left out: not a JSON object"),
            (self.unread, "field", " left out: damaged"),
        ];
        let seen = lines.into_iter().filter(|(count, ..)| *count > 0);
        seen.map(|(count, noun, what)| counted(count, noun) + what).collect()
    }
}
