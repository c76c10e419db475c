//! Owns which of a source's columns or fields are taken for what.

/// What to take of a source that names its parts; each is found by the usual names where it isn't
/// given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// The image: a column of a table, the extension of a tar's members (`jpg`, `seg.png`).
    pub(crate) image: Option<String>,
    /// The name of the image.
    pub(crate) key: Option<String>,
    /// Its class.
    pub(crate) label: Option<String>,
    /// Its text.
    pub(crate) caption: Option<String>,
    /// Further columns or fields that go into `meta_json`, by their names.
    pub(crate) pass: Vec<String>,
    /// Whether members of an archive that are hidden or a system's are taken too.
    pub(crate) hidden: bool,
}
