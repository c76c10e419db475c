//! Owns what data sets call the columns or fields that name images.

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
