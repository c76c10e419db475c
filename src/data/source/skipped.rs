//! Owns what a walk passed over, by reason, and how that is told.

use crate::util::settings::{self, HIDDEN};
use crate::util::text;

/// What a walk passed over, by reason. Images that can't be used are not among these: they are
/// found, fail, and get a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Files with an extension that no image format has.
    pub other_extension: u64,
    /// Files without extension whose first bytes are no image's (or can't be read).
    pub no_extension: u64,
    /// Files and folders whose names begin with a dot; nothing in the folders is counted. Members of
    /// archives that are hidden or a system's.
    pub hidden: u64,
    /// Those of a system: `@eaDir`, `__MACOSX`, `lost+found`, `Thumbs.db`, ...
    pub system: u64,
    /// Model and output folders, and links into them.
    pub own: u64,
    /// FIFOs, sockets, devices.
    pub not_regular: u64,
    /// Links to files and folders that are read at their own place inside an input.
    pub links_inside: u64,
    /// Links to folders that hold an input, or that another link led to already.
    pub link_loops: u64,
    /// Links without an image extension that lead nowhere.
    pub broken_links: u64,
    /// Folders that can't be listed.
    pub unreadable_folders: u64,
    /// Folders and files whose paths are longer than a plan takes.
    pub too_long: u64,
    /// Objects of stores whose names can't be asked for.
    pub odd_names: u64,
    /// Tars, Parquet files and zips that lie beside images.
    pub containers: u64,
    /// Samples and rows of containers that hold no image.
    pub without_image: u64,
    /// Members of archives that are neither an image nor beside one.
    pub members: u64,
    /// Images of a tar's samples of which another one is taken.
    pub further_images: u64,
    /// Links in archives, which aren't followed.
    pub inner_links: u64,
    /// Archives inside others, and those of formats that aren't read.
    pub archives: u64,
    /// The first of them.
    pub first_archive: Option<String>,
    /// What is odd about containers and lists: each with what it is, up to [`Skipped::NAMED_MAX`].
    pub odd: Vec<(String, String)>,
    /// How many of them there are in all.
    pub odd_count: u64,
    /// The first folders and files that couldn't be looked at, up to [`Skipped::NAMED_MAX`], each with its reason.
    pub unreadable: Vec<(String, String)>,
}

impl Skipped {
    /// How many unreadable folders are kept by name.
    pub const NAMED_MAX: usize = 100;
    /// How many of them a line for people names.
    const TOLD_MAX: usize = 3;

    /// Each reason with its count, zeros included, in a fixed order.
    pub fn reasons(&self) -> [(&'static str, u64); 18] {
        [
            ("other extension", self.other_extension),
            ("no extension and no image inside", self.no_extension),
            ("hidden", self.hidden),
            ("of a system", self.system),
            ("written by vqtok", self.own),
            ("not a regular file", self.not_regular),
            ("link to something inside an input", self.links_inside),
            ("link that would loop", self.link_loops),
            ("broken link", self.broken_links),
            ("unreadable folder", self.unreadable_folders),
            ("path too long", self.too_long),
            ("name that can't be asked for", self.odd_names),
            ("tar, Parquet or zip beside images", self.containers),
            ("sample without an image", self.without_image),
            ("member of an archive that is no image", self.members),
            ("further image of a sample", self.further_images),
            ("link in an archive", self.inner_links),
            ("archive that isn't opened", self.archives),
        ]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.reasons().iter().map(|(_, count)| count).sum()
    }

    /// Folders and files that may hold images and couldn't be looked at: what comes of the input
    /// may be less than what is in it.
    pub fn unseen(&self) -> u64 {
        self.unreadable_folders + self.too_long + self.odd_names
    }

    /// One more archive that isn't opened.
    pub(crate) fn archive(&mut self, key: &str) {
        self.archives += 1;
        self.first_archive.get_or_insert_with(|| key.to_string());
    }

    /// Adds what was passed over elsewhere, inside containers.
    pub(crate) fn add(&mut self, other: &Skipped) {
        self.other_extension += other.other_extension;
        self.without_image += other.without_image;
        self.members += other.members;
        self.hidden += other.hidden;
        self.further_images += other.further_images;
        self.inner_links += other.inner_links;
        self.archives += other.archives;
        self.first_archive = self.first_archive.take().or_else(|| other.first_archive.clone());
        self.odd.extend(other.odd.iter().cloned());
        self.odd_count += other.odd_count;
    }

    /// Takes note of what is odd about the container or list `key`.
    pub(crate) fn note(&mut self, key: &str, what: &str) {
        self.odd_count += 1;
        if self.odd.len() < Skipped::NAMED_MAX {
            self.odd.push((key.to_string(), what.to_string()));
        }
    }

    pub(crate) fn name(&mut self, key: &str, reason: String) {
        if self.unreadable.len() < Skipped::NAMED_MAX {
            self.unreadable.push((key.to_string(), reason));
        }
    }
}

impl Skipped {
    /// [`Skipped`] in words, in which settings stay settings.
    pub(crate) fn message(&self) -> String {
        let reasons: Vec<String> = self
            .reasons()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        if reasons.is_empty() {
            return "none skipped".into();
        }
        let mut text = format!("{} skipped ({})", self.total(), reasons.join(", "));
        if self.hidden + self.system > 0 {
            text += &format!("; {HIDDEN} takes what is hidden or of a system");
        }
        if self.containers > 0 {
            text += "; name tars, Parquet files and zips as INPUTs to take what is in them";
        }
        if let Some(first) = &self.first_archive {
            text += &format!(
                "; archives inside others or of formats that aren't read stay closed (the first: '{}'): \
                 unpack them, or pack what is in them as tar, tar.zst or zip",
                text::shorten(first)
            );
        }
        if self.unseen() > 0 {
            let named = self.unreadable.iter().take(Skipped::TOLD_MAX);
            let named: Vec<_> =
                named.map(|(key, reason)| format!("'{}' ({reason})", text::shorten(key))).collect();
            let more = if self.unseen() > named.len() as u64 { ", ..." } else { "" };
            text += &format!("; couldn't be looked at: {}{more}", named.join(", "));
        }
        text
    }
}

impl std::fmt::Display for Skipped {
    /// `3 skipped (2 other extension, 1 broken link)`, or `none skipped`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&settings::plain(&self.message()))
    }
}
