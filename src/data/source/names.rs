//! Owns what data sets call what stands beside images, in columns of tables and lists, in members and
//! JSON objects of samples, and how long it may be. Must not know: where any of it lies.

/// Columns of names, the likeliest first.
pub(super) const KEYS: &[&str] = &["__key__", "key"];
/// Columns of classes.
pub(super) const LABELS: &[&str] = &[
    "label",
    "labels",
    "class",
    "class_name",
    "label_name",
    "class_id",
    "cls",
    "fine_label",
    "target",
    "category",
];
/// Columns of texts.
pub(super) const CAPTIONS: &[&str] = &["caption", "text", "txt", "prompt", "description"];

/// Members of a sample that hold its class, as webdataset's decoders know them.
pub(super) const LABEL_MEMBERS: &[&str] = &["cls", "label", "class"];
/// Members that hold its text.
pub(super) const CAPTION_MEMBERS: &[&str] = &["txt", "caption", "text"];
/// Classes in a sample's JSON object.
pub(super) const JSON_LABELS: &[&str] = &["label", "cls"];
/// Texts in a sample's JSON object, as img2dataset writes them.
pub(super) const JSON_CAPTIONS: &[&str] = &["caption", "text"];

/// Longest key, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 60_000;
/// Longest label, caption or metadata, in bytes.
pub(super) const FACT_BYTES_MAX: usize = 1 << 20;

/// Which of `names` is the first of the known ones, in any case.
pub(super) fn known_among<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    known: &[&str],
) -> Option<usize> {
    let position = |known: &&str| names.clone().position(|name| name.eq_ignore_ascii_case(known));
    known.iter().find_map(position)
}
