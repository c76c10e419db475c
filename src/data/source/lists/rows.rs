//! Owns going over a list's rows, whatever its format. Must not know: where the images lie.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::columns::Columns;
use super::dialect::{self, Dialect};
use super::elements::Elements;
use super::input::{self, trimmed};
use super::lines::Lines;
use super::records::Records;
use super::row::{Row, kind};
use crate::data::formats::sniff;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::odd::Oddities;
use crate::data::source::image::Facts;
use crate::data::source::{json, uri};
use crate::storage::BytesAt;
use crate::util::text;

const COMMENTS: &str = "lines that begin with # are comments, though they end as images do; write \
                        ./ before them to have them read";

/// Whether a file is a list by its name. What is one must be said by a user all the same: most
/// texts are none.
pub(crate) fn is_list(path: &Path) -> bool {
    Kind::of(path).is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Table { tabs: bool },
    Objects,
    Array,
}

impl Kind {
    fn of(path: &Path) -> Option<Kind> {
        let name = Path::new(OsStr::from_bytes(uri::name(path)));
        let extension = name.extension()?.to_ascii_lowercase();
        Some(match extension.to_str()? {
            "txt" => Kind::Text,
            "csv" => Kind::Table { tabs: false },
            "tsv" => Kind::Table { tabs: true },
            "jsonl" | "ndjson" => Kind::Objects,
            "json" => Kind::Array,
            _ => return None,
        })
    }
}

/// A list's rows.
pub(super) struct Rows {
    source: Source,
    fields: Fields,
    /// What the list is called.
    name: String,
}

enum Source {
    /// A path a line.
    Text(Lines),
    Table {
        records: Box<Records>,
        columns: Columns,
        width: usize,
    },
    /// A JSON object a line.
    Objects(Lines),
    /// A JSON array of objects or paths.
    Array(Elements),
}

impl Rows {
    /// Of the list called `name`, in the format that the extension of `path` says.
    ///
    /// # Errors
    /// The system's; inside, why it can't be used as a list at all: one line, the list not named.
    pub(super) fn open(
        path: &Path,
        name: &str,
        bytes: &Arc<dyn BytesAt>,
        fields: &Fields,
        odd: &mut Oddities,
    ) -> io::Result<Result<Rows, String>> {
        let mut head = vec![0; 1 << 12];
        let filled = bytes.fill_at(0, &mut head)?;
        head.truncate(filled);
        if let Err(reason) = text::without_byte_order_mark(&head) {
            return Ok(Err(reason));
        }
        if head.contains(&0) {
            return Ok(Err("it holds bytes that no text has; lists are text".into()));
        }
        if head.is_empty() {
            odd.note("it is empty", "");
        }
        let source = match Kind::of(path) {
            Some(Kind::Table { tabs }) if !head.is_empty() => table(bytes, tabs, fields, odd)?,
            Some(Kind::Objects) => Ok(Source::Objects(Lines::new(input::open(bytes)))),
            Some(Kind::Array) if !head.is_empty() => json(bytes)?,
            Some(_) => Ok(Source::Text(Lines::new(input::open(bytes)))),
            None => {
                Err("its name doesn't say which kind of list it is; call it .csv, .tsv, .txt, \
                         .jsonl or .json"
                    .into())
            }
        };
        Ok(source.map(|source| Rows { source, fields: fields.clone(), name: name.to_string() }))
    }

    /// The next row and its number, or why it can't be understood.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn next(
        &mut self,
        odd: &mut Oddities,
    ) -> io::Result<Option<(u64, Result<Row, String>)>> {
        loop {
            let next = match &mut self.source {
                Source::Text(lines) | Source::Objects(lines) => lines.next()?,
                Source::Table { records, .. } => records.next()?,
                Source::Array(elements) => elements.next()?,
            };
            let Some((number, read)) = next else {
                return self.end(odd).map(|()| None);
            };
            let place = format!("{}:{number}", self.name);
            match read.and_then(|()| self.row(&place, odd)) {
                Ok(None) => {}
                Ok(Some(row)) => return Ok(Some((number, Ok(row)))),
                Err(reason) => return Ok(Some((number, Err(reason)))),
            }
        }
    }

    /// What the row that was read says; None where it is blank or a comment.
    fn row(&self, place: &str, odd: &mut Oddities) -> Result<Option<Row>, String> {
        match &self.source {
            Source::Text(lines) => {
                Ok(path_of_line(trimmed(lines.text()), place, odd).map(only_path))
            }
            Source::Table { records, columns, width } => {
                let cells: Vec<&[u8]> = records.cells().collect();
                if cells.len() != *width {
                    return Err(format!(
                        "it has {} columns where the first row has {width}",
                        cells.len()
                    ));
                }
                Ok(Some(columns.row(|at| cells.get(at).copied(), place, odd)))
            }
            Source::Objects(lines) if trimmed(lines.text()).is_empty() => Ok(None),
            Source::Objects(lines) => match json::value(lines.text()) {
                Ok(Value::Object(object)) => {
                    Ok(Some(Row::of_object(&object, &self.fields, place, odd)))
                }
                Ok(other) => Err(format!("it is {} where an object belongs", kind(&other))),
                Err(error) => Err(broken(&error)),
            },
            Source::Array(elements) => match json::value(elements.text()) {
                Ok(Value::Object(object)) => {
                    Ok(Some(Row::of_object(&object, &self.fields, place, odd)))
                }
                Ok(Value::String(path)) => Ok(Some(only_path(path.into_bytes()))),
                Ok(other) => {
                    Err(format!("it is {} where an object or a path belongs", kind(&other)))
                }
                Err(error) => Err(broken(&error)),
            },
        }
    }

    fn end(&mut self, odd: &mut Oddities) -> io::Result<()> {
        if let Source::Array(elements) = &mut self.source
            && elements.has_more_behind()?
        {
            odd.note("what follows the array is not read", "");
        }
        Ok(())
    }
}

