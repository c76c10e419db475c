//! Owns finding the images under the inputs, in one order that depends on names alone. Must not
//! know: what an image holds beyond its first bytes.
//!
//! Order: the inputs as given; within a folder, names by their bytes, folders and files together.
//! Memory is one listing for each folder on the way down to the current one.
//!
//! Passed over and counted: what is hidden or a system's, unless it is asked for, and what vqtok
//! itself wrote. An INPUT is taken whatever its name, since it was named.

mod ahead;
mod beside;
mod found;
mod inputs;
mod links;

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::beside::Beside;
pub use self::found::{SourceFile, Take};
use self::inputs::{Checked, Input};
use self::links::{Follow, Links};
use super::container::fields::Fields;
use super::file_kind::{self, FileKind};
use super::hidden::{self, Whose};
use super::image::Facts as FactsBeside;
use super::peek::{Names, holds_an_image, list};
use super::skipped::Skipped;
use super::{own, uri};
use crate::data::formats::sniff;
use crate::error::{Error, Result};
use crate::storage::{self, Facts, Odd, reach};
use crate::util::error_text;

/// Longer paths would give longer URIs than a plan takes: each byte may become three.
const PATH_BYTES_MAX: usize = 20_000;

/// The stream of [`SourceFile`], made by [`walk`].
#[derive(Debug)]
pub struct ImageWalk {
    inputs: std::vec::IntoIter<Input>,
    take: Take,
    links: Links,
    /// Whether the current INPUT's pictures that vqtok drew are taken; None until there is one.
    drawn: Option<bool>,
    /// Whether the current INPUT's containers are taken; None until it is known.
    containers: Option<bool>,
    stack: Vec<Folder>,
    /// The path and the key of what is visited; those of each folder on the stack are their starts.
    path: Vec<u8>,
    key: String,
    skipped: Skipped,
    /// What stands beside images.
    beside: Beside,
}

#[derive(Debug)]
struct Folder {
    path_bytes: usize,
    /// With the `/` after it; 0 for an INPUT.
    key_bytes: usize,
    listed: Names,
    /// How many of its names have been visited.
    visited: usize,
    /// Whether vqtok drew the first PNG in it: only then are the others looked at.
    drawn: Option<bool>,
}

/// [`walk_taking`] of a user's plain files.
///
/// # Errors
/// Those of [`walk_taking`].
pub fn walk(inputs: &[PathBuf]) -> Result<ImageWalk> {
    walk_taking(inputs, Take::default())
}

/// Checks the inputs and starts the walk; nothing below them is touched yet.
///
/// # Errors
/// An input that does not exist, is neither a file nor a folder, is given twice, lies inside
/// another one, or was written by vqtok.
pub fn walk_taking(inputs: &[PathBuf], take: Take) -> Result<ImageWalk> {
    let Checked { inputs, roots } = inputs::check(inputs, take.own)?;
    Ok(ImageWalk {
        inputs: inputs.into_iter(),
        take,
        links: Links::new(roots),
        drawn: None,
        containers: None,
        stack: Vec::new(),
        path: Vec::new(),
        key: String::new(),
        skipped: Skipped::default(),
        beside: Beside::default(),
    })
}

impl Iterator for ImageWalk {
    type Item = Result<SourceFile>;

    fn next(&mut self) -> Option<Result<SourceFile>> {
        loop {
            let Some(folder) = self.stack.last_mut() else {
                match self.open_input(self.inputs.as_slice().first()?.is_folder) {
                    Ok(None) => continue,
                    Ok(Some(found)) => return Some(Ok(found)),
                    Err(error) => return Some(Err(error)),
                }
            };
            self.path.truncate(folder.path_bytes);
            self.key.truncate(folder.key_bytes);
            let Some(name) = folder.listed.names.get(folder.visited).cloned() else {
                self.leave();
                continue;
            };
            let facts = folder.listed.facts.get(folder.visited).copied();
            folder.visited += 1;
            if let Some(found) = self.visit(&name, facts).transpose() {
                return Some(found);
            }
        }
    }
}

