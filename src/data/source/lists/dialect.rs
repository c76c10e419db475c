//! Owns telling from its first line how a table is written: what separates its columns, whether it
//! has names for them. Must not know: its other lines.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::columns::Columns;
use super::names::IMAGE;
use super::place::scheme;
use super::records::Records;
use crate::data::formats::sniff;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::odd::Oddities;
use crate::data::source::names::known_among;
use crate::data::source::uri;

/// How a table is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) header: bool,
    /// CC3M and CC12M are tables of tabs without names, in which a quote is a quote.
    pub(super) quoting: bool,
}

impl Dialect {
    /// By the first line, which has a header where a column's name is known or asked for, and none
    /// where a cell names an image.
    pub(super) fn of(first_line: &[u8], tabs: bool, fields: &Fields) -> Dialect {
        let delimiters: &[u8] = if tabs { b"\t" } else { b",;\t|" };
        let lines = delimiters.iter().map(|&delimiter| (delimiter, cells(first_line, delimiter)));
        let lines: Vec<(u8, Vec<String>)> = lines.collect();
        let named = lines.iter().find(|(_, cells)| match &fields.image {
            Some(name) => cells.contains(name),
            None => {
                known_among(cells.iter().map(String::as_str), IMAGE).is_some()
                    && !cells.iter().any(|cell| is_image(cell))
            }
        });
        if let Some(&(delimiter, _)) = named {
            return Dialect { delimiter, header: true, quoting: true };
        }
        // Most columns of those that show an image; of as many, the first delimiter.
        let most = |lines: &[(u8, Vec<String>)], ends: &dyn Fn(&str) -> bool| {
            let shown = lines.iter().filter(|(_, cells)| cells.iter().any(|cell| ends(cell)));
            shown.rev().max_by_key(|(_, cells)| cells.len()).map(|(delimiter, _)| *delimiter)
        };
        let shown =
            most(&lines, &|cell| has_image_extension(cell)).or_else(|| most(&lines, &is_image));
        if let Some(delimiter) = shown {
            return Dialect { delimiter, header: false, quoting: delimiter != b'\t' };
        }
        let delimiter = most(&lines, &|_| true).unwrap_or(delimiters[0]);
        Dialect { delimiter, header: true, quoting: true }
    }
}

/// The columns of a table without names, by its first cells.
///
/// # Errors
/// Columns are asked for by name; no cell names an image.
pub(super) fn unnamed(
    cells: &[String],
    fields: &Fields,
    odd: &mut Oddities,
) -> Result<Columns, String> {
    let asked = [&fields.image, &fields.key, &fields.label, &fields.caption];
    if asked.into_iter().flatten().chain(&fields.pass).next().is_some() {
        return Err(
            "its first line has no names of columns, so that none can be asked for; write \
                    one above it"
                .into(),
        );
    }
    let image = cells.iter().position(|cell| is_image(cell)).ok_or("no column names images")?;
    let other = (cells.len() == 2).then_some(1 - image);
    let is_label = other.is_some_and(|at| cells[at].parse::<i64>().is_ok());
    let what = match other {
        Some(at) if is_label => format!(", column {} for the label", at + 1),
        Some(at) => format!(", column {} for the caption", at + 1),
        None => String::new(),
    };
    odd.note(format!("no names of columns; column {} is taken for the image{what}", image + 1), "");
    Ok(Columns::unnamed(image, other.filter(|_| is_label), other.filter(|_| !is_label)))
}

/// The cells of the first line as text, without blanks around them; none where it doesn't end.
fn cells(first_line: &[u8], delimiter: u8) -> Vec<String> {
    let input = Box::new(std::io::Cursor::new(first_line.to_vec()));
    let mut records = Records::new(input, delimiter, true);
    match records.next() {
        Ok(Some((_, Ok(())))) => texts(&records),
        _ => Vec::new(),
    }
}

/// The cells of a record as text, without blanks around them.
pub(super) fn texts(records: &Records) -> Vec<String> {
    records.cells().map(|cell| uri::readable(cell).trim().to_string()).collect()
}

fn is_image(cell: &str) -> bool {
    scheme(cell.as_bytes()).is_some() || has_image_extension(cell)
}

fn has_image_extension(cell: &str) -> bool {
    let extension = Path::new(OsStr::from_bytes(cell.as_bytes())).extension();
    extension.is_some_and(|extension| sniff::is_image_extension(extension.as_bytes()))
}