fn only_path(path: Vec<u8>) -> Row {
    Row { image: Ok(path), key: None, facts: Facts::default() }
}

/// The path in a line of text; None in a blank one and a comment.
fn path_of_line(line: &[u8], place: &str, odd: &mut Oddities) -> Option<Vec<u8>> {
    if line.first() == Some(&b'#') {
        let extension = Path::new(OsStr::from_bytes(line)).extension();
        if extension.is_some_and(|extension| sniff::is_image_extension(extension.as_bytes())) {
            odd.note(COMMENTS, place);
        }
        return None;
    }
    (!line.is_empty()).then(|| line.to_vec())
}

/// serde_json's words without its place: it counts the lines of what it was given.
fn broken(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    format!("it is no JSON: {reason}")
}

fn table(
    bytes: &Arc<dyn BytesAt>,
    tabs: bool,
    fields: &Fields,
    odd: &mut Oddities,
) -> io::Result<Result<Source, String>> {
    let mut lines = Lines::new(input::open(bytes));
    while let Some((_, Ok(()))) = lines.next()? {
        if !lines.text().is_empty() {
            break;
        }
    }
    let Dialect { delimiter, header, quoting } = Dialect::of(lines.text(), tabs, fields);
    let open = || Box::new(Records::new(input::open(bytes), delimiter, quoting));
    let mut records = open();
    match records.next()? {
        Some((_, Ok(()))) => {}
        Some((_, Err(reason))) => return Ok(Err(reason)),
        None => return Ok(Ok(Source::Text(Lines::new(input::open(bytes))))),
    }
    let cells = dialect::texts(&records);
    let columns = if header {
        Columns::of(&cells, fields, odd)
    } else {
        records = open();
        dialect::unnamed(&cells, fields, odd)
    };
    Ok(columns.map(|columns| Source::Table { records, columns, width: cells.len() }))
}

/// A file `x.json` is an array, or lines of objects, as many data sets on the Hub are.
fn json(bytes: &Arc<dyn BytesAt>) -> io::Result<Result<Source, String>> {
    const NEITHER: &str = "it holds neither a JSON array nor a JSON object a line; as a list it is \
                           an array of objects or paths, or JSON Lines";
    let mut lines = Lines::new(input::open(bytes));
    Ok(match first_sign(bytes)? {
        None => Ok(Source::Text(lines)),
        Some(b'[') => Ok(Source::Array(Elements::new(input::open(bytes)))),
        Some(b'{') => {
            while let Some((_, Ok(()))) = lines.next()?
                && trimmed(lines.text()).is_empty()
            {}
            match json::value(lines.text()) {
                Ok(Value::Object(_)) => Ok(Source::Objects(Lines::new(input::open(bytes)))),
                _ => Err(NEITHER.into()),
            }
        }
        Some(_) => Err(NEITHER.into()),
    })
}

/// The first byte that is no blank; None where there is none.
fn first_sign(bytes: &Arc<dyn BytesAt>) -> io::Result<Option<u8>> {
    let mut input = input::open(bytes);
    loop {
        let chunk = input::peek(&mut input)?;
        let text = chunk.strip_prefix(b"\xef\xbb\xbf").unwrap_or(chunk);
        let sign = text.trim_ascii_start().first().copied();
        if sign.is_some() || chunk.is_empty() {
            return Ok(sign);
        }
        let count = chunk.len();
        input.consume(count);
    }
}
