//! Owns files behind web addresses, for reading.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};

use super::errors::one_line;
use super::runtime;
use crate::storage::bytes_at::{BytesAt, LocalFile};
use crate::storage::coming::Coming;
use crate::storage::facts::{Facts, Listing};
use crate::storage::remote_file::RemoteFile;
use crate::storage::stores::Store;
use crate::util::nameless_file;

/// How long one answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long a host is asked again that can't be reached: dead ones are many in lists of addresses.
const REACH_MAX: Duration = Duration::from_secs(15);

/// Bytes of a body that come at least while somebody is patient: a server that sends less holds up a
/// decoder for hours.
const SLOWEST: u64 = 64 << 10;

/// What is asked for by HTTP.
pub(super) struct Web {
    client: Client,
}

impl Web {
    /// # Errors
    /// Certificates of the system that can't be read.
    pub(super) fn new() -> io::Result<Web> {
        let client = Client::builder()
            .user_agent(concat!("vqtok/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(ANSWER_MAX)
            .build();
        Ok(Web { client: client.map_err(told)? })
    }
}

fn told(error: reqwest::Error) -> io::Error {
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let kind = if error.is_timeout() { ErrorKind::TimedOut } else { ErrorKind::Other };
    io::Error::new(kind, one_line(&deepest.to_string()))
}

fn url(address: &Path) -> io::Result<String> {
    let text = address.to_str().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    Ok(text.to_string())
}

/// A failure, and how long it is worth to ask again.
type Failure = (io::Error, Duration);

/// Asks once.
async fn ask(client: &Client, url: &str, range: Option<&Range<u64>>) -> Result<Response, Failure> {
    let mut request = client.get(url);
    if let Some(range) = range {
        let last = range.end.saturating_sub(1);
        request = request.header(RANGE, format!("bytes={}-{last}", range.start));
    }
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(answer),
        Ok(answer) => Err(refused(answer.status())),
        Err(error) if error.is_builder() || error.is_redirect() => {
            Err((told(error), Duration::ZERO))
        }
        Err(error) => Err((told(error), REACH_MAX)),
    }
}

/// Asks until there is an answer that counts.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> io::Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let started = Instant::now();
    let mut repeats = 0;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err((error, patience)) if started.elapsed() >= patience.min(runtime::patience()) => {
                return Err(error);
            }
            Err(_) => runtime::pause(repeats).await,
        }
        repeats += 1;
    }
}

/// What a status says, and how long the server may come to say something else.
fn refused(status: StatusCode) -> Failure {
    let kind = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => ErrorKind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
        StatusCode::RANGE_NOT_SATISFIABLE => ErrorKind::UnexpectedEof,
        _ => ErrorKind::Other,
    };
    let soon = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    let error = io::Error::new(kind, format!("the server answers HTTP {status}"));
    (error, if soon { runtime::patience() } else { Duration::ZERO })
}

fn too_large(bytes_max: u64) -> Failure {
    let text = format!("it has more than the {bytes_max} bytes that such a file may have");
    (io::Error::new(ErrorKind::FileTooLarge, text), Duration::ZERO)
}

/// Whether a body comes fast enough.
struct Pace {
    patience: Duration,
    /// When the current stretch of [`SLOWEST`] bytes has to be there, and what is missing of it.
    until: Instant,
    missing: u64,
}

impl Pace {
    fn new(patience: Duration) -> Pace {
        Pace { patience, until: Instant::now() + patience, missing: SLOWEST }
    }

    /// The next part of a body.
    async fn next(&mut self, answer: &mut Response) -> Result<Option<Bytes>, Failure> {
        let rest = self.until.saturating_duration_since(Instant::now());
        let Ok(chunk) = tokio::time::timeout(rest, answer.chunk()).await else {
            let text = format!(
                "the server sends less than {SLOWEST} bytes in {} s (VQTOK_STORE_PATIENCE)",
                self.patience.as_secs()
            );
            return Err((io::Error::new(ErrorKind::TimedOut, text), Duration::ZERO));
        };
        let chunk = chunk.map_err(|error| (told(error), runtime::patience()))?;
        let came = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        match self.missing.checked_sub(came).filter(|&missing| missing > 0) {
            Some(missing) => self.missing = missing,
            None => *self = Pace::new(self.patience),
        }
        Ok(chunk)
    }
}

