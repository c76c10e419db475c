//! Owns reading images back from a tar by the parts that listing gave. Must not know: plans.

use std::io;
use std::sync::Arc;

use super::header::{self, BLOCK};
use super::member::{self, EXTENSION_BYTES_MAX, Kind, Member};
use super::stream::{Broken, Damage, Stream};
use super::unpack::Compression;
use super::walker::{Step, Walker};
use crate::data::formats::raw_image::Limits;
use crate::data::formats::sniff;
use crate::data::source::container::listing::{ReadForward, ReadPart};
use crate::data::source::image::Part;
use crate::data::source::uri::readable;
use crate::error::{Reject, Stage};
use crate::storage::BytesAt;
use crate::util::error_text;
use crate::util::text::quoted;

/// Images of a plain tar, by their positions.
pub(crate) struct TarReader {
    bytes: Arc<dyn BytesAt>,
}

impl TarReader {
    pub(crate) fn new(bytes: Arc<dyn BytesAt>) -> TarReader {
        TarReader { bytes }
    }

    /// The first member from `position` on, if it is what was planned.
    fn member_from(&self, position: u64, wanted: &Wanted) -> io::Result<Option<(Walker, Member)>> {
        let mut walker = Walker::new(Stream::plain(Arc::clone(&self.bytes), position));
        let step = walker.step()?;
        Ok(match step {
            Step::Member(member) if wanted.is(&member) => Some((walker, member)),
            _ => None,
        })
    }

    /// Where the headers begin that extend the one at `offset`.
    fn extensions_before(&self, offset: u64) -> io::Result<u64> {
        // A long name and a PAX header, each with its own.
        let reach = offset.min(EXTENSION_BYTES_MAX + 256 * BLOCK as u64);
        let mut before = vec![0; reach as usize];
        let filled = self.bytes.fill_at(offset - reach, &mut before)?;
        let (_, blocks) = before[..filled].as_rchunks::<BLOCK>();
        let mut begin = blocks.len();
        // From the member backward: a header whose content ends where the next one begins.
        while let Some(found) = (0..begin).rev().find(|&at| {
            let content = ((begin - at - 1) * BLOCK) as u64;
            member::is_extension(&blocks[at])
                && header::size(&blocks[at]).and_then(|size| size.checked_next_multiple_of(512))
                    == Some(content)
                && header::is_valid(&blocks[at])
        }) {
            begin = found;
        }
        Ok(offset - ((blocks.len() - begin) * BLOCK) as u64)
    }
}

impl TarReader {
    /// The member that was planned, and a walker at its content.
    fn found(&self, part: &Part, bytes: u64, limits: &Limits) -> Result<(Walker, Member), Reject> {
        let wanted = Wanted::new(part, bytes, limits)?;
        let found = self.member_from(part.offset, &wanted).map_err(system)?;
        let found = match found {
            Some(found) => Some(found),
            // Its name or size stands in a header before it, or it isn't what was planned.
            None => {
                let begin = self.extensions_before(part.offset).map_err(system)?;
                self.member_from(begin, &wanted).map_err(system)?
            }
        };
        found.ok_or_else(|| wanted.changed())
    }
}

impl ReadPart for TarReader {
    fn read(&self, part: &Part, bytes: u64, limits: &Limits) -> Result<Vec<u8>, Reject> {
        let (mut walker, member) = self.found(part, bytes, limits)?;
        walker.content(&member).map_err(broken)
    }

    fn head(
        &self,
        part: &Part,
        bytes: u64,
        max: usize,
        limits: &Limits,
    ) -> Result<Vec<u8>, Reject> {
        let (mut walker, member) = self.found(part, bytes, limits)?;
        match member.pieces {
            None => walker.stream.take(bytes.min(max as u64)).map_err(broken),
            Some(_) => walker.content(&member).map_err(broken),
        }
    }
}

/// Images of a compressed tar, one after the other.
pub(crate) struct TarStream {
    bytes: Arc<dyn BytesAt>,
    compression: Compression,
    /// None before the first image.
    way: Option<Way>,
}

