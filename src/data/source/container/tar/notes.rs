//! Owns counting what is odd about a tar's samples, and saying so. Must not know: how it is found.

use super::facts::FACT_BYTES_MAX;
use super::name::NAME_BYTES_MAX;
use crate::util::numbers::counted;
use crate::util::settings::IMAGE_FIELD;

/// How often what was seen.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) several_images: u64,
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
            " with several images: one is taken, jpg before png, jpeg, webp, then by their order; \
             {IMAGE_FIELD} takes another"
        );
        let long_names = format!("members' names are longer than {NAME_BYTES_MAX} bytes; left out");
        let long_texts =
            format!("labels, captions or other facts exceed {FACT_BYTES_MAX} bytes; left out");
        let lines = [
            (self.several_images, several.as_str()),
            (
                self.apart,
                "samples have their image and their text apart; only side by side they join",
            ),
            (self.repeated_keys, "images have the key of an earlier one"),
            (self.repeated_fields, "members repeat a field of their sample; the first one counts"),
            (self.long_names, &long_names),
            (self.long_texts, &long_texts),
            (self.no_text, "labels, captions or other facts are no text (UTF-8); left out"),
            (self.no_object, "members for JSON hold no JSON object; left out"),
            (self.unread, "labels, captions or other facts are damaged; left out"),
        let apart = " whose captions stand apart from their images: only what lies side by side is \
                     joined";
        let long_name = format!(" left out: names of {NAME_BYTES_MAX} bytes or more");
        let long_text = format!(" left out: longer than {FACT_BYTES_MAX} bytes");
            (self.several_images, "sample", several.as_str()),
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
