//! Owns what data sets call the columns or fields that lists are read for.

/// What data sets call the column of paths (any case), the likeliest first.
pub(super) const IMAGE: &[&str] = &[
    "file_name",
    "image_path",
    "image",
    "img_path",
    "path",
    "filepath",
    "file_path",
    "file",
    "filename",
    "image_file",
    "img",
    "image_url",
    "img_url",
    "url",
];
pub(super) const LABEL: &[&str] =
    &["label", "class", "class_name", "label_name", "class_id", "cls", "target", "category"];
pub(super) const CAPTION: &[&str] = &["caption", "text", "prompt", "description"];
pub(super) const KEY: &[&str] = &["key"];

/// The first of the known names (any case) that is there.
pub(super) fn known_among(names: &[String], known: &[&str]) -> Option<usize> {
    let named = |known: &&str| names.iter().position(|name| name.eq_ignore_ascii_case(known));
    known.iter().find_map(named)
}
