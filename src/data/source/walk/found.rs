//! Owns what a walk is asked to take, and what it finds.

use crate::data::source::file_kind::FileKind;
use crate::data::source::image::Facts;

/// One file that is an input: by its extension, or by its first bytes where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFile {
    /// The path relative to its INPUT, `/` between parts, extension kept; the file's name where
    /// the INPUT is the file. Bytes that are not UTF-8 are percent-encoded. Unique within an INPUT.
    pub key: String,
    /// `file:///...`: the absolute path, percent-encoded reversibly, links not resolved.
    pub uri: String,
    /// The file's size; 0 where a link leads nowhere (reading it says so).
    pub bytes: u64,
    /// What it is by its name.
    pub kind: FileKind,
    /// What stands beside it.
    pub facts: Facts,
}

/// What a walk takes beside a user's plain files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Take {
    /// Hidden files and folders, and those of systems.
    pub hidden: bool,
    /// What vqtok itself wrote, as earlier versions did: only to recognise their plans.
    pub own: bool,
    /// Files that are images alone, and no container of a folder.
    pub files_alone: bool,
}