impl ImageWalk {
    /// What was passed over so far; complete once the iterator has ended.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Every input, links resolved, in the order of their paths.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.links.roots()
    }

    /// Takes the next input. A folder goes on the stack, a file is found whatever its extension,
    /// since it was named.
    fn open_input(&mut self, is_folder: bool) -> Result<Option<SourceFile>> {
        let Some(Input { path, .. }) = self.inputs.next() else { return Ok(None) };
        self.drawn = None;
        self.containers = self.take.files_alone.then_some(false);
        if is_folder {
            let listed = list(&path).map_err(Error::io(&path))?;
            self.path = path.into_os_string().into_encoded_bytes();
            self.push(listed, 0)?;
            return Ok(None);
        }
        let bytes = storage::facts(&path).map_err(Error::io(&path))?.bytes;
        let key = uri::readable(uri::name(&path));
        let kind = file_kind::of_input(&path);
        let (uri, facts) = (uri::of_path(&path), FactsBeside::default());
        Ok(Some(SourceFile { key, uri, bytes, kind, facts }))
    }

    /// The same walk, which looks at what stands beside images too.
    pub(super) fn with_facts(self, fields: Fields) -> ImageWalk {
        ImageWalk { beside: Beside::asked(fields), ..self }
    }

    /// What is odd of files beside images, so far.
    pub(super) fn odd_beside(&self) -> Vec<String> {
        self.beside.odd()
    }

    /// Whether the last file was found in a folder, rather than named.
    pub(super) fn is_in_folder(&self) -> bool {
        !self.stack.is_empty()
    }

    fn at(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// The file at the place that `path` and `key` say.
    fn found(&self, bytes: u64, kind: FileKind) -> SourceFile {
        let (key, uri) = (self.key.clone(), uri::of_path(self.at()));
        SourceFile { key, uri, bytes, kind, facts: FactsBeside::default() }
    }

    fn visit(&mut self, name: &OsStr, facts: Option<Facts>) -> Result<Option<SourceFile>> {
        match hidden::whose(name.as_bytes()).filter(|_| !self.take.hidden) {
            Some(Whose::Hidden) => self.skipped.hidden += 1,
            Some(Whose::System) => self.skipped.system += 1,
            None => {
                if self.path.last() != Some(&b'/') {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(name.as_bytes());
                self.key.push_str(&uri::readable(name.as_bytes()));
                return self.look(facts);
            }
        }
        Ok(None)
    }

    /// Looks at the place that `path` and `key` say; `facts` are those that listing its folder gave.
    fn look(&mut self, facts: Option<Facts>) -> Result<Option<SourceFile>> {
        if self.path.len() > PATH_BYTES_MAX {
            self.skipped.too_long += 1;
            let reason = format!("a path of more than {PATH_BYTES_MAX} bytes");
            self.skipped.name(&self.key, reason);
            return Ok(None);
        }
        if let Some(facts) = facts {
            return self.take(&facts);
        }
        // A file that vanished since the listing is treated like a link that leads nowhere.
        let Ok(own) = reach(self.at(), |path| path.symlink_metadata()) else {
            return Ok(self.broken());
        };
        let target = if own.is_symlink() {
            let Ok(real) = reach(self.at(), |path| path.canonicalize()) else {
                return Ok(self.broken());
            };
            let Ok(target) = fs::metadata(&real) else { return Ok(self.broken()) };
            if !self.may_follow(&real, target.is_dir()) {
                return Ok(None);
            }
            target
        } else {
            own
        };
        self.take(&Facts::of(&target))
    }

    /// Takes what lies at the current place.
    fn take(&mut self, target: &Facts) -> Result<Option<SourceFile>> {
        if !target.is_folder {
            return Ok(self.file(target));
        }
        match list(self.at()) {
            Ok(listed) => self.enter(listed)?,
            // A store's folder is its mark alone, as some tools put it: there is nothing in it.
            Err(error) if error.kind() == ErrorKind::NotFound && storage::is_remote(self.at()) => {}
            Err(error) => {
                self.skipped.unreadable_folders += 1;
                self.skipped.name(&self.key, error_text::reason(&error));
            }
        }
        Ok(None)
    }

    fn enter(&mut self, listed: Names) -> Result<()> {
        let samples = self.path.ends_with(b"/samples") && own::is_sample(self.at());
        if !self.take.own && (samples || own::kind(self.at(), &listed.names).is_some()) {
            self.skipped.own += 1;
            return Ok(());
        }
        self.key.push('/');
        self.push(listed, self.key.len())
    }

    /// Puts the folder at the current place on the stack.
    fn push(&mut self, listed: Names, key_bytes: usize) -> Result<()> {
        self.beside.enter(Path::new(OsStr::from_bytes(&self.path)), &listed.names)?;
        for Odd { name, reason } in &listed.odd {
            self.skipped.odd_names += 1;
            self.skipped.name(&format!("{}{name}", &self.key[..key_bytes]), reason.clone());
        }
        let path_bytes = self.path.len();
        self.stack.push(Folder { path_bytes, key_bytes, listed, visited: 0, drawn: None });
        Ok(())
    }

    /// Leaves the folder on top of the stack.
    fn leave(&mut self) {
        let Some(Folder { path_bytes, key_bytes, .. }) = self.stack.pop() else { return };
        for what in self.beside.leave(path_bytes) {
            self.skipped.note(&self.key[..key_bytes], &what);
        }
    }

    fn file(&mut self, target: &Facts) -> Option<SourceFile> {
        if !target.is_file {
            self.skipped.not_regular += 1;
            return None;
        }
        match self.at().extension().filter(|extension| !extension.is_empty()) {
            Some(extension) if sniff::is_image_extension(extension.as_bytes()) => {}
            Some(_) if file_kind::is_container(self.at()) => return self.container(target.bytes),
            Some(_) if file_kind::is_closed_archive(self.at()) => {
                self.skipped.archive(&self.key);
                return None;
            }
            Some(_) => {
                self.skipped.other_extension += 1;
                return None;
            }
            None if holds_an_image(self.at()) => {}
            None => {
                self.skipped.no_extension += 1;
                return None;
            }
        }
        if self.is_drawn() {
            self.skipped.own += 1;
            return None;
        }
        self.containers.get_or_insert(false);
        let names = self.stack.last().map_or(&[][..], |folder| &folder.listed.names);
        let facts = self.beside.facts(&self.path, names);
        Some(SourceFile { facts, ..self.found(target.bytes, FileKind::Image) })
    }

    /// A container in a folder is taken where the INPUT holds nothing but containers: beside images
    /// it is more likely a copy of them.
    fn container(&mut self, bytes: u64) -> Option<SourceFile> {
        let taken = match self.containers {
            Some(taken) => taken,
            None => {
                let end = self.stack.first().map_or(0, |input| input.path_bytes);
                let input = PathBuf::from(OsStr::from_bytes(&self.path[..end]));
                *self.containers.insert(holds_no_image(input, self.take))
            }
        };
        if !taken {
            self.skipped.containers += 1;
            return None;
        }
        let names = self.stack.last().map_or(&[][..], |folder| &folder.listed.names);
        let name = self.at().file_name().unwrap_or_default();
        if file_kind::describes_another(name, |other| names.iter().any(|n| n == other)) {
            self.skipped.other_extension += 1;
            return None;
        }
        Some(self.found(bytes, FileKind::Container))
    }

    /// Whether the file at the current place is a picture that vqtok drew, among others. Where the
    /// user names a folder of nothing else, they are what is meant.
    fn is_drawn(&mut self) -> bool {
        let png = self.at().extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
        if !png || self.take.own || self.drawn == Some(true) {
            return false;
        }
        let first = self.stack.last().and_then(|folder| folder.drawn);
        if first == Some(false) {
            return false;
        }
        let drawn = own::is_drawn(self.at());
        if let Some(folder) = self.stack.last_mut() {
            folder.drawn = first.or(Some(drawn));
        }
        if drawn && self.drawn.is_none() {
            let bytes = self.stack.first().map_or(0, |input| input.path_bytes);
            let input = PathBuf::from(OsStr::from_bytes(&self.path[..bytes]));
            self.drawn = Some(all_drawn(&input, self.take));
        }
        drawn && self.drawn == Some(false)
    }

    /// A link that leads nowhere is an input where its name says image: losing it must show.
    fn broken(&mut self) -> Option<SourceFile> {
        let extension = self.at().extension().unwrap_or(OsStr::new(""));
        if sniff::is_image_extension(extension.as_bytes()) {
            return Some(self.found(0, FileKind::Image));
        }
        self.skipped.broken_links += 1;
        None
    }

    /// Whether a link's target, links resolved, is followed; counts it where not.
    fn may_follow(&mut self, real: &Path, is_folder: bool) -> bool {
        if !self.take.own && (is_folder && own::kind_of(real).is_some() || own::is_sample(real)) {
            self.skipped.own += 1;
            return false;
        }
        match self.links.follow(real, is_folder, self.take.hidden) {
            Follow::Yes => return true,
            Follow::Inside => self.skipped.links_inside += 1,
            Follow::Loop => self.skipped.link_loops += 1,
        }
        false
    }
}

/// Whether no image lies under an INPUT as a file of its own.
fn holds_no_image(input: PathBuf, take: Take) -> bool {
    let take = Take { files_alone: true, ..take };
    walk_taking(&[input], take).is_ok_and(|mut walk| walk.next().is_none())
}

/// Whether vqtok drew every image under an INPUT.
fn all_drawn(input: &Path, take: Take) -> bool {
    let Ok(mut walk) = walk_taking(&[input.to_path_buf()], Take { own: true, ..take }) else {
        return false;
    };
    walk.all(|found| {
        let path = found.ok().and_then(|found| uri::to_path(&found.uri));
        path.is_some_and(|path| own::is_drawn(&path))
    })
}

#[cfg(test)]
mod tests;