/// How far a compressed tar has been read.
struct Way {
    walker: Walker,
    /// The place that was asked for last: what lies before it is gone.
    asked: u64,
    /// A member behind that place, whose content comes next.
    ahead: Option<Member>,
    /// Why nothing more comes; None in it where that is the end.
    over: Option<Option<String>>,
}

impl TarStream {
    pub(crate) fn new(bytes: Arc<dyn BytesAt>, compression: Compression) -> TarStream {
        TarStream { bytes, compression, way: None }
    }

    fn begin(&self, asked: u64) -> Way {
        let stream = Stream::packed(Arc::clone(&self.bytes), self.compression);
        Way { walker: Walker::new(stream), asked, ahead: None, over: None }
    }
}

impl ReadForward for TarStream {
    fn read(&mut self, part: &Part, bytes: u64, limits: &Limits) -> Result<Vec<u8>, Reject> {
        let wanted = Wanted::new(part, bytes, limits)?;
        // An image that isn't where it should be costs no new start: thousands may fail so.
        let mut way = self.way.take().filter(|way| way.asked < part.offset);
        let way = self.way.insert(way.take().unwrap_or_else(|| self.begin(part.offset)));
        way.asked = part.offset;
        way.read(&wanted)
    }
}

impl Way {
    fn read(&mut self, wanted: &Wanted) -> Result<Vec<u8>, Reject> {
        loop {
            let Some(member) = self.next().map_err(system)? else {
                return Err(match &self.over {
                    Some(Some(damage)) => reject(damage.clone()),
                    _ => wanted.changed(),
                });
            };
            if member.header_at < wanted.part.offset {
                continue;
            }
            if !wanted.is(&member) {
                self.ahead = Some(member).filter(|member| member.header_at > wanted.part.offset);
                return Err(wanted.changed());
            }
            return self.walker.content(&member).map_err(broken);
        }
    }

    fn next(&mut self) -> io::Result<Option<Member>> {
        if self.ahead.is_some() || self.over.is_some() {
            return Ok(self.ahead.take());
        }
        match self.walker.step()? {
            Step::Member(member) => return Ok(Some(member)),
            Step::End => self.over = Some(None),
            Step::Damage(damage) => {
                self.over = Some(Some(broken(Broken::Damage(damage)).message));
            }
        }
        Ok(None)
    }
}

/// What was planned of an image.
struct Wanted<'a> {
    part: &'a Part,
    bytes: u64,
}

impl Wanted<'_> {
    fn new<'a>(part: &'a Part, bytes: u64, limits: &Limits) -> Result<Wanted<'a>, Reject> {
        let extension = part.member.rsplit('.').next().unwrap_or_default();
        if sniff::is_raw_extension(extension.as_bytes()) {
            let name = extension.to_uppercase();
            return Err(reject(format!(
                "camera raw ({name}) is not supported; develop it to JPEG, PNG or TIFF first"
            )));
        }
        let max = limits.file_bytes_max;
        if bytes > max {
            return Err(reject(format!(
                "the image has {bytes} bytes, more than the limit of {max}"
            )));
        }
        Ok(Wanted { part, bytes })
    }

    fn is(&self, member: &Member) -> bool {
        (member.header_at, member.size, member.kind) == (self.part.offset, self.bytes, Kind::File)
            && readable(&member.name) == self.part.member
    }

    fn changed(&self) -> Reject {
        let Wanted { part: Part { member, offset }, bytes } = self;
        reject(format!(
            "the file has changed since it was planned: {} of {bytes} bytes is no longer at byte \
             {offset}; restore it, or tokenize it as it is into another output",
            quoted(member)
        ))
    }
}

fn broken(broken: Broken) -> Reject {
    match broken {
        Broken::System(error) => system(error),
        Broken::Damage(Damage { at: Some(at), why, .. }) => {
            reject(format!("the tar is damaged at byte {at}: {why}"))
        }
        Broken::Damage(damage) => reject(damage.why),
    }
}

fn system(error: io::Error) -> Reject {
    reject(error_text::reason(&error))
}

fn reject(message: String) -> Reject {
    Reject::new(Stage::Read, message)
}
