//! Owns a small web server, good and bad.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::http::{Request, send_head};
use super::server::Server;

/// What stands behind a path. Nobody answers HEAD.
pub enum Page {
    /// A file, also in parts.
    File(Vec<u8>),
    /// A file, in one piece alone, whatever is asked for.
    Whole(Vec<u8>),
    /// In one piece, of a length that nobody tells.
    Unmeasured(Vec<u8>),
    /// Somewhere else.
    Redirect(String),
    /// No file.
    Status(u16),
    /// A body that doesn't end.
    Endless,
    /// A byte every so often.
    Slow(Vec<u8>, Duration),
    /// 503 for the first so many requests, then a file.
    BusyAtFirst(Mutex<usize>, Vec<u8>),
}

/// The server; gone when dropped.
pub struct Web {
    server: Server,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Serves pages by their paths, which begin with `/` and have no `?`.
    pub fn serve(pages: BTreeMap<String, Page>) -> Web {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = Arc::clone(&seen);
        let server = Server::start(move |request, client| {
            record.lock().unwrap().push(format!("{} {}", request.method, request.target));
            let path = request.target.split('?').next().unwrap_or_default();
            match pages.get(path) {
                _ if request.method != "GET" => nothing(client, 405),
                Some(page) => page.send(request, client),
                None => nothing(client, 404),
            }
        });
        Web { server, seen }
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// `http://127.0.0.1:8000` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    /// What came since this was asked last: `GET /a.jpg`.
    pub fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn nothing(client: &mut TcpStream, status: u16) -> io::Result<bool> {
    send_head(client, status, &[], Some(0))?;
    Ok(true)
}

fn whole(client: &mut TcpStream, bytes: &[u8]) -> io::Result<bool> {
    send_head(client, 200, &[], Some(bytes.len()))?;
    client.write_all(bytes)?;
    Ok(true)
}

impl Page {
    fn send(&self, request: &Request, client: &mut TcpStream) -> io::Result<bool> {
        match self {
            Page::File(bytes) => match request.header("range").and_then(range) {
                None => whole(client, bytes),
                Some((start, _)) if start >= bytes.len() => nothing(client, 416),
                Some((start, last)) => {
                    let part = &bytes[start..bytes.len().min(last + 1)];
                    let (end, all) = (start + part.len() - 1, bytes.len());
                    let range = ("content-range".into(), format!("bytes {start}-{end}/{all}"));
                    send_head(client, 206, &[range], Some(part.len()))?;
                    client.write_all(part)?;
                    Ok(true)
                }
            },
            Page::Whole(bytes) => whole(client, bytes),
            Page::Unmeasured(bytes) => {
                send_head(client, 200, &[], None)?;
                client.write_all(bytes)?;
                Ok(false)
            }
            Page::Redirect(to) => {
                send_head(client, 302, &[("location".into(), to.clone())], Some(0))?;
                Ok(true)
            }
            Page::Status(status) => nothing(client, *status),
            Page::Endless => {
                send_head(client, 200, &[], None)?;
                let block = vec![b'x'; 1 << 20];
                // Bounded all the same: the client gives up long before.
                (0..4096).try_for_each(|_| client.write_all(&block))?;
                Ok(false)
            }
            Page::Slow(bytes, pause) => {
                send_head(client, 200, &[], Some(bytes.len()))?;
                for byte in bytes {
                    std::thread::sleep(*pause);
                    client.write_all(&[*byte])?;
                }
                Ok(true)
            }
            Page::BusyAtFirst(left, bytes) => {
                let busy = {
                    let mut left = left.lock().unwrap();
                    *left = left.saturating_sub(1);
                    *left > 0
                };
                if busy { nothing(client, 503) } else { whole(client, bytes) }
            }
        }
    }
}

/// Of `bytes=3-9`.
fn range(text: &str) -> Option<(usize, usize)> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((start.parse().ok()?, last.parse().unwrap_or(usize::MAX - 1)))
}
