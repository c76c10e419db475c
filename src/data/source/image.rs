//! Owns what is known of an image before it is read: its name, its place, what stands beside it.

/// An image of an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SourceImage {
    /// The name that users know it by, unique within an INPUT. Bytes that are not UTF-8 are
    /// percent-encoded.
    pub(crate) key: String,
    /// `file:///...`: the file that holds it, alone or among others; percent-encoded reversibly.
    pub(crate) uri: String,
    /// Size of the image's own bytes; 0 where that isn't known.
    pub(crate) bytes: u64,
    /// Its place in a file that holds several; None where the file is the image.
    pub(crate) part: Option<Part>,
    /// What that file was when it was planned, where it must still be that.
    pub(crate) planned: Option<Planned>,
    /// Whether that file can only be read from its beginning on.
    pub(crate) forward: bool,
    /// What its source says of it.
    pub(crate) facts: Facts,
    /// Why it can't be read, where its source says so already: it is planned all the same, and
    /// fails.
    pub(crate) fault: Option<String>,
    /// The bucket that it goes into, where whoever listed it has looked at its size.
    pub(crate) bucket: Option<(u32, u32)>,
}

/// A file that holds several images, as it was planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its size.
    pub(crate) bytes: u64,
    /// The digest of what it says of its images, where that was taken.
    pub(crate) digest: Option<String>,
}

/// A place in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The member's name as it stands in an archive, or the column of a table (`image`, or
    /// `images[2]` of a list).
    pub(crate) member: String,
    /// Where it begins, as the container's format counts: bytes, or rows.
    pub(crate) offset: u64,
}

/// What stands beside an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its class, in words where the source has them.
    pub label: Option<String>,
    /// A text that describes it.
    pub caption: Option<String>,
    /// Anything else, as a JSON object.
    pub meta_json: Option<String>,
}
