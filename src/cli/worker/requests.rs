//! Owns what comes on stdin: lines of bounded length, each a request or the reason that it is none.

use std::io::{BufRead, Read};

use crossbeam_channel::{Receiver, bounded};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::util::{error_text, text};

/// Requests that wait; who sends more waits for a place.
const WAITING_MAX: usize = 1024;
/// Bytes of a line.
const LINE_BYTES_MAX: u64 = 4096;

/// A partition to make.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// Which.
    pub(super) partition: usize,
    /// How many workers it has ended.
    #[serde(default)]
    pub(super) deaths: u32,
}

/// A line of stdin: its number, from 1, and what it asks for, or why it asks for nothing.
pub(super) type Line = (u64, std::result::Result<Request, String>);

/// The lines of stdin as they come; the channel closes at its end. The thread is left to the end of the
/// process, as nothing ends a read from outside.
pub(super) fn listen() -> Result<Receiver<Line>> {
    let (lines_in, lines) = bounded(WAITING_MAX);
    let read = move || {
        let mut number = 0;
        let mut stdin = std::io::stdin().lock();
        while let Some(line) = next(&mut stdin) {
            number += 1;
            let line = line.and_then(|line| request(&line)).transpose();
            let Some(line) = line else { continue };
            if lines_in.send((number, line)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("vqtok-requests".into())
        .spawn(read)
        .map_err(Error::io("thread vqtok-requests"))?;
    Ok(lines)
}

/// The next line; None at the end. One that is too long is passed over.
fn next(input: &mut impl BufRead) -> Option<std::result::Result<Vec<u8>, String>> {
    let mut line = Vec::new();
    let read = |line: &mut Vec<u8>, input: &mut dyn BufRead| {
        // What can't be read is no more to be read.
        input.take(LINE_BYTES_MAX).read_until(b'\n', line).unwrap_or(0)
    };
    if read(&mut line, input) == 0 {
        return None;
    }
    if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        while !line.ends_with(b"\n") {
            line.clear();
            if read(&mut line, input) == 0 {
                break;
            }
        }
        return Some(Err(format!("longer than {LINE_BYTES_MAX} bytes")));
    }
    Some(Ok(line))
}

/// What a line asks for; None where it is blank.
fn request(line: &[u8]) -> std::result::Result<Option<Request>, String> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // An object, by its names: a list of numbers would fit as well. Of a name that stands there twice
    // only the line itself tells.
    let object = serde_json::from_slice::<Map<String, Value>>(line);
    object.and_then(|_| serde_json::from_slice::<Request>(line)).map_or_else(
        |error| {
            // Who is told counts lines of its own.
            let error = error.to_string();
            let reason = error_text::plain(&error).replace(" at line 1 column ", " at byte ");
            Err(format!("{}; a request is {{\"partition\": 0}}", text::printable(&reason)))
        },
        |request| Ok(Some(request)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_objects_of_known_names() {
        let asks = |partition, deaths| Ok(Some(Request { partition, deaths }));
        assert_eq!(request(b"{\"partition\": 3}\n"), asks(3, 0));
        assert_eq!(request(b" {\"deaths\":2,\"partition\":0}"), asks(0, 2));
        assert_eq!(request(b" \t\r\n"), Ok(None));
        for (line, words) in [
            (&b"[3, 0]"[..], "a list where a table belongs"),
            (b"3", "the number 3"),
            (b"{\"partition\": x}", "at byte 15"),
            (b"{\"partition\": -1}", "-1"),
            (b"{\"partition\": 1.5}", "1.5"),
            (b"{\"partition\": 1, \"retries\": 1}", "retries"),
            (b"{\"partition\": 8, \"partition\": 9}", "`partition`"),
            (b"{\"partition\": 8, \"deaths\": 0, \"deaths\": 3}", "`deaths`"),
            (b"{\"deaths\": 1}", "`partition` is missing"),
            (b"{\"partition\": 1", "EOF"),
            (b"\xff\xfe", "at byte 1"),
            (b"{\"partition\": 1}{\"partition\": 2}", "trailing"),
        ] {
            let reason = request(line).unwrap_err();
            assert!(reason.contains(words) && !reason.contains('\n'), "{reason}");
            assert!(reason.contains("a request is {\"partition\": 0}"), "{reason}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let long = vec![b' '; 3 * LINE_BYTES_MAX as usize];
        let whole = [&long[..], b"\n{}\n", &long[..LINE_BYTES_MAX as usize - 1], b"\nend"].concat();
        let mut input = &whole[..];
        let mut lines = Vec::new();
        while let Some(line) = next(&mut input) {
            lines.push(line.map(|line| line.len()).map_err(|error| error.len()));
        }
        let too_long = Err("longer than 4096 bytes".len());
        assert_eq!(lines, [too_long, Ok(3), Ok(LINE_BYTES_MAX as usize), Ok(3)]);
    }
}
