//! Owns as much of HTTP/1.1 as the servers and clients of tests speak.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A request as it was sent.
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// An answer as it came.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// Largest head of a request or an answer.
const HEAD_MAX: usize = 1 << 16;

/// The first line, the headers (names in lower case), and what was read of the body; None where
/// nothing came.
type Head = (String, Vec<(String, String)>, Vec<u8>);

fn head(stream: &mut TcpStream) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 && bytes.is_empty() {
            return Ok(None);
        }
        if count == 0 || bytes.len() > HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.extend_from_slice(&chunk[..count]);
    };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_string();
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_string()))
    };
    Ok(Some((first, lines.filter_map(pair).collect(), bytes[end + 4..].to_vec())))
}

/// The next request of a connection; None where the client has gone.
pub fn read_request(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let Some((first, headers, mut body)) = head(stream)? else { return Ok(None) };
    let length = header(&headers, "content-length").map_or(0, |text| text.parse().unwrap_or(0));
    if header(&headers, "expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let have = body.len();
    body.resize(length, 0);
    stream.read_exact(body.get_mut(have..).unwrap_or_default())?;
    let mut words = first.split(' ').map(str::to_string);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Request { method, target, headers, body }))
}

/// Sends a request to a port of this machine and reads the answer to its end.
pub fn call(
    port: u16,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    let given = |name: &str| headers.iter().any(|(other, _)| other == name);
    if !given("host") {
        text += &format!("host: 127.0.0.1:{port}\r\n");
    }
    let kept = |name: &str| !matches!(name, "connection" | "content-length" | "expect");
    for (name, value) in headers.iter().filter(|(name, _)| kept(name)) {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(text.as_bytes())?;
    stream.write_all(body)?;
    let Some((first, headers, mut body)) = head(&mut stream)? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    stream.read_to_end(&mut body)?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(Answer { status, headers, body })
}

/// Sends the head of an answer, which promises `length` bytes where that is known.
pub fn send_head(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    length: Option<usize>,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let own = |name: &str| matches!(name, "connection" | "content-length" | "transfer-encoding");
    for (name, value) in headers.iter().filter(|(name, _)| !own(name)) {
        text += &format!("{name}: {value}\r\n");
    }
    match length {
        Some(length) => text += &format!("content-length: {length}\r\n\r\n"),
        None => text += "connection: close\r\n\r\n",
    }
    stream.write_all(text.as_bytes())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Answer",
    }
}