/// Gives the parts of an answer to `take`, unless they are more than so many bytes.
async fn body(
    mut answer: Response,
    bytes_max: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Failure> {
    let promised = answer.content_length();
    if promised.is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let (mut bytes, mut pace) = (0, Pace::new(runtime::patience()));
    while let Some(chunk) = pace.next(&mut answer).await? {
        bytes += chunk.len() as u64;
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        take(&chunk).map_err(|error| (error, Duration::ZERO))?;
    }
    match promised.is_none_or(|promised| promised == bytes) {
        true => Ok(()),
        false => {
            let text = "the connection ended too early";
            Err((io::Error::new(ErrorKind::UnexpectedEof, text), runtime::patience()))
        }
    }
}

/// The bytes behind a URL.
async fn get(
    client: &Client,
    url: &str,
    range: Option<&Range<u64>>,
    bytes_max: u64,
) -> Result<Bytes, Failure> {
    let answer = ask(client, url, range).await?;
    if range.is_some_and(|range| range.start > 0) && answer.status() != StatusCode::PARTIAL_CONTENT
    {
        let text = "the server sends no parts of files any more";
        return Err((io::Error::new(ErrorKind::Unsupported, text), Duration::ZERO));
    }
    let whole = range.is_some() && answer.status() != StatusCode::PARTIAL_CONTENT;
    let mut bytes = BytesMut::new();
    // Of a server that sends all of it, the beginning is enough.
    let ended = body(answer, if whole { u64::MAX } else { bytes_max }, |chunk| {
        bytes.extend_from_slice(chunk);
        match whole && bytes.len() as u64 >= bytes_max {
            true => Err(ErrorKind::WriteZero.into()),
            false => Ok(()),
        }
    });
    match ended.await {
        Err((error, _)) if whole && error.kind() == ErrorKind::WriteZero => {}
        ended => ended?,
    }
    if whole {
        bytes.truncate(bytes_max as usize);
    }
    Ok(bytes.freeze())
}

/// What the headers of an answer to a request for the first byte say, and whether parts are sent.
fn facts_of(answer: &Response) -> (Facts, bool) {
    let header = |name| answer.headers().get(name)?.to_str().ok();
    let parts = answer.status() == StatusCode::PARTIAL_CONTENT;
    let bytes = match parts {
        true => header(CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok()),
        false => header(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    };
    let written = header(LAST_MODIFIED).and_then(http_date);
    let facts = Facts { bytes: bytes.unwrap_or(0), is_folder: false, is_file: true, written };
    (facts, parts && bytes.is_some())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    let mut words = text.split([' ', ':']).skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(month)? as u64 / 3;
    let mut number = || words.next()?.parse::<u64>().ok();
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    // Days since 1970-03-01, counted in years that begin in March.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = (365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day)
        .checked_sub(719_469)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

impl Web {
    /// Asks for the first byte.
    fn look(&self, address: &Path) -> io::Result<(Facts, bool)> {
        let (client, url) = (self.client.clone(), url(address)?);
        runtime::wait(async move {
            let first = 0..1;
            let looked = patiently(|| ask(&client, &url, Some(&first))).await;
            match looked {
                // An empty file has no first byte.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    let (bytes, written) = (0, None);
                    Ok((Facts { bytes, is_folder: false, is_file: true, written }, true))
                }
                answer => Ok(facts_of(&answer?)),
            }
        })
    }

    /// All of a file that its server doesn't send in parts.
    fn whole(&self, address: &Path) -> io::Result<LocalFile> {
        let (client, url) = (self.client.clone(), url(address)?);
        let file = nameless_file::create(&std::env::temp_dir())?;
        let sink = file.try_clone()?;
        runtime::wait(async move {
            patiently(|| async {
                let failed = |error| (error, Duration::ZERO);
                sink.set_len(0).map_err(failed)?;
                let answer = ask(&client, &url, None).await?;
                let mut at = 0;
                body(answer, u64::MAX, |chunk| {
                    sink.write_all_at(chunk, at)?;
                    at += chunk.len() as u64;
                    Ok(())
                })
                .await
            })
            .await
        })?;
        LocalFile::of(file)
    }
}

impl Store for Web {
    fn facts(&self, address: &Path) -> io::Result<Facts> {
        self.look(address).map(|(facts, _)| facts)
    }

    fn open(self: Arc<Self>, address: &Path) -> io::Result<Arc<dyn BytesAt>> {
        let (facts, parts) = self.look(address)?;
        match parts {
            true => Ok(Arc::new(RemoteFile::new(self, address, facts.bytes))),
            false => Ok(Arc::new(self.whole(address)?)),
        }
    }

    fn begin(&self, address: &Path, range: Option<Range<u64>>, bytes_max: u64) -> Coming {
        let (client, url) = match url(address) {
            Ok(url) => (self.client.clone(), url),
            Err(error) => return Coming::failed(error),
        };
        runtime::begin(
            async move { patiently(|| get(&client, &url, range.as_ref(), bytes_max)).await },
        )
    }

    fn list(&self, _: &Path) -> io::Result<Listing> {
        Err(io::Error::new(ErrorKind::Unsupported, "nothing can be listed on the web"))
    }

    fn put(&self, _: &Path, _: Bytes, _: bool) -> io::Result<()> {
        Err(io::Error::new(ErrorKind::Unsupported, "nothing can be written to the web"))
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::Error::new(ErrorKind::Unsupported, "nothing can be removed from the web"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        let seconds =
            |text| Some(http_date(text)?.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Sat, 29 Feb 2020 23:59:59 GMT"), Some(1_583_020_799));
        assert_eq!(seconds("yesterday"), None);
    }
}
